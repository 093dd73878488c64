"""For the learner who asks where in an answer its implicit reward comes from: each token coloured by what it adds."""

import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..batch import encode
from ..i18n import _
from ..losses import implicit_reward, token_logps
from .figure import table


class Token(NamedTuple):
    """A piece of an answer, with log π, log π_ref and the reward β (log π - log π_ref), in nats."""

    text: str
    logps: float
    ref_logps: float
    reward: float
    special: bool = False


def pieces(text: str, spans: list[tuple[int, int]], start: int) -> Iterator[tuple[str, list[int]]]:
    """Cut text[start:] where its tokens end. Tokens that share a character, as bytes of one letter, stay together.

    spans: where each token begins and ends in the text. Gives (piece, positions of its tokens).
    """
    tokens: list[int] = []
    for i, (_begin, end) in enumerate(spans):
        tokens.append(i)
        if i + 1 == len(spans) or (spans[i + 1][0] >= end > start and spans[i + 1][1] > end):
            yield text[start:end], tokens
            start, tokens = end, []


@torch.no_grad()
def answer_tokens(policy, reference, tokenizer, prompt, answer, beta) -> list[Token]:
    """What each piece of one answer earns. The end token counts too; it is marked special."""
    row = encode(tokenizer, prompt, answer)
    ids, first = row.prompt + row.answers[0], len(row.prompt)
    labels = torch.tensor([[-100] * first + row.answers[0]])
    logps, ref_logps = (
        token_logps(model(input_ids=torch.tensor([ids], device=model.device)).logits.cpu(), labels)[0][0, first - 1 :]
        for model in (policy, reference)
    )
    values = torch.stack([logps, ref_logps, implicit_reward(logps, ref_logps, beta)])
    text = tokenizer.apply_chat_template(prompt + answer, tokenize=False)
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [
        Token._make([piece, *values[:, some].sum(dim=1).tolist(), row.answers[0][some[0]] in tokenizer.all_special_ids])
        for piece, some in pieces(text, spans[first:], spans[first - 1][1])
    ]


def token_css(reward: float, most: float) -> str:
    """The CSS of a token: blue and underlined if it earns, orange and dotted if it costs, paler the less it does.

    The paper is white and the ink black in every theme; the strongest colours leave a contrast of 4.5 and more.
    """
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
        lines = [self.question]
        for model, sides in self.answers.items():
            for side, tokens in sides.items():
                told = [f"{token.reward:+8.3f}  {token.text!r}" for token in tokens if abs(token.reward) >= 0.005]
                rest = _("and {count} more below 0.005").format(count=len(tokens) - len(told))
                lines += [f"\n{model}, {side}: {self.reward(model, side):+.3f}", *told]
                lines += [f"          {rest}"] if len(told) < len(tokens) else []
            lines.append(f"\n{model}: " + _("margin") + f" {self.margin(model):+.3f}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        names = {"chosen": _("chosen"), "rejected": _("rejected")}
        every = [(model, side, t) for model, sides in self.answers.items() for side in sides for t in sides[side]]
        most = max(abs(token.reward) for _model, _side, token in every)
        ink = "text-align:left; vertical-align:top; background-color:#fff; color:#000"

        def mark(token):
            tag, style = "code" if token.special else "span", token_css(token.reward, most)
            return f'<{tag} style="{style}" title="{token.reward:+.3f}">{html.escape(token.text)}</{tag}>'

        def cell(model, side):
            total = _("sum: {reward} nats").format(reward=f"{self.reward(model, side):+.3f}")
            marked = "".join(map(mark, self.answers[model][side]))
            return f'<td style="{ink}; white-space:pre-wrap; line-height:1.8">{marked}\n<b>{total}</b></td>'

        lines = {name: "".join(cell(model, side) for model in self.answers) for side, name in names.items()}
        totals = (f'<td style="{ink}"><b>{self.margin(model):+.3f}</b></td>' for model in self.answers)
        lines[_("margin")] = "".join(totals)
        head = "".join(f'<th scope="col" style="{ink}">{html.escape(model)}</th>' for model in self.answers)
        body = "".join(f'<tr><th scope="row" style="{ink}">{name}</th>{line}</tr>' for name, line in lines.items())
        legend = _(
            "Each token carries β (log π - log π_ref), β = {beta}. Blue with a solid line: likelier than under the "
            "reference; orange with a dotted line: less likely. The strongest colour stands for {most} nats."
        ).format(beta=f"{self.beta:g}", most=f"{most:.3f}")
        summary = _("All numbers as a table")
        columns = _("model"), _("answer"), _("token"), "log π", "log π_ref", "β (log π - log π_ref)"
        numbers = (
            (model, names[side], t.text, *(f"{x:.3f}" for x in (t.logps, t.ref_logps)), f"{t.reward:+.3f}")
            for model, side, t in every
        )
        return (
            f"<p>{html.escape(self.question)}</p><table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody>"
            f"</table><p>{html.escape(legend)}</p><details><summary>{summary}</summary>"
            f"{table(columns, *numbers)}</details>"
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

    pair: a row of `load_preferences`, with `prompt`, `chosen` and `rejected`, lists of messages. before: an earlier
    policy to stand beside the first one.
    """
    missing = ", ".join(column for column in ("prompt", "chosen", "rejected") if column not in pair)
    if missing:
        words = _("token_view: the pair lacks {missing}; give a row of load_preferences, such as pairs[0]")
        raise ValueError(words.format(missing=missing))
    models = ({_("before"): before} if before else {}) | {_("policy"): policy}

    def tokens(model, side):
        return answer_tokens(model, reference, tokenizer, pair["prompt"], pair[side], beta)

    answers = {name: {side: tokens(model, side) for side in ("chosen", "rejected")} for name, model in models.items()}
    return TokenView(pair["prompt"][-1]["content"], answers, beta)
