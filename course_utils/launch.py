"""A run as a file, for a bigger machine: the notebook writes it, TRL's command or several processes train it.

    trl dpo --config dpo.yaml                                                 TRL's own command, in its folder
    accelerate launch --num_processes 2 -m course_utils runs/big/orpo.yaml    ORPO too, which `trl` lacks

Without GPUs accelerate starts several processes only if told `--multi_gpu`.
"""

import os
import threading
from pathlib import Path

import torch
import yaml
from datasets import Dataset, load_dataset
from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer, ModelConfig, ScriptArguments, TrlParser, get_peft_config

from .i18n import _
from .models import load_model
from .saving import base_name, own_settings, save_run
from .training import ORPOConfig, ORPOTrainer, make_trainer, released, train_dpo, train_orpo

METHODS = {"dpo": (DPOConfig, DPOTrainer, train_dpo), "orpo": (ORPOConfig, ORPOTrainer, train_orpo)}


#: Settings that do not go along: of the machine the notebook ran on, and where to resume.
THIS_MACHINES = {"use_cpu", "dataloader_pin_memory", "resume_from_checkpoint"}


def adapter_settings(adapter: LoraConfig) -> dict:
    """An adapter in the words of TRL's ModelConfig; ValueError for what these cannot say."""
    targets = adapter.target_modules
    if targets and not isinstance(targets, str):  # ModelConfig reads a list of one as a pattern
        targets = sorted(targets) if len(targets) > 1 else rf"(.*\.)?{next(iter(targets))}"
    settings = {
        "use_peft": True,
        "lora_r": adapter.r,
        "lora_alpha": adapter.lora_alpha,
        "lora_dropout": adapter.lora_dropout,
        "lora_target_modules": [targets] if isinstance(targets, str) else targets,
        "lora_target_parameters": adapter.target_parameters,
        "lora_modules_to_save": adapter.modules_to_save,
        "use_rslora": adapter.use_rslora,
        "use_dora": adapter.use_dora,
    }
    said = get_peft_config(ModelConfig(**settings)).to_dict()
    known = {"target_modules", "base_model_name_or_path", "inference_mode"}
    lost = [key for key, value in adapter.to_dict().items() if said[key] != value and key not in known]
    if lost:
        raise ValueError(
            _("the adapter's {fields} cannot be written out; leave them as PEFT has them").format(
                fields=", ".join(lost)
            )
        )
    return {key: value for key, value in settings.items() if value is not None}


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

    It holds the model, the rows in the order in which they would be read, and the settings, the precision with them;
    what was true of this machine alone, such as `use_cpu`, is left out. processes: on how many it will run; each
    takes its share of the batch, so that all together train as one would.
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
    (folder / "data").mkdir(exist_ok=True)
    rows.select_columns(["prompt", "chosen", "rejected"]).to_json(folder / "data" / "train.jsonl", force_ascii=False)
    released(model)
    source = base_name(model.config.name_or_path).replace("/", "--")
    settings = {
        "model_name_or_path": f"models--{source}",
        "dtype": "float32",
        "dataset_name": "data",
        **{key: value for key, value in own_settings(trainer.args).items() if key not in THIS_MACHINES},
        "per_device_train_batch_size": batch // processes,
        "output_dir": "trained",
        "disable_tqdm": False,
    }
    if processes > 1:
        settings["ddp_find_unused_parameters"] = False
    if peft_config:
        settings |= adapter_settings(peft_config)
    model.save_pretrained(folder / settings["model_name_or_path"])
    tokenizer.save_pretrained(folder / settings["model_name_or_path"])
    path = folder / f"{method}.yaml"
    path.write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def main(path: str, *overrides: str) -> None:
    """Train what `path` says; it is called dpo.yaml or orpo.yaml, and the paths in it start from its folder.

    Each process holds the whole model. `--resume_from_checkpoint true` goes on from the last checkpoint, if any.
    """
    file = Path(path).resolve()
    if file.stem not in METHODS or not file.is_file():
        raise SystemExit(
            _("{path}: expected a file dpo.yaml or orpo.yaml, as cu.write_run writes them").format(path=path)
        )
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" or os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3":
        raise SystemExit(
            _("this command keeps the whole model in each process, which FSDP and ZeRO-3 do not; use trl dpo for these")
        )
    config, _trainer, train = METHODS[file.stem]
    parser = TrlParser((ScriptArguments, config, ModelConfig))
    use_cpu = ["--use_cpu", str(not torch.accelerator.is_available())]  # else several processes would not meet
    script, args, model_args = parser.parse_args_and_config(["--config", str(file), *use_cpu, *overrides])
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
