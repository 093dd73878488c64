"""tools/train.py on two processes, killed and resumed, and TRL's own command train as a notebook does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import train
from torch.nn.utils import parameters_to_vector
from transformers import TrainingArguments

import course_utils as cu

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data_samples" / "preferences"
LAUNCH = ("accelerate", "launch", "--multi_gpu", "--num_processes", 2, "tools/train.py")
SETTINGS = {"learning_rate": 5e-5, "max_steps": 8, "save_strategy": "steps", "save_steps": 4}
SETTINGS["adam_epsilon"] = 1e-5  # as in test_trainer.py: without a gradient no whole step in the direction of rounding


def started(*words, **settings):
    """A command with these settings, in a process of its own."""
    for name, value in {**SETTINGS, **settings}.items():
        words += (f"--{name}", value)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path}
    return subprocess.Popen(list(map(str, words)), cwd=ROOT, env=env, stdout=-1, stderr=-1, text=True)


def said(process):
    out, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    return out


@pytest.fixture
def whole(small, tmp_path):
    """Train in this process, on batches of 8, by default of the first 24 rows: three steps an epoch."""

    def run(method, pairs=None, **settings):
        args = TrainingArguments(
            **SETTINGS | {"train_sampling_strategy": "group_by_length"} | settings,
            per_device_train_batch_size=8,
            logging_steps=1,
            use_cpu=True,
            output_dir=str(tmp_path / "whole"),
        )
        return method(*small, pairs or cu.load_preferences(DATA, limit=24)[0], args, 0.3)

    return run


def assert_same_losses(log, other):
    ours, theirs = ([entry["loss"] for entry in one if "loss" in entry] for one in (log, other))
    assert len(ours) == SETTINGS["max_steps"] and ours == pytest.approx(theirs, abs=1e-4)


def assert_same_run(folder, start, run):
    """The log and the weights that tools/train.py saved: Adam lets only those differ that have hardly a gradient."""
    assert_same_losses(json.loads((folder / "log.json").read_text()), run.log)
    models = (start, run.model, cu.load_model(folder)[0])
    before, ours, theirs = (parameters_to_vector(model.parameters()) for model in models)
    assert (ours - theirs).norm() < 0.01 * (ours - before).norm()


def test_two_processes_train_dpo_as_one_with_the_doubled_batch(small, whole, tmp_path):
    words = ("--method", "dpo", "--preferences", DATA, "--limit", 24, "--beta", 0.3, "--output_dir", tmp_path / "two")
    out = said(started(*LAUNCH, *words, per_device_train_batch_size=4)).splitlines()
    assert "2 × 4 pairs on cpu, a batch of 8 a step" in out and out[-1] == str(tmp_path / "two")
    assert_same_run(tmp_path / "two", small[0], whole(cu.train_dpo))


def test_orpo_killed_on_one_process_and_resumed_on_two_ends_like_a_whole_run(small, whole, tmp_path):
    words = ("--method", "orpo", "--preferences", DATA, "--limit", 24, "--lam", 0.3, "--output_dir", tmp_path / "two")
    words += ("--resume_from_checkpoint", "true")
    killed = started(sys.executable, "tools/train.py", *words, per_device_train_batch_size=8)
    saved = tmp_path / "two" / "checkpoint-4" / "trainer_state.json"
    while not saved.is_file() and killed.poll() is None:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert saved.is_file() and not (tmp_path / "two" / "log.json").exists()
    said(started(*LAUNCH, *words, per_device_train_batch_size=4))
    assert_same_run(tmp_path / "two", small[0], whole(cu.train_orpo))


def test_trl_dpo_trains_the_same_from_the_same_rows_in_the_same_order(whole, tmp_path):
    pairs, _report = cu.load_preferences(DATA, limit=64)
    pairs.to_json(tmp_path / "rows" / "train.jsonl", force_ascii=False)
    small = cu.machine.models.BUNDLED["small"]
    words = ("--model_name_or_path", small, "--dataset_name", tmp_path / "rows", "--beta", 0.3)
    words += ("--output_dir", tmp_path / "trl", "--dtype", "float32", "--bf16", "false", "--use_cpu", "true")
    same = {"train_sampling_strategy": "sequential", "optim": "sgd", "learning_rate": 1e-2}  # Adam magnifies rounding
    said(started("trl", "dpo", *words, **same, per_device_train_batch_size=8, logging_steps=1))
    log = json.loads((tmp_path / "trl" / "checkpoint-8" / "trainer_state.json").read_text())["log_history"]
    assert_same_losses(log, whole(cu.train_dpo, pairs, **same).log)


WRONG = {
    "required: --method, --preferences": [],
    "--method: invalid choice: 'sft'": ["--method", "sft"],
    "unknown for dpo: --lam": ["--method", "dpo", "--lam", "1"],
    "unknown for orpo: --bta 1": ["--method", "orpo", "--bta", "1"],
    "nowhere.jsonl: there is no such file": ["--method", "dpo", "--preferences", "nowhere.jsonl"],
    "limit=0: expected at least 1": ["--method", "dpo", "--limit", "0"],
    "use trl dpo for these": ["--method", "dpo", "--fsdp"],
    "holds thesis.docx; name a new --output_dir": ["--method", "dpo"],
}


@pytest.mark.parametrize("error", WRONG)
def test_wrong_arguments_are_one_clear_line(error, tmp_path):
    words = ["--preferences", str(DATA)] if "required" not in error else []
    (tmp_path / "thesis.docx").touch() if "thesis" in error else None
    with pytest.raises(SystemExit) as end:
        train.main([*words, "--output_dir", str(tmp_path), *WRONG[error]])
    assert error in end.value.code and "\n" not in end.value.code


def test_a_save_that_is_broken_off_leaves_no_half_model(tmp_path, monkeypatch):
    model, tokenizer = cu.load_model("small")
    train.save(model, tokenizer, [], tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    train.check_folder(tmp_path)  # of an earlier run

    class Full:
        def save_pretrained(self, folder):
            (folder / "tokenizer.json").write_text("{")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        train.save(model, Full(), [], tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert cu.load_model(tmp_path)[1].get_vocab() == tokenizer.get_vocab()


def test_a_launcher_that_shares_the_model_out_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(SystemExit, match="use trl dpo for these"):
        train.main(["--method", "orpo", "--preferences", str(DATA), "--output_dir", str(tmp_path)])
