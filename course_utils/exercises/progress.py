"""A learner's progress: one file of their own, and a short code to carry it to another machine or to a teacher.

The file is `progress.json` in the folder that COURSE_PROGRESS names, else in `.preference_course` in the home folder;
never in the course's own folder. A teacher reads a class's codes with `python tools/class_progress.py codes.txt`.
"""

import html
import json
import os
from pathlib import Path

import pandas as pd

from ..i18n import _
from .codes import BITS, TIERS, decode, encode, tier_of


def file() -> Path:
    return Path(os.environ.get("COURSE_PROGRESS") or Path.home() / ".preference_course") / "progress.json"


def read() -> dict[str, str]:
    """The best outcome of each exercise so far."""
    try:
        found = json.loads(file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def record(name: str, outcome: str) -> None:
    """Keep an outcome, unless the exercise was passed before. A file that cannot be written loses only this."""
    found = read()
    if outcome == "todo" or found.get(name) in ("pass", outcome):
        return
    write(found | {name: "pass" if outcome == "pass" else "tried"})


def write(found: dict[str, str]) -> None:
    try:
        file().parent.mkdir(parents=True, exist_ok=True)
        file().write_text(json.dumps(found, indent=1), encoding="utf-8")
    except OSError as error:
        print(
            _("Your progress cannot be saved ({error}); set COURSE_PROGRESS to a folder of yours.").format(error=error)
        )


class Table:
    """Progress by tier, and the code that carries it."""

    def __init__(self, found: dict[str, str]):
        words = {"pass": _("✓ passed"), "tried": _("✗ tried"), None: _("○ not tried yet")}
        rows = [(TIERS[tier_of(name)], name, words[found.get(name)]) for name in BITS]
        self.frame = pd.DataFrame(rows, columns=[_("tier"), _("exercise"), _("state")])
        passed = {name for name, state in found.items() if state == "pass"}
        self.code = encode(passed)
        self.sums = " · ".join(
            f"{sign} {sum(name in passed for name in group)} / {len(group)}"
            for tier, sign in TIERS.items()
            if (group := [name for name in BITS if tier_of(name) == tier])
        )

    def tail(self) -> str:
        return _('Your code: {code}. On another machine, cu.progress("{code}") brings all this back.').format(
            code=self.code
        )

    def __repr__(self) -> str:
        return f"{self.frame.to_string(index=False)}\n{self.sums}\n{self.tail()}"

    def _repr_html_(self) -> str:
        return f"{self.frame.to_html(index=False, border=0)}<p>{self.sums}</p><p>{html.escape(self.tail())}</p>"


def progress(code: str | None = None) -> Table:
    """Your exercises so far; with a code from another machine, both together."""
    found = read()
    if code:
        if (passed := decode(code)) is None:
            raise ValueError(
                _("{code!r} is no code of this course; copy it again from cu.progress()").format(code=code)
            )
        found |= dict.fromkeys(passed, "pass")
        write(found)
    return Table(found)
