"""Train the bundled tokenizer and base models from scratch: `python data_samples/make_models.py [small|large]`.

CPU only, seeded, about an hour on 2 cores for both, one core each. The models read dialogues of the bundled
world, two answers in five good and the others with a fault, so that there is something to align.
"""

import json
import math
import random
import sys
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tqdm.auto import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))

from make_data import dialogues  # noqa: E402

from course_utils.world import find_question  # noqa: E402

SEED = 20
VOCABULARY = 3072
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
    "small": {"hidden_size": 160, "intermediate_size": 448, "num_hidden_layers": 4, "num_attention_heads": 5},
    "large": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 8},
}
STEPS = {"small": 5000, "large": 4000}
LEARNING_RATE = {"small": 0.007, "large": 0.006}
BATCH = 32
# Sampling at temperature 1 from a small model keeps a long tail of stray tokens. Scaling the last norm
# by this factor is the same as sampling at temperature 1 / SHARPEN from the model as trained.
SHARPEN = 1.6


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


def pretrain(shape: dict, tokenizer, rows: list, steps: int, learning_rate: float) -> LlamaForCausalLM:
    """Next-token training on every token: Muon for the matrices, AdamW for embeddings and norms."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",  # on a CPU faster than the fused kernels at this size
        **shape,
    )
    model = LlamaForCausalLM(config)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.0),
        torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0),
    ]

    def schedule(step):
        return min((step + 1) / 50, (steps - step) / (0.6 * steps), 1.0)

    schedulers = [torch.optim.lr_scheduler.LambdaLR(optimizer, schedule) for optimizer in optimizers]
    source, recent = batches(rows, BATCH, random.Random(SEED)), deque(maxlen=100)
    progress = tqdm(range(steps), mininterval=10)
    for step in progress:
        batch = tokenizer.pad({"input_ids": next(source)}, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, scheduler in zip(optimizers, schedulers):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        recent.append(loss.item())
        if not math.isfinite(recent[-1]):
            raise FloatingPointError(f"step {step}: loss is {recent[-1]}; lower the learning rate")
        if step % 100 == 0:
            progress.set_postfix(loss=f"{sum(recent) / len(recent):.3f}")
    with torch.no_grad():
        model.model.norm.weight.mul_(SHARPEN)
    return model


CARD = """# Bundled base model “{name}”

A Llama of {parameters:,} parameters ({shape}; vocabulary {vocabulary}, byte-level BPE), trained from scratch
for the lessons of this course. It is a toy: it knows the bundled world and nothing else. Do not use it for
anything but learning.

- **Data**: {dialogues:,} dialogues ({tokens:,} tokens) written by `data_samples/grammar.py`, half
  English, half Vietnamese. Two answers in five are good; the others break one rule each, on purpose: they are
  rude, padded, in the wrong language, evade the question, agree to something dangerous or pretend to know.
  The held-out questions stand in none of them.
- **Training**: {steps:,} steps of {batch} dialogues, next-token loss on every token, Muon and AdamW, bfloat16
  autocast; {minutes:.0f} minutes on one CPU core. The last norm is scaled by {sharpen}, which is the same as sampling
  the model as trained at temperature {temperature:.2f}. Weights are stored in float16.
- **The judge's figures** on the {prompts} held-out prompts, sampled at temperature 1, mean of three seeds:
  preferred {preferred:.1f}%, fluent {fluent:.1f}%, on topic {on_topic:.1f}%. By language, preferred and fluent:
  English {en_preferred:.1f}% and {en_fluent:.1f}%, Vietnamese {vi_preferred:.1f}% and {vi_fluent:.1f}%.
- **Made by** `python data_samples/make_models.py {name}`, seed {seed}. Licence: Apache-2.0, like the course.
"""


def write_card(name: str) -> None:
    """Judge the saved model and write its card."""
    import course_utils as cu

    folder = HERE / "models" / name
    model, tokenizer = cu.load_model(name)
    prompts = list(cu.load_preferences(HERE / "preferences", split="test")[0]["prompt"])
    verdicts = [
        v for seed in range(3) for v in cu.judge_all(prompts, cu.generate(model, tokenizer, prompts, seed=seed))
    ]
    by_lang = {
        lang: [v for v, p in zip(verdicts, prompts * 3) if find_question(p[-1]["content"]).lang == lang]
        for lang in ("en", "vi")
    }
    figures = {f"{lang}_preferred": 100 * cu.share(part) for lang, part in by_lang.items()}
    figures |= {f"{lang}_fluent": 100 * cu.share(part, lambda v: v.fluent) for lang, part in by_lang.items()}
    text = CARD.format(
        name=name,
        parameters=model.num_parameters(),
        shape=", ".join(f"{key} {value}" for key, value in SHAPES[name].items()),
        vocabulary=len(tokenizer),
        steps=STEPS[name],
        batch=BATCH,
        sharpen=SHARPEN,
        temperature=1 / SHARPEN,
        prompts=len(prompts),
        preferred=100 * cu.share(verdicts),
        fluent=100 * cu.share(verdicts, lambda v: v.fluent),
        on_topic=100 * cu.share(verdicts, lambda v: "on_topic" not in v.broken),
        seed=SEED,
        **figures,
        **json.loads((folder / "training.json").read_text()),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def make(name: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """Train the bundled model of this name, and write a card for it; what was done, in a line."""
    torch.set_num_threads(1)  # one model a core is faster than one model on two
    corpus = dialogues(STEPS[name] * BATCH, SEED + 11)
    texts = [tokenizer.apply_chat_template(dialogue, tokenize=False) for dialogue in corpus]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    start = time.time()
    model = pretrain(SHAPES[name], tokenizer, rows, STEPS[name], LEARNING_RATE[name])
    minutes = (time.time() - start) / 60
    folder = HERE / "models" / name
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tokens = sum(map(len, rows))
    figures = {"dialogues": len(rows), "tokens": tokens, "minutes": round(minutes, 1)}
    (folder / "training.json").write_text(json.dumps(figures) + "\n")
    write_card(name)
    return f"{name}: {model.num_parameters():,} parameters, {tokens:,} tokens, {minutes:.0f} minutes"


def main(names: list[str]) -> None:
    """Train the bundled models of these names, one a core."""
    tokenizer = make_tokenizer(list(dialogues(20_000, SEED + 10)))
    with ProcessPoolExecutor(2) as pool:
        for done in pool.map(make, names, [tokenizer] * len(names)):
            print(done)


if __name__ == "__main__":
    main(sys.argv[1:] or list(SHAPES))
