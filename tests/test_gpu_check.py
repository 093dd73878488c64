"""What tools/gpu_check.py promises, on a CPU and a model so small that it takes seconds; in a process of its own."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRAINERS, LESSONS = ["cu.train_dpo", "trl.DPOTrainer"], ["dpo_finetuning_example", "orpo_finetuning_example"]
PROGRAM = """
import contextlib, io, json, sys
import gpu_check

shapes = {"tiny": (32, 64, 1, 2, 1), "huge": (1_000_000, 4_000_000, 100, 100, 100)}
jobs = [("tiny", False, 1), ("tiny", True, 1), ("huge", False, 1)]
gpu_check.main(["measured.json", "--device", "cpu", "--minutes", "60"], shapes, jobs, [])
gpu_check.main(["no_time.json", "--device", "cpu", "--minutes", "0"])
with contextlib.redirect_stderr(io.StringIO()) as said:
    code = gpu_check.main(["no_gpu.json"])
setup, tiny = gpu_check.cu.start("en", device="cpu"), dict(zip(gpu_check.SMALLEST, shapes["tiny"]))
stopped = gpu_check.training(setup, tiny, False, 1, False, 0.0)
try:
    lesson = gpu_check.lesson("dpo_finetuning_example", ', device="cpu", hub=False', 300)
except RuntimeError as error:
    lesson = str(error)
cut = gpu_check.lesson("orpo_finetuning_example", ', device="cpu", hub=False', 0)
print(json.dumps({"code": code, "said": said.getvalue(), "stopped": stopped, "lesson": lesson, "cut": cut}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What it wrote, by the file's name, and what its parts gave."""
    folder = tmp_path_factory.mktemp("gpu")
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "tools")}
    command = {"args": [sys.executable, "-c", PROGRAM], "cwd": folder, "env": env}
    process = subprocess.run(**command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    files = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")}
    return files | {"parts": json.loads(process.stdout.splitlines()[-1])}


def test_both_trainers_are_measured_on_the_same_rows(found):
    trainings = found["measured"]["trainings"]
    assert [one["trainer"] for one in trainings] == TRAINERS * 2
    assert [one["trained"] for one in trainings] == ["all weights"] * 2 + ["LoRA"] * 2
    for one in trainings:
        assert one["shape"] == "tiny" and one["pairs"] == 1 and one["timed_steps"] > 1
        assert 0 < one["steps_per_second"] < math.inf
        assert one["first_loss"] == pytest.approx(math.log(2), abs=1e-5)
        assert one["first_logps_chosen"] == pytest.approx(trainings[0]["first_logps_chosen"], rel=1e-4)


def test_what_was_left_out_is_named_with_its_reason(found):
    *huge, dpo, orpo = found["measured"]["left_out"]
    assert [one["trainer"] for one in huge] == TRAINERS and found["measured"]["lessons"] == []
    assert all(one["shape"] == "huge" and "GB of this machine, which has" in one["why"] for one in huge)
    assert [dpo["lesson"], orpo["lesson"]] == LESSONS
    assert "without a GPU" in dpo["why"] and "without a GPU" in orpo["why"]


def test_the_machine_is_told(found):
    told = found["measured"]["machine"]
    assert found["measured"]["minutes"] == 60 and told["device"] == "CPU" and told["precision"] == "fp32"
    assert all(told["versions"][name] for name in ("torch", "transformers", "trl"))


def test_without_time_nothing_is_measured_and_all_of_it_is_named(found):
    assert found["no_time"]["trainings"] == found["no_time"]["lessons"] == []
    left_out = found["no_time"]["left_out"]
    assert {one["why"] for one in left_out} == {"no time left"}
    shapes = {one["shape"] for one in left_out if "shape" in one}
    assert shapes == {f"SmolLM2-{size}" for size in ("135M", "360M", "1.7B")}
    assert [one["lesson"] for one in left_out if "lesson" in one] == LESSONS


def test_a_training_whose_time_is_over_stops_after_one_step_that_counts(found):
    assert found["parts"]["stopped"]["timed_steps"] == 1


def test_without_a_gpu_it_says_so_in_a_sentence(found):
    assert found["parts"]["code"] == 2 and "no_gpu" not in found
    (said,) = found["parts"]["said"].splitlines()
    assert said.startswith("gpu_check.py: PyTorch finds no CUDA GPU here; ")


def test_a_lesson_that_would_train_the_bundled_model_is_not_measured(found):
    """Where the hub does not answer, what the set-up cell says of it is the reason."""
    assert found["parts"]["lesson"].startswith("no real model: Ready: cpu in fp32, bundled model")


def test_a_lesson_whose_time_is_over_tells_where_it_was(found):
    cut = found["parts"]["cut"]
    assert not cut["finished"] and cut["stopped_in"] == "setup" and cut["cells"] == {}
