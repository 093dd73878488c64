"""For learners, after trainer.py: let models answer."""

import math
from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

Messages = list[dict]
CHARACTERS = 42_000  # of prompts and their padding that a CPU reads at a time: some 10,000 tokens of English


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    temperature: float,
    max_new_tokens: int,
    batch_size: int,
    seed: int,
) -> Iterator[tuple[int, list[int], list[int]]]:
    """For each prompt its number, its tokens and those of an answer, up to its end token; not in their order."""
    texts = [str(tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=False)) for p in prompts]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # similar lengths together: less padding
    layout: dict = {"padding": True, "padding_side": "left", "add_special_tokens": False, "return_tensors": "pt"}
    settings: dict = {"do_sample": temperature > 0, "temperature": temperature or 1.0, "max_new_tokens": max_new_tokens}
    settings |= {"top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}  # whatever the model's own settings are
    ends = torch.tensor(model.generation_config.eos_token_id or tokenizer.eos_token_id).view(-1)  # type: ignore[union-attr]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while rows := order[:batch_size]:
            if model.device.type == "cpu":  # where padding costs as much as text, and memory is short
                fitting = sum(count * len(texts[i]) <= CHARACTERS for count, i in enumerate(rows, 1))
                rows = rows[: max(1, fitting)]
            batch = tokenizer([texts[i] for i in rows], **layout, return_token_type_ids=False).to(model.device)
            try:
                output = model.generate(**batch, **settings, pad_token_id=tokenizer.pad_token_id)  # type: ignore[operator]
            except torch.cuda.OutOfMemoryError:
                if batch_size == 1:
                    raise
                batch_size = math.ceil(len(rows) / 2)
                continue
            order = order[len(rows) :]
            start = batch["input_ids"].shape[1]
            for i, ids, read in zip(rows, output.cpu(), batch["attention_mask"].sum(1).tolist()):
                ended = torch.isin(ids[start:], ends).nonzero().flatten()
                stop = start + int(ended[0]) + 1 if len(ended) else len(ids)
                yield i, ids[start - read : start].tolist(), ids[start:stop].tolist()


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    temperature: float = 1.0,
    max_new_tokens: int = 128,
    batch_size: int = 100,
    seed: int = 0,
) -> list[str]:
    """One sampled answer a prompt, in the order of the prompts; OutOfMemoryError if not even one prompt fits.

    prompts: lists of messages that end in a user turn. temperature 1.0 samples from the model as it is,
    0 takes the likeliest token each time. batch_size: prompts at a time; halved where a GPU's memory does not do.
    """
    written = {
        i: ids for i, _prompt, ids in sample(model, tokenizer, prompts, temperature, max_new_tokens, batch_size, seed)
    }
    return [
        text.strip()
        for text in tokenizer.batch_decode([written[i] for i in range(len(prompts))], skip_special_tokens=True)
    ]
