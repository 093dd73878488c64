"""Train the bundled tokenizer and base models from scratch: `python data_samples/make_models.py [small|large]`.

CPU only, seeded, within an hour on 2 cores for both. The models read dialogues of the bundled
world, half of them with good answers and half with faults, so that there is something to align.
"""

import json
import math
import random
import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tqdm.auto import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))

from make_data import dialogues  # noqa: E402

SEED = 20
VOCABULARY = 2048
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SHAPES = {
    "small": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6},
    "large": {"hidden_size": 320, "intermediate_size": 864, "num_hidden_layers": 6, "num_attention_heads": 10},
}
STEPS = {"small": 2400, "large": 1600}
DIALOGUES = 60_000


def make_tokenizer(corpus: list) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that any text in any language can be written."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((m["content"] for d in corpus for m in d), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def batches(rows: list, size: int, rng: random.Random):
    """Endless batches of rows of like length, so that little is padding."""
    while True:
        order = rng.sample(range(len(rows)), len(rows))
        for start in range(0, len(order), size * 50):
            part = sorted(order[start : start + size * 50], key=lambda i: len(rows[i]))
            chunks = [part[i : i + size] for i in range(0, len(part) - size + 1, size)]
            rng.shuffle(chunks)
            yield from ([rows[i] for i in chunk] for chunk in chunks)


def pretrain(shape: dict, tokenizer, rows: list, steps: int, batch_size=32, lr=0.01, adam_lr=4e-3, device="cpu") -> tuple:
    """Next-token training on every token. Muon for the matrices, AdamW for the embeddings and norms."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
    model = LlamaForCausalLM(config).to(device)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.0, momentum=0.95),
        torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    schedulers = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda s: min((s + 1) / 50, max(0.0, (steps - s) / (0.6 * steps)), 1.0))
        for o in optimizers
    ]
    source, losses = batches(rows, batch_size, random.Random(SEED)), []
    progress = tqdm(range(steps), mininterval=5)
    for step in progress:
        batch = tokenizer.pad({"input_ids": next(source)}, return_tensors="pt").to(device)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, scheduler in zip(optimizers, schedulers):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"step {step}: loss is {losses[-1]}; lower the learning rate")
        if step % 50 == 0:
            progress.set_postfix(loss=f"{sum(losses[-50:]) / len(losses[-50:]):.3f}")
    return model, losses
