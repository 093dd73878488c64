"""`make bench`: training steps a second, the course's trainer beside stock TRL, in one run on the CPU.

The same rows, optimizer and rates for all. TRL is taken as it comes, but for bf16 and gradient checkpointing, which
would slow it down here. In the order "random" both read the same rows in the same order, and the bench stops if their
first log-probabilities differ. "by length" is the order of the lessons.

Each run is one epoch. The trainers take turns, several rounds of them; the median of each step's times counts, so that
a busy machine does not decide. Set-up is not measured: neither copies and tokenization, nor a first, short run of each.
"""

import copy
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}

import datasets
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
    logging,
)
from trl import DPOConfig, DPOTrainer

sys.path.insert(0, str(Path(__file__).parents[1]))

import course_utils as cu

try:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer
except ImportError:  # experimental parts of TRL may go in any release
    ORPOTrainer = None

BETA, VOCABULARY = 0.1, 49152
#: Of SmolLM2-135M.
SMALLEST = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
}
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


class Clock(TrainerCallback):
    """Seconds of each step, from the end of the one before; the first from its own begin."""

    def __init__(self):
        self.ticks = []

    def on_step_begin(self, *_args, **_more):
        self.ticks = self.ticks or [time.perf_counter()]

    def on_step_end(self, *_args, **_more):
        self.ticks.append(time.perf_counter())

    def close(self):
        """What `SHOW_PROGRESS` asks for."""

    @property
    def seconds(self) -> list[float]:
        return [end - start for start, end in zip(self.ticks, self.ticks[1:])]


def ours(train: Callable, setup, **settings) -> Callable:
    """A run of the course's trainer, as the lessons call it, with other settings than theirs."""

    def run(model, tokenizer, pairs, common, clock, **more):
        cu.SHOW_PROGRESS[:] = [lambda: clock]
        args = TrainingArguments(**{**setup.training_args, **common, **settings})
        return train(model, tokenizer, pairs, args, BETA, **more).log

    return run


def stock(trainer: type, config: type, **settings) -> Callable:
    """A run of TRL's trainer, as its documentation calls it, with other settings than these."""

    def run(model, tokenizer, pairs, common, clock, **more):
        plain = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "dataloader_pin_memory": False}
        logs = {"report_to": "none", "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True}
        logs["output_dir"] = "runs"
        args = config(beta=BETA, **plain | logs | common | settings)
        reference = {"ref_model": copy.deepcopy(model)} if trainer is DPOTrainer and not more else {}
        made = trainer(
            copy.deepcopy(model),
            args=args,
            train_dataset=pairs,
            processing_class=tokenizer,
            callbacks=[clock],
            **reference,
            **more,
        )
        made.remove_callback(PrinterCallback)
        made.train()
        return made.state.log_history

    return run


def compare(title: str, model, tokenizer, pairs, common: dict, contenders: dict[str, Callable], rounds: int) -> None:
    """Print steps a second of each contender, and its ratio to the first one, stock TRL in fp32."""
    steps = len(pairs) // common["per_device_train_batch_size"]
    print(f"\n{title}: {steps} steps of {common['per_device_train_batch_size']} pairs, {rounds} rounds", flush=True)
    firsts, seconds = {}, {name: [] for name in contenders}
    for name, run in contenders.items():
        log = run(model, tokenizer, pairs, common | {"max_steps": 1}, Clock())
        firsts[name] = log[0]["logps/chosen"]
    base, *others = contenders
    for name in others:
        tolerance = 1e-2 if "bf16" in name else 1e-4
        if "by length" not in name and abs(firsts[name] - firsts[base]) > tolerance * abs(firsts[base]):
            raise SystemExit(f"{name} reads other rows than {base}: log π {firsts[name]:.4f}, {firsts[base]:.4f}")
    for number in range(rounds):
        for name, run in contenders.items():
            clock = Clock()
            run(model, tokenizer, pairs, common | {"num_train_epochs": 1}, clock)
            seconds[name].append(clock.seconds)
            print(f"  round {number + 1}, {name}: {len(clock.seconds) / sum(clock.seconds):.2f} steps/s", flush=True)
    total = {name: sum(map(statistics.median, zip(*runs))) for name, runs in seconds.items()}
    for name in contenders:
        print(f"{name:>24} {steps / total[name]:>8.2f} steps/s {total[base] / total[name]:>6.2f}×", flush=True)


def made_up_tokenizer() -> PreTrainedTokenizerFast:
    """As many words as SmolLM2 has tokens, each of them one."""
    words = ["<pad>", "<end>", "<user>", "<assistant>"]
    words += [f"w{number}" for number in range(len(words), VOCABULARY)]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", chat_template=TEMPLATE, model_max_length=512
    )


def made_up_model(**shape: int) -> LlamaForCausalLM:
    """SmolLM2-135M's shapes, or others of its family, with random weights."""
    config = LlamaConfig(
        **SMALLEST | shape,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


def made_up_pairs(count: int, longest: int = 256, first: Sequence = ()) -> datasets.Dataset:
    """Random words in the lengths of HH-RLHF's rows: up to 256 tokens, prompt 95, answers 33 and 39 on average.

    first: the lengths of rows that come before these, of their prompts and two answers.
    """
    rng, lengths = random.Random(0), []
    while len(lengths) < 50 * count:
        row = [round(mean * rng.lognormvariate(-0.18, 0.6)) for mean in (112, 34, 41)]
        if min(row) >= 5 and row[0] + max(row[1:]) <= longest:
            lengths.append(row)
    few = rng.sample(sorted(lengths, key=sum)[25::50], count)  # spread over all lengths as evenly as many would be
    columns = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    marks = (3, 1, 1)  # what the template adds: two roles and an end, an end

    def message(role: str, size: int) -> list[dict]:
        return [{"role": role, "content": " ".join(f"w{rng.randrange(4, VOCABULARY)}" for _ in range(size))}]

    return datasets.Dataset.from_list(
        [
            {name: message(role, size - mark) for (name, role), size, mark in zip(columns.items(), row, marks)}
            for row in [*first, *few]
        ]
    )


def main() -> None:
    logging.set_verbosity_error()
    setup = cu.start("en", device="cpu", precision="fp32", hub=False)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    model, tokenizer = cu.load_model("small")
    pairs, _report = cu.load_preferences(setup.preferences, limit=240)
    common = {"per_device_train_batch_size": 8, "learning_rate": 2e-4}
    for method, train, rival in (
        ("DPO", cu.train_dpo, stock(DPOTrainer, DPOConfig)),
        ("ORPO", cu.train_orpo, ORPOTrainer and stock(ORPOTrainer, ORPOConfig)),
    ):
        if not rival:
            print(f"\nbundled model, {method}: skipped, this TRL has no {method}Trainer")
            continue
        contenders = {
            "stock TRL": rival,
            "ours, random": ours(train, setup, train_sampling_strategy="random"),
            "ours, by length": ours(train, setup),
        }
        compare(f"bundled model, {method}, fp32", model, tokenizer, pairs, common, contenders, rounds=3)

    capable = torch.cpu.get_capabilities()
    contenders = {
        "stock TRL fp32": stock(DPOTrainer, DPOConfig),
        "ours fp32, random": ours(cu.train_dpo, setup, train_sampling_strategy="random"),
        "ours fp32, by length": ours(cu.train_dpo, setup),
    }
    if capable.get("avx512_bf16") or capable.get("amx_bf16"):  # elsewhere bf16 is slower than fp32
        contenders |= {
            "stock TRL bf16": stock(DPOTrainer, DPOConfig, bf16=True),
            "ours bf16, random": ours(cu.train_dpo, setup, train_sampling_strategy="random", bf16=True),
            "ours bf16, by length": ours(cu.train_dpo, setup, bf16=True),
        }
    common = {"per_device_train_batch_size": 4, "learning_rate": 5e-6}
    title = "SmolLM2-135M's shapes, rows as long as HH-RLHF's, DPO"
    compare(title, made_up_model(), made_up_tokenizer(), made_up_pairs(16), common, contenders, rounds=2)


if __name__ == "__main__":
    main()
