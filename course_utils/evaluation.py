"""For learners, after generation.py: what the judge prefers, how far a model went, and how sure one may be of it."""

import math
import warnings
from collections.abc import Callable, Hashable, Sequence

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .batch import encode, encode_rows, row_logps, shares_prompts
from .generation import Messages, sample
from .i18n import _
from .losses import kl_divergence
from .world import Verdict, judge, language_of, question_of


def judge_all(prompts: Sequence[Messages], answers: Sequence[str]) -> list[Verdict]:
    """The judge's verdict on each answer, in their order; ValueError if there are not as many answers as prompts.

    To a prompt out of domain the judge knows no right answer. Such a verdict is not `judged`: it says only that an
    answer is not "fluent": empty, or fewer than half of its runs of three words are new. A warning counts these.
    """
    verdicts = []
    for prompt, answer in zip(prompts, answers, strict=True):
        if language_of(question := prompt[-1]["content"]):
            verdicts.append(judge(question, answer))
            continue
        said = answer.split()
        runs = [*zip(said, said[1:], said[2:])]
        fluent = said and 2 * len({*runs}) >= len(runs)
        verdicts.append(Verdict(() if fluent else ("fluent",), judged=False))
    words = _("{count} of {total} prompts are not of the bundled world, and the judge knows no other: of those "
              "answers it sees only whether they are empty or repeat themselves. Read them side by side")  # fmt: skip
    if unknown := sum(not verdict.judged for verdict in verdicts):
        warnings.warn(words.format(count=unknown, total=len(verdicts)), stacklevel=2)
    return verdicts


def share(verdicts: Sequence[Verdict], test: Callable[[Verdict], bool] | None = None) -> float:
    """The share, 0..1, of verdicts that pass `test`, without one of preferred ones among those judged; NaN of none."""
    if test is None:
        verdicts, test = [verdict for verdict in verdicts if verdict.judged], lambda verdict: verdict.preferred
    return sum(map(test, verdicts)) / len(verdicts) if verdicts else math.nan


def answer_logps(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Messages], answers: Sequence[Messages]
) -> torch.Tensor:
    """log π(answer | prompt) of each answer, summed over its tokens: (number of answers,), in nats."""
    rows = [encode(tokenizer, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    return row_logps(model, rows, tokenizer.pad_token_id or 0)[:, 0]


def mean_interval(values: Sequence[float], groups: Sequence[Hashable] | None = None) -> tuple[float, float, float]:
    """The mean of some values, and its 95% interval: `(mean, low, high)`, in their unit.

    The bootstrap (Efron 1979): means of as many groups, drawn again and again with replacement, each with all of its
    values. groups: one a value, such as the question that it belongs to; without, each value is a group of its own.
    """
    found = torch.as_tensor(values, dtype=torch.float64)
    names: dict[Hashable, int] = {}
    member = torch.tensor(
        [names.setdefault(name, len(names)) for name in (range(len(found)) if groups is None else groups)]
    )
    sums, sizes = torch.zeros(2, len(names), dtype=torch.float64).index_add_(
        1, member, torch.stack([found, torch.ones_like(found)])
    )
    draws = torch.randint(len(names), (2000, len(names)), generator=torch.Generator().manual_seed(0))
    means = sums[draws].sum(dim=1) / sizes[draws].sum(dim=1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return found.mean().item(), low, high


def wilson(rate: float, n: int) -> tuple[float, float, float]:
    """A share, and its 95% score interval (Wilson 1927, of n independent ones)."""
    z = 1.96
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return rate, centre - half, centre + half


def reward_margins(
    model: PreTrainedModel, reference: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Dataset
) -> torch.Tensor:
    """How much further `model` has raised the chosen answers than the rejected ones, against `reference`.

    The margin of the implicit rewards over β, (pairs,), in nats. pairs: columns `prompt`, `chosen`, `rejected`; cut and
    left out as in training. With the columns that `precompute_ref_logps` adds, `reference` is not read.
    """
    rows = [row for row in encode_rows(tokenizer, pairs, ("chosen", "rejected")) if row]
    pad = tokenizer.pad_token_id or 0
    known = rows[0].ref_logps is not None
    now, *was = (
        row_logps(one, rows, pad, shared=shares_prompts(one, rows[:1], pad))
        for one in ([model] if known else [model, reference])
    )
    moved = now - (torch.tensor([row.ref_logps for row in rows]) if known else was[0])
    return moved[:, 0] - moved[:, 1]


def reward_accuracy(
    model: PreTrainedModel, reference: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Dataset
) -> tuple[float, float, float]:
    """The share of pairs whose chosen answer `model` has raised above the rejected one: `(accuracy, low, high)`, 0..1.

    Arguments as for `reward_margins`. low and high bound the 95% Wilson interval over pairs; one half is chance.
    Papers report it of held-out pairs; TRL logs it of each batch, as `rewards/accuracies`. It says nothing of what the
    model writes.
    """
    margins = reward_margins(model, reference, tokenizer, pairs)
    return wilson((margins > 0).float().mean().item(), len(margins))


@torch.no_grad()
def answer_kl(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    max_new_tokens: int = 128,
    batch_size: int = 100,
    seed: int = 0,
) -> dict[int, float]:
    """KL[π_θ ‖ π_ref] along one answer of `model`'s own to each prompt, by the prompt's number, in nats.

    The answer is sampled at temperature 1: at each of its tokens the sum over the vocabulary of
    π_θ (log π_θ - log π_ref). One that is cut at `max_new_tokens` counts up to there.
    """
    found = {}
    for i, prompt, answer in sample(model, tokenizer, prompts, 1.0, max_new_tokens, batch_size, seed):
        ids = torch.tensor([prompt + answer])
        probs, ref_probs = (
            one(input_ids=ids.to(one.device)).logits[0, len(prompt) - 1 : -1].double().softmax(dim=-1).cpu()
            for one in (model, reference)
        )
        found[i] = kl_divergence(probs, ref_probs).sum().item()
    return found


def policy_kl(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    max_new_tokens: int = 128,
    batch_size: int = 100,
    seed: int = 0,
) -> tuple[float, float, float]:
    """KL[π_θ ‖ π_ref] of whole answers, which β weighs in eq. 3 of arXiv:2305.18290: `(kl, low, high)`, in nats.

    The mean of `answer_kl`: measured on one answer of `model`'s own to each prompt, sampled at temperature 1 and cut at
    `max_new_tokens`. low and high bound the 95% interval of the mean over prompts.
    """
    return mean_interval([*answer_kl(model, reference, tokenizer, prompts, max_new_tokens, batch_size, seed).values()])


def win_rate(
    ours: Sequence[Verdict], theirs: Sequence[Verdict], prompts: Sequence[Messages] | None = None
) -> tuple[float, float, float]:
    """How often our answer beats theirs to the same prompt: `(rate, low, high)`, each in 0..1.

    A preferred answer beats one with a fault, and a fluent one with a fault beats gibberish. A tie counts one half. low
    and high bound the 95% interval of `mean_interval`, paired: both answers of a prompt are drawn together. With
    `prompts`, whatever asks the same question, in other words or of another seed, is drawn together too; without, each
    answer counts as a question of its own. Where all points are equal the interval has no width. ValueError for none.
    """
    if len(ours) != len(theirs) or not ours or (prompts is not None and len(prompts) != len(ours)):
        words = _("win_rate: got {ours} and {theirs} verdicts; expected as many of each, on the same prompts")
        raise ValueError(words.format(ours=len(ours), theirs=len(theirs)))
    points = [0.5 + 0.5 * ((a.grade > b.grade) - (a.grade < b.grade)) for a, b in zip(ours, theirs)]
    return mean_interval(points, None if prompts is None else [*map(question_of, prompts)])
