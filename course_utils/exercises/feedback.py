"""For whoever adds exercises: what a learner sees of a check, a hint or a solution."""

import html
import textwrap
from dataclasses import dataclass

from ..i18n import LITERAL, language, shown


@dataclass(frozen=True)
class Shown:
    """A text to read, plain and as HTML; `code` goes below it."""

    title: str
    text: str
    code: str = ""

    def __repr__(self) -> str:
        code = f"\n\n{shown(self.code, 5000)}" if self.code else ""
        return f"{self.title}\n{textwrap.fill(shown(self.text), 100)}{code}"

    def _repr_html_(self) -> str:
        code = f"<pre lang='en'><code>{html.escape(shown(self.code, 5000))}</code></pre>" if self.code else ""
        return (
            f"<div lang='{language()}' class='{LITERAL}' style='border-left:4px solid currentColor;padding:0.3em 0.8em'>"
            f"<strong>{html.escape(self.title)}</strong><p>{html.escape(shown(self.text))}</p>{code}</div>"
        )


@dataclass(frozen=True, repr=False)
class Result(Shown):
    """What a check found. outcome: "pass", "fail", "todo" or "error"; diagnosis: the mistake's key, or None."""

    outcome: str = "todo"
    diagnosis: str | None = None

    def _ipython_display_(self) -> None:
        """As a cell's last value it shows nothing more: `check` has shown it."""

    def _repr_html_(self) -> str:
        return super()._repr_html_().replace("<div ", "<div role='status' ", 1)
