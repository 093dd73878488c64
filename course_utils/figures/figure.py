"""For whoever draws: a figure that shows itself in a notebook, once, small and sharp, and says what it shows."""

import base64
import html
import io

import matplotlib
import matplotlib.figure
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.ticker import ScalarFormatter
from PIL import Image

from ..i18n import in_words, local_decimals, shown

# Okabe and Ito's palette: colour-blind readers can tell these apart too.
BLUE, VERMILLION, GREEN, YELLOW, GREY = "#0072B2", "#D55E00", "#009E73", "#F0E442", "#999999"
PIXELS = 80  # of the page, an inch

#: The style of every function that draws, whatever the notebook's own: `@styled`. Hard edges make a picture a third as
#: large, and look smooth where two pixels share the place of one.
STYLE: dict = {"axes.axisbelow": True, "axes.grid": True, "axes.spines.right": False, "axes.spines.top": False}
STYLE |= {"axes.titlesize": 9.5, "figure.facecolor": "white", "font.size": 10, "grid.color": "#dddddd"}
STYLE |= {"lines.linewidth": 2, "lines.antialiased": False, "patch.antialiased": False, "text.antialiased": False}
STYLE["text.parse_math"] = False  # a $ in a name is a $; an axis with a formula says so
styled = matplotlib.rc_context(STYLE)


class LocalFormatter(ScalarFormatter):
    """An axis' numbers with the decimal sign of the learner's language."""

    def __call__(self, x, pos=None) -> str:
        return local_decimals(super().__call__(x, pos))


class Figure(matplotlib.figure.Figure):
    """A figure of so many inches, drawn when shown, in two pixels for each of the page's; its words are its `alt_text`.

    There is no `image/png`: front ends prefer HTML to it, or (JupyterLab, nbconvert) show it without its words.
    """

    def __init__(self, width: float, height: float):
        super().__init__(figsize=(width, height), dpi=2 * PIXELS, layout="constrained")
        self.details: list[str] = []

    def __repr__(self) -> str:
        parts = [self.get_suptitle(), *(axes.get_title() for axes in self.axes), "; ".join(self.details)]
        return local_decimals(". ".join(" ".join(part.split()) for part in parts if part) + ".")

    alt_text = property(__repr__)

    def with_legend(self) -> "Figure":
        """Name each kind of line, marker and bar once, below the figure, where no curve is."""
        named: dict = {}
        for axes in self.axes:
            for handle, label in zip(*axes.get_legend_handles_labels()):
                named.setdefault(label, handle)
        renderer = FigureCanvasAgg(self).get_renderer()
        for columns in (5, 4, 3, 2, 1):
            for wider in [*self.legends]:
                wider.remove()
            legend = self.legend(named.values(), named.keys(), loc="outside lower center", ncols=columns, frameon=False)
            if legend.get_window_extent(renderer).width <= self.bbox.width:
                break
        return self

    def png(self) -> bytes:
        """The figure as a picture of few colours."""
        canvas, buffer = FigureCanvasAgg(self), io.BytesIO()
        for axis in [axis for axes in self.axes for axis in (axes.xaxis, axes.yaxis)]:
            if type(axis.get_major_formatter()) is ScalarFormatter:
                axis.set_major_formatter(LocalFormatter())
        for text in self.findobj(Text):
            if "$" not in text.get_text():  # formulas have a point in every language
                text.set_text(local_decimals(text.get_text()))
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        image = image.quantize(24, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        image.save(buffer, format="png", optimize=True)
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        alt, data = html.escape(self.alt_text), base64.b64encode(self.png()).decode()
        width = round(PIXELS * self.get_figwidth())
        return f'<img alt="{alt}" src="data:image/png;base64,{data}" width="{width}" style="max-width:100%">'


def name_of(thing: object) -> str:
    """A name from anywhere, in the learner's language if the course knows it, and short enough for a picture."""
    return local_decimals(shown(in_words(str(thing)), 60))
