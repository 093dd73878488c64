"""For the learner who has a run's log: pictures of it, whose titles say what they show."""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from ..i18n import N_, _, shown
from .figure import BLUE, GREEN, GREY, VERMILLION, Figure, name_of, styled

PREFERRED: dict = {"color": BLUE, "linestyle": "-", "marker": "o"}
FLUENT: dict = {"color": VERMILLION, "linestyle": "--", "marker": "s"}
SINGLE: dict = {"color": GREEN, "linestyle": "-"}

#: Curves: their names and styles, those of a log by TRL's key.
SIDES = {"chosen": (N_("chosen"), PREFERRED | {"marker": ""}), "rejected": (N_("rejected"), FLUENT | {"marker": ""})}
REWARDS, LOGPS = ({f"{quantity}/{side}": SIDES[side] for side in SIDES} for quantity in ("rewards", "logps"))
MARGIN = {"rewards/margins": (N_("margin"), SINGLE)}

#: By method: what TRL logs as margin, reward and log-probability, never on an axis without its formula; and their unit.
FORMULAS = {
    "dpo": (
        r"$\beta\,(\log\frac{\pi(y_w|x)}{\pi_{ref}(y_w|x)}-\log\frac{\pi(y_l|x)}{\pi_{ref}(y_l|x)})$",
        r"$r(x,y)=\beta\,\log\frac{\pi(y|x)}{\pi_{ref}(y|x)}$",
        r"$\log\pi(y|x)$",
        N_("summed over tokens, nats"),
    ),
    "orpo": (
        r"$\lambda\,(\frac{1}{|y_w|}\log\pi(y_w|x)-\frac{1}{|y_l|}\log\pi(y_l|x))$",
        r"$r(x,y)=\lambda\,\frac{1}{|y|}\log\pi(y|x)$",
        r"$\frac{1}{|y|}\log\pi(y|x)$",
        N_("mean per token, nats"),
    ),
}


def finding(what: str, curves: Mapping, digits: str = ".2f") -> str:
    """A title: how one curve changes, or the first and the last value of each of several. curves: values by name."""
    grows, falls = _("{what} grows from {first} to {last}"), _("{what} falls from {first} to {last}")
    lines = []
    for name, values in curves.items():
        first, last = format(values[0], digits), format(values[-1], digits)
        change = _("{what} stays at {last}") if first == last else grows if values[-1] > values[0] else falls
        words = change if len(curves) == 1 else _("{name} from {first} to {last}")
        lines.append(words.format(what=what, name=name, first=first, last=last))
    return (f"{what}:\n" if len(lines) > 1 else "") + ",\n".join(lines)


def alone(values: pd.Series) -> pd.Series:
    """Those of many values, one at each end at most, that stretch their span by half: they would flatten all others."""
    low, second, *_more, last, high = sorted(values)
    above, below = high - last > (last - low) / 2, second - low > (high - second) / 2
    return values[(values == high) & above | (values == low) & below]


def draw(
    axes: Axes, log: Sequence[dict], what: str, curves: dict, ylabel: str, digits: str = ".2f", whole: bool = False
) -> None:
    """Draw some curves of a log: single steps faintly, and the mean of ten.

    Unless the `whole` axis is to be seen, a step that would flatten all others becomes a triangle at the edge.
    """
    means = {}
    for key, (label, style) in curves.items():
        values = pd.Series({entry["step"]: entry[key] for entry in log if key in entry})
        if values.empty:
            words = _(
                "the log holds no “{key}”, only {known}; give the log of a preference run, such as run.log of train_dpo"
            )
            raise ValueError(words.format(key=key, known=shown(", ".join(sorted({*chain(*log)})) or "–")))
        count = min(10, len(values) // 2 + 1)
        mean = values.rolling(count).mean()[count - 1 :]
        faint = style | {"linestyle": "", "marker": "o", "markersize": 2.5, "markeredgewidth": 0, "alpha": 0.4}
        far = alone(values) if len(values) >= 12 and not whole else values[:0]
        near = values.drop(far.index)
        axes.plot(near, label=_("single steps (lines: mean of {count})").format(count=count), **faint)
        for step, value in far.items():
            edge, marker = (0.985, "^") if value > near.max() else (0.015, "v")
            at = {"transform": axes.get_xaxis_transform()}
            axes.plot([step], [edge], **style | {"linestyle": "", "marker": marker} | at)
            axes.plot([], [], color=GREY, linestyle="", marker=marker, label=_("a step beyond the axis"))
        axes.plot(mean, label=_(label), **style)
        means[_(label)] = mean.to_numpy()
    axes.set(title=finding(what, means, digits), xlabel=_("step"))
    axes.set_ylabel(ylabel, parse_math=True)


def widen(axes: Axes, span: float = 0.2) -> None:
    """Let the axis reach over `span` at least, lest noise look like a catastrophe."""
    low, high = axes.get_ylim()
    more = max(0.0, span - (high - low)) / 2
    axes.set_ylim(low - more, high + more)


@styled
def plot_reward_margins(log: Sequence[dict], method: str = "dpo") -> Figure:
    """The reward margin as it grows, the two rewards it is the difference of, and their log-probabilities, in nats.

    log: TRL's log_history, as `run.log`. method: "dpo", whose log-probabilities are sums over tokens, or "orpo": means.
    """
    if method not in FORMULAS:
        words = _("method “{method}” has no margin here; choose one of {known}")
        raise ValueError(words.format(method=method, known=", ".join(FORMULAS)))
    *formulas, unit = FORMULAS[method]
    margin, reward, logp = (f"{formula}\n({_(unit)})" for formula in formulas)
    figure, digits = Figure(11.5, 4.1), ".2f" if method == "dpo" else ".3f"
    left, middle, right = figure.subplots(1, 3)
    draw(left, log, _("The margin"), MARGIN, margin, digits)
    draw(middle, log, _("Rewards of the answers"), REWARDS, reward, digits)
    draw(right, log, _("Log-probability of the answers"), LOGPS, logp)
    for axes in (left, middle):
        axes.axhline(0, color=GREY, linewidth=1, linestyle=":")
    return figure.with_legend()


@styled
def plot_orpo_terms(log: Sequence[dict]) -> Figure:
    """The two terms of ORPO's loss apart, in nats.

    log: TRL's log_history. The NLL is that of the chosen answer in `train_orpo`'s log, of the prompt too in TRL's.
    """
    odds = [{**entry, "odds_term": -entry["log_odds_ratio"]} for entry in log if "log_odds_ratio" in entry]
    term = {"odds_term": (_("odds-ratio term"), {"color": "black", "linestyle": "-."})}
    ratio = r"$-\log\,\sigma(\log\frac{odds(y_w|x)}{odds(y_l|x)})$" + "\n" + _("before its weight λ, nats")
    figure = Figure(8.5, 4.1)
    left, right = figure.subplots(1, 2)
    draw(
        left, log, _("The NLL"), {"nll_loss": ("NLL", SINGLE)}, rf"$\mathcal{{L}}_{{SFT}}$ ({_(FORMULAS['orpo'][-1])})"
    )
    draw(right, odds or log, _("The odds-ratio term"), term, ratio)
    for axes in figure.axes:
        widen(axes)
    return figure.with_legend()


@styled
def plot_sides(
    runs: Mapping[str, Sequence[dict]], what: str = "logps", method: str = "dpo", same_axis: bool = False
) -> Figure:
    """What several runs do to the chosen and to the rejected answers, side by side, each on an axis of its own or not.

    runs: TRL's log_history by name. what: "logps" or "rewards", in nats. method: "dpo", which sums log-probabilities
    over an answer's tokens, or "orpo", which takes their mean.
    """
    _margin, reward, logp, unit = FORMULAS[method]
    curves, formula = {"rewards": (REWARDS, reward), "logps": (LOGPS, logp)}[what]
    figure = Figure(min(max(7.5, 1 + 3.75 * len(runs)), 11.5), 4.1)
    for axes, (name, log) in zip(figure.subplots(1, len(runs), squeeze=False, sharey=same_axis)[0], runs.items()):
        draw(axes, log, name_of(name), curves, f"{formula}\n({_(unit)})")
    for axes in figure.axes:  # once all are drawn, for the axis may be one
        widen(axes)
        if same_axis:
            axes.label_outer()
    return figure.with_legend()


@styled
def plot_why_odds(log_ratio: float = 3.0) -> Figure:
    """What P is left to a rejected answer where a log-ratio to the chosen one is asked for: of odds, of probabilities.

    P is an answer's, 0..1; section 7.1 of arXiv:2403.07691 compares the two ratios.
    """
    figure = Figure(6.5, 4)
    axes, chosen = figure.subplots(), np.linspace(0, 0.999, 1000)
    odds, probabilities = chosen / (1 - chosen) * np.exp(-log_ratio), chosen * np.exp(-log_ratio)
    left = {_("by odds"): (odds / (1 + odds), PREFERRED), _("by probabilities"): (probabilities, FLUENT)}
    for label, (rejected, style) in left.items():
        axes.plot(chosen, rejected, label=label, **style | {"marker": ""})
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label=_("as likely as the chosen answer"))
    high = np.searchsorted(chosen, 0.99)
    title = _("A log-ratio of {ratio:g} at P = {p:.2f} of the chosen answer leaves the rejected one at most\n{left}")
    told = ", ".join(f"{label}: {rejected[high]:.2f}" for label, (rejected, _style) in left.items())
    axes.set_title(title.format(ratio=log_ratio, p=chosen[high], left=told))
    axes.set(xlabel=_("P of the chosen answer"), ylabel=_("P that is left to the rejected answer, at most"))
    return figure.with_legend()


@styled
def plot_accuracy(log: Sequence[dict]) -> Figure:
    """In how many pairs of each batch the chosen answer earns more than the rejected one. log: TRL's log_history."""
    # before the first update all margins are 0, which TRL counts as wrong
    moved = [entry for entry in log if entry.get("rewards/margins") or entry.get("rewards/accuracies")]
    figure = Figure(6.5, 3.8)
    axes = figure.subplots()
    curve, ylabel = {"rewards/accuracies": (_("accuracy"), SINGLE)}, _("pairs of the batch with a margin > 0, %")
    draw(axes, moved or log, _("The reward accuracy"), curve, ylabel, ".0%", whole=True)
    axes.axhline(0.5, color=VERMILLION, linestyle="--", linewidth=1, label=_("a guess"))
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    return figure.with_legend()


@styled
def plot_judge_against_margin(runs: dict[str, tuple[Sequence[dict], Sequence[tuple]]]) -> Figure:
    """Margins, each on its own scale, above the judge's word. runs: {name: (log, [(step, preferred %, fluent %)])}."""
    if not runs:
        raise ValueError(
            _("plot_judge_against_margin: got no run; expected a dict of name: (log, [(step, preferred, fluent), ...])")
        )
    figure = Figure(1 + 4.2 * len(runs), 6)
    for (run, (log, judged)), (above, below) in zip(runs.items(), figure.subplots(2, len(runs), squeeze=False).T):
        name = name_of(run)
        draw(above, log, _("{name}: the margin").format(name=name), MARGIN, _("reward margin, nats"))
        steps, preferred, fluent = zip(*judged)
        below.plot(steps, preferred, label=_("preferred"), **PREFERRED)
        below.plot(steps, fluent, label=_("fluent"), **FLUENT)
        what, curves = _("{name}: what the judge says, %"), {_("preferred"): preferred, _("fluent"): fluent}
        below.set(title=finding(what.format(name=name), curves, ".0f"), xlabel=_("step"), ylabel=_("answers, %"))
        below.set(ylim=(-4, 104), xlim=above.get_xlim())
    return figure.with_legend()


@styled
def plot_length_against_reward(
    lengths: dict[str, Sequence[float]], rewards: dict[str, Sequence[float]], unit: str | None = None
) -> Figure:
    """Lengths of answers, in `unit`, against implicit rewards, in nats: {"chosen": [...], "rejected": [...]} each."""
    figure, found = Figure(7.5, 4.4), []
    axes = figure.subplots()
    for (side, (label, style)), marker in zip(SIDES.items(), "ox"):
        x, y = (np.array(values.get(side, ()), dtype=float) for values in (lengths, rewards))
        if len(x) != len(y) or len(x) < 2:
            words = _(
                "plot_length_against_reward: got {lengths} lengths and {rewards} rewards of {side} answers; "
                "expected as many of each, at least 2"
            )
            raise ValueError(words.format(lengths=len(x), rewards=len(y), side=side))
        span = np.array([x.min(), x.max()])
        axes.scatter(x, y, color=style["color"], marker=marker, s=22, alpha=0.5, linewidths=1)
        axes.plot(span, np.polyval(np.polyfit(x, y, 1), span), label=_(label), **style | {"marker": marker})
        found.append(f"{_(label)} {np.corrcoef(x, y)[0, 1]:+.2f}")
    axes.axhline(0, color=GREY, linewidth=1, linestyle=":")
    axes.set(title=_("Correlation of length and implicit reward") + ":\n" + ", ".join(found))
    axes.set_xlabel(_("length of the answer, {unit}").format(unit=name_of(unit or _("tokens"))))
    axes.set_ylabel(FORMULAS["dpo"][1] + ", " + _("nats"), parse_math=True)
    return figure.with_legend()
