"""For the learner who asks how a layout is found: by the columns of the first rows, and what their cells hold."""

import difflib
import re
from collections import Counter, defaultdict

from ..i18n import _
from .layouts import LAYOUTS

SHAPES = {"messages": {"role", "content"}, "turns": {"from", "value"}, "ranking": {"answer", "rank"}}
#: Columns that may hold the scores of the chosen and of the rejected answer.
SCORES = {
    "score_chosen": "score_rejected",
    "chosen_score": "rejected_score",
    "chosen_avg_rating": "rejected_avg_rating",
}


def kind_of(cell) -> str | None:
    """What a cell holds; None if it holds nothing."""
    if isinstance(cell, str):
        if cell.startswith("[{") and re.search("['\"](content|value)['\"]:", cell):
            return "messages written as text"
        return "transcript" if cell.startswith("\n\nHuman:") else "text" if cell.strip() else None
    if isinstance(cell, list) and cell:
        names = cell[0].keys() if isinstance(cell[0], dict) else set()
        return next((kind for kind, needed in SHAPES.items() if needed <= names), "list")
    if isinstance(cell, dict):
        return "turn" if SHAPES["turns"] <= cell.keys() else "object"
    return None if cell in (None, []) else "number" if isinstance(cell, (int, float)) else type(cell).__name__


def column_kinds(rows: list[dict]) -> dict[str, str]:
    """Each column of some rows, and the kind that most of its cells hold; "empty" if none holds anything."""
    kinds: dict[str, Counter] = defaultdict(Counter)
    for column, cell in (item for row in rows for item in row.items() if item[0] is not None):
        kinds[column].update(filter(None, [kind_of(cell)]))
    return {column: max(found, key=found.__getitem__, default="empty") for column, found in kinds.items()}


def describe(layout: str) -> str:
    """A layout with the columns it reads."""
    return f"{layout} ({', '.join(f'{column}: {kinds}' for column, kinds in LAYOUTS[layout].needs.items())})"


def missing(layout: str, kinds: dict[str, str]) -> list[str]:
    """The columns of a layout that a file with columns of such kinds lacks, or has of another kind."""
    return [name for name, ok in LAYOUTS[layout].needs.items() if kinds.get(name) not in ok.split(" or ")]


def detect_layout(name: str, kinds: dict[str, str]) -> str:
    """The one layout that columns of such kinds fit: of two, the one that reads all that the other reads and more.

    ValueError if none fits, or two of which neither holds the other.
    """
    fits = [one for one in LAYOUTS if not missing(one, kinds)]
    fits = [a for a in fits if not any(LAYOUTS[a].needs.keys() < LAYOUTS[b].needs.keys() for b in fits)]
    if len(fits) == 1:
        return fits[0]
    near = sorted(LAYOUTS, key=lambda one: len(missing(one, kinds)) / len(LAYOUTS[one].needs))[:3]
    words = _("the columns {seen} fit more than one layout; choose one with layout=: {fits}") if fits else _(
        "the columns {seen} fit no layout; the nearest are {nearest}. Map your own names with columns=, "
        'such as columns={{"prompt": "my column"}}, or name a layout with layout=: {known}'
    )  # fmt: skip
    seen = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
    fitting, nearest = (" · ".join(map(describe, some)) for some in (fits, near))
    raise ValueError(f"{name}: " + words.format(seen=seen, fits=fitting, nearest=nearest, known=", ".join(LAYOUTS)))


def choose_layout(name: str, rows: list[dict], layout: str, columns: dict[str, str]) -> tuple[str, list[str]]:
    """The layout of some rows, found by itself if it is "auto", and the columns that it does not read.

    ValueError if the rows lack a column of it, if none fits or several do, or if `columns` names what is not there.
    """
    if not rows:
        raise ValueError(_("{name}: got no rows; expected one preference pair a row; check the file").format(name=name))
    kinds = column_kinds(rows)
    known = {column for one in LAYOUTS.values() for column in (*one.needs, *one.optional)}
    for ours, theirs in columns.items():
        wrong, choices = (ours, known) if ours not in known else (theirs, kinds.keys() - columns.keys())
        if ours not in known or ours not in kinds:
            near = difflib.get_close_matches(wrong, choices, n=1, cutoff=0.5)
            hint = _("; did you mean “{near}”?").format(near=near[0]) if near else ""
            words = _("{name}: columns= names “{wrong}”, which is none of {choices}{hint}")
            raise ValueError(words.format(name=name, wrong=wrong, choices=", ".join(sorted(choices)), hint=hint))
    layout = detect_layout(name, kinds) if layout == "auto" else layout
    needs, optional = LAYOUTS[layout].needs, LAYOUTS[layout].optional
    if absent := ", ".join(column for column in needs if column not in kinds):
        words = _("{name}: layout {layout} lacks {missing}; the file has {seen}; map your own names with columns=")
        raise ValueError(words.format(name=name, layout=describe(layout), missing=absent, seen=", ".join(kinds)))
    return layout, [column for column in kinds if column not in {*needs, *optional, *SCORES, *SCORES.values()}]
