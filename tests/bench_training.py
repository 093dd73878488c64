"""`make bench`: steps a second of the course's trainer and of stock TRL, side by side in one run.

Two sizes: the bundled small model on the bundled pairs, and a model with SmolLM2-135M's shapes and random weights on
rows of HH-RLHF's lengths. What is timed begins after the first step; ours and TRL's take turns, and the median counts.
"""

import copy
import itertools
import os
import random
import statistics
import sys
import time
from pathlib import Path

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainingArguments,
)
from trl import DPOConfig, DPOTrainer  # noqa: E402

import course_utils as cu  # noqa: E402
from course_utils import trainer  # noqa: E402

try:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer
except ImportError:
    ORPOTrainer = None

ROUNDS = 3


class Clock(TrainerCallback):
    """Seconds a step, from the end of the first step to the end of the last."""

    found: list[float] = []  # noqa: RUF012

    def on_step_end(self, args, state, control, **kwargs):
        now = time.perf_counter()
        if state.global_step == 1:
            self.start = now
        elif state.global_step == state.max_steps:
            Clock.found.append((now - self.start) / (state.max_steps - 1))

    def close(self):
        """Part of what the course's trainer asks of a callback."""


def seconds_ours(method, model, tokenizer, pairs, settings):
    train = {"dpo": cu.train_dpo, "orpo": cu.train_orpo}[method]
    train(model, tokenizer, pairs, TrainingArguments(**settings))
    return Clock.found.pop()


def seconds_trl(method, model, tokenizer, pairs, settings):
    settings = settings | {"train_sampling_strategy": "random", "disable_tqdm": True}
    common = {"train_dataset": pairs, "processing_class": tokenizer, "callbacks": [Clock()]}
    if method == "dpo":
        args = DPOConfig(**settings)
        DPOTrainer(model=copy.deepcopy(model), ref_model=copy.deepcopy(model), args=args, **common).train()
    else:
        args = ORPOConfig(**settings, remove_unused_columns=False)
        ORPOTrainer(model=copy.deepcopy(model), args=args, **common).train()
    return Clock.found.pop()


def like_smollm2() -> tuple:
    """A model with SmolLM2-135M's shapes, a tokenizer of as many words, and pairs of HH-RLHF's lengths."""
    words = 49_152
    config = LlamaConfig(
        vocab_size=words, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    inner = Tokenizer(models.WordLevel({f"w{i}": i for i in range(words)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="w3", eos_token="w2", model_max_length=256)
    tokenizer.chat_template = (
        "{% for m in messages %}w4 {{ m.content }} w2 {% endfor %}{% if add_generation_prompt %}w4 {% endif %}"
    )
    rng = random.Random(0)

    def text(mean):
        return " ".join(
            f"w{rng.randrange(5, words)}" for _ in range(min(110, max(4, round(rng.gammavariate(2, mean / 2)))))
        )

    rows = [
        {"prompt": [{"role": "user", "content": text(92)}], "chosen": [{"role": "assistant", "content": text(31)}],
         "rejected": [{"role": "assistant", "content": text(37)}]}
        for _ in range(200)
    ]  # fmt: skip
    return AutoModelForCausalLM.from_config(config), tokenizer, Dataset.from_list(rows)


def main() -> None:
    trainer.SHOW_PROGRESS[:] = [Clock]
    setup = cu.start("en")
    able = getattr(torch.cpu, "get_capabilities", dict)()
    bf16 = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    bundled = (*cu.load_model("small"), cu.load_preferences(setup.preferences)[0])
    cases = [("bundled small model", bundled, "dpo", 8, 21, [{}])]
    if ORPOTrainer is None:
        print("TRL has no ORPOTrainer any more: ORPO is not compared")
    else:
        cases.append(("bundled small model", bundled, "orpo", 8, 21, [{}]))
    more = [{}, {"bf16": True}] if bf16 else [{}]
    cases.append(("SmolLM2-135M's shapes", like_smollm2(), "dpo", 4, 3, more))
    print(f"{torch.get_num_threads()} threads; steps a second, median of {ROUNDS}; TRL in float32, rows at random")
    for name, (model, tokenizer, pairs), method, batch, steps, precisions in cases:
        settings = {
            **setup.training_args,
            "max_steps": steps,
            "per_device_train_batch_size": batch,
            "learning_rate": 1e-6,
        }
        runs = {"TRL": (seconds_trl, settings)}
        for extra in precisions:
            label = "ours in bfloat16" if extra else "ours"
            runs[label] = seconds_ours, settings | extra
            if not extra:
                runs["ours, rows at random"] = seconds_ours, settings | {"train_sampling_strategy": "random"}
        taken = {label: [] for label in runs}
        for _round, (label, (measure, args)) in itertools.product(range(ROUNDS), runs.items()):
            taken[label].append(measure(method, model, tokenizer, pairs, args))
        speed = {label: 1 / statistics.median(values) for label, values in taken.items()}
        print(f"{name}, {method}, {batch} pairs a step")
        for label, value in speed.items():
            print(f"  {label:<22}{value:8.3f} steps/s  {value / speed['TRL']:5.2f}×")


if __name__ == "__main__":
    main()
