"""Figures from plain logs and verdicts. A figure's label is its text for those who cannot see it."""

import base64
import html
import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, display
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .evaluation import share
from .i18n import _
from .world import Verdict

# Okabe and Ito's palette: to be told apart by colour-blind readers too.
BLUE, VERMILLION, GREEN, YELLOW, GREY = "#0072B2", "#D55E00", "#009E73", "#F0E442", "#999999"

#: The reward r(x, y) that TRL logs, by method: two quantities that must never share an axis unnamed.
REWARDS = {
    "dpo": r"$r(x,y)=\beta\,\log\frac{\pi(y|x)}{\pi_{ref}(y|x)}$",
    "orpo": r"$r(x,y)=\beta\,\frac{1}{|y|}\log\pi(y|x)$",
}
#: The difference of the two rewards, which TRL logs as `rewards/margins`.
MARGINS = {
    "dpo": r"$\beta\,\left(\log\frac{\pi(y_w|x)}{\pi_{ref}(y_w|x)}-\log\frac{\pi(y_l|x)}{\pi_{ref}(y_l|x)}\right)$",
    "orpo": r"$\beta\,\left(\frac{1}{|y_w|}\log\pi(y_w|x)-\frac{1}{|y_l|}\log\pi(y_l|x)\right)$",
}


def picture(figure: Figure, **saving) -> str:
    """A figure as an HTML image with its alternative text; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **({"dpi": 110, "bbox_inches": "tight"} | saving))
    plt.close(figure)
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = html.escape(figure.get_label(), quote=True)
    return f'<img alt="{alt}" src="data:image/png;base64,{data}" style="max-width:100%">'


def show(figure: Figure) -> None:
    """Show a figure in the notebook with its alternative text, and close it."""
    display(HTML(picture(figure)))


def curve(log: Sequence[dict], key: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which `key` was logged, and its values."""
    points = [(entry["step"], entry[key]) for entry in log if key in entry]
    if not points:
        known = sorted({name for entry in log for name in entry})
        raise ValueError(
            _(
                "the log holds no “{key}”, only {known}; give the log of a preference run, such as run.log of train_dpo"
            ).format(key=key, known=", ".join(known) or "–")
        )
    steps, values = zip(*points)
    return np.array(steps), np.array(values)


def draw(axes, log: Sequence[dict], key: str, label: str, **style) -> np.ndarray:
    """Draw one logged quantity: each step faintly, and a running mean of up to ten steps."""
    steps, values = curve(log, key)
    window = min(10, len(values))
    mean = np.convolve(values, np.ones(window) / window, mode="valid")
    faint = None if axes.lines else _("single steps")  # once a legend
    axes.plot(steps, values, color=style["color"], alpha=0.25, linewidth=0.8, label=faint)
    axes.plot(steps[window - 1 :], mean, label=label, linewidth=2, **style)
    return mean


def ends(curves: dict[str, np.ndarray]) -> dict[str, float]:
    """The first and last value of each curve, as name0 and name1."""
    return {f"{name}{i}": values[-i] for name, values in curves.items() for i in (0, 1)}


def plot_reward_margins(log: Sequence[dict], method: str = "dpo") -> Figure:
    """The reward margin as it grows, the two rewards it is the difference of, and their log-probabilities.

    log: TRL's log_history of a run, as `run.log`. method: "dpo" or "orpo"; the axes carry the formulas.
    DPO's log-probabilities are sums over an answer's tokens, ORPO's are means; both in nats.
    """
    if method not in REWARDS:
        raise ValueError(
            _("method “{method}” has no margin here; choose one of {known}").format(
                method=method, known=", ".join(REWARDS)
            )
        )
    unit = {"dpo": _("summed over tokens, nats"), "orpo": _("mean per token, nats")}[method]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    chosen, rejected = {"color": BLUE}, {"color": VERMILLION, "linestyle": "--"}
    curves = {
        "m": draw(left, log, "rewards/margins", _("margin, mean of 10 steps"), color=BLUE),
        "c": draw(middle, log, "rewards/chosen", _("chosen"), **chosen),
        "r": draw(middle, log, "rewards/rejected", _("rejected"), **rejected),
        "lc": draw(right, log, "logps/chosen", _("chosen"), **chosen),
        "lr": draw(right, log, "logps/rejected", _("rejected"), **rejected),
    }
    left.set(title=_("Reward margin"), xlabel=_("step"), ylabel=f"{MARGINS[method]}\n({unit})")
    middle.set(title=_("Rewards of the answers"), xlabel=_("step"), ylabel=f"{REWARDS[method]}\n({unit})")
    right.set(title=_("Log-probability of the answers"), xlabel=_("step"), ylabel=rf"$\log\pi(y|x)$ ({unit})")
    for axes in (left, middle, right):
        axes.legend()
        axes.grid(alpha=0.3)
    for axes in (left, middle):
        axes.axhline(0, color=GREY, linewidth=1, linestyle=":")
    figure.set_label(
        _(
            "Three charts over training steps. The reward margin goes from {m0:.2f} to {m1:.2f}; the reward of chosen "
            "answers from {c0:.2f} to {c1:.2f}, that of rejected answers from {r0:.2f} to {r1:.2f}; the "
            "log-probability of chosen answers from {lc0:.1f} to {lc1:.1f}, that of rejected answers from {lr0:.1f} "
            "to {lr1:.1f}."
        ).format(**ends(curves))
    )
    return figure


def plot_orpo_terms(log: Sequence[dict]) -> Figure:
    """The two terms of ORPO's loss apart, and the log-probabilities of both answers.

    log: TRL's log_history of an ORPO run. Left the NLL of prompt and chosen answer, in the middle the odds-ratio
    term before its weight λ, -log σ(log odds ratio), right the mean log-probability of a token; all in nats.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    odds = [{**entry, "odds_term": -entry["log_odds_ratio"]} for entry in log if "log_odds_ratio" in entry]
    curves = {
        "n": draw(left, log, "nll_loss", _("NLL, mean of 10 steps"), color=GREEN),
        "o": draw(middle, odds or log, "odds_term", _("odds-ratio term, mean of 10 steps"), color=BLUE),
        "lc": draw(right, log, "logps/chosen", _("chosen"), color=BLUE),
        "lr": draw(right, log, "logps/rejected", _("rejected"), color=VERMILLION, linestyle="--"),
    }
    unit = _("mean per token, nats")
    left.set(title=_("First term: NLL of prompt and chosen answer"), ylabel=rf"$\mathcal{{L}}_{{SFT}}$ ({unit})")
    middle.set(
        title=_("Second term: odds ratio, before its weight λ"),
        ylabel=r"$-\log\,\sigma(\log\frac{odds(y_w|x)}{odds(y_l|x)})$ " + "(nats)",
    )
    right.set(title=_("Log-probability of the answers"), ylabel=rf"$\frac{{1}}{{|y|}}\log\pi(y|x)$ ({unit})")
    for axes in (left, middle, right):
        axes.set(xlabel=_("step"))
        axes.legend()
        axes.grid(alpha=0.3)
    figure.set_label(
        _(
            "Three charts over training steps. The NLL goes from {n0:.2f} to {n1:.2f}, the odds-ratio term from "
            "{o0:.2f} to {o1:.2f}; the mean log-probability of chosen answers from {lc0:.2f} to {lc1:.2f}, that of "
            "rejected answers from {lr0:.2f} to {lr1:.2f}."
        ).format(**ends(curves))
    )
    return figure


def plot_accuracy(log: Sequence[dict]) -> Figure:
    """In how many pairs of each batch the chosen answer earns more than the rejected one.

    log: TRL's log_history of a preference run. TRL compares strictly: the first step, where all margins are 0,
    counts as 0%.
    """
    figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    mean = draw(axes, log, "rewards/accuracies", _("accuracy, mean of 10 steps"), color=BLUE)
    axes.axhline(0.5, color=VERMILLION, linestyle="--", linewidth=1, label=_("a guess"))
    axes.set(title=_("Reward accuracy"), xlabel=_("step"), ylabel=_("pairs of the batch with a margin > 0, %"))
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.legend()
    axes.grid(alpha=0.3)
    told = _("The share of pairs with a margin above 0 goes from {first} to {last} over the training steps.")
    figure.set_label(told.format(first=f"{mean[0]:.0%}", last=f"{mean[-1]:.0%}"))
    return figure


def plot_judge_against_margin(runs: dict[str, tuple[Sequence[dict], Sequence[tuple]]]) -> Figure:
    """What the margin says of some runs, above what the judge says of their answers; one column a run.

    runs: by name, a run's log and a list of (step, preferred, fluent), in percent of the answers written at that
    step. Both rows have one scale, so that the runs can be compared.
    """
    if not runs:
        raise ValueError(
            _("plot_judge_against_margin: got no run; expected a dict of name: (log, [(step, preferred, fluent), ...])")
        )
    size = (1 + 4.2 * len(runs), 5.4)
    figure, grid = plt.subplots(2, len(runs), figsize=size, layout="constrained", sharey="row", squeeze=False)
    told = []
    for (name, (log, points)), (above, below) in zip(runs.items(), grid.T):
        margin = draw(above, log, "rewards/margins", _("margin, mean of 10 steps"), color=GREEN)
        steps, preferred, fluent = zip(*points)
        below.plot(steps, preferred, color=BLUE, marker="o", label=_("preferred"))
        below.plot(steps, fluent, color=VERMILLION, marker="s", linestyle="--", label=_("fluent"))
        above.set(title=_("{name}: the margin").format(name=name), ylabel=_("reward margin, nats"))
        below.set(title=_("{name}: the judge").format(name=name), ylabel=_("share of answers, %"), ylim=(-4, 104))
        for axes in (above, below):
            axes.set_xlabel(_("step"))
            axes.set_xlim(above.get_xlim())
            axes.legend()
            axes.grid(alpha=0.3)
        told.append(
            _(
                "{name}: the margin goes from {m0} to {m1}, the answers that the judge prefers from {p0} to {p1}, the "
                "fluent ones from {f0} to {f1}."
            ).format(
                name=name,
                **{key: f"{value:.2f}" for key, value in ends({"m": margin}).items()},
                **{key: f"{value:.0f}%" for key, value in ends({"p": preferred, "f": fluent}).items()},
            )
        )
    figure.set_label(" ".join(told))
    return figure


def plot_length_against_reward(
    lengths: dict[str, Sequence[float]], rewards: dict[str, Sequence[float]], unit: str | None = None
) -> Figure:
    """Does a longer answer earn more? Each answer's length against its implicit reward, with a fitted line a side.

    lengths, rewards: {"chosen": [...], "rejected": [...]}, one number an answer, in the same order; the rewards from
    `implicit_reward`, in nats. unit: what the lengths count; tokens, unless you say otherwise.
    """
    sides = {"chosen": (_("chosen"), BLUE, "o", "-"), "rejected": (_("rejected"), VERMILLION, "x", "--")}
    for side in sides:
        counts = [len(table.get(side, ())) for table in (lengths, rewards)]
        if counts[0] != counts[1] or counts[0] < 2:
            raise ValueError(
                _(
                    "plot_length_against_reward: got {lengths} lengths and {rewards} rewards of {side} answers; "
                    "expected as many of each, at least 2"
                ).format(lengths=counts[0], rewards=counts[1], side=side)
            )
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    told = []
    for side, (label, color, marker, line) in sides.items():
        x, y = np.array(lengths[side], dtype=float), np.array(rewards[side], dtype=float)
        slope, start = np.polyfit(x, y, 1)
        r = np.corrcoef(x, y)[0, 1]
        axes.scatter(x, y, color=color, marker=marker, s=22, alpha=0.5, linewidths=1)
        span = np.array([x.min(), x.max()])
        label = _("{side}: correlation r = {r}").format(side=label, r=f"{r:+.2f}")
        axes.plot(span, start + slope * span, color=color, linestyle=line, marker=marker, linewidth=2, label=label)
        told.append(label)
    axes.axhline(0, color=GREY, linewidth=1, linestyle=":")
    axes.set(
        title=_("Length and implicit reward of the answers"),
        xlabel=_("length of the answer, {unit}").format(unit=unit or _("tokens")),
        ylabel=REWARDS["dpo"] + ", " + _("nats"),
    )
    axes.legend()
    axes.grid(alpha=0.3)
    figure.set_label(_("Length and implicit reward of the answers") + ". " + "; ".join(told) + ".")
    return figure


def plot_sweep(table: pd.DataFrame, name: str = "λ") -> Figure:
    """What a setting does: one point a run. The table's index holds its values.

    Columns "preferred" and "fluent", in percent of the answers, go left; "nll", in nats per token, right.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    where, values = range(len(table)), [f"{value:g}" for value in table.index]
    left.plot(where, table["preferred"], color=BLUE, marker="o", label=_("preferred"))
    left.plot(where, table["fluent"], color=VERMILLION, marker="s", linestyle="--", label=_("fluent"))
    left.set(title=_("What the judge says of the answers"), ylabel=_("share of answers, %"))
    right.plot(where, table["nll"], color=GREEN, marker="^", label="NLL")
    right.set(title=_("NLL of prompt and chosen answer"), ylabel=_("mean per token, nats"))
    for axes in (left, right):
        axes.set(xlabel=name, xticks=where, xticklabels=values)
        axes.legend()
        axes.grid(alpha=0.3)
    told = (
        _("{name} {value}: preferred {preferred}, fluent {fluent}, NLL {nll}").format(
            name=name, value=value, preferred=f"{preferred:.0f}%", fluent=f"{fluent:.0f}%", nll=f"{nll:.3f}"
        )
        for value, preferred, fluent, nll in zip(values, table["preferred"], table["fluent"], table["nll"])
    )
    figure.set_label("; ".join(told))
    return figure


def plot_grid(table: pd.DataFrame) -> Figure:
    """Several models on several datasets: one row of points a run. All in percent; what was not judged has no point."""
    figure, axes = plt.subplots(figsize=(9, 1.4 + 0.45 * len(table)), layout="constrained")
    names = [f"{model} · {data}" for model, data in zip(table["model"], table["data"])]
    marks = {
        "preferred": (_("preferred"), BLUE, "o"),
        "fluent": (_("fluent"), VERMILLION, "s"),
        "accuracy": (_("reward accuracy on held-out pairs"), GREEN, "^"),
    }
    told = [[] for _name in names]
    for column, (label, color, marker) in marks.items():
        if column not in table:
            continue
        axes.scatter(table[column], range(len(names)), color=color, marker=marker, s=60, alpha=0.8, label=label)
        for words, value in zip(told, table[column]):
            words.append(f"{label} {value:.0f}%" if value == value else _("{what} not known").format(what=label))
    axes.set(
        title=_("Every model on every dataset"),
        xlabel=_("share, %"),
        xlim=(-3, 103),
        yticks=range(len(names)),
        yticklabels=names,
        ylim=(len(names) - 0.5, -0.5),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.set_label("; ".join(f"{name}: {', '.join(words)}" for name, words in zip(names, told)))
    return figure


def plot_win_rates(rates: dict[str, tuple[float, float, float]], ours: str, theirs: str) -> Figure:
    """Win rates with their 95% intervals, as `win_rate` gives them (0..1), one row a comparison."""
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.4 * len(rates)), layout="constrained")
    rate, low, high = (100 * np.array(column) for column in zip(*rates.values()))
    label = _("win rate and its interval (95%)")
    axes.errorbar(rate, range(len(rates)), xerr=[rate - low, high - rate], fmt="o", color=BLUE, label=label)
    axes.axvline(50, color=VERMILLION, linestyle="--", linewidth=1, label=_("as often as not"))
    axes.set(
        title=_("How often {ours} beats {theirs}").format(ours=ours, theirs=theirs),
        xlabel=_("win rate in %; a tie counts one half"),
        yticks=range(len(rates)),
        yticklabels=list(rates),
        ylim=(len(rates) - 0.5, -0.5),
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    told = (f"{name}: {rate:.0%} ({low:.0%} – {high:.0%})" for name, (rate, low, high) in rates.items())
    figure.set_label(_("How often {ours} beats {theirs}").format(ours=ours, theirs=theirs) + ". " + "; ".join(told))
    return figure


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
    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.55 * len(verdicts)), layout="constrained")
    left, told = np.zeros(len(verdicts)), {name: [] for name in verdicts}
    for label, (color, hatch, test) in parts.items():
        width = np.array([100 * share(row, test) for row in verdicts.values()])
        axes.barh(list(verdicts), width, left=left, color=color, hatch=hatch, edgecolor="white", label=label)
        for i, (name, value) in enumerate(zip(verdicts, width)):
            told[name].append(f"{value:.0f}% {label}")
            if value >= 6:
                box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5}
                axes.text(left[i] + value / 2, i, f"{value:.0f}", ha="center", va="center", bbox=box)
        left += width
    axes.invert_yaxis()
    axes.set(title=_("What the judge says of the answers"), xlabel=_("share of answers, %"), xlim=(0, 100))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.set_label("; ".join(f"{name}: {', '.join(words)}" for name, words in told.items()))
    return figure


def plot_loss(method: str, curve: tuple, here: tuple[float, float, float], nll: float = 0.0) -> Figure:
    """A pair's loss over its margin, beside the weight of its gradient; and the point where a pair stands.

    curve: (margins, losses, weights), each (points,); here: the same three of one pair. method: "dpo" or "orpo";
    ORPO's margin is the log odds ratio, and its loss stands on the NLL of the chosen answer.
    """
    margins, losses, weights = curve
    name, formula, loss_name = {
        "dpo": (_("margin"), MARGINS["dpo"], "-log σ({})"),
        "orpo": (_("log odds ratio"), r"$\log\frac{odds(y_w|x)}{odds(y_l|x)}$", "NLL - λ log σ({})"),
    }[method]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(margins, losses, color=BLUE, linewidth=2, label=_("loss"))
    right.plot(margins, weights, color=GREEN, linewidth=2, linestyle="-.", label=_("weight of the gradient"))
    if method == "orpo":
        left.axhline(nll, color=VERMILLION, linestyle="--", label=_("NLL of the chosen answer"))
    left.set(title=_("Loss of a pair"), ylabel=f"{loss_name.format(name)}, " + _("nats"), ylim=(0, 1.05 * max(losses)))
    right.set(title=_("How strongly it pulls"), ylabel=f"σ(-{name})\n" + _("share of the full strength"))
    for axes, value in ((left, here[1]), (right, here[2])):
        axes.plot(here[0], value, "D", color=YELLOW, markeredgecolor="black", markersize=9, label=_("your pair"))
        axes.axvline(0, color=GREY, linewidth=1, linestyle=":")
        axes.set(xlabel=f"{name} = {formula}, " + _("nats"), xlim=(min(margins), max(margins)))
        axes.legend(loc="upper right")
        axes.grid(alpha=0.3)
    figure.set_label(
        _(
            "Two curves that fall as the {name} grows: the loss, and the weight of its gradient. Your pair stands at "
            "{name} {margin:.2f}, loss {loss:.3f}, weight {weight:.3f}."
        ).format(name=name, margin=here[0], loss=here[1], weight=here[2])
    )
    return figure


def plot_kl_lab(
    names: Sequence[str], policies: dict[str, Sequence[float]], path: tuple, here: tuple[float, float, float]
) -> Figure:
    """Policies over a few answers as bars, beside the reward they earn and how far they are from the reference.

    policies: a share for each of `names`. path: (betas, KLs in nats, mean rewards) of the optimal policy as β runs;
    here: the same three at one β.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    styles = zip((GREY, BLUE, YELLOW), ("", "//", ".."))
    for i, ((label, shares), (color, hatch)) in enumerate(zip(policies.items(), styles)):
        height = 0.8 / len(policies)
        where = np.arange(len(names)) + (i + 0.5) * height - 0.4
        left.barh(where, 100 * np.array(shares), height, color=color, hatch=hatch, edgecolor="black", label=label)
    left.set(title=_("Policies"), xlabel=_("probability of the answer, %"), yticks=range(len(names)), yticklabels=names)
    left.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
    left.legend(loc="lower right")
    betas, distances, rewards = path
    right.plot(distances, rewards, color=BLUE, linewidth=2, label=_("best policy for each β"))
    for beta in (0.1, 0.3, 1, 3):
        i = np.abs(np.log(np.array(betas) / beta)).argmin()
        right.plot(distances[i], rewards[i], "|", color="black", markersize=10)
        right.annotate(f"β = {beta:g}", (distances[i], rewards[i]), (6, -14), textcoords="offset points")
    beta, distance, reward = here
    label = _("now, β = {beta}").format(beta=f"{beta:.2g}")
    right.plot(distance, reward, "D", color=YELLOW, markeredgecolor="black", markersize=10, label=label)
    right.legend(loc="lower right")
    right.margins(x=0.2)
    right.set(
        title=_("What it earns, and how far it goes for it"),
        xlabel=r"$KL[\pi^*\|\,\pi_{ref}]$, " + _("nats") + "\n← " + _("a higher β stays closer to the reference"),
        ylabel=r"$\mathbb{E}_{y\sim\pi^*}[r(x,y)]$, " + _("nats"),
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
    told = (
        f"{label}: " + ", ".join(f"{name} {share:.0%}" for name, share in zip(names, shares))
        for label, shares in policies.items()
    )
    figure.set_label(
        _("Bars and a curve at β = {beta}: KL {distance} nats, mean reward {reward}.").format(
            beta=f"{beta:.2g}", distance=f"{distance:.2f}", reward=f"{reward:.2f}"
        )
        + f" {'; '.join(told)}."
    )
    return figure
