"""Several models on several datasets, one run after the other, in a way that survives an interruption."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from datasets import Dataset
from peft import LoraConfig
from tqdm import tqdm
from trl import DPOConfig

from .evaluation import generate, judge_all, reward_accuracy, share
from .i18n import _
from .models import load_model
from .saving import own_settings
from .training import train_dpo


def fingerprint(*parts) -> str:
    """A short name for a run's settings and data: another one if anything in them changes."""
    text = json.dumps(parts, sort_keys=True, default=lambda one: sorted(one) if isinstance(one, set) else str(one))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def train_grid(
    models: Sequence[str],
    data: dict[str, tuple[Dataset, Dataset]],
    args: DPOConfig,
    folder: str | Path,
    device: str = "cpu",
    peft_config: LoraConfig | None = None,
) -> pd.DataFrame:
    """Train every model on every dataset with DPO; a table with one row a run.

    models: names for `load_model`. data: by label, pairs to train on and pairs held out. folder: where finished runs
    and checkpoints are kept. After an interruption the same call goes on where it stopped; what is finished, with
    these very settings and pairs, is not trained again.
    Columns: model, data; of the answers to the held-out prompts, in percent, preferred (NaN for prompts that the
    judge does not know) and fluent; accuracy, the reward accuracy on held-out pairs in percent; margin, the mean of
    the last ten steps; seconds of training since the last start.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for model_name, label in tqdm([(m, d) for m in models for d in data], desc=_("runs"), ncols=88):
        pairs, held_out = data[label]
        settings = {key: value for key, value in own_settings(args).items() if key != "output_dir"}
        adapter = peft_config and peft_config.to_dict()
        key = fingerprint(model_name, settings, adapter, pairs.to_list(), held_out.to_list())
        name = f"{model_name}-{label}-{key}".replace("/", "--")
        place, done = folder / name, folder / f"{name}.json"
        if not done.is_file():
            model, tokenizer = load_model(model_name, device)
            kept = {
                "save_strategy": "steps",
                "save_steps": 0.2,  # of all steps
                "save_total_limit": 1,
                "resume_from_checkpoint": True,
            }
            run = train_dpo(model, tokenizer, pairs, replace(args, output_dir=str(place), **kept), peft_config)
            if not run.finished:
                warnings.warn(_("stopped; run the cell again to go on with the runs that are left"), stacklevel=2)
                break
            prompts = list(held_out["prompt"])
            verdicts = judge_all(prompts, generate(run.model, tokenizer, prompts))
            margins = [entry["rewards/margins"] for entry in run.log if "rewards/margins" in entry][-10:]
            row = {
                "model": model_name,
                "data": label,
                "preferred": 100 * share(verdicts),
                "fluent": 100 * share(verdicts, lambda verdict: verdict.fluent),
                "accuracy": 100 * reward_accuracy(run.model, model, tokenizer, held_out),
                "margin": sum(margins) / len(margins),
                "seconds": run.log[-1].get("train_runtime", 0.0),
            }
            done.write_text(json.dumps(row), encoding="utf-8")
            shutil.rmtree(place, ignore_errors=True)  # the checkpoints
        rows.append(json.loads(done.read_text(encoding="utf-8")))
    return pd.DataFrame(rows).round(2)
