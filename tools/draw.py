"""For authors: draw the picture of the chapter, once a language: `python tools/draw.py`."""

import io
import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from course_utils.figures.figure import BLUE, GREEN, GREY, VERMILLION  # noqa: E402
from course_utils.i18n import _, languages, set_language  # noqa: E402

STYLE = {"svg.hashsalt": "stages", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11}


def stages() -> Figure:
    """SFT and then DPO with its reference model above, ORPO in one stage below."""
    figure = Figure(figsize=(10, 4.4))
    axes = figure.subplots()

    def box(x, y, text, color, width=2.1, dashed=False):
        patch = FancyBboxPatch((x - width / 2, y - 0.42), width, 0.84, boxstyle="round,pad=0.02,rounding_size=0.12")
        patch.set(facecolor="white", edgecolor=color, linewidth=2, linestyle="--" if dashed else "-")
        axes.add_patch(patch)
        axes.text(x, y, text, ha="center", va="center")

    def arrow(start, end, text="", color="black", above=0.14):
        axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "linewidth": 1.8, "color": color})
        axes.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + above, text, ha="center", va="bottom")

    box(1.2, 2.2, _("base model"), GREY)
    box(5.6, 3.6, _("SFT model"), GREEN)
    box(10.6, 3.6, _("aligned model"), BLUE)
    box(8.1, 1.95, _("reference model\n(frozen copy)"), GREEN, width=2.5, dashed=True)
    box(10.6, 0.5, _("aligned model"), VERMILLION)
    arrow((2.3, 2.5), (4.5, 3.6), "")
    axes.text(2.55, 3.5, _("SFT on\ndemonstrations"), ha="center", va="center")
    arrow((6.7, 3.6), (9.5, 3.6), _("DPO on pairs"))
    arrow((6.1, 3.15), (7.3, 2.42))
    arrow((8.1, 2.42), (8.1, 3.5))
    arrow((2.3, 1.9), (9.5, 0.55))
    axes.text(5.2, 0.62, _("ORPO on pairs: SFT and a penalty on the odds, in one stage"), ha="center", va="center")
    axes.set(xlim=(0, 11.8), ylim=(0, 4.1))
    axes.axis("off")
    axes.set_title(_("Two ways from a base model to an aligned one"))
    return figure


def draw(lang: str) -> bytes:
    """The picture as SVG, the same bytes every time."""
    set_language(lang)
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        stages().savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


if __name__ == "__main__":
    for lang in languages():
        (ROOT / "notebooks" / lang / "stages.svg").write_bytes(draw(lang))
