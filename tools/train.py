"""For whoever has several GPUs, or no notebook: DPO or ORPO with the course's trainer, on one process or more.

    accelerate launch --num_processes 4 tools/train.py --method dpo --model HuggingFaceTB/SmolLM2-360M-Instruct \
        --preferences trl-lib/ultrafeedback_binarized --max_length 1024 --output_dir runs/big --bf16 \
        --per_device_train_batch_size 4 --learning_rate 5e-6 --num_train_epochs 1

Every setting of transformers' `TrainingArguments` can be given. Each process holds the whole model. Without GPUs
accelerate starts several processes only with `--multi_gpu`.
"""

import json
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).parents[1]))
if os.environ.get("RANK", "0") != "0":
    os.environ["TQDM_DISABLE"] = "1"  # process 0 alone shows its progress

import torch
from peft import LoraConfig
from transformers import HfArgumentParser, TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils.logging import disable_progress_bar

import course_utils as cu

FIRST = os.environ.get("RANK", "0") == "0"
LOG = "log.json"


@dataclass
class Choices:
    """What to train on what, in the words of `cu.load_model`, `cu.load_preferences` and the `cu.train_` functions."""

    method: Literal["dpo", "orpo"]
    preferences: str
    model: str = "small"
    template: str | None = None
    max_length: int | None = None
    split: str = "train"
    limit: int | None = None
    beta: float | None = None  # DPO's
    lam: float | None = None  # ORPO's λ
    lora: bool = False


def refuse(message: object) -> None:
    """One line on what is wrong, and the end."""
    sys.exit(f"train.py: {message}" if FIRST else 1)


def check_folder(folder: Path) -> None:
    """ValueError for a folder with files of another kind than this program's, which a model would mix with."""
    found = sorted(file.name for file in folder.glob("*") if not file.name.startswith(("checkpoint-", ".")))
    if found and LOG not in found:
        raise ValueError(f"{folder} holds {', '.join(found[:3])}; name a new --output_dir, or that of an earlier run")


def save(model, tokenizer, log: list[dict], folder: Path) -> None:
    """Write all of it aside, and move it when it is whole, the weights last: what is killed leaves no half model."""
    aside = folder / ".unfinished"
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    (aside / LOG).write_text(json.dumps(log, indent=1), encoding="utf-8")
    for file in sorted(aside.iterdir(), key=lambda file: file.suffix == ".safetensors"):
        file.replace(folder / file.name)
    aside.rmdir()


def main(words: list[str]) -> None:
    """Train what the command line says; process 0 speaks, and saves model, tokenizer and log into `output_dir`."""
    disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning if FIRST else Warning)
    if not FIRST:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    parser = HfArgumentParser((Choices, TrainingArguments), allow_abbrev=False)
    parser.error = refuse
    parser.set_defaults(train_sampling_strategy="group_by_length", logging_steps=1, ddp_find_unused_parameters=False)
    parser.set_defaults(use_cpu=not torch.accelerator.is_available())  # else several processes would not meet
    try:
        choices, args, unknown = parser.parse_args_into_dataclasses(words, return_remaining_strings=True)
        dpo = choices.method == "dpo"
        train, weight, other = (cu.train_dpo, "beta", "lam") if dpo else (cu.train_orpo, "lam", "beta")
        if unknown or getattr(choices, other) is not None:
            raise ValueError(f"unknown for {choices.method}: {' '.join(unknown) or '--' + other}")
        if args.fsdp or os.environ.get("ACCELERATE_USE_FSDP") == "true" or is_deepspeed_zero3_enabled():
            raise ValueError("each process holds the whole model, which FSDP and ZeRO-3 do not; use trl dpo for these")
        check_folder(Path(args.output_dir))
        with args.main_process_first():
            model, tokenizer = cu.load_model(choices.model, args.device, choices.template, choices.max_length)
            pairs, report = cu.load_preferences(choices.preferences, choices.split, choices.limit, tokenizer=tokenizer)
    except (ValueError, OSError, ImportError) as error:
        refuse(error)
    share = args.per_device_train_batch_size * args.gradient_accumulation_steps
    print(report)
    print(f"{args.world_size} × {share} pairs on {args.device.type}, a batch of {args.world_size * share} a step")
    value = getattr(choices, weight)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM") if choices.lora else None
    run = train(model, tokenizer, pairs, args, peft_config=lora, **({} if value is None else {weight: value}))
    if FIRST:
        trained = run.model.merge_and_unload() if lora else run.model
        save(trained, tokenizer, run.log, Path(args.output_dir))
        print(args.output_dir)


if __name__ == "__main__":
    main(sys.argv[1:])
