"""For the learner who has read losses.py: from messages to a batch, and from a batch to log-probabilities.

A batch holds each prompt once, with both of its answers behind it: the numbers of two padded rows in half the time.
"""

import inspect
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile

import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from peft import PeftModel
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .i18n import _
from .losses import sequence_logps


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
    first row and the longest, against every answer read alone, with nothing around it. ValueError if the model gives
    other numbers even with one answer a row.
    """

    def alone(prompt: list[int], answer: list[int]) -> float:
        ids, labels = torch.tensor([[prompt + answer], [[-100] * len(prompt) + answer]], device=model.device)
        return sequence_logps(model(input_ids=ids).logits.float(), labels).item()

    probe = [rows[0], max(rows, key=lambda row: len(row.prompt) + max(map(len, row.answers)))]
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


class SimilarLengths(Sampler):
    """The order of "group_by_length": batches at random, new in each epoch, rows of similar length in each batch.

    Less padding makes a step a third faster. The library's own order falls in length every 50 batches, and the curves
    with it.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed} {self.epoch}")
        order = rng.sample(range(len(self)), len(self))
        for start in range(0, len(order), 50 * self.batch_size):
            some = slice(start, start + 50 * self.batch_size)
            order[some] = sorted(order[some], key=self.lengths.__getitem__)
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        short = [batches.pop()] if len(order) % self.batch_size else []  # last, or it would shift all that follow
        return (i for batch in rng.sample(batches, len(batches)) + short for i in batch)
