"""For the learner who wants to move a slider and see a formula move. Readers without a kernel see a still picture.

Only what ipywidgets 7.7 (Colab's) and 8 share. Every number comes from `losses` or `evaluation`.
"""

import html
import itertools
import math
from collections.abc import Callable, Sequence

import ipywidgets as W
import numpy as np
import torch
from IPython.display import display
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation import Messages, fault_text, generate
from ..i18n import _
from ..losses import dpo_loss, fit_dpo, kl_divergence, log_odds_ratio, optimal_policy
from ..world import judge
from .curves import FORMULAS, SINGLE
from .figure import BLUE, GREY, VERMILLION, YELLOW, Figure, styled, table

POINT = {"color": YELLOW, "marker": "D", "markeredgecolor": "black", "markersize": 9, "linestyle": ""}


class Explorer(W.VBox):
    """Controls, and beneath them what `draw` makes of their values: HTML. `draw` takes the controls' names.

    The cell's output holds that HTML beside the live widget, as it was when the cell ran: front ends that have the
    widget's kernel show the widget, others (GitHub, nbconvert, a notebook opened without its kernel) the HTML.
    """

    def __init__(self, draw: Callable[..., str], controls: dict[str, W.Widget], *others: W.Widget):
        super().__init__()
        self.draw, self.controls, self.view = draw, controls, W.HTML()
        self.children = [*controls.values(), *others, self.view]
        for control in controls.values():
            control.observe(self.redraw, "value")
        self.redraw()

    def redraw(self, _event=None) -> None:
        """Draw anew, as the controls stand."""
        self.view.value = self.draw(**{name: control.value for name, control in self.controls.items()})

    def _ipython_display_(self) -> None:
        live = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        still = {"text/html": self.view.value, "text/plain": _("Run this cell in a notebook to move its sliders.")}
        display({"application/vnd.jupyter.widget-view+json": live} | still, raw=True)


def wide(control: type[W.Widget], description: str, **options) -> W.Widget:
    """A control whose description may take the room it needs."""
    layout = W.Layout(width="34em", max_width="95%")
    return control(description=description, style={"description_width": "14em"}, layout=layout, **options)


def beta_slider(most: float) -> W.Widget:
    """β from 0.01 to `most`, in even steps of its logarithm."""
    return wide(W.FloatLogSlider, "β", value=0.3, min=-2, max=math.log10(most), step=0.05, readout_format=".2g")


@styled
def loss_page(name: str, formula: str, margin: float, nll: float, scale: float, scaled: str, words: str, **values: str):
    """A pair's loss, nll + scale · (-log σ(margin)), and the weight of its gradient, σ(-margin), over its margin.

    HTML: a figure with the point where the pair stands, a table and a sentence. name, formula: of the margin; scaled:
    what `scale` is called, or "" for 1; words: the sentence, with {rank}, {weight} and `values`.
    """
    reach, zero = max(6, 1.15 * abs(margin)), torch.zeros(1, dtype=torch.float64)
    margins = torch.cat([zero + margin, torch.linspace(-reach, reach, 401)])  # the pair's own is the first
    losses = scale * dpo_loss(margins, zero, zero, zero, beta=1.0)
    x, term, weights = margins.numpy(), losses.numpy(), torch.sigmoid(-margins).numpy()
    formulas = f"{scaled}-log σ({name})", f"σ(-{name})"
    figure = Figure(10, 4)
    left, right = figure.subplots(1, 2)
    left.plot(x[1:], nll + term[1:], color=BLUE, label=_("loss"))
    if nll:
        left.axhline(nll, color=VERMILLION, linestyle="--", label=_("NLL of the chosen answer"))
    right.plot(x[1:], weights[1:], label=_("weight of the gradient"), **SINGLE | {"linestyle": "-."})
    titles = _("Loss {value} at {name} {margin}"), _("Gradient weight {value} at {name} {margin}")
    ylabels = ("NLL + " if nll else "") + formulas[0] + ", " + _("nats"), formulas[1]
    for axes, curve, title, ylabel in zip((left, right), (nll + term, weights), titles, ylabels):
        axes.plot(margin, curve[0], label=_("your pair"), **POINT)
        axes.axvline(0, color=GREY, linewidth=1, linestyle=":")
        title = title.format(value=f"{curve[0]:.3f}", name=name, margin=f"{margin:+.2f}")
        axes.set(title=title, ylabel=ylabel, ylim=(0, 1.05 * curve.max()), xlim=(-reach, reach))
        axes.set_xlabel(f"{name} = {formula}, " + _("nats"))
    shown = {f"{name}, " + _("nats"): f"{margin:+.3f}", formulas[0]: f"{term[0]:.4f}", formulas[1]: f"{weights[0]:.4f}"}
    shown |= {"NLL": f"{nll:.4f}", _("loss"): f"{nll + term[0]:.4f}"} if nll else {}
    rank = _("Ranked right") if margin > 0 else _("Ranked wrongly")
    rank = rank if abs(margin) >= 0.05 else _("Undecided")
    words = html.escape(words.format(rank=rank, weight=f"{weights[0]:.2f}", **values))
    return f"{figure.with_legend()._repr_html_()}{table([*shown], [*shown.values()])}<p>{words}</p>"


def explore_dpo_loss() -> Explorer:
    """DPO's loss of one pair (eq. 7 of arXiv:2305.18290) and its gradient's weight, under sliders."""

    def page(beta, chosen, rejected):
        margin = beta * (chosen - rejected)
        pull, twice = (times * beta * torch.tensor(-times * margin).sigmoid().item() for times in (1, 2))
        words = _(
            "{rank}: the gradient weight is {weight} of at most 1; times β = {beta} that is {pull} on each "
            "log-probability, and with twice the β it would be {twice}."
        )
        values = {"beta": f"{beta:.2g}", "pull": f"{pull:.3f}", "twice": f"{twice:.3f}"}
        return loss_page(_("margin"), FORMULAS["dpo"][0], margin, 0.0, 1.0, "", words, **values)

    ratio = {"min": -10, "max": 10, "step": 0.1, "readout_format": "+.1f"}
    controls = {
        "beta": beta_slider(5),
        "chosen": wide(W.FloatSlider, _("chosen: log π/π_ref, nats"), value=1.0, **ratio),
        "rejected": wide(W.FloatSlider, _("rejected: log π/π_ref, nats"), value=-1.0, **ratio),
    }
    return Explorer(page, controls)


def explore_orpo_loss() -> Explorer:
    """ORPO's loss of one pair (eqs. 6 and 7 of arXiv:2403.07691) and its gradient's weight, under sliders.

    The sliders give the mean probability P of an answer's token.
    """

    def page(lam, chosen, rejected):
        logps = torch.tensor([chosen, rejected], dtype=torch.float64).log()
        ratio, nll = log_odds_ratio(logps[0], logps[1]).item(), -logps[0].item()
        pull = lam * torch.tensor(-ratio).sigmoid().item() / (1 - chosen)  # d log odds / d log P is 1 / (1 - P)
        words = _(
            "{rank}: the gradient weight is {weight} of at most 1; with λ = {lam} the odds-ratio term pulls the chosen "
            "log-probability up with {pull}, beside the NLL, which always pulls with 1."
        )
        name, formula = _("log odds ratio"), r"$\log\frac{odds(y_w|x)}{odds(y_l|x)}$"
        return loss_page(name, formula, ratio, nll, lam, "λ · ", words, lam=f"{lam:.2f}", pull=f"{pull:.3f}")

    probability = {"min": 0.01, "max": 0.999, "step": 0.001, "readout_format": ".3f"}
    controls = {
        "lam": wide(W.FloatSlider, "λ", value=0.1, min=0, max=2, step=0.05),
        "chosen": wide(W.FloatSlider, _("chosen: P of a token"), value=0.6, **probability),
        "rejected": wide(W.FloatSlider, _("rejected: P of a token"), value=0.4, **probability),
    }
    return Explorer(page, controls)


def explore_kl() -> Explorer:
    """Five answers with known rewards: the optimum of eq. 3 of arXiv:2305.18290, and the policy that DPO finds."""
    rewards = torch.tensor([1.5, 0.8, 0.2, -0.5, -1.5], dtype=torch.float64)
    ref = torch.tensor([0.10, 0.35, 0.30, 0.15, 0.10], dtype=torch.float64)
    answers = _("helpful"), _("padded"), _("curt"), _("off topic"), _("rude")
    names = [f"{name} (r = {reward:+.1f})" for name, reward in zip(answers, rewards)]

    def stand(beta):
        best = optimal_policy(ref, rewards, beta)
        return kl_divergence(best, ref).item(), (best @ rewards).item()

    path = np.array([stand(beta) for beta in np.logspace(-2, 2, 200)])

    @styled
    def page(beta):
        best, found = optimal_policy(ref, rewards, beta), fit_dpo(ref, rewards, beta)
        (kl, reward), (kl2, reward2) = stand(beta), stand(2 * beta)
        figure = Figure(11, 4.6)
        left, right = figure.subplots(1, 2)
        policies = {_("reference"): ref, _("best for this β (eq. 4)"): best, _("found by DPO"): found}
        told = []
        for i, ((label, policy), color, hatch) in enumerate(
            zip(policies.items(), (GREY, BLUE, YELLOW), ("", "//", ".."))
        ):
            where = np.arange(5) + 0.27 * (i - 1)
            left.barh(where, 100 * policy.numpy(), 0.27, color=color, hatch=hatch, edgecolor="black", label=label)
            told.append(f"{label}: " + ", ".join(f"{name} {part:.0%}" for name, part in zip(answers, policy)))
        figure.details = "; ".join(told)
        left.set(title=_("Policies at β = {beta}").format(beta=f"{beta:.2g}"), xlabel=_("probability of the answer, %"))
        left.set(xlim=(0, 100), yticks=range(5), yticklabels=names, ylim=(4.5, -0.5))
        right.plot(*path.T, color=BLUE, label=_("best policy for each β"))
        for some in (0.1, 0.3, 1, 3):
            right.plot(*stand(some), "|", color="black", markersize=10)
            right.annotate(f"β = {some:g}", stand(some), (6, -14), textcoords="offset points")
        right.plot(kl, reward, label=_("now, β = {beta}").format(beta=f"{beta:.2g}"), **POINT)
        title = _("KL {distance} nats, mean reward {reward}")
        right.set(title=title.format(distance=f"{kl:.2f}", reward=f"{reward:.2f}"))
        below = _("nats") + "\n← " + _("a higher β stays closer to the reference")
        right.set(
            xlabel=rf"$KL[\pi^*\|\,\pi_{{ref}}]$, {below}", ylabel=r"$\mathbb{E}_{y\sim\pi^*}[r(x,y)]$, " + _("nats")
        )
        right.set_xlim(-0.1, 1.2 * path[:, 0].max())
        words = _(
            "At β = {beta} the best policy goes {kl} nats away from the reference and earns {reward}; at twice the β "
            "it goes {kl2} nats and earns {reward2}: a higher β stays closer. What DPO finds differs from the best "
            "policy by at most {gap} in any probability."
        )
        values = {"kl": f"{kl:.3f}", "reward": f"{reward:+.3f}", "kl2": f"{kl2:.3f}", "reward2": f"{reward2:+.3f}"}
        words = words.format(beta=f"{beta:.2g}", gap=f"{(found - best).abs().max():.0e}", **values)
        return f"{figure.with_legend()._repr_html_()}<p>{html.escape(words)}</p>"

    return Explorer(page, {"beta": beta_slider(10)})


def verdict_text(question: str, answer: str) -> str:
    """What the judge says of an answer, in words; it knows the questions of the bundled world alone."""
    try:
        verdict = judge(question, answer)
    except ValueError:
        return _("The judge does not know this question; read and judge for yourself.")
    return "✓ " + _("preferred") if verdict.preferred else "✗ " + ", ".join(map(fault_text, verdict.broken))


def browse_answers(
    models: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Messages]
) -> Explorer:
    """Ask several models the same question: one of `prompts`, or one you type; read the answers and the verdicts.

    Each press of the button samples anew, with one seed for all models. At temperature 0 all is the same again.
    """
    if not models or not prompts or isinstance(prompts[0], str):
        words = _(
            "browse_answers: got {models} models and {prompts} prompts; expected at least one of each, the models "
            "by name and the prompts as lists of messages, such as list(test['prompt'])"
        )
        raise ValueError(words.format(models=len(models), prompts=len(prompts)))
    options = [(prompt[-1]["content"], i) for i, prompt in enumerate(prompts)]
    warmth = {"value": 1.0, "min": 0, "max": 1.5, "step": 0.1, "continuous_update": False}
    controls = {
        "prompt": wide(W.Dropdown, _("question"), options=options, value=0),
        "temperature": wide(W.FloatSlider, _("temperature"), **warmth),
    }
    typed = wide(W.Text, _("or your own"), placeholder=_("type a question and press the button"))
    controls["prompt"].observe(lambda _event: setattr(typed, "value", ""), "value")  # before it asks
    button, seeds = W.Button(description=_("ask again")), itertools.count()

    def page(prompt, temperature):
        messages = [{"role": "user", "content": typed.value}] if typed.value.strip() else prompts[prompt]
        question, seed, rows = messages[-1]["content"], next(seeds), []
        for name, model in models.items():
            answer = generate(model, tokenizer, [messages], temperature=temperature, seed=seed)[0]
            rows.append((name, answer, verdict_text(question, answer)))
        columns = _("model"), _("answer"), _("the judge")
        return f"<p>{html.escape(question)}</p>{table(columns, *rows)}"

    explorer = Explorer(page, controls, typed, button)
    button.on_click(explorer.redraw)
    return explorer
