"""For whoever shows texts from anywhere in a page: they are text there, whatever is in them."""

import html
from collections.abc import Sequence

from IPython.display import HTML

from .i18n import LITERAL, shown


def paragraph(text: str) -> str:
    """A text from anywhere as HTML."""
    return f"<p class='{LITERAL}' style='white-space:pre-wrap'>{html.escape(shown(text))}</p>"


def table(columns: Sequence[str], *rows: Sequence[str | HTML], first: str = "td") -> HTML:
    """A table of texts from anywhere, or of HTML. first: the tag of each row's first cell, "th" for its name."""
    css = "style='text-align:left; vertical-align:top; white-space:pre-wrap; padding:0.2em 0.8em; max-width:32em'"

    def line(tags, cells):
        words = (cell.data if isinstance(cell, HTML) else html.escape(shown(cell)) for cell in cells)
        return "<tr>" + "".join(f"<{tag} {css}>{word}</{tag}>" for tag, word in zip(tags, words)) + "</tr>"

    head, body = line(["th"] * len(columns), columns), (line([first] + ["td"] * len(columns), row) for row in rows)
    return HTML(f"<table class='{LITERAL}'><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>")
