"""For the learner who has verdicts or win rates, of one model or of many: pictures of them."""

import math
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..evaluation import share
from ..i18n import _
from ..world import Verdict
from .figure import BLUE, GREY, VERMILLION, YELLOW, Figure, name_of, styled
from .plots import FLUENT, PREFERRED, SINGLE, finding, widen


@styled
def plot_sweep(table: pd.DataFrame, name: str = "λ", beside: str = "nll", title: str = "") -> Figure:
    """A point for each value in the table's index: "preferred" and "fluent", in percent, and a column `beside` them.

    Columns such as "preferred, seed 0" are drawn as small points. The axis of percentages begins at a ten below all of
    them. Where nothing was judged, and "preferred" is NaN throughout, only "fluent" is drawn.
    """
    figure, name = Figure(10, 3.9), name_of(name)
    figure.suptitle(name_of(title))
    left, right = figure.subplots(1, 2)
    values, places = [name_of(f"{value:g}") for value in table.index], np.arange(len(table))
    curves = [("preferred", left, PREFERRED, -0.12), ("fluent", left, FLUENT, 0.12)]  # where their seeds stand
    curves = [curve for curve in curves if not table[curve[0]].isna().all()]
    found, lowest, names = {}, 100.0, {column: name_of(column) for column in table} | {"nll": "NLL"}
    for column, axes, style, shift in (*curves, (beside, right, SINGLE | {"marker": "^"}, 0.0)):
        found[column] = table[column].to_numpy()
        axes.plot(places, found[column], label=names[column], **style)
        seeds = table[[one for one in table if one.startswith(f"{column}, seed")]]
        small = style | {"linestyle": "", "markersize": 3, "alpha": 0.6}
        for i, seed in enumerate(seeds):
            said = None if i else _("{what}, single seeds").format(what=names[column])
            axes.plot(places + shift + 0.05 * (i - 1), seeds[seed], label=said, **small)
        lowest = min([lowest, *table[column], *seeds.min()]) if axes is left else lowest
        axes.set(xlabel=name, xticks=places, xticklabels=values)
        told = ", ".join(f"{name} {value}: {number:.4g}" for value, number in zip(values, found[column]))
        figure.details.append(f"{names[column]}: {told}")
    what, shares = curves[0][0], found[curves[0][0]]
    words = _("{what}: highest at {name} {best}, with {high}%")
    best = values[int(np.nanargmax(shares))]
    left.set(title=words.format(what=names[what], name=name, best=best, high=f"{np.nanmax(shares):.1f}"))
    bottom = 10 * math.floor(lowest / 10) if lowest >= 10 else -4
    left.set(ylabel=_("answers, %"), ylim=(bottom, 104 if bottom < 50 else 101))
    right.set(title=finding(names[beside], {beside: found[beside]}, ".3f"), ylabel=f"{names[beside]}, {_('nats')}")
    widen(right)
    return figure.with_legend()


@styled
def plot_win_rates(rates: dict[str, tuple[float, float, float]], theirs: str) -> Figure:
    """Win rates with their 95% intervals, as `win_rate` gives them (0..1), one row a comparison."""
    wins, low, high = 100 * np.array([*rates.values()]).T
    counts = {_("ahead"): low > 50, _("behind"): high < 50, _("undecided"): (low <= 50) & (high >= 50)}
    found = ", ".join(f"{which.sum()} {words}" for words, which in counts.items() if which.any())
    names = [*map(name_of, rates)]
    title = _("Against {theirs}: {found}").format(theirs=name_of(theirs), found=found)
    figure, axes = rows(names, title, _("win rate in %; a tie counts one half"))
    label = _("win rate and its interval (95%)")
    axes.errorbar(wins, range(len(rates)), xerr=[wins - low, high - wins], fmt="o", color=BLUE, label=label)
    axes.axvline(50, color=VERMILLION, linestyle="--", linewidth=1, label=_("as many wins as losses"))
    figure.details = [
        f"{name}: {rate:.1%} ({low:.1%} – {high:.1%})" for name, (rate, low, high) in zip(names, rates.values())
    ]
    return figure.with_legend()


@styled
def plot_verdicts(verdicts: dict[str, Sequence[Verdict]]) -> Figure:
    """What the judge said of each model's answers: preferred, fluent with a fault, not fluent."""
    parts = [
        (_("preferred"), BLUE, "", lambda v: v.preferred),
        (_("fluent, but breaks a rule"), YELLOW, "//", lambda v: v.fluent and v.judged and not v.preferred),
        (_("not fluent"), VERMILLION, "xx", lambda v: not v.fluent),
        (_("not judged"), GREY, "..", lambda v: v.fluent and not v.judged),
    ]
    if all(v.judged for row in verdicts.values() for v in row):
        parts.pop()
    percent = {label: [100 * share(row, test) for row in verdicts.values()] for label, _c, _h, test in parts}
    names = [*map(name_of, verdicts)]
    best = (f"{name} {value:.1f}%" for name, value in zip(names, percent[_("preferred")]))
    figure, axes = rows(names, _("Preferred answers") + ": " + ", ".join(best), _("answers, %"))
    left, box = np.zeros(len(verdicts)), {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5}
    for label, color, hatch, _test in parts:
        width = percent[label]
        bars = axes.barh(range(len(left)), width, 0.7, left, color=color, hatch=hatch, edgecolor="white", label=label)
        axes.bar_label(bars, [f"{value:.1f}" if value >= 6 else "" for value in width], label_type="center", bbox=box)
        left += width
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
    for name, *values in zip(names, *percent.values()):
        figure.details.append(f"{name}: " + ", ".join(f"{v:.1f}% {label}" for label, v in zip(percent, values)))
    return figure.with_legend()


def rows(names: Collection[str], title: str, xlabel: str) -> tuple[Figure, Axes]:
    """A figure with a row for each of several models or comparisons, from the top down."""
    figure = Figure(9, 1.7 + 0.45 * len(names))
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    return figure, axes
