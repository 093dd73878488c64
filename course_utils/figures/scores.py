"""For the learner who has verdicts, scores or a table of runs: pictures of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..i18n import _
from ..world import Verdict
from .curves import CHOSEN, FLUENT, FORMULAS, PREFERRED, REJECTED, SINGLE, unit_of, widen
from .figure import BLUE, GREY, VERMILLION, YELLOW, Figure, styled


@styled
def plot_length_against_reward(
    lengths: dict[str, Sequence[float]], rewards: dict[str, Sequence[float]], unit: str | None = None
) -> Figure:
    """Does a longer answer earn more? Each answer's length against its implicit reward, with a fitted line a side.

    lengths, rewards: {"chosen": [...], "rejected": [...]}, one number an answer, in the same order; the rewards from
    `implicit_reward`, in nats. unit: what the lengths count; tokens, unless you say otherwise.
    """
    figure, found = Figure(7.5, 4.4), []
    axes = figure.subplots()
    for side, label, style in (("chosen", _("chosen"), CHOSEN), ("rejected", _("rejected"), REJECTED)):
        x, y = (np.array(values.get(side, ()), dtype=float) for values in (lengths, rewards))
        if len(x) != len(y) or len(x) < 2:
            words = _(
                "plot_length_against_reward: got {lengths} lengths and {rewards} rewards of {side} answers; "
                "expected as many of each, at least 2"
            )
            raise ValueError(words.format(lengths=len(x), rewards=len(y), side=side))
        span, marker = np.array([x.min(), x.max()]), "o" if side == "chosen" else "x"
        axes.scatter(x, y, color=style["color"], marker=marker, s=22, alpha=0.5, linewidths=1)
        axes.plot(span, np.polyval(np.polyfit(x, y, 1), span), label=label, **style | {"marker": marker})
        found.append(f"{label} {np.corrcoef(x, y)[0, 1]:+.2f}")
    axes.axhline(0, color=GREY, linewidth=1, linestyle=":")
    axes.set(title=_("Correlation of length and implicit reward") + ":\n" + ", ".join(found))
    axes.set_xlabel(_("length of the answer, {unit}").format(unit=unit or _("tokens")))
    axes.set_ylabel(FORMULAS["dpo"][1] + ", " + _("nats"))
    return figure.with_legend()


@styled
def plot_sweep(table: pd.DataFrame, name: str = "λ") -> Figure:
    """What a setting does: one point a run. The table's index holds its values.

    Columns "preferred" and "fluent", in percent of the answers, go left; "nll", in nats per token, right.
    """
    figure = Figure(10, 3.9)
    left, right = figure.subplots(1, 2)
    where, values, told = range(len(table)), [f"{value:g}" for value in table.index], []
    labels = {"preferred": _("preferred"), "fluent": _("fluent"), "nll": "NLL"}
    for (column, label), style in zip(labels.items(), (PREFERRED, FLUENT, SINGLE | {"marker": "^"})):
        axes = right if column == "nll" else left
        axes.plot(where, table[column], label=label, **style)
        axes.set(xlabel=name, xticks=where, xticklabels=values)
        told.append(f"{label}: " + ", ".join(f"{name} {v}: {n:.4g}" for v, n in zip(values, table[column])))
    best, nll = table["preferred"].to_numpy(), table["nll"]
    most = _("Most are preferred at {name} = {value}: {percent}%")
    left.set(title=most.format(name=name, value=values[best.argmax()], percent=f"{best.max():.0f}"), ylim=(-4, 104))
    between = _("The NLL lies between {low} and {high}").format(low=f"{nll.min():.3f}", high=f"{nll.max():.3f}")
    left.set_ylabel(_("answers, %"))
    right.set(title=between, ylabel="NLL, " + unit_of("orpo"))
    widen(right, 0.2)
    figure.details = "; ".join(told)
    return figure.with_legend()


def rows(names: Sequence[str], title: str, xlabel: str) -> tuple:
    """A figure with a row for each of several models, runs or comparisons, from the top down."""
    figure = Figure(9, 1.7 + 0.45 * len(names))
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    return figure, axes


@styled
def plot_grid(table: pd.DataFrame) -> Figure:
    """Several models on several datasets: one row of points a run. All in percent; what was not judged has no point."""
    names = [f"{model} · {data}" for model, data in zip(table["model"], table["data"])]
    figure, axes = rows(names, _("Every model on every dataset"), _("answers or pairs, %"))
    labels = {"preferred": _("preferred"), "fluent": _("fluent"), "accuracy": _("reward accuracy on held-out pairs")}
    told = [f"{name}:" for name in names]
    for (column, label), style in zip(labels.items(), (PREFERRED, FLUENT, SINGLE | {"marker": "^"})):
        for i, value in enumerate(table.get(column, ())):
            axes.plot(value, i, label=label, **style | {"linestyle": "", "markersize": 8, "alpha": 0.8})
            told[i] += f" {label} {value:.0f}%" if value == value else " " + _("{what} not known").format(what=label)
    axes.set_xlim(-3, 103)
    figure.details = "; ".join(told)
    return figure.with_legend()


@styled
def plot_win_rates(rates: dict[str, tuple[float, float, float]], ours: str, theirs: str) -> Figure:
    """Win rates with their 95% intervals, as `win_rate` gives them (0..1), one row a comparison."""
    wins, low, high = 100 * np.array([*rates.values()]).T
    title = _("{ours} against {theirs}: win rates from {low} to {high}%")
    title = title.format(ours=ours, theirs=theirs, low=f"{wins.min():.0f}", high=f"{wins.max():.0f}")
    figure, axes = rows([*rates], title, _("win rate in %; a tie counts one half"))
    label = _("win rate and its interval (95%)")
    axes.errorbar(wins, range(len(rates)), xerr=[wins - low, high - wins], fmt="o", color=BLUE, label=label)
    axes.axvline(50, color=VERMILLION, linestyle="--", linewidth=1, label=_("as often as not"))
    told = (f"{name}: {rate:.0%} ({least:.0%} – {most:.0%})" for name, (rate, least, most) in rates.items())
    figure.details = "; ".join(told)
    return figure.with_legend()


@styled
def plot_verdicts(verdicts: dict[str, Sequence[Verdict]]) -> Figure:
    """What the judge said of each model's answers: preferred, fluent with a fault, not fluent."""
    parts = {
        _("preferred"): (BLUE, "", lambda v: v.preferred),
        _("fluent, but breaks a rule"): (YELLOW, "//", lambda v: v.fluent and v.judged and not v.preferred),
        _("not fluent"): (VERMILLION, "xx", lambda v: not v.fluent),
        _("not judged"): (GREY, "..", lambda v: v.fluent and not v.judged),
    }
    if all(v.judged for row in verdicts.values() for v in row):
        parts.popitem()
    percent = {name: [100 * np.mean([*map(part[2], row)]) for row in verdicts.values()] for name, part in parts.items()}
    best = (f"{name} {value:.0f}%" for name, value in zip(verdicts, percent[_("preferred")]))
    figure, axes = rows([*verdicts], _("Preferred answers") + ": " + ", ".join(best), _("answers, %"))
    left, box = np.zeros(len(verdicts)), {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5}
    for label, (color, hatch, _test) in parts.items():
        width = percent[label]
        bars = axes.barh(range(len(left)), width, 0.7, left, color=color, hatch=hatch, edgecolor="white", label=label)
        axes.bar_label(bars, [f"{value:.0f}" if value >= 6 else "" for value in width], label_type="center", bbox=box)
        left += width
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
    told = ([f"{values[i]:.0f}% {label}" for label, values in percent.items()] for i in range(len(left)))
    figure.details = "; ".join(f"{name}: {', '.join(words)}" for name, words in zip(verdicts, told))
    return figure.with_legend()
