"""For the learner who wants to move a slider and see a formula move, with what ipywidgets 7.7 (Colab's) and 8 share."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import ipywidgets as W
import numpy as np
import torch
from IPython.display import display
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..generation import Messages, generate
from ..i18n import _, local_decimals, shown
from ..losses import dpo_loss, fit_dpo, kl_divergence, log_odds_ratio, optimal_policy
from ..pages import paragraph, table
from .figure import BLUE, GREY, VERMILLION, YELLOW, Figure, styled
from .plots import FORMULAS, SINGLE
from .tables import word_of_judge

POINT: dict = {"color": YELLOW, "marker": "D", "markeredgecolor": "black", "markersize": 9, "linestyle": ""}
BETA: dict = {"value": 0.3, "min": -2, "step": 0.05, "readout_format": ".2g"}  # its slider is even in the logarithm


class Explorer(W.VBox):
    """Controls, and what `draw` makes of their values: figures, tables, texts; without a kernel, as they last were."""

    def __init__(self, draw: Callable[..., Iterable], *others: W.Widget, **controls: W.Widget):
        self.draw, self.controls, self.view = draw, controls, W.HTML()
        super().__init__([*controls.values(), *others, self.view])
        for control in controls.values():
            control.observe(self.redraw, "value")
        self.redraw()

    @styled
    def redraw(self, _event=None) -> None:
        """Draw anew, as the controls stand."""
        parts = self.draw(**{name: control.value for name, control in self.controls.items()})
        pages = (paragraph(part) if isinstance(part, str) else part._repr_html_() for part in parts)
        self.view.value = "".join(pages)

    def _ipython_display_(self) -> None:
        live = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        still = {"text/html": self.view.value, "text/plain": _("Run this cell in a notebook to move its sliders.")}
        display({"application/vnd.jupyter.widget-view+json": live} | still, raw=True)


def wide(control: type[W.Widget], description: str, **options) -> W.Widget:
    """A control whose description may take the room it needs."""
    layout = W.Layout(width="34em", max_width="95%")
    return control(description=description, style={"description_width": "14em"}, layout=layout, **options)


def loss_parts(
    name: str, formula: str, margin: float, words: str, right: Callable, nll=0.0, scale=1.0, **values
) -> Iterable:
    """A pair's loss, nll + scale · (-log σ(margin)), and what `right` draws beside it; the margin has a `name`.

    right: from margins, the pair's own first, and the gradient's weight at each, σ(-margin), to the curves by label,
    their x, and the words on their axes.
    """
    reach, zero, nats = max(6, 1.15 * abs(margin)), torch.zeros(1, dtype=torch.float64), ", " + _("nats")
    margins = torch.cat([zero + margin, torch.linspace(-reach, reach, 401)])
    x, term = margins.numpy(), scale * dpo_loss(margins, zero, zero, zero, beta=1.0).numpy()
    weights, of_weight = torch.sigmoid(-margins).numpy(), f"σ(-{name})"
    of_term = ("λ · " if nll else "") + f"-log σ({name})"
    figure, ylabel = Figure(10, 4), ("NLL + " if nll else "") + of_term + nats
    axis = {"title": _("Loss {value} at {name} {at}"), "ylabel": ylabel}
    panels = ({_("loss"): nll + term}, x, axis), right(x, weights)
    styles = [{"color": BLUE}], [SINGLE | {"linestyle": "-."}, {"color": GREY, "linestyle": "--"}]
    for axes, looks, (curves, where, axis) in zip(figure.subplots(1, 2), styles, panels):
        for style, (label, curve) in zip(looks, curves.items()):
            axes.plot(where[1:], curve[1:], label=label, **style)
        first = next(iter(curves.values()))
        axes.plot(where[0], first[0], label=_("your pair"), **POINT)
        axes.axvline(0, color=GREY, linewidth=1, linestyle=":")
        axes.set_xlabel(f"{name} = {formula}{nats}", parse_math=True)
        axes.set(xlim=(-where[-1], where[-1]), ylim=(0, 1.05 * max(curve.max() for curve in curves.values())), **axis)
        axes.set_title(axes.get_title().format(value=f"{first[0]:.3f}", name=name, at=f"{where[0]:+.2f}"))
    if nll:
        figure.axes[0].axhline(nll, color=VERMILLION, linestyle="--", label=_("NLL of the chosen answer"))
    shown = {name + nats: f"{margin:+.3f}", of_term: f"{term[0]:.4f}", of_weight: f"{weights[0]:.4f}"}
    shown |= {"NLL": f"{nll:.4f}", _("loss"): f"{nll + term[0]:.4f}"} if nll else {}
    rank = _("Undecided") if abs(margin) < 0.05 else _("Ranked right") if margin > 0 else _("Ranked wrongly")
    words = words.format(rank=rank, weight=f"{weights[0]:.2f}", **values)
    return figure.with_legend(), table([*shown], [*map(local_decimals, shown.values())]), local_decimals(words)


def explore_dpo_loss() -> Explorer:
    """DPO's loss of one pair (eq. 7 of arXiv:2305.18290) and its pull on a log-probability, under sliders."""

    def draw(beta, chosen, rejected):
        def pulls(margins, weights):
            twice = 2 * beta / (1 + np.exp(2 * margins))
            curves = {_("pull on a log-probability"): beta * weights, _("with twice the β"): twice}
            axis = {"title": _("Pull {value} at a difference of the log-ratios of {at}"), "ylabel": f"β · σ(-{name})"}
            return curves, margins / beta, axis | {"xlabel": _("difference of the log-ratios = margin / β, nats")}

        name, margin = _("margin"), beta * (chosen - rejected)
        pull, twice = (times * beta * torch.tensor(-times * margin).sigmoid().item() for times in (1, 2))
        words = _(
            "{rank}: the gradient weight is {weight} of at most 1; times β = {now} that is {pull} on each "
            "log-probability, and with twice the β it would be {twice}."
        )
        values = {"now": f"{beta:.2g}", "pull": f"{pull:.3f}", "twice": f"{twice:.3f}"}
        return loss_parts(name, FORMULAS["dpo"][0], margin, words, pulls, **values)

    ratio = {"min": -10, "max": 10, "step": 0.1, "readout_format": "+.1f"}
    chosen = wide(W.FloatSlider, _("chosen: log π/π_ref, nats"), value=1.0, **ratio)
    rejected = wide(W.FloatSlider, _("rejected: log π/π_ref, nats"), value=-1.0, **ratio)
    return Explorer(draw, beta=wide(W.FloatLogSlider, "β", max=math.log10(5), **BETA), chosen=chosen, rejected=rejected)


def explore_orpo_loss() -> Explorer:
    """ORPO's loss of one pair (eqs. 6 and 7 of arXiv:2403.07691) and its gradient's weight, under sliders."""
    name, formula = _("log odds ratio"), r"$\log\frac{odds(y_w|x)}{odds(y_l|x)}$"

    def weight(ratios, weights):
        axis = {"title": _("Gradient weight {value} at {name} {at}"), "ylabel": f"σ(-{name})"}
        return {_("weight of the gradient"): weights}, ratios, axis

    def draw(lam, chosen, rejected):
        logps = torch.tensor([chosen, rejected], dtype=torch.float64).log()
        ratio, nll = log_odds_ratio(*logps).item(), -logps[0].item()
        pull = lam * torch.tensor(-ratio).sigmoid().item() / (1 - chosen)  # d log odds / d log P is 1 / (1 - P)
        words = _(
            "{rank}: at P = {chosen} and {rejected} the gradient weight is {weight} of at most 1; with λ = {lam} "
            "the odds-ratio term pulls the chosen log-probability up with {pull}, beside the NLL, which always pulls "
            "with 1."
        )
        values = {"lam": f"{lam:.2f}", "pull": f"{pull:.3f}", "chosen": f"{chosen:.3f}", "rejected": f"{rejected:.3f}"}
        return loss_parts(name, formula, ratio, words, weight, nll, lam, **values)

    # an answer's P is the mean of its tokens
    share = {"min": 0.01, "max": 0.999, "step": 0.001, "readout_format": ".3f"}
    lam = wide(W.FloatSlider, "λ", value=0.3, min=0, max=2, step=0.05)
    chosen = wide(W.FloatSlider, _("chosen: P of a token"), value=0.9, **share)
    rejected = wide(W.FloatSlider, _("rejected: P of a token"), value=0.8, **share)
    return Explorer(draw, lam=lam, chosen=chosen, rejected=rejected)


def explore_kl() -> Explorer:
    """Five answers with known rewards: the optimum of eq. 3 of arXiv:2305.18290, and the policy that DPO finds."""
    rewards = torch.tensor([1.5, 0.8, 0.2, -0.5, -1.5], dtype=torch.float64)
    ref = torch.tensor([0.10, 0.35, 0.30, 0.15, 0.10], dtype=torch.float64)
    answers = _("helpful"), _("padded"), _("curt"), _("off topic"), _("rude")
    names = [local_decimals(f"{name} (r = {reward:+.1f})") for name, reward in zip(answers, rewards)]

    def stand(beta):
        best = optimal_policy(ref, rewards, beta)
        return kl_divergence(best, ref).item(), (best @ rewards).item()

    path = np.array([stand(beta) for beta in np.logspace(-2, 2, 200)])

    def draw(beta):
        best, found = optimal_policy(ref, rewards, beta), fit_dpo(ref, rewards, beta)
        (kl, reward), (kl2, reward2), now = stand(beta), stand(2 * beta), f"{beta:.2g}"
        figure = Figure(11, 4.6)
        left, right = figure.subplots(1, 2)
        left.set(title=_("Policies at β = {beta}").format(beta=now), xlabel=_("probability of the answer, %"))
        left.set(xlim=(0, 100), yticks=range(5), yticklabels=names, ylim=(4.5, -0.5))
        policies = (_("reference"), ref, GREY, ""), (_("best for this β, π_r of eq. 4"), best, BLUE, "//")
        for i, (label, policy, color, hatch) in enumerate((*policies, (_("found by DPO"), found, YELLOW, ".."))):
            where = np.arange(5) + 0.27 * (i - 1)
            left.barh(where, 100 * policy.numpy(), 0.27, color=color, hatch=hatch, edgecolor="black", label=label)
            shares = ", ".join(f"{name} {part:.0%}" for name, part in zip(answers, policy))
            figure.details.append(f"{label}: {shares}")
        right.plot(*path.T, color=BLUE, label=_("best policy for each β"))
        for some in (0.1, 0.3, 1, 3):
            right.plot(*stand(some), "|", color="black", markersize=10)
            right.annotate(f"β = {some:g}", stand(some), (6, -14), textcoords="offset points")
        right.plot(kl, reward, label=_("now, β = {beta}").format(beta=now), **POINT)
        title = _("KL {distance} nats, mean reward {reward}").format(distance=f"{kl:.2f}", reward=f"{reward:.2f}")
        below = _("nats") + "\n← " + _("a higher β stays closer to the reference")
        right.set(title=title, xlim=(-0.1, 1.2 * path[:, 0].max()))
        right.set_xlabel(rf"$KL[\pi_r\|\,\pi_{{ref}}]$, {below}", parse_math=True)
        right.set_ylabel(_("mean reward") + r", $\mathbb{E}_{y\sim\pi_r}[r(x,y)]$, " + _("nats"), parse_math=True)
        words = _(
            "At β = {beta} the best policy goes {kl} nats away from the reference and earns {reward}; at twice the β "
            "it goes {kl2} nats and earns {reward2}: a higher β stays closer. What DPO finds differs from the best "
            "policy by at most {gap} in any probability."
        )
        values = {"kl": f"{kl:.3f}", "reward": f"{reward:+.3f}", "kl2": f"{kl2:.3f}", "reward2": f"{reward2:+.3f}"}
        words = words.format(beta=now, gap=f"{(found - best).abs().max():.0e}", **values)
        return figure.with_legend(), local_decimals(words)

    return Explorer(draw, beta=wide(W.FloatLogSlider, "β", max=1, **BETA))


def browse_answers(
    models: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Messages]
) -> Explorer:
    """Ask several models one of `prompts`, or what you type; each press samples anew, with one seed for all models."""
    if not models or not prompts or isinstance(prompts[0], str):
        words = _(
            "browse_answers: got {models} models and {prompts} prompts; expected at least one of each, the models "
            "by name and the prompts as lists of messages, such as list(test['prompt'])"
        )
        raise ValueError(words.format(models=len(models), prompts=len(prompts)))
    questions = [(shown(prompt[-1]["content"], 100), i) for i, prompt in enumerate(prompts)]
    choice = wide(W.Dropdown, _("question"), options=questions, value=0)
    typed = wide(W.Text, _("or your own"), placeholder=_("type a question and press the button"))
    choice.observe(lambda _event: setattr(typed, "value", ""), "value")  # before it asks
    warmth = {"value": 1.0, "min": 0, "max": 1.5, "step": 0.1, "continuous_update": False}
    temperature = wide(W.FloatSlider, _("temperature"), **warmth)
    button, seeds = W.Button(description=_("ask again")), itertools.count()

    def draw(prompt, temperature):
        messages = [{"role": "user", "content": typed.value}] if typed.value.strip() else prompts[prompt]
        question, seed, found = messages[-1]["content"], next(seeds), []
        for name, model in models.items():
            (answer,) = generate(model, tokenizer, [messages], temperature=temperature, seed=seed)
            word = word_of_judge(question, answer)
            word = word or _("The judge does not know this question; read and judge for yourself.")
            found.append((name, answer, word))
        return question, table((_("model"), _("answer"), _("the judge")), *found)

    explorer = Explorer(draw, typed, button, prompt=choice, temperature=temperature)
    button.on_click(explorer.redraw)
    return explorer
