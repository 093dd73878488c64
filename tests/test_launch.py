"""A run written out as a file trains as it would in the notebook, by TRL's command and on several processes."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from peft import LoraConfig, get_peft_model
from trl import DPOConfig, ModelConfig, ScriptArguments, TrlParser, get_peft_config
from trl.experimental.orpo import ORPOConfig

import course_utils as cu
from course_utils.launch import main

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SETTINGS = {"learning_rate": 3e-4, "max_steps": 4, "per_device_train_batch_size": 8}


def losses(log):
    return [entry["loss"] for entry in log if "loss" in entry]


def command(*words, folder=ROOT, wait=True):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    if not wait:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(list(map(str, words)), cwd=folder, env=env, stdout=quiet, stderr=quiet)
    done = subprocess.run(list(map(str, words)), cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def launched(file):
    """Train what a file says on two processes; what they said, and the log."""
    said = command("accelerate", "launch", "--multi_gpu", "--num_processes", 2, "-m", "course_utils", file)
    return said, json.loads((file.parent / "trained" / "log.json").read_text())


@pytest.fixture(scope="module")
def dpo(small, pairs, setup):
    args = DPOConfig(beta=0.3, **SETTINGS, **setup.training_args)
    return args, cu.train_dpo(*small, pairs, args)


def test_trl_dpo_trains_what_the_notebook_does(small, pairs, dpo, tmp_path):
    args, run = dpo
    file = cu.write_run(tmp_path, *small, pairs, args)
    command("trl", "dpo", "--config", file.name, "--save_strategy", "steps", "--save_steps", 4, folder=tmp_path)
    state = json.loads((tmp_path / "trained" / "checkpoint-4" / "trainer_state.json").read_text())
    assert losses(state["log_history"]) == pytest.approx(losses(run.log), abs=1e-4)


def test_two_processes_train_dpo_as_one_with_the_doubled_batch(small, pairs, dpo, tmp_path):
    args, run = dpo
    file = cu.write_run(tmp_path, *small, pairs, args, processes=2)
    assert yaml.safe_load(file.read_text())["per_device_train_batch_size"] == 4
    said, log = launched(file)
    assert "2 × 4 pairs" in said
    assert losses(log) == pytest.approx(losses(run.log), abs=1e-4)
    trained, _tokenizer = cu.load_model(str(tmp_path / "trained"))
    for ours, theirs in zip(run.model.parameters(), trained.parameters()):
        assert (ours - theirs).abs().max() < 1e-3


def test_two_processes_train_orpo(small, pairs, setup, tmp_path):
    """Not to the last digit: TRL takes the NLL's mean over the tokens of each process's own batch."""
    args = ORPOConfig(beta=0.3, **SETTINGS, **setup.training_args)
    run = cu.train_orpo(*small, pairs, args)
    said, log = launched(cu.write_run(tmp_path, *small, pairs, args, processes=2))
    assert "2 × 4 pairs" in said
    assert losses(log) == pytest.approx(losses(run.log), abs=0.05)


def test_a_run_killed_half_way_and_resumed_ends_like_one_that_was_not(small, pairs, setup, tmp_path):
    args = DPOConfig(
        beta=0.3, **{**SETTINGS, **setup.training_args, "max_steps": 12, "save_strategy": "steps", "save_steps": 3}
    )
    args.output_dir = str(tmp_path / "whole")
    whole = cu.train_dpo(*small, pairs, args)
    args.resume_from_checkpoint, resume = True, ("--resume_from_checkpoint", "true")
    file = cu.write_run(tmp_path, *small, pairs, args)
    killed = command(sys.executable, "-m", "course_utils", file, *resume, wait=False)
    saved = tmp_path / "trained" / "checkpoint-6" / "trainer_state.json"
    while not saved.is_file() and killed.poll() is None:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert saved.is_file() and not (tmp_path / "trained" / "log.json").is_file()
    command(sys.executable, "-m", "course_utils", file, *resume)
    log = json.loads((tmp_path / "trained" / "log.json").read_text())
    assert losses(log) == pytest.approx(losses(whole.log), abs=1e-4)


def test_the_file_holds_the_adapter_and_only_what_differs_from_trls_defaults(small, pairs, setup, tmp_path):
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    args = DPOConfig(beta=0.3, **SETTINGS, **setup.training_args)
    settings = yaml.safe_load(cu.write_run(tmp_path, *small, pairs, args, peft_config=lora).read_text())
    assert settings["use_peft"] and settings["lora_r"] == 4 and settings["lora_target_modules"] == ["all-linear"]
    assert settings["learning_rate"] == 3e-4 and "adam_beta1" not in settings
    assert not {"use_cpu", "dataloader_pin_memory", "resume_from_checkpoint", "hub_token"} & {*settings}
    assert not [value for value in settings.values() if str(value).startswith("/")]


def test_a_batch_that_cannot_be_shared_is_one_clear_error(small, pairs, dpo, tmp_path):
    with pytest.raises(ValueError, match="batch of 8 cannot be shared by 3 processes"):
        cu.write_run(tmp_path, *small, pairs, dpo[0], processes=3)


@pytest.mark.parametrize("words", [[], ["nowhere/dpo.yaml"], ["sft.yaml"]])
def test_another_file_is_one_clear_error(words, tmp_path):
    (tmp_path / "sft.yaml").touch()
    with pytest.raises(SystemExit, match=r"expected a file dpo\.yaml or orpo\.yaml"):
        main(*(str(tmp_path / word) for word in words or [""]))


def read_back(file):
    parser = TrlParser((ScriptArguments, DPOConfig, ModelConfig))
    _script, args, model_args = parser.parse_args_and_config(["--config", str(file), "--use_cpu", "true"])
    return args, get_peft_config(model_args)


@pytest.mark.parametrize("targets", [None, "all-linear", ["q_proj"], ["q_proj", "v_proj"]])
def test_trl_reads_the_adapter_that_was_written(small, pairs, setup, tmp_path, targets):
    lora = LoraConfig(r=4, target_modules=targets, use_rslora=True, lora_dropout=0.1, task_type="CAUSAL_LM")
    file = cu.write_run(tmp_path, *small, pairs, DPOConfig(**SETTINGS, **setup.training_args), lora)
    found = read_back(file)[1]
    assert (found.r, found.use_rslora, found.lora_dropout) == (4, True, 0.1)
    named = [set(get_peft_model(copy.deepcopy(small[0]), one).targeted_module_names) for one in (lora, found)]
    assert named[0] == named[1] != set()


def test_an_adapter_that_trl_has_no_words_for_is_refused(small, pairs, setup, tmp_path):
    lora = LoraConfig(r=4, target_modules=["q_proj"], bias="all", task_type="CAUSAL_LM")
    with pytest.raises(ValueError, match="adapter's bias cannot be written out"):
        cu.write_run(tmp_path, *small, pairs, DPOConfig(**SETTINGS, **setup.training_args), lora)


def test_a_setting_that_is_none_stays_none_and_no_token_is_written(small, pairs, setup, tmp_path):
    args = DPOConfig(**SETTINGS, **setup.training_args, max_length=None, hub_token="hf_secret")
    file = cu.write_run(tmp_path, *small, pairs, args)
    assert read_back(file)[0].max_length is None and "hf_secret" not in file.read_text()


def test_writing_a_run_leaves_the_model_as_it_was(small, pairs, dpo, tmp_path):
    cu.write_run(tmp_path, *small, pairs, dpo[0])
    assert not {"forward", "_is_accelerate_prepared"} & {*vars(small[0])}


@pytest.mark.parametrize(("name", "value"), [("ACCELERATE_USE_FSDP", "true"), ("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")])
def test_a_model_in_shares_is_refused_before_anything_is_read(tmp_path, monkeypatch, name, value):
    (tmp_path / "dpo.yaml").touch()
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="use trl dpo"):
        main(str(tmp_path / "dpo.yaml"))
