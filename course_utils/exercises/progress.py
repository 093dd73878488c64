"""A learner's progress: one file of their own, and a short code to carry it to another machine or to a teacher.

The file is `progress.json` in the folder that COURSE_PROGRESS names, else in `.preference_course` in the home folder;
never in the course's own folder. A teacher reads a class's codes, one "name code" a line, with
`python -m course_utils.exercises codes.txt`.
"""

import html
import json
import os
import sys
import zlib
from pathlib import Path

import pandas as pd

from ..i18n import _

TIERS = {"turtle": "🐢", "dog": "🐕", "lion": "🦁"}
LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # 32 that are hard to mistake: no 0, 1, I, O


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


def bits() -> dict[str, int]:
    """The bit of each exercise in a code: 16 a lesson. New exercises go to the end of a lesson's list."""
    from . import LESSONS

    return {one.name: 1 << (16 * number + i) for number, lesson in enumerate(LESSONS) for i, one in enumerate(lesson)}


def encode(passed: set[str]) -> str:
    """A short code for the exercises that were passed, with a check sum."""
    total = sum(bit for name, bit in bits().items() if name in passed)
    number = total << 20 | zlib.crc32(str(total).encode()) & 0xFFFFF
    code = ""
    while number:
        number, digit = divmod(number, 32)
        code = LETTERS[digit] + code
    return "-".join(code[i : i + 4] for i in range(0, len(code), 4))


def decode(code: str) -> set[str]:
    """The exercises that a code says were passed; ValueError for a code with a slip in it."""
    number = 0
    for letter in code.strip().upper().replace("-", ""):
        number = number * 32 + LETTERS.find(letter) if letter in LETTERS else -1 << 60
    total = number >> 20
    if total < 0 or number & 0xFFFFF != zlib.crc32(str(total).encode()) & 0xFFFFF or total & ~sum(bits().values()):
        raise ValueError(_("{code!r} is no code of this course; copy it again from cu.progress()").format(code=code))
    return {name for name, bit in bits().items() if total & bit}


class Table:
    """Progress by tier, and the code that carries it."""

    def __init__(self, found: dict[str, str]):
        from . import EXERCISES

        words = {"pass": _("✓ passed"), "tried": _("✗ tried"), None: _("○ not tried yet")}
        rows = [(TIERS[one.tier], name, words[found.get(name)]) for name, one in EXERCISES.items()]
        self.frame = pd.DataFrame(rows, columns=[_("tier"), _("exercise"), _("state")])
        passed = {name for name, state in found.items() if state == "pass"}
        self.code = encode(passed & EXERCISES.keys())
        self.sums = " · ".join(
            f"{sign} {sum(name in passed for name in group)} / {len(group)}"
            for tier, sign in TIERS.items()
            if (group := [name for name, one in EXERCISES.items() if one.tier == tier])
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
        found |= dict.fromkeys(decode(code), "pass")
        write(found)
    return Table(found)


def main(path: str) -> None:
    """Print a class's progress as CSV: a row a learner, 1 for each exercise that was passed."""
    rows = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            who, _space, code = line.strip().rpartition(" ")
            try:
                passed = decode(code)
            except ValueError as error:
                print(f"{path}, line {number}: {error}", file=sys.stderr)
                continue
            rows[who.strip() or str(number)] = {name: int(name in passed) for name in bits()} | {"sum": len(passed)}
    print(pd.DataFrame(rows).T.rename_axis("name").to_csv(), end="")
