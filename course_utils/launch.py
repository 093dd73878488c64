"""A run as a file, for a bigger machine: the notebook writes it, TRL's command or several processes train it.

    trl dpo --config dpo.yaml                                                 TRL's own command, in its folder
    accelerate launch --num_processes 2 -m course_utils runs/big/orpo.yaml    ORPO too, which `trl` lacks

Without GPUs accelerate starts several processes only if told `--multi_gpu`.
"""

import threading
from pathlib import Path

import yaml
from datasets import Dataset, load_dataset
from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer, ModelConfig, ScriptArguments, TrlParser, get_peft_config

from .i18n import _
from .models import load_model
from .saving import own_settings, save_run
from .training import ORPOConfig, ORPOTrainer, make_trainer, train_dpo, train_orpo

METHODS = {"dpo": (DPOConfig, DPOTrainer, train_dpo), "orpo": (ORPOConfig, ORPOTrainer, train_orpo)}


def write_run(
    folder: str | Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    args: DPOConfig | ORPOConfig,
    peft_config: LoraConfig | None = None,
    processes: int = 1,
) -> Path:
    """Write what `train_dpo` or `train_orpo` would train with these arguments into `folder`; returns the file.

    It holds the model, the rows in the order in which they would be read, and the settings. processes: on how many
    it will run; each takes its share of the batch, so that all together train as one would.
    """
    batch = args.per_device_train_batch_size
    if batch % processes:
        raise ValueError(
            _("a batch of {batch} cannot be shared by {processes} processes; make it a multiple").format(
                batch=batch, processes=processes
            )
        )
    method = next(name for name, (config, _trainer, _train) in METHODS.items() if isinstance(args, config))
    folder = Path(folder)
    trainer, rows = make_trainer(METHODS[method][1], model, tokenizer, dataset, args, peft_config, threading.Event())
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "data").mkdir(exist_ok=True)
    rows.select_columns(["prompt", "chosen", "rejected"]).to_json(folder / "data" / "train.jsonl", force_ascii=False)
    settings = {
        "model_name_or_path": "model",
        "dtype": "float32",
        "dataset_name": "data",
        **own_settings(trainer.args),
        "per_device_train_batch_size": batch // processes,
        "output_dir": "trained",
        "disable_tqdm": False,
    }
    if processes > 1:
        settings["ddp_find_unused_parameters"] = False
    if peft_config:
        targets = peft_config.target_modules
        settings |= {
            "use_peft": True,
            "lora_r": peft_config.r,
            "lora_alpha": peft_config.lora_alpha,
            "lora_dropout": peft_config.lora_dropout,
            "lora_target_modules": [targets] if isinstance(targets, str) else sorted(targets),
        }
    path = folder / f"{method}.yaml"
    path.write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def main(path: str, *overrides: str) -> None:
    """Train what `path` says; it is called dpo.yaml or orpo.yaml, and the paths in it start from its folder."""
    file = Path(path).resolve()
    if file.stem not in METHODS or not file.is_file():
        raise SystemExit(
            _("{path}: expected a file dpo.yaml or orpo.yaml, as cu.write_run writes them").format(path=path)
        )
    config, _trainer, train = METHODS[file.stem]
    parser = TrlParser((ScriptArguments, config, ModelConfig))
    script, args, model_args = parser.parse_args_and_config(["--config", str(file), *overrides])
    args.output_dir = str(file.parent / args.output_dir)
    model, tokenizer = load_model(str(file.parent / model_args.model_name_or_path))
    with args.main_process_first():
        rows = load_dataset(str(file.parent / script.dataset_name), split="train")
    if args.process_index == 0:
        words = _("{processes} × {batch} pairs on {device}, a batch of {all} a step")
        per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps
        print(
            words.format(
                processes=args.world_size, batch=per_step, device=args.device.type, all=per_step * args.world_size
            )
        )
    run = train(model, tokenizer, rows, args, get_peft_config(model_args))
    if args.process_index == 0:
        print(save_run(run, args.output_dir))
