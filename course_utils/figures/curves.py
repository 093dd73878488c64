"""For the learner who has a run's log: pictures of it, whose titles say how the curves change."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from ..i18n import _
from .figure import BLUE, GREEN, GREY, VERMILLION, Figure, styled

PREFERRED: dict = {"color": BLUE, "linestyle": "-", "marker": "o"}
FLUENT: dict = {"color": VERMILLION, "linestyle": "--", "marker": "s"}
CHOSEN, REJECTED, SINGLE = PREFERRED | {"marker": ""}, FLUENT | {"marker": ""}, {"color": GREEN, "linestyle": "-"}

#: By method: what TRL logs as margin, reward and log-probability; never on an axis without its formula.
FORMULAS = {
    "dpo": (
        r"$\beta\,(\log\frac{\pi(y_w|x)}{\pi_{ref}(y_w|x)}-\log\frac{\pi(y_l|x)}{\pi_{ref}(y_l|x)})$",
        r"$r(x,y)=\beta\,\log\frac{\pi(y|x)}{\pi_{ref}(y|x)}$",
        r"$\log\pi(y|x)$",
    ),
    "orpo": (
        r"$\lambda\,(\frac{1}{|y_w|}\log\pi(y_w|x)-\frac{1}{|y_l|}\log\pi(y_l|x))$",
        r"$r(x,y)=\lambda\,\frac{1}{|y|}\log\pi(y|x)$",
        r"$\frac{1}{|y|}\log\pi(y|x)$",
    ),
}


def unit_of(method: str) -> str:
    """In what the method's log-probabilities are."""
    return _("summed over tokens, nats") if method == "dpo" else _("mean per token, nats")


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


def draw(axes: Axes, log: Sequence[dict], what: str, curves: dict[str, tuple], ylabel: str, digits: str = ".2f"):
    """Draw logged quantities: single steps faintly, and the mean of ten. curves: label and style by key."""
    means = {}
    for key, (label, style) in curves.items():
        points = [(entry["step"], entry[key]) for entry in log if key in entry]
        if not points:
            words = _(
                "the log holds no “{key}”, only {known}; give the log of a preference run, such as run.log of train_dpo"
            )
            known = ", ".join(sorted({name for entry in log for name in entry})) or "–"
            raise ValueError(words.format(key=key, known=known))
        steps, values = np.array(points).T
        count = min(10, len(values) // 2 + 1)
        means[label] = np.convolve(values, np.ones(count) / count, mode="valid")
        faint = style | {"linestyle": "", "marker": "o", "markersize": 2.5, "markeredgewidth": 0, "alpha": 0.4}
        axes.plot(steps, values, label=_("single steps (lines: mean of {count})").format(count=count), **faint)
        axes.plot(steps[count - 1 :], means[label], label=label, **style)
    axes.set(title=finding(what, means, digits), xlabel=_("step"), ylabel=ylabel)


def sides(quantity: str) -> dict[str, tuple[str, dict]]:
    """The curves of a quantity that is logged of both answers."""
    return {f"{quantity}/chosen": (_("chosen"), CHOSEN), f"{quantity}/rejected": (_("rejected"), REJECTED)}


def widen(axes: Axes, span: float) -> None:
    """Let the axis reach over `span` at least, lest noise look like a catastrophe."""
    low, high = axes.get_ylim()
    more = max(0.0, span - (high - low)) / 2
    axes.set_ylim(low - more, high + more)


@styled
def plot_reward_margins(log: Sequence[dict], method: str = "dpo") -> Figure:
    """The reward margin as it grows, the two rewards it is the difference of, and their log-probabilities.

    log: TRL's log_history of a run, as `run.log`. method: "dpo" or "orpo"; the axes carry the formulas.
    DPO's log-probabilities are sums over an answer's tokens, ORPO's are means; both in nats.
    """
    if method not in FORMULAS:
        words = _("method “{method}” has no margin here; choose one of {known}")
        raise ValueError(words.format(method=method, known=", ".join(FORMULAS)))
    margin, reward, logp = (f"{formula}\n({unit_of(method)})" for formula in FORMULAS[method])
    figure = Figure(11.5, 4.1)
    left, middle, right = figure.subplots(1, 3)
    digits = ".2f" if method == "dpo" else ".3f"
    draw(left, log, _("The margin"), {"rewards/margins": (_("margin"), SINGLE)}, margin, digits)
    draw(middle, log, _("Rewards of the answers"), sides("rewards"), reward, digits)
    draw(right, log, _("Log-probability of the answers"), sides("logps"), logp)
    for axes in (left, middle):
        axes.axhline(0, color=GREY, linewidth=1, linestyle=":")
    return figure.with_legend()


@styled
def plot_orpo_terms(log: Sequence[dict]) -> Figure:
    """The two terms of ORPO's loss apart, and the mean log-probability of a token of both answers; all in nats.

    log: TRL's log_history of an ORPO run. The NLL is that of the chosen answer in `train_orpo`'s log, and of the prompt
    too in TRL's. The odds-ratio term, -log σ(log odds ratio), is drawn before its weight λ.
    """
    odds = [{**entry, "odds_term": -entry["log_odds_ratio"]} for entry in log if "log_odds_ratio" in entry]
    unit, ratio = unit_of("orpo"), r"$-\log\,\sigma(\log\frac{odds(y_w|x)}{odds(y_l|x)})$"
    figure = Figure(11.5, 4.1)
    left, middle, right = panels = figure.subplots(1, 3)
    term = {"odds_term": (_("odds-ratio term"), {"color": "black", "linestyle": "-."})}
    draw(left, log, _("The NLL"), {"nll_loss": ("NLL", SINGLE)}, rf"$\mathcal{{L}}_{{SFT}}$ ({unit})")
    draw(middle, odds or log, _("The odds-ratio term"), term, ratio + "\n" + _("before its weight λ, nats"))
    draw(right, log, _("Log-probability of the answers"), sides("logps"), f"{FORMULAS['orpo'][2]}\n({unit})")
    for axes in panels:
        widen(axes, 0.2)
    return figure.with_legend()


@styled
def plot_accuracy(log: Sequence[dict]) -> Figure:
    """In how many pairs of each batch the chosen answer earns more than the rejected one.

    log: TRL's log_history of a preference run. Before the first update all margins are 0, which TRL counts as wrong;
    such steps are left out.
    """
    moved = [entry for entry in log if entry.get("rewards/margins") or entry.get("rewards/accuracies")]
    figure = Figure(6.5, 3.8)
    axes = figure.subplots()
    curve, ylabel = {"rewards/accuracies": (_("accuracy"), SINGLE)}, _("pairs of the batch with a margin > 0, %")
    draw(axes, moved or log, _("The reward accuracy"), curve, ylabel, ".0%")
    axes.axhline(0.5, color=VERMILLION, linestyle="--", linewidth=1, label=_("a guess"))
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    return figure.with_legend()


@styled
def plot_judge_against_margin(runs: dict[str, tuple[Sequence[dict], Sequence[tuple]]]) -> Figure:
    """What the margin says of some runs, above what the judge says of their answers; one column a run.

    runs: by name, a run's log and a list of (step, preferred, fluent), in percent of the answers written at that
    step. Each margin has its own scale, lest the largest flatten the others.
    """
    if not runs:
        raise ValueError(
            _("plot_judge_against_margin: got no run; expected a dict of name: (log, [(step, preferred, fluent), ...])")
        )
    figure = Figure(1 + 4.2 * len(runs), 6)
    for (name, (log, judged)), (above, below) in zip(runs.items(), figure.subplots(2, len(runs), squeeze=False).T):
        curve, what = {"rewards/margins": (_("margin"), SINGLE)}, _("{name}: the margin").format(name=name)
        draw(above, log, what, curve, _("reward margin, nats"))
        steps, *scores = zip(*judged)
        curves = dict(zip((_("preferred"), _("fluent")), scores))
        for (label, values), style in zip(curves.items(), (PREFERRED, FLUENT)):
            below.plot(steps, values, label=label, **style)
        title = finding(_("{name}: what the judge says, %").format(name=name), curves, ".0f")
        below.set(title=title, xlabel=_("step"), ylabel=_("answers, %"), ylim=(-4, 104), xlim=above.get_xlim())
    return figure.with_legend()
