"""For the learner who asks where in an answer its implicit reward comes from: each token coloured by what it adds."""

import html
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
from IPython.display import HTML
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..batch import encode
from ..i18n import LITERAL, _, local_decimals, shown
from ..losses import implicit_reward, token_logps
from ..pages import paragraph, table
from .figure import name_of


class Token(NamedTuple):
    """A piece of an answer, with log π, log π_ref and the reward β (log π - log π_ref), in nats."""

    text: str
    logps: float
    ref_logps: float
    reward: float
    special: bool = False


@torch.no_grad()
def answer_tokens(policy, reference, tokenizer, pair, side, beta) -> list[Token]:
    """What each piece of one answer earns. Tokens that share a character, as bytes of one letter, stay together."""
    row = encode(tokenizer, pair["prompt"], pair[side])
    ids, first = row.prompt + row.answers[0], len(row.prompt)
    labels = torch.tensor([[-100] * first + row.answers[0]])
    logps, ref_logps = (
        token_logps(model(input_ids=torch.tensor([ids], device=model.device)).logits.cpu(), labels)[0][0, first - 1 :]
        for model in (policy, reference)
    )
    values = torch.stack([logps, ref_logps, implicit_reward(logps, ref_logps, beta)])
    text = tokenizer.apply_chat_template(pair["prompt"] + pair[side], tokenize=False)
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    pieces, start, begun = [], spans[first - 1][1], first
    for i in range(first, len(ids)):
        end = spans[i][1]
        if i + 1 == len(ids) or (spans[i + 1][0] >= end > start and spans[i + 1][1] > end):
            sums = values[:, begun - first : i + 1 - first].sum(dim=1).tolist()
            pieces.append(Token._make([text[start:end], *sums, ids[begun] in tokenizer.all_special_ids]))
            start, begun = end, i + 1
    return pieces


def nats(value: float, sign: str = "+") -> str:
    """A number to read, with its sign, or with that of a negative one alone."""
    return local_decimals(f"{value:{sign}.3f}")


def token_css(reward: float, most: float) -> str:
    """A token's CSS: blue if it earns, orange and dotted if it costs, paler the less; the contrast is 4.5 or more."""
    depth = 0.7 * abs(reward) / most if most else 0
    full, line = ((0, 114, 178), "solid") if reward > 0 else ((230, 159, 0), "dotted")
    background = ",".join(f"{255 + depth * (part - 255):.0f}" for part in full)
    underline = f"; border-bottom:2px {line} #000" if depth > 0.05 else ""
    return f"background-color:rgb({background}); color:#000{underline}"


@dataclass(frozen=True)
class TokenView:
    """Two answers to a question, token by token. `answers`: by model and side, its tokens."""

    question: str
    answers: dict[str, dict[str, list[Token]]]
    beta: float

    def reward(self, model: str, side: str) -> float:
        """The implicit reward of a whole answer: the sum over its tokens."""
        return sum(token.reward for token in self.answers[model][side])

    def margin(self, model: str) -> float:
        """The reward of the chosen answer minus that of the rejected one."""
        return self.reward(model, "chosen") - self.reward(model, "rejected")

    def __repr__(self) -> str:
        lines = [shown(self.question)]
        for model, sides in self.answers.items():
            for side, tokens in sides.items():
                told = [
                    f"{token.reward:+8.3f}  {shown(repr(token.text))}" for token in tokens if abs(token.reward) >= 0.005
                ]
                lines += [f"\n{name_of(model)}, {side}: {self.reward(model, side):+.3f}", *told]
                if rest := len(tokens) - len(told):
                    lines.append("          " + _("and {count} more below 0.005").format(count=rest))
            lines.append(f"\n{name_of(model)}: " + _("margin") + f" {self.margin(model):+.3f}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        names = {"chosen": _("chosen"), "rejected": _("rejected")}
        every = [(model, side, t) for model, sides in self.answers.items() for side in sides for t in sides[side]]
        most = max(abs(token.reward) for _model, _side, token in every)

        def cell(model, side):
            marked = ""
            for token in self.answers[model][side]:
                tag, style = "code" if token.special else "span", token_css(token.reward, most)
                told, text = nats(token.reward), html.escape(shown(token.text))
                marked += f'<{tag} style="{style}" title="{told}">{text}</{tag}>'
            total = _("sum: {reward} nats").format(reward=nats(self.reward(model, side)))
            paper = "line-height:1.8; background-color:#fff; color:#000"  # in every theme
            return HTML(f"<div style='{paper}'>{marked}\n<b>{total}</b></div>")

        rows = [[name, *(cell(model, side) for model in self.answers)] for side, name in names.items()]
        rows.append([_("margin"), *(HTML(f"<b>{nats(self.margin(model))}</b>") for model in self.answers)])
        legend = _(
            "Each token carries β (log π - log π_ref), β = {beta}. Blue with a solid line: likelier than under the "
            "reference; orange with a dotted line: less likely. The strongest colour stands for {most} nats."
        ).format(beta=f"{self.beta:g}", most=f"{most:.3f}")
        columns = _("model"), _("answer"), _("token"), "log π", "log π_ref", "β (log π - log π_ref)"
        numbers = (
            (shown(model), names[side], shown(t.text), nats(t.logps, ""), nats(t.ref_logps, ""), nats(t.reward))
            for model, side, t in every
        )
        summary = _("All numbers as a table")
        every_number = pd.DataFrame(numbers, columns=columns).to_html(index=False, border=0, classes=LITERAL)
        answers = table([_("answer"), *self.answers], *rows, first="th")
        return (
            f"{paragraph(self.question)}{answers.data}{paragraph(local_decimals(legend))}"
            f"<details><summary>{summary}</summary>{every_number}</details>"
        )


def token_view(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pair: dict,
    beta: float,
    before: PreTrainedModel | None = None,
) -> TokenView:
    """Both answers of a pair, each token coloured by β (log π - log π_ref); their sums are the implicit rewards.

    pair: a row of `load_preferences`: `prompt`, `chosen`, `rejected`. before: an earlier policy to stand beside.
    """
    missing = ", ".join(column for column in ("prompt", "chosen", "rejected") if column not in pair)
    if missing:
        words = _("token_view: the pair lacks {missing}; give a row of load_preferences, such as pairs[0]")
        raise ValueError(words.format(missing=missing))
    answers = {
        name: {side: answer_tokens(model, reference, tokenizer, pair, side, beta) for side in ("chosen", "rejected")}
        for name, model in ((_("before"), before), (_("policy"), policy))
        if model
    }
    return TokenView(pair["prompt"][-1]["content"], answers, beta)
