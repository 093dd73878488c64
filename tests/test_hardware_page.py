"""The commands of hardware.md as they stand; but the hub's data are a few local rows, and TRL is told --use_cpu."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import course_utils as cu

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "notebooks" / "en" / "hardware.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(?:python|bash)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NOT_HERE = {
    "setup = cu.start(": "test_start.py makes these choices",
    "trl dpo --model_name_or_path runs/sft --dataset_name runs/pairs --accelerate_config fsdp2": "needs eight GPUs; "
    "and accelerate config asks questions",
}
TRAIN, TRL = "accelerate launch --num_processes 4 tools/train.py", "trl dpo --num_processes 4"
KEEP_MODEL, PAIRS = 'sft.model.save_pretrained("../../runs/sft")', 'pairs.to_json("../../runs/pairs/train.jsonl"'
LESSON = """
import sys; sys.path.insert(0, "../..")
from types import SimpleNamespace
import course_utils as cu
setup = cu.start("en")
model, tokenizer = cu.load_model("small")
sft, pairs = SimpleNamespace(model=model), cu.load_preferences(setup.preferences, limit=8)[0]
"""


def block(begin: str) -> str:
    (found,) = [text for text in BLOCKS if text.startswith(begin)]
    return found


def done(command, folder) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    env.pop("ATEN_CPU_CAPABILITY", None)  # bf16, which the page asks for, goes by the processor that is there
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The course's folder after the page's two cells: with runs/sft and runs/pairs."""
    root = tmp_path_factory.mktemp("course")
    for name in ("course_utils", "data_samples", "translations", "tools"):
        (root / name).symlink_to(ROOT / name)
    (root / "notebooks" / "en").mkdir(parents=True)
    done([sys.executable, "-c", LESSON + block(KEEP_MODEL) + block(PAIRS)], root / "notebooks" / "en")
    return root


def test_every_command_of_the_page_is_run_or_has_a_reason_not_to_be():
    known = (*NOT_HERE, TRAIN, TRL, KEEP_MODEL, PAIRS)
    assert len(BLOCKS) == len(known) and all(block(begin) for begin in known)


ORPO = re.search(r"for ORPO with `(.+?)`", PAGE)[1]


@pytest.mark.parametrize("words", ["--method dpo --beta 0.1", f"{ORPO} --lora"])
def test_the_script_trains_what_the_cell_kept_and_a_notebook_loads_it(course, words):
    command = block(TRAIN).replace("Anthropic/hh-rlhf/helpful-base", "runs/pairs")
    assert "--method dpo --beta 0.1" in command and "`--lora` trains an adapter" in PAGE
    said = done(["bash", "-c", command.replace("--method dpo --beta 0.1", words)], course)
    assert said.splitlines()[-1] == "runs/big"
    assert not (course / "runs" / "big" / "adapter_config.json").exists()  # it is merged
    start, trained = (cu.load_model(course / "runs" / name)[0] for name in ("sft", "big"))
    assert any((a != b).any() for a, b in zip(start.parameters(), trained.parameters(), strict=True))


def test_trls_command_trains_from_the_same_folder(course):
    done(["bash", "-c", block(TRL).rstrip() + " --use_cpu"], course)
    assert cu.load_model(course / "runs" / "trl")[1].chat_template


def test_a_run_is_kept_and_taken_back_in_the_pages_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, tokenizer = cu.load_model("small")
    words = re.findall(r"`((?:run\.model|tokenizer)\.save_pretrained\(.*?\)|cu\.load_model\(\"runs.*?\))`", PAGE)
    assert len(words) == 3
    names = {"cu": cu, "run": type("Run", (), {"model": model}), "tokenizer": tokenizer}
    again, _tokenizer = [eval(one, names) for one in words][-1]
    assert all((a == b).all() for a, b in zip(model.parameters(), again.parameters(), strict=True))
