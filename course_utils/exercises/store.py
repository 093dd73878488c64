"""For learners: your progress, and a short code to carry it to another machine or to a teacher.

An exercise that was passed leaves an empty file `dpo.loss.pass`, one that was tried `dpo.loss.tried`, in the folder that
COURSE_PROGRESS names, else in `.preference_course` in the home folder; never in the course's own. An empty file cannot
be half written, and two kernels at once take nothing from each other. A teacher reads a class's codes with
`python tools/class_progress.py codes.txt`.
"""

import contextlib
import html
import json
import os
from datetime import date
from pathlib import Path

import pandas as pd

from ..i18n import LITERAL, N_, _, languages, shown, translate
from .codes import BITS, LESSONS, TIERS, decode, encode, tier_of

STATES = ("tried", "pass")  # the later counts


def folder() -> Path:
    """Where progress is kept. RuntimeError where there is no home and COURSE_PROGRESS is not set."""
    return Path(os.environ.get("COURSE_PROGRESS") or "~/.preference_course").expanduser()


def read() -> dict[str, str]:
    """The best outcome of each exercise so far. What cannot be read is said, and stays where it is."""
    found: dict[str, str] = {}
    with contextlib.suppress(RuntimeError):
        old = folder() / "progress.json"  # the first edition of the course kept all in this file
        if old.is_file():
            try:
                found = {name: state for name, state in json.loads(old.read_bytes()).items() if state in STATES}
            except (OSError, ValueError, AttributeError, TypeError, RecursionError):
                words = _("{file} is damaged and does not count; take its exercises again, or enter your code.")
                print(words.format(file=shown(old)))
        for state in STATES:
            kept = sorted(file.stem for file in folder().glob(f"*.{state}"))
            found |= {name: state for name in kept if found.get(name) != "pass"}
    return found


def record(name: str, outcome: str) -> None:
    """Keep an outcome. What cannot be written is said, and loses only itself."""
    if outcome == "todo":
        return
    try:
        folder().mkdir(parents=True, exist_ok=True)
        (folder() / f"{name}.{'pass' if outcome == 'pass' else 'tried'}").touch()
    except (OSError, RuntimeError) as error:
        words = _("Your progress cannot be saved ({error}); set COURSE_PROGRESS to a folder of yours.")
        print(words.format(error=shown(error)))


class Table:
    """Progress by tier, and the code that carries it."""

    def __init__(self, found: dict[str, str], name: str = ""):
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
        tail = _('Your code: {code}. On another machine, cu.progress("{code}") brings all this back.')
        self.tail = tail.format(code=self.code)
        self.certificates = [certificate(lesson, name or "…", self.code) for lesson in LESSONS if {*lesson} <= passed]
        if self.certificates and not name:
            self.tail += " " + _('For a certificate with your name: cu.progress(name="…").')

    def __repr__(self) -> str:
        return f"{self.frame.to_string(index=False)}\n{self.sums}\n{self.tail}"

    def _repr_html_(self) -> str:
        table = self.frame.to_html(index=False, border=0)
        return f"{table}<p>{self.sums}</p><p>{html.escape(self.tail)}</p>{''.join(self.certificates)}"


#: A certificate, shown in English and in the learner's language; {rest} are the exercises by size.
CERTIFICATE = N_("{name} has solved all {count} exercises of the {lesson} lesson ({rest}) on {day}. Code: {code}")
CERTIFICATE_TITLE = N_("Certificate: preference alignment, {lesson}")


def certificate(lesson: dict[str, str], name: str, code: str) -> str:
    """HTML that prints on one page, in every language of the course. The code tells a teacher the same."""
    sizes = list(lesson.values())
    rest = " ".join(f"{sign} {sizes.count(tier)}" for tier, sign in TIERS.items())
    method = next(iter(lesson)).partition(".")[0].upper()
    values = dict(
        name=shown(name, 100), count=len(lesson), lesson=method, rest=rest, day=date.today().isoformat(), code=code
    )
    texts = [
        f"<div lang='{lang}'><h2>{html.escape(translate(lang, CERTIFICATE_TITLE).format(**values))}</h2>"
        f"<p>{html.escape(translate(lang, CERTIFICATE).format(**values))}</p></div>"
        for lang in languages()
    ]
    style = "border:3px double currentColor;padding:1em 2em;text-align:center;break-inside:avoid"
    return f"<div class='{LITERAL}' style='{style}'>{'<hr>'.join(texts)}</div>"


def progress(code: str | None = None, name: str = "") -> Table:
    """Your exercises so far; with a code from another machine, both together.

    When all of a lesson is done there is a certificate, with your `name`.
    """
    found = read()
    if code:
        if (passed := decode(code)) is None:
            words = _("{code!r} is no code of this course; copy it again from cu.progress()")
            raise ValueError(words.format(code=shown(code, 60)))
        for one in passed:
            record(one, "pass")
        found |= dict.fromkeys(passed, "pass")
    return Table(found, name)
