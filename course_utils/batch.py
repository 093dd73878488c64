"""For the learner who has read losses.py: from messages to a batch, and from a batch to log-probabilities.

A batch holds each prompt once, with both of its answers behind it: the numbers of two padded rows in half the time.
"""

import inspect
import math
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile

import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from datasets import Dataset
from peft import PeftModel
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from .i18n import _
from .losses import sequence_logps

REF_LOGPS = ("ref_chosen_logps", "ref_rejected_logps")  # TRL's names for what the reference says of a pair


@dataclass(frozen=True)
class Row:
    """The tokens of a prompt and of its answers: one (SFT), or the chosen and the rejected one (DPO, ORPO)."""

    prompt: list[int]
    answers: list[list[int]]
    ref_logps: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.answers))


def encode(tokenizer: PreTrainedTokenizerBase, prompt: list[dict], *answers: list[dict]) -> Row:
    """A prompt and its answers, lists of messages, as tokens. An answer begins where it leaves its prompt."""
    asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    whole = [tokenizer.apply_chat_template(prompt + answer, return_dict=False) for answer in answers]
    start = len([*takewhile(lambda tokens: len({*tokens}) == 1, zip(asked, *whole))])
    return Row(asked[:start], [ids[start:] for ids in whole])  # type: ignore[arg-type, misc]


def leaves_room(prompt_tokens: int, max_length: int) -> bool:
    """Whether a prompt leaves room for a token of an answer: the one rule of the report and of the trainer."""
    return prompt_tokens < max_length


def encode_rows(tokenizer, dataset: Dataset, columns: tuple[str, ...], args: object = None) -> list[Row | None]:
    """A dataset as tokens, answers cut at `max_length`, None for a row that is left out; warns of both, by number."""
    max_length = getattr(args, "max_length", None) or tokenizer.model_max_length
    known = {*REF_LOGPS} <= {*dataset.column_names} and len(columns) == 2
    refs = zip(*(dataset[name] for name in REF_LOGPS)) if known else [None] * len(dataset)
    rows, left_out, cut = [], [], []
    for i, (ref, *messages) in enumerate(zip(refs, *(dataset[name] for name in ("prompt", *columns)))):
        row = encode(tokenizer, *messages)
        room = max_length - len(row.prompt)
        fits = leaves_room(len(row.prompt), max_length)
        rows.append(Row(row.prompt, [answer[:room] for answer in row.answers], ref) if fits else None)
        if not fits:
            left_out.append(i)
        elif max(map(len, row.answers)) > room:
            cut.append(i)
    if len(left_out) == len(rows):
        raise ValueError(_("no row fits max_length={max_length} tokens; raise it").format(max_length=max_length))
    for found, words in (
        (left_out, _("{count} of {total} rows left out, the first is row {first}: their prompts fill "
                     "max_length={max_length} tokens; raise max_length to keep them")),
        (cut, _("{count} of {total} rows have an answer that is cut at max_length={max_length} tokens, the first is "
                "row {first}; raise max_length to keep them whole")),
    ):  # fmt: skip
        if found:
            numbers = {"count": len(found), "total": len(rows), "first": found[0], "max_length": max_length}
            warnings.warn(words.format(**numbers), stacklevel=3)
    return rows


def pack(rows: list[Row], pad_token_id: int, shared: bool = True) -> dict[str, torch.Tensor]:
    """One batch: each prompt once, with all of its answers behind it; or, not `shared`, once for each answer.

    The prompt's last token opens each answer, so that a label stands where the model predicts it:

        input_ids     p1  p2 | p3  a1  a2 | p3  b1        prompt p1 p2 p3, answers a1 a2 a3 and b1 b2
        position_ids   0   1 |  2   3   4 |  2   3
        labels         .   . | a1  a2  a3 | b1  b2        . stands for -100: no label
        segments       0   0 |  1   1   1 |  2   2        0 the prompt, 1 and 2 its answers, -1 padding

    Each is (rows, length), and the answers begin in the same column in every row. `ref_logps` are added where known.
    """
    known = {"ref_logps": torch.tensor([row.ref_logps for row in rows])} if rows[0].ref_logps else {}
    if not shared:
        rows = [Row(row.prompt, [answer]) for row in rows for answer in row.answers]
    padding = (pad_token_id, 0, -100, -1)
    before = max(len(row.prompt) for row in rows) - 1
    lines = []
    for row in rows:
        start = len(row.prompt) - 1
        line = [padding] * (before - start) + [(token, i, -100, 0) for i, token in enumerate(row.prompt[:-1])]
        for segment, answer in enumerate(row.answers, 1):
            read = row.prompt[-1:] + answer[:-1]
            line += [(token, i, label, segment) for i, (token, label) in enumerate(zip(read, answer), start)]
        lines.append(line)
    length = max(map(len, lines))
    values = torch.tensor([line + [padding] * (length - len(line)) for line in lines]).movedim(2, 0).contiguous()
    return dict(zip(("input_ids", "position_ids", "labels", "segments"), values)) | known


def batch_logps(model: torch.nn.Module, batch: dict[str, torch.Tensor], answers: int = 2) -> tuple[torch.Tensor, ...]:
    """Log π(y | x) of every answer, summed over its tokens, and the number of these: each (prompts, answers), in nats.

    An answer sees its prompt and itself. The vocabulary is scored only where an answer's tokens are predicted.
    """
    labels, segments = batch["labels"], batch["segments"]
    inputs = {"input_ids": batch["input_ids"], "attention_mask": (segments >= 0).long(), "use_cache": False}
    if (side_by_side := int(segments.max())) > 1:  # answers in one row must not see each other
        sees = ((segments[:, None] == 0) | (segments[:, None] == segments[:, :, None])).tril()
        inputs["attention_mask"] = torch.zeros(sees.shape, device=sees.device).masked_fill(~sees, -math.inf)[:, None]
    width = labels.shape[1] - int((labels != -100).any(dim=0).int().argmax())  # of the columns that hold answers
    inner = extract_model_from_parallel(model)
    inner = inner.get_base_model() if isinstance(inner, PeftModel) else inner
    more = {"position_ids": batch["position_ids"], "logits_to_keep": width}  # which not every model takes
    inputs |= {name: more[name] for name in inspect.signature(type(inner).forward).parameters if name in more}
    logits, labels, segments = model(**inputs).logits[:, -width:], labels[:, -width:], segments[:, -width:]
    logps = -F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
    mine = torch.stack([segments == answer for answer in range(1, 1 + side_by_side)])  # (side by side, rows, width)
    return tuple(values.sum(dim=2).T.reshape(-1, answers) for values in (logps * mine, mine))


@contextmanager
def frozen(model: torch.nn.Module) -> Iterator[None]:
    """The model without gradients and dropout, and afterwards as it was."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def row_logps(
    model: PreTrainedModel, rows: list[Row], pad_token_id: int, batch_size: int = 8, shared: bool = False
) -> torch.Tensor:
    """Log π(y | x) of many rows' answers under a model that is not trained: (rows, answers), in nats, on the CPU."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # similar lengths together: less padding
    found = torch.empty(len(rows), answers := len(rows[0].answers))
    with frozen(model):
        for start in range(0, len(rows), batch_size):
            some = order[start : start + batch_size]
            batch = pack([rows[i] for i in some], pad_token_id, shared)
            batch = {name: values.to(model.device) for name, values in batch.items()}
            found[some] = batch_logps(model, batch, answers)[0].float().cpu()
    return found


def shares_prompts(model: PreTrainedModel, rows: list[Row], pad_token_id: int) -> bool:
    """Whether a prompt can be read once for both of its answers; says so if not.

    A recurrent model, some kinds of attention and a sliding window shorter than a row do not allow it. Tried on the
    shortest row and the longest, against every answer read alone, with nothing around it. ValueError if the model gives
    other numbers even with one answer a row.
    """

    def alone(prompt: list[int], answer: list[int]) -> float:
        ids, labels = torch.tensor([[prompt + answer], [[-100] * len(prompt) + answer]], device=model.device)
        return sequence_logps(model(input_ids=ids).logits.float(), labels).item()

    by_length = sorted(rows, key=lambda row: len(row.prompt) + max(map(len, row.answers)))
    probe = [by_length[0], by_length[-1]]
    with frozen(model):
        expected = torch.tensor([[alone(row.prompt, answer) for answer in row.answers] for row in probe])
    rounding = 2e-4 if model.dtype == torch.float32 else 5e-2  # nats a token, some 100 times what rounding does
    tolerance = rounding * torch.tensor([[len(answer) for answer in row.answers] for row in probe])
    for shared in (True, False):
        with suppress(TypeError, ValueError, RuntimeError, IndexError):  # it takes no such mask
            gap = (row_logps(model, probe, pad_token_id, shared=shared) - expected).abs()
            if not (gap > tolerance).any():  # NaN is found in training
                break
    else:
        words = _("{model}: padding changes what it says of an answer, so it cannot be trained in batches here")
        raise ValueError(words.format(model=type(model).__name__))
    if not shared:
        words = _("{model} cannot share a prompt between two answers; each gets a row of its own, which takes longer.")
        print(words.format(model=type(model).__name__))
    return shared


def precompute_ref_logps(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Dataset, args: TrainingArguments
) -> Dataset:
    """Pairs with two more columns, what `model` says of their answers: for `train_dpo`s that share their reference.

    The columns have TRL's names, `ref_chosen_logps` and `ref_rejected_logps`, in nats; NaN for a row that is left out.
    """
    rows = encode_rows(tokenizer, pairs, ("chosen", "rejected"), args)
    some, pad = [row for row in rows if row], tokenizer.pad_token_id or 0
    shared = shares_prompts(model, some, pad)
    found = torch.full((len(rows), 2), torch.nan)
    with torch.autocast(model.device.type, torch.bfloat16 if args.bf16 else torch.float16, args.bf16 or args.fp16):
        logps = row_logps(model, some, pad, args.per_device_train_batch_size, shared)
    found[torch.tensor([row is not None for row in rows])] = logps
    pairs = pairs.remove_columns([name for name in REF_LOGPS if name in pairs.column_names])
    for name, column in zip(REF_LOGPS, found.T.tolist()):
        pairs = pairs.add_column(name, column)
    return pairs


class SimilarLengths(Sampler):
    """The order of "group_by_length": batches at random, new in each epoch, rows of similar length in each batch.

    Less padding makes a step a third faster. The library's own order falls in length every 50 batches, and the curves
    with it. epoch: asked for when one begins, because the library's `set_epoch` does not reach a sampler whose batches
    are shared out among processes and skipped up to a checkpoint.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int, epoch: Callable[[], float | None] = lambda: 0):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed} {int(self.epoch() or 0)}")
        order = rng.sample(range(len(self)), len(self))
        for start in range(0, len(order), 50 * self.batch_size):
            some = slice(start, start + 50 * self.batch_size)
            order[some] = sorted(order[some], key=self.lengths.__getitem__)
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        short = [batches.pop()] if len(order) % self.batch_size else []  # last, or it would shift all that follow
        return (i for batch in rng.sample(batches, len(batches)) + short for i in batch)
