"""Explorers: move a slider, see the formula move. Each leaves a still picture for readers without a kernel.

Only what ipywidgets 7.7 (Colab's) and 8 share. Every number comes from `losses` or `evaluation`.
"""

import html
import itertools
from collections.abc import Callable, Sequence

import ipywidgets as W
import torch
import torch.nn.functional as F
from IPython.display import display
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .evaluation import Messages, fault_text, generate
from .i18n import _
from .losses import dpo_loss, fit_dpo, implicit_reward, kl_divergence, log_odds_ratio, optimal_policy, orpo_loss
from .plotting import picture, plot_kl_lab, plot_loss
from .world import judge


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
    """β from 0.01 to `most`, in even steps of its logarithm but for rounding."""
    values = [step * 10**power for power in (-2, -1, 0, 1) for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
    options = [(f"{value:g}", float(f"{value:g}")) for value in values if value <= most]
    return wide(W.SelectionSlider, "β", options=options, value=0.3)


def table(columns: Sequence[str], *rows: Sequence[str]) -> str:
    """An HTML table of texts."""
    cell = "style='text-align:left; vertical-align:top; white-space:pre-wrap; padding:0.2em 0.8em; max-width:32em'"
    head = "".join(f"<th scope='col' {cell}>{html.escape(text)}</th>" for text in columns)
    body = "".join("<tr>" + "".join(f"<td {cell}>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def number(value: float) -> torch.Tensor:
    """A slider's value as a tensor (1,) to differentiate by."""
    return torch.tensor([value], dtype=torch.float64, requires_grad=True)


def slope(of: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """∂of / ∂by, each pair by itself."""
    return torch.autograd.grad(of.sum(), by, retain_graph=True)[0]


def weight(loss: torch.Tensor, margin: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """How strongly a pair pulls on its margin: -∂loss / ∂margin, both made of `rejected`."""
    return -slope(loss, rejected) / slope(margin, rejected)


def rank_text(margin: float) -> str:
    """How a pair with this margin is ranked."""
    if abs(margin) < 0.05:
        return _("Undecided")
    return _("Ranked right") if margin > 0 else _("Ranked wrongly")


def loss_view(method: str, pair: Callable, rejected: torch.Tensor, others: torch.Tensor, nll: float = 0.0) -> tuple:
    """A pair's margin, loss and weight, and their picture: its curve goes through `others` for the rejected answer.

    pair: gives (margin, loss, weight), each (n,), of n rejected answers beside the one chosen.
    """
    here = tuple(value.item() for value in pair(rejected))
    curve = torch.stack(pair(others.requires_grad_())).detach()
    curve = curve[:, curve[0].abs() <= max(6, 1.15 * abs(here[0]))]
    return *here, picture(plot_loss(method, curve.numpy(), here, nll))


def dpo_view(beta: float, chosen: float, rejected: float) -> str:
    """Loss and pull of one pair under DPO; chosen, rejected: log(π / π_ref) of its answers, in nats."""
    zero, chosen, rejected = torch.zeros(1, dtype=torch.float64), number(chosen), number(rejected)

    def pair(rejected, beta=beta):
        margin = implicit_reward(chosen, zero, beta) - implicit_reward(rejected, zero, beta)
        loss = dpo_loss(chosen, rejected, zero, zero, beta)
        return margin, loss, weight(loss, margin, rejected)

    others = chosen.detach() + torch.linspace(130, -130, 4001, dtype=torch.float64) / beta
    margin, loss, share, image = loss_view("dpo", pair, rejected, others)
    pull, twice = (slope(pair(rejected, beta=times * beta)[1], rejected).item() for times in (1, 2))
    words = _(
        "{rank}: the pair pulls with {share} of the full strength; times β = {beta} that is {pull} on each "
        "log-probability, and with twice the β it would be {twice}."
    ).format(rank=rank_text(margin), share=f"{share:.0%}", beta=f"{beta:.3g}", pull=f"{pull:.3f}", twice=f"{twice:.3f}")
    columns = _("margin, nats"), "-log σ(margin)", "σ(-margin)", "β · σ(-margin)"
    numbers = table(columns, (f"{margin:+.3f}", f"{loss:.4f}", f"{share:.4f}", f"{pull:.4f}"))
    return f"{image}{numbers}<p>{html.escape(words)}</p>"


def explore_dpo_loss() -> Explorer:
    """DPO's loss of one pair (eq. 7 of arXiv:2305.18290) and its gradient's weight, under sliders."""
    ratio = {"min": -10, "max": 10, "step": 0.1, "readout_format": "+.1f"}
    controls = {
        "beta": beta_slider(5),
        "chosen": wide(W.FloatSlider, _("chosen: log π/π_ref, nats"), value=1.0, **ratio),
        "rejected": wide(W.FloatSlider, _("rejected: log π/π_ref, nats"), value=-1.0, **ratio),
    }
    return Explorer(dpo_view, controls)


def orpo_view(lam: float, chosen: float, rejected: float) -> str:
    """Loss and pull of one pair under ORPO; chosen, rejected: the mean probability P of an answer's token."""
    chosen, rejected = number(chosen).log(), number(rejected).log()

    def pair(rejected):
        margin = log_odds_ratio(chosen, rejected)
        odds_term = orpo_loss(torch.zeros_like(chosen), chosen, rejected, 1.0)
        return margin, orpo_loss(-chosen, chosen, rejected, lam), weight(odds_term, margin, rejected)

    nll = -chosen.item()
    others = F.logsigmoid(torch.linspace(21, -21, 1001, dtype=torch.float64))
    margin, loss, share, image = loss_view("orpo", pair, rejected, others, nll)
    odds_term = orpo_loss(torch.zeros_like(chosen), chosen, rejected, lam)
    words = _(
        "{rank}: the odds-ratio term pulls with {share} of the full strength; with λ = {lam} it "
        "pulls the chosen log-probability up with {pull}, beside the NLL, which always pulls with 1."
    ).format(
        rank=rank_text(margin), share=f"{share:.0%}", lam=f"{lam:.2f}", pull=f"{-slope(odds_term, chosen).item():.3f}"
    )
    columns = _("log odds ratio, nats"), "NLL", "-λ · log σ(log odds ratio)", _("loss"), "σ(-log odds ratio)"
    numbers = f"{margin:+.3f}", f"{nll:.4f}", f"{odds_term.item():.4f}", f"{loss:.4f}", f"{share:.4f}"
    return f"{image}{table(columns, numbers)}<p>{html.escape(words)}</p>"


def explore_orpo_loss() -> Explorer:
    """ORPO's loss of one pair (eqs. 6 and 7 of arXiv:2403.07691) and its odds ratio's weight, under sliders."""
    share = {"min": 0.01, "max": 0.999, "step": 0.001, "readout_format": ".3f"}
    controls = {
        "lam": wide(W.FloatSlider, "λ", value=0.1, min=0, max=2, step=0.05),
        "chosen": wide(W.FloatSlider, _("chosen: P of a token"), value=0.6, **share),
        "rejected": wide(W.FloatSlider, _("rejected: P of a token"), value=0.4, **share),
    }
    return Explorer(orpo_view, controls)


def kl_lab() -> Explorer:
    """Five answers with known rewards: the optimum of eq. 3 of arXiv:2305.18290, and the policy that DPO finds."""
    names = _("helpful"), _("padded"), _("curt"), _("off topic"), _("rude")
    rewards = torch.tensor([1.5, 0.8, 0.2, -0.5, -1.5], dtype=torch.float64)
    ref = torch.tensor([0.10, 0.35, 0.30, 0.15, 0.10], dtype=torch.float64)

    def stand(beta):
        best = optimal_policy(ref, rewards, beta)
        return beta, kl_divergence(best, ref).item(), (best @ rewards).item()

    path = list(zip(*map(stand, torch.logspace(-2, 2, 200).tolist())))
    labels = [f"{name} (r = {reward:+.1f})" for name, reward in zip(names, rewards)]

    def view(beta):
        best, found = optimal_policy(ref, rewards, beta), fit_dpo(ref, rewards, beta)
        policies = {
            _("reference"): ref.tolist(),
            _("best for this β (eq. 4)"): best.tolist(),
            _("found by DPO"): found.tolist(),
        }
        (_beta, kl, reward), (_twice, kl2, reward2) = stand(beta), stand(2 * beta)
        words = _(
            "At β = {beta} the best policy goes {kl} nats away from the reference and earns {reward}; at twice the β "
            "it goes {kl2} nats and earns {reward2}: a higher β stays closer. What DPO finds differs from the best "
            "policy by at most {gap} in any probability."
        ).format(
            beta=f"{beta:.3g}",
            kl=f"{kl:.3f}",
            reward=f"{reward:+.3f}",
            kl2=f"{kl2:.3f}",
            reward2=f"{reward2:+.3f}",
            gap=f"{(found - best).abs().max():.0e}",
        )
        return f"{picture(plot_kl_lab(labels, policies, path, (beta, kl, reward)))}<p>{html.escape(words)}</p>"

    return Explorer(view, {"beta": beta_slider(10)})


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
        raise ValueError(
            _(
                "browse_answers: got {models} models and {prompts} prompts; expected at least one of each, the models "
                "by name and the prompts as lists of messages, such as list(test['prompt'])"
            ).format(models=len(models), prompts=len(prompts))
        )
    options = [(prompt[-1]["content"], i) for i, prompt in enumerate(prompts)]
    controls = {
        "prompt": wide(W.Dropdown, _("question"), options=options, value=0),
        "temperature": wide(
            W.FloatSlider, _("temperature"), value=1.0, min=0, max=1.5, step=0.1, continuous_update=False
        ),
    }
    typed = wide(W.Text, _("or your own"), placeholder=_("type a question and press the button"))
    controls["prompt"].observe(lambda _event: setattr(typed, "value", ""), "value")  # before it asks
    button = W.Button(description=_("ask again"))
    seeds = itertools.count()

    def view(prompt, temperature):
        messages = [{"role": "user", "content": typed.value}] if typed.value.strip() else prompts[prompt]
        question, seed, rows = messages[-1]["content"], next(seeds), []
        for name, model in models.items():
            answer = generate(model, tokenizer, [messages], temperature=temperature, seed=seed)[0]
            rows.append((name, answer, verdict_text(question, answer)))
        columns = _("model"), _("answer"), _("the judge")
        return f"<p>{html.escape(question)}</p>{table(columns, *rows)}"

    explorer = Explorer(view, controls, typed, button)
    button.on_click(explorer.redraw)
    return explorer
