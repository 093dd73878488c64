"""For whoever draws: a figure that shows itself in a notebook, once, small and sharp, and says what it shows."""

import base64
import html
import io
from collections.abc import Sequence

import matplotlib
import matplotlib.figure
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

# Okabe and Ito's palette: colour-blind readers can tell these apart too.
BLUE, VERMILLION, GREEN, YELLOW, GREY = "#0072B2", "#D55E00", "#009E73", "#F0E442", "#999999"
PIXELS, COLORS = 80, 32  # an inch is so many pixels in the page; so many colours has a picture

#: The style of every function that draws, whatever the notebook's own: `@styled`. Hard edges make a picture a third as
#: large, and look smooth where two pixels share the place of one.
STYLE: dict = {"axes.axisbelow": True, "axes.grid": True, "axes.spines.right": False, "axes.spines.top": False}
STYLE |= {"axes.titlesize": 9.5, "figure.facecolor": "white", "font.size": 10, "grid.color": "#dddddd"}
STYLE |= {"lines.linewidth": 2, "lines.antialiased": False, "patch.antialiased": False, "text.antialiased": False}
styled = matplotlib.rc_context(STYLE)


class Figure(matplotlib.figure.Figure):
    """A figure of so many inches. Its titles state what it shows; they and `details` are its alternative text.

    As the last line of a cell, or by `display(figure)`, it is drawn once, and nothing stays open. Its output is
    `text/html`, an <img> with the alternative text, which JupyterLab (trusted or not), VS Code, Colab, nbconvert and
    GitHub show, and `text/plain`, the alternative text, for terminals and for VS Code in a folder it does not trust.
    There is no `image/png`: all these prefer HTML to it, and JupyterLab and nbconvert show it without alternative text.
    The picture has twice the pixels it is shown in, for dense screens.
    """

    def __init__(self, width: float, height: float):
        super().__init__(figsize=(width, height), dpi=2 * PIXELS, layout="constrained")
        self.details = ""

    @property
    def alt_text(self) -> str:
        """What the figure shows, in words."""
        parts = [self.get_suptitle(), *(axes.get_title() for axes in self.axes), self.details]
        return ". ".join(" ".join(part.split()) for part in parts if part) + "."

    def with_legend(self) -> "Figure":
        """Name each kind of line, marker and bar once, below the figure, where no curve is."""
        named: dict = {}
        for axes in self.axes:
            for handle, label in zip(*axes.get_legend_handles_labels()):
                named.setdefault(label, handle)
        self.legend(named.values(), named.keys(), loc="outside lower center", ncols=5, frameon=False)
        return self

    def png(self) -> bytes:
        """The figure as a picture of few colours."""
        canvas, buffer = FigureCanvasAgg(self), io.BytesIO()
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        image.quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            buffer, format="png", optimize=True
        )
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        alt, data = html.escape(self.alt_text), base64.b64encode(self.png()).decode()
        width = round(PIXELS * self.get_figwidth())
        return f'<img alt="{alt}" src="data:image/png;base64,{data}" width="{width}" style="max-width:100%">'

    def __repr__(self) -> str:
        return self.alt_text


def table(columns: Sequence[str], *rows: Sequence[str]) -> str:
    """An HTML table of texts."""
    cell = "style='text-align:left; vertical-align:top; white-space:pre-wrap; padding:0.2em 0.8em; max-width:32em'"
    head = "".join(f"<th scope='col' {cell}>{html.escape(text)}</th>" for text in columns)
    body = "".join("<tr>" + "".join(f"<td {cell}>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
