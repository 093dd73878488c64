"""For the learner who has verdicts or win rates, of one model or of many: pictures of them."""

import math
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from ..evaluation import share
from ..i18n import _
from ..world import Verdict
from .figure import BLUE, GREY, VERMILLION, YELLOW, Figure, name_of, styled
from .plots import FLUENT, PREFERRED, SINGLE, finding, widen


@styled
def plot_sweep(table: pd.DataFrame, name: str = "λ", beside: str = "nll") -> Figure:
    """A point for each value in the table's index: "preferred" and "fluent", in percent, and a column `beside` them.

    Columns such as "preferred, seed 0" are drawn as small points. The axis of percentages begins at a ten below all of
    them, and that `beside` it is logarithmic where its values span more than a factor of 20. Where nothing was judged,
    and "preferred" is NaN throughout, only "fluent" is drawn. Of a table whose index has two groups above the values,
    each is a curve of "preferred" and of `beside`; ValueError if there are more.
    """
    figure, name = Figure(10, 3.9), name_of(name)
    left, right = figure.subplots(1, 2)
    right.set_ylabel(f"{named(beside)}, {_('nats')}")
    styles = [(PREFERRED, -0.12), (FLUENT, 0.12)]  # and where their seeds stand
    groups = table.index.unique(0) if table.index.nlevels > 1 else []
    if len(groups) > len(styles):
        words = _("plot_sweep: got {count} groups; expected at most {most}; draw some of them")
        raise ValueError(words.format(count=len(groups), most=len(styles)))
    if len(groups):
        shares, titled = [(group, table.loc[group], "preferred") for group in groups], len(groups)
        others = [(group, some, beside, right, *style) for (group, some, _share), style in zip(shares, styles)]
        left.set_ylabel(f"{name_of('preferred')}, %")
    else:
        judged = [one for one in ("preferred", "fluent") if not table[one].isna().all()]
        styles, titled = styles[-len(judged) :], 1
        shares = [(one, table, one) for one in judged]
        others = [(beside, table, beside, right, SINGLE | {"marker": "^"}, 0.0)]
        left.set_ylabel(_("answers, %"))
    curves = [(*share, left, *style) for share, style in zip(shares, styles)] + others
    found: dict = {left: {}, right: {}}
    lowest = 100.0
    for label, some, column, axes, style, shift in curves:
        values, places = [name_of(f"{value:g}") for value in some.index], np.arange(len(some))
        label, numbers = named(label), some[column].to_numpy()
        axes.plot(places, numbers, label=label, **style)
        seeds = some[[one for one in some if one.startswith(f"{column}, seed")]]
        small = style | {"linestyle": "", "markersize": 3, "alpha": 0.6}
        for i, seed in enumerate(seeds):
            said = None if i else _("{what}, single seeds (moved aside)").format(what=label)
            axes.plot(places + shift + 0.05 * (i - 1), seeds[seed], label=said, **small)
        lowest = min([lowest, *numbers, *seeds.min()]) if axes is left else lowest
        axes.set(xlabel=name, xticks=places, xticklabels=values)
        told = ", ".join(f"{name} {value}: {number:.4g}" for value, number in zip(values, numbers))
        figure.details.append(f"{label}: {told}")
        found[axes][label] = numbers
    words = _("{what}: highest at {name} {best}, with {high}%")
    tops = [(what, values[int(np.nanargmax(shares))], np.nanmax(shares)) for what, shares in found[left].items()]
    best = [words.format(what=what, name=name, best=at, high=f"{high:.1f}") for what, at, high in tops[:titled]]
    bottom = 10 * math.floor(lowest / 10) if lowest >= 10 else -4
    left.set(title=",\n".join(best), ylim=(bottom, 104 if bottom < 50 else 101))
    right.set_title(finding(named(beside), found[right], ".3g"))
    numbers = np.concatenate([*found[right].values()])
    if 0 < 20 * np.nanmin(numbers) < np.nanmax(numbers):
        right.set_yscale("log")
        right.yaxis.set_major_formatter(FuncFormatter(lambda tick, _place: name_of(f"{tick:g}")))
    else:
        widen(right)
    return figure.with_legend()


def named(column: str) -> str:
    """A column's name as a figure writes it."""
    return "NLL" if column == "nll" else name_of(column)


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
