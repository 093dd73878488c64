"""Where in an answer the implicit reward comes from: each token coloured by what it adds."""

import html
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .i18n import _
from .losses import implicit_reward, token_logps


class Token(NamedTuple):
    """A piece of an answer, with log π, log π_ref and the reward β (log π - log π_ref), in nats."""

    text: str
    logps: float
    ref_logps: float
    reward: float
    special: bool = False


def pieces(text: str, spans: list[tuple[int, int]], start: int) -> list[tuple[str, list[int]]]:
    """Cut text[start:] where its tokens end. Tokens that share a character, as bytes of one letter, stay together.

    spans: where each token begins and ends in the text. Returns (piece, positions of its tokens).
    """
    cut: list[tuple[int, int, list[int]]] = []
    for i, (begin, end) in enumerate(spans):
        if cut and (begin < cut[-1][1] or end <= cut[-1][1] or cut[-1][0] == cut[-1][1]):
            cut[-1] = (cut[-1][0], max(end, cut[-1][1]), [*cut[-1][2], i])
        else:
            cut.append((cut[-1][1] if cut else start, max(end, start), [i]))
    return [(text[begin:end], tokens) for begin, end, tokens in cut]


@torch.no_grad()
def answer_tokens(policy, reference, tokenizer, prompt, answer, beta) -> list[Token]:
    """What each piece of one answer earns. The end token counts too; it is marked special."""
    text = tokenizer.apply_chat_template(prompt + answer, tokenize=False)
    asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, first = encoded["input_ids"], len(tokenizer(asked, add_special_tokens=False)["input_ids"])
    labels = torch.tensor([[-100] * first + ids[first:]])
    logps, ref_logps = (
        token_logps(model(input_ids=torch.tensor([ids], device=model.device)).logits.cpu(), labels)[0][0, first - 1 :]
        for model in (policy, reference)
    )
    rewards = implicit_reward(logps, ref_logps, beta)
    return [
        Token(
            piece,
            *(values[tokens].sum().item() for values in (logps, ref_logps, rewards)),
            special=ids[first + tokens[0]] in tokenizer.all_special_ids,
        )
        for piece, tokens in pieces(text, encoded["offset_mapping"][first:], len(asked))
    ]


def colour(reward: float, most: float) -> str:
    """The CSS of a token: blue and underlined if it earns, orange and dotted if it costs, paler for less.

    The paper is white and the ink black in every theme; the strongest colours leave a contrast of 4.5 and more.
    """
    share = 0.7 * abs(reward) / most if most else 0
    full = (0, 114, 178) if reward > 0 else (230, 159, 0)
    background = ",".join(f"{255 + share * (part - 255):.0f}" for part in full)
    line = "solid" if reward > 0 else "dotted"
    underline = f"; border-bottom:2px {line} #000" if share > 0.05 else ""
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
        """The reward of the chosen answer less that of the rejected one."""
        return self.reward(model, "chosen") - self.reward(model, "rejected")

    def __repr__(self) -> str:
        lines = [self.question]
        for model, sides in self.answers.items():
            for side, tokens in sides.items():
                lines.append(f"\n{model}, {side}: {self.reward(model, side):+.3f}")
                lines += [f"{token.reward:+8.3f}  {token.text!r}" for token in tokens]
            lines.append(f"\n{model}: " + _("margin") + f" {self.margin(model):+.3f}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        most = max(abs(t.reward) for sides in self.answers.values() for tokens in sides.values() for t in tokens)

        def mark(token):
            tag = "code" if token.special else "span"
            style = colour(token.reward, most)
            return f'<{tag} style="{style}" title="{token.reward:+.3f}">{html.escape(token.text)}</{tag}>'

        names = {"chosen": _("chosen"), "rejected": _("rejected")}
        text = "text-align:left; vertical-align:top; background-color:#fff; color:#000"
        head = "".join(f'<th scope="col" style="{text}">{html.escape(model)}</th>' for model in self.answers)
        rows = ""
        for side, name in names.items():
            rows += f'<tr><th scope="row" style="{text}">{name}</th>'
            for model, sides in self.answers.items():
                marked = "".join(map(mark, sides[side]))
                total = _("sum: {reward} nats").format(reward=f"{self.reward(model, side):+.3f}")
                rows += f'<td style="{text}; white-space:pre-wrap; line-height:1.8">{marked}\n<b>{total}</b></td>'
            rows += "</tr>"
        margins = "".join(f'<td style="{text}"><b>{self.margin(model):+.3f}</b></td>' for model in self.answers)
        rows += f'<tr><th scope="row" style="{text}">' + _("margin") + f"</th>{margins}</tr>"
        legend = _(
            "Each token carries β (log π - log π_ref), β = {beta}. Blue with a solid line: likelier than under the "
            "reference; orange with a dotted line: less likely. The strongest colour stands for {most} nats."
        ).format(beta=f"{self.beta:g}", most=f"{most:.3f}")
        columns = _("model"), _("answer"), _("token"), "log π", "log π_ref", "β (log π - log π_ref)"
        numbers = "".join(
            f"<tr><td>{html.escape(model)}</td><td>{names[side]}</td>"
            f'<td style="text-align:left; white-space:pre-wrap">{html.escape(t.text)}</td>'
            f"<td>{t.logps:.3f}</td><td>{t.ref_logps:.3f}</td><td>{t.reward:+.3f}</td></tr>"
            for model, sides in self.answers.items()
            for side, tokens in sides.items()
            for t in tokens
        )
        return (
            f"<p>{html.escape(self.question)}</p><table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody>"
            f"</table><p>{html.escape(legend)}</p><details><summary>"
            + _("All numbers as a table")
            + "</summary><table><thead><tr>"
            + "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
            + f"</tr></thead><tbody>{numbers}</tbody></table></details>"
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
    missing = [column for column in ("prompt", "chosen", "rejected") if column not in pair]
    if missing:
        raise ValueError(
            _("token_view: the pair lacks {missing}; give a row of load_preferences, such as pairs[0]").format(
                missing=", ".join(missing)
            )
        )
    models = ({_("before"): before} if before else {}) | {_("policy"): policy}
    answers = {
        name: {
            side: answer_tokens(model, reference, tokenizer, pair["prompt"], pair[side], beta)
            for side in ("chosen", "rejected")
        }
        for name, model in models.items()
    }
    return TokenView(pair["prompt"][-1]["content"], answers, beta)
