"""For the learner of the labs: a family of losses over the margin, and recorded arms with their intervals."""

import inspect
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch

from ..i18n import _
from .figure import BLUE, GREEN, GREY, VERMILLION, Figure, name_of, styled
from .plots import finding

#: A colour and a kind of line for each of ten curves; no two share both.
STYLES: list[dict] = [
    {"color": color, "linestyle": line}
    for line in ("-", "--")
    for color in (BLUE, VERMILLION, GREEN, "#000000", "#CC79A7")
]


@styled
def plot_losses(family: Mapping[str, tuple[Callable, float]], tokens: int = 40, reach: float = 12.0) -> Figure:
    """Each loss of a pair, and how hard it pulls the two answers apart, over the difference of their log-ratios.

    family: by name a loss, called as `train_dpo` calls it, and its β. Half of the difference is on either answer, each
    of so many tokens. The x axis runs from -reach to reach, in nats. The pull is minus the slope of the loss.
    """
    figure = Figure(9, 4)
    left, right = figure.subplots(1, 2)
    differences, pulling = torch.linspace(-reach, reach, 97), []
    for (name, (loss, beta)), style in zip(family.items(), STYLES):
        asked = inspect.signature(loss).parameters
        given = {n: torch.full((1,), tokens) for n in ("chosen_tokens", "rejected_tokens") if n in asked}
        values, pulls = [], []
        for difference in differences:
            half, zero = (difference[None] / 2).requires_grad_(), torch.zeros(1)
            value = loss(half, -half, zero, zero, beta, **given).sum()
            values.append(value.item())
            pulls.append(-torch.autograd.grad(value, half)[0].item() / 2)
        left.plot(differences, values, label=name_of(name), **style)
        right.plot(differences, pulls, label=name_of(name), **style)
        if pulls[-1] > max(pulls) / 30:
            pulling.append(name_of(name))
    words = _("h: log-ratio of chosen less that of rejected, nats")
    left.set(title=_("what a pair costs"), xlabel=words, ylabel=_("loss"))
    title = _("at {reach:g} nats these keep a thirtieth of their pull, or more:\n{names}")
    title = title.format(reach=reach, names=", ".join(pulling) or "–")
    right.set(title=title, xlabel=words, ylabel=_("pull (minus the slope)"))
    figure.suptitle(_("One margin, {count} losses").format(count=len(family)))
    figure.details.append(", ".join(map(name_of, family)))
    return figure.with_legend()


def with_bars(table: pd.DataFrame, what: str) -> tuple[pd.Series, np.ndarray]:
    """A share of each row, and how far its interval reaches below and above it: (2, rows)."""
    mean = table[f"{what}, %"]
    return mean, np.abs(table[[f"{what}, low", f"{what}, high"]].to_numpy().T - mean.to_numpy())


@styled
def plot_arms(table: pd.DataFrame, what: str = "preferred") -> Figure:
    """A share of each arm of a recorded lab, in percent, with its 95% interval and, smaller, each of its seeds.

    table: a row an arm, with columns such as "preferred, %", "preferred, low", "preferred, high", "preferred, seed 0".
    """
    figure = Figure(7, 1.1 + 0.3 * len(table))
    axes, places = figure.subplots(), np.arange(len(table))
    mean, bars = with_bars(table, what)
    seeds = [column for column in table if column.startswith(f"{what}, seed")]
    for i, column in enumerate(seeds):
        label = None if i else _("single seeds")
        axes.plot(table[column], places + 0.3, linestyle="", marker="|", color=GREY, label=label)
    words = _("mean, with its interval (95%)")
    axes.errorbar(mean, places, xerr=bars, fmt="o", color=BLUE, markersize=5, linewidth=1.5, label=words)
    axes.set_yticks(places, [name_of(name) for name in table.index])
    axes.invert_yaxis()
    axes.set_xlabel(_("share of answers, %"))
    best, worst = mean.idxmax(), mean.idxmin()
    title = _("{what}: from {low:.1f}% ({worst})\nto {high:.1f}% ({best})")
    numbers = {"what": name_of(what), "low": mean.min(), "high": mean.max()}
    axes.set_title(title.format(**numbers, worst=name_of(worst), best=name_of(best)))
    return figure.with_legend()


@styled
def plot_paths(table: pd.DataFrame, x: str, what: str = "preferred") -> Figure:
    """A share of each arm, in percent, with its 95% interval, as it goes along: over column `x` of a recorded lab.

    Arms are moved a little to the right of one another, lest their intervals hide one another; values that go far have
    an axis of powers of ten.
    table: as for `plot_arms`, with two levels of rows: arm and point.
    """
    figure = Figure(7, 3.6)
    axes, ends = figure.subplots(), {}
    is_wide = table[x].min() > 0 and table[x].max() > 30 * table[x].min()
    span = 0 if is_wide else np.ptp(table[x])
    axes.set_xscale("log" if is_wide else "linear")
    for i, ((arm, path), style) in enumerate(zip(table.groupby(level=0, sort=False), STYLES)):
        mean, bars = with_bars(path, what)
        axes.errorbar(
            path[x] + 0.006 * span * i,
            mean,
            yerr=bars,
            marker="o",
            markersize=4,
            capsize=2,
            label=name_of(arm),
            **style,
        )
        ends[name_of(arm)] = mean.to_numpy()
    if pd.api.types.is_integer_dtype(table[x]):
        axes.set_xticks(table[x].unique())
    axes.set(xlabel=name_of(x), ylabel=_("share of answers, %"), title=finding(name_of(what), ends, ".1f"))
    return figure.with_legend()
