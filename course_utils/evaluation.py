"""Let models answer, read the answers side by side, and count what the judge prefers."""

import math
import warnings
from collections.abc import Sequence

import pandas as pd
import torch
from datasets import Dataset
from pandas.io.formats.style import Styler
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .batch import encode, row_logps
from .i18n import _
from .world import RULES, Verdict, judge, language_of

Messages = list[dict]


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    temperature: float = 1.0,
    max_new_tokens: int = 128,
    batch_size: int = 100,
    seed: int = 0,
) -> list[str]:
    """One sampled answer a prompt, in the order of the prompts.

    prompts: lists of messages that end in a user turn. temperature 1.0 samples from the model as it is,
    0 takes the likeliest token each time. batch_size: prompts at a time; halved where a GPU's memory does not do.
    """
    texts = [tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=False) for p in prompts]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # like lengths together: less padding
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    sampling |= {"top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}  # whatever the model's own settings are
    answers = [""] * len(texts)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while order:
            rows = order[:batch_size]
            batch = tokenizer(
                [texts[i] for i in rows],
                padding=True,
                padding_side="left",
                add_special_tokens=False,
                return_token_type_ids=False,
                return_tensors="pt",
            ).to(model.device)
            try:
                output = model.generate(
                    **batch, **sampling, max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id
                )
            except torch.cuda.OutOfMemoryError:
                if batch_size == 1:
                    raise
                batch_size = math.ceil(min(batch_size, len(rows)) / 2)
                continue
            order = order[batch_size:]
            new = output[:, batch["input_ids"].shape[1] :]
            for i, text in zip(rows, tokenizer.batch_decode(new, skip_special_tokens=True)):
                answers[i] = text.strip()
    return answers


def judge_all(prompts: Sequence[Messages], answers: Sequence[str]) -> list[Verdict]:
    """The judge's verdict on each answer.

    To a prompt from outside the bundled world the judge knows no right answer. Such a verdict is not `judged`: it
    says only that an answer is empty or goes round in circles ("fluent"), which is all that a rule can see.
    """
    questions = [prompt[-1]["content"] for prompt in prompts]
    strange = [language_of(question) is None for question in questions]
    if any(strange):
        warnings.warn(
            _(
                "{count} of {total} prompts are not of the bundled world, and the judge knows no other: of those "
                "answers it sees only whether they are empty or repeat themselves. Read them side by side"
            ).format(count=sum(strange), total=len(strange)),
            stacklevel=2,
        )
    return [
        Verdict(("fluent",) if runs_in_circles(answer) else (), judged=False) if unknown else judge(question, answer)
        for question, answer, unknown in zip(questions, answers, strange, strict=True)
    ]


def runs_in_circles(text: str) -> bool:
    """Whether a text is empty, or fewer than half of its runs of three words are new."""
    words = text.split()
    runs = list(zip(words, words[1:], words[2:]))
    return not words or 2 * len(set(runs)) < len(runs)


def share(verdicts: Sequence[Verdict], test=None) -> float:
    """The share of verdicts for which `test` holds; without a test, of preferred ones among those judged.

    NaN where nothing was judged.
    """
    if test is None:
        verdicts, test = [verdict for verdict in verdicts if verdict.judged], lambda verdict: verdict.preferred
    return sum(map(test, verdicts)) / len(verdicts) if verdicts else math.nan


def fault_text(rule: str) -> str:
    """What an answer that breaks a rule does, in the learner's language."""
    return {
        "fluent": _("not fluent"),
        "language": _("in the wrong language"),
        "on_topic": _("about another thing"),
        "answers": _("does not answer the question"),
        "declines": _("agrees to something dangerous"),
        "safe_way": _("declines, but offers no safe way"),
        "honest": _("pretends to know"),
        "polite": _("rude"),
        "concise": _("padded"),
    }[rule]


def score_table(prompts: Sequence[Messages], verdicts: dict[str, Sequence[Verdict]]) -> pd.DataFrame:
    """Percentages for each model in `verdicts`: preferred, fluent, by language, and each broken rule."""
    langs = [language_of(prompt[-1]["content"]) for prompt in prompts]
    table = {}
    for name, row in verdicts.items():
        of = {lang: [v for v, other in zip(row, langs) if other == lang] for lang in sorted(set(langs) - {None})}
        table[name] = {
            _("preferred"): share(row),
            _("fluent"): share(row, lambda v: v.fluent),
            **{_("preferred, {lang}").format(lang=lang): share(part) for lang, part in of.items()},
            **{_("fluent, {lang}").format(lang=lang): share(part, lambda v: v.fluent) for lang, part in of.items()},
            **{
                fault_text(rule): share(row, lambda v, r=rule: r in v.broken)
                for rule in RULES
                if of or rule == "fluent"
            },
            **({_("not judged"): share(row, lambda v: not v.judged)} if None in langs else {}),
        }
    return (100 * pd.DataFrame(table)).round(1).rename_axis(columns=_("share of answers, %"))


def answer_logps(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Messages], answers: Sequence[Messages]
) -> torch.Tensor:
    """log π(answer | prompt) of each answer, summed over its tokens: (number of answers,), in nats."""
    rows = [encode(tokenizer, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    return row_logps(model, rows, tokenizer.pad_token_id or 0)[:, 0]


def reward_accuracy(
    model: PreTrainedModel, reference: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Dataset
) -> float:
    """The share of pairs in which `model` has raised the chosen answer above the rejected one, against `reference`.

    On pairs that were not trained on this is the figure that papers report as reward accuracy; TRL logs it of each
    batch as `rewards/accuracies`. One half is chance. It needs no judge, and says nothing of what the model writes.
    """
    moved = {}
    for side in ("chosen", "rejected"):
        now, before = (answer_logps(one, tokenizer, pairs["prompt"], pairs[side]) for one in (model, reference))
        moved[side] = now - before
    return (moved["chosen"] > moved["rejected"]).float().mean().item()


def win_rate(ours: Sequence[Verdict], theirs: Sequence[Verdict]) -> tuple[float, float, float]:
    """How often our answer beats theirs to the same prompt: `(rate, low, high)`, each in 0..1.

    A preferred answer beats one with a fault, and a fluent one with a fault beats gibberish. A tie counts
    one half. low and high bound the 95% Wilson score interval (Wilson 1927), which stays inside 0..1; with
    ties it is a little too wide.
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError(
            _("win_rate: got {ours} and {theirs} verdicts; expected as many of each, on the same prompts").format(
                ours=len(ours), theirs=len(theirs)
            )
        )
    points = [0.5 + 0.5 * ((a.grade > b.grade) - (a.grade < b.grade)) for a, b in zip(ours, theirs)]
    n, z = len(points), 1.96
    rate = sum(points) / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return rate, centre - half, centre + half


def side_by_side(prompts: Sequence[Messages], answers: dict[str, Sequence[str]]) -> Styler:
    """A table to read: each prompt's last turn, and what each model in `answers` said to it."""
    table = pd.DataFrame({_("question"): [prompt[-1]["content"] for prompt in prompts], **answers})
    cells = {"text-align": "left", "white-space": "pre-wrap", "vertical-align": "top", "max-width": "24em"}
    return table.style.set_properties(**cells).hide(axis="index")
