"""For the learner who asks how a layout is found: by the columns of the first rows, and what their cells hold."""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain

from ..i18n import _
from .layouts import LAYOUTS, SCORES

SHAPES = {"messages": {"role", "content"}, "turns": {"from", "value"}, "ranking": {"answer", "rank"}}


def kind_of(cell) -> str | None:
    """What a cell holds; None if it holds nothing."""
    if isinstance(cell, str):
        if cell.startswith("\n\nHuman:"):
            return "transcript"
        if cell.startswith("[{") and re.search("['\"](content|value)['\"]:", cell):
            return "messages written as text"
        return "text" if cell.strip() else None
    if isinstance(cell, list) and cell:
        if not isinstance(cell[0], dict):
            return "list"
        return next((kind for kind, names in SHAPES.items() if names <= cell[0].keys()), "list of objects")
    if isinstance(cell, dict):
        return "turn" if SHAPES["turns"] <= cell.keys() else "object"
    return None if cell in (None, []) else "number" if isinstance(cell, (int, float)) else type(cell).__name__


def column_kinds(rows: Iterable[dict]) -> dict[str, str]:
    """Each column of some rows, and the kind that most of its cells hold; "empty" if none holds anything."""
    kinds: dict[str, Counter] = defaultdict(Counter)
    for row in rows:
        for column, cell in row.items():
            if column is not None:
                kinds[column].update(filter(None, [kind_of(cell)]))
    return {column: max(found, key=found.__getitem__, default="empty") for column, found in kinds.items()}


def describe(layout: str) -> str:
    """A layout with the columns it reads."""
    return f"{layout} ({', '.join(f'{column}: {kinds}' for column, kinds in LAYOUTS[layout].needs.items())})"


def missing(layout: str, kinds: dict[str, str]) -> list[str]:
    """The columns of a layout that a file with columns of such kinds lacks, or has of another kind."""
    needs = LAYOUTS[layout].needs.items()
    return [column for column, allowed in needs if kinds.get(column) not in allowed.split(" or ")]


def detect_layout(kinds: dict[str, str]) -> str:
    """The one layout that columns of such kinds fit.

    Where one layout reads all that another reads and more, the fuller one is meant. ValueError if none fits,
    or two of which neither holds the other.
    """
    fits = [name for name in LAYOUTS if not missing(name, kinds)]
    fits = [a for a in fits if not any(LAYOUTS[a].needs.keys() < LAYOUTS[b].needs.keys() for b in fits)]
    if len(fits) == 1:
        return fits[0]
    seen = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
    if fits:
        words = _("the columns {seen} fit more than one layout; choose one with layout=: {fits}")
        raise ValueError(words.format(seen=seen, fits=" · ".join(map(describe, fits))))
    nearest = sorted(LAYOUTS, key=lambda name: len(missing(name, kinds)) / len(LAYOUTS[name].needs))[:3]
    words = _(
        "the columns {seen} fit no layout; the nearest are {nearest}. Map your own names with columns=, "
        'such as columns={{"prompt": "my column"}}, or name a layout with layout=: {known}'
    )
    raise ValueError(words.format(seen=seen, nearest=" · ".join(map(describe, nearest)), known=", ".join(LAYOUTS)))


def check_map(columns: dict[str, str], seen: set[str]) -> None:
    """ValueError if `columns` maps to a name that no layout reads, or from one that the file lacks."""
    known = {column for one in LAYOUTS.values() for column in (*one.needs, *one.optional)}
    for ours, theirs in columns.items():
        choices, wrong = (known, ours) if ours not in known else (seen, theirs)
        if wrong not in choices:
            near = difflib.get_close_matches(wrong, choices, n=1, cutoff=0.5)
            hint = _("; did you mean “{near}”?").format(near=near[0]) if near else ""
            words = _("columns= names “{wrong}”, which is none of {choices}{hint}")
            raise ValueError(words.format(wrong=wrong, choices=", ".join(sorted(choices)), hint=hint))


def rename(rows: Iterable[dict], columns: dict[str, str]) -> Iterator[dict]:
    """The rows with the columns that `columns` maps under the layout's names."""
    theirs = set(columns.values())
    for row in rows:
        rest = {column: cell for column, cell in row.items() if column not in theirs}
        yield rest | {ours: row.get(name) for ours, name in columns.items()}


def choose_layout(rows: list[dict], layout: str, columns: dict[str, str]) -> tuple[str, list[str]]:
    """The layout of some rows, detected if it is "auto", and the columns that it does not read.

    ValueError if it lacks a column, if no layout fits or several do, or if `columns` names what is not there.
    """
    if not rows:
        raise ValueError(_("got no rows; expected one preference pair a row; check the file"))
    check_map(columns, {column for row in rows for column in row if column is not None})
    kinds = column_kinds(rename(rows, columns))
    layout = detect_layout(kinds) if layout == "auto" else layout
    needs, optional = LAYOUTS[layout].needs, LAYOUTS[layout].optional
    if absent := [column for column in needs if column not in kinds]:
        words = _("layout {layout} lacks {missing}; the file has {seen}; map your own names with columns=")
        raise ValueError(words.format(layout=describe(layout), missing=", ".join(absent), seen=", ".join(kinds)))
    return layout, [column for column in kinds if column not in {*needs, *optional, *chain(*SCORES)}]
