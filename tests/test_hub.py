"""Real names through a hub that stands in for the real one: what is loaded, and what is said when it fails."""

import contextlib
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from datasets import Dataset, DatasetDict
from hub import Fault, Hub

import course_utils as cu
from course_utils.machine.hub import with_test

ROOT = Path(__file__).parents[1]
INSTRUCT, BASE, DATA = "HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M", "Anthropic/hh-rlhf"


def run(code: str, printed: Path) -> None:
    """What a learner's process does; what it prints goes to a file."""
    with printed.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        exec(code, {"cu": cu})


@pytest.fixture(scope="module")
def learners(tmp_path_factory):
    """A hub, and new processes that know no other: each is forked from one that has only imported the course."""
    home, context = tmp_path_factory.mktemp("home"), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_hub"])
    with Hub() as hub:
        env = hub.env(home) | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        with patch.dict(os.environ, env, clear=True):
            forkserver.ensure_running()
        yield SimpleNamespace(hub=hub, home=home, process=context.Process)


@pytest.fixture
def hub(learners):
    """The hub as at first; nothing of it has been fetched."""
    learners.hub.fault, learners.hub.repos = None, Hub().repos
    learners.hub.requests.clear()
    for path in learners.home.iterdir():
        shutil.rmtree(path)
    return learners.hub


@pytest.fixture
def learner(learners, hub, tmp_path):
    """Run code in a process of its own; what it prints."""

    def learner(code: str) -> str:
        process = learners.process(target=run, args=(code, tmp_path / "printed"))
        process.start()
        process.join()
        printed = (tmp_path / "printed").read_text(encoding="utf-8")
        assert process.exitcode == 0, printed[-3000:]
        return printed

    return learner


SETUP = """
setup = cu.fetch(cu.start({lang!r}, hub=True))
print("took", setup.instruct_model, setup.base_model, type(setup.preferences).__name__, len(setup.dpo))
"""
REAL, BUNDLED = f"took {INSTRUCT} {BASE} DatasetDict", "took small small PosixPath 0"


def test_real_names_give_what_the_hub_has_and_no_token_is_sent(hub, learner):
    code = f"""
setup = cu.fetch(cu.start("en", hub=True))
bundled, tokenizer = cu.load_model("small")
for name in (setup.instruct_model, setup.base_model):
    model, its = cu.load_model(name, template=setup.instruct_model)
    assert all((a == b).all() for a, b in zip(bundled.parameters(), model.parameters()))
    assert its.chat_template == tokenizer.chat_template and its.eos_token == tokenizer.eos_token
pairs, _ = cu.load_preferences(setup.preferences, limit=50)
for source in ("{DATA}", "{DATA}/helpful-base"):
    assert cu.load_preferences(source, limit=50)[0].to_list() == pairs.to_list()
    assert cu.load_preferences(cu.start("en").preferences, limit=50)[0].to_list() == pairs.to_list()
"""
    learner(code)
    assert hub.requests and not any(request.authorized for request in hub.requests)


def test_what_was_fetched_needs_the_hub_no_more(hub, learner):
    learner(SETUP.format(lang="en"))
    code = f"""
for name in ("{INSTRUCT}", "{BASE}"):
    cu.load_model(name, template="{INSTRUCT}")
"""
    hub.requests.clear()
    learner(code)
    assert hub.requests == []


AT_ONCE = {
    "gone": "no connection",
    "dark": "did not answer in time",
    "slow": "did not answer in time",
    401: "authentication is required",
    404: "nothing of this name",
    429: "too many requests",
    500: "fault of its own",
}


@pytest.mark.parametrize("fault", AT_ONCE)
def test_a_hub_that_fails_at_once_costs_seconds_and_one_clear_sentence(hub, fault, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    hub.fault = fault
    setup = cu.fetch(cu.start("en", hub=True))
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith(INSTRUCT) and AT_ONCE[fault] in said[-2] and len(said) <= 4  # a note on the memory
    assert "goes on with its bundled model and data" in said[-2] and setup == cu.start("en", hub=False)


def test_faults_are_told_in_the_learners_language(hub, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    hub.fault = "gone"
    cu.fetch(cu.start("vi", hub=True))
    assert "không có kết nối" in capsys.readouterr().out


LATER = {
    "cut in the model": (Fault("cut", "safetensors"), "broke off"),
    "cut in the data": (Fault("cut", "jsonl"), "broke off"),
    "too many in mid-course": (Fault(429, "resolve"), "too many requests"),
    "gone in mid-course": (Fault("gone", after=9), "connection"),
}


@pytest.mark.parametrize("fault", LATER)
def test_a_hub_that_fails_in_mid_course_is_one_clear_sentence_too(hub, learner, fault):
    hub.fault, words = LATER[fault]
    said = learner(SETUP.format(lang="en"))
    faults = [line for line in said.splitlines() if "goes on with its bundled model and data" in line]
    assert len(faults) == 1 and words in faults[0] and BUNDLED in said


def test_after_a_break_the_same_cell_brings_what_was_missing(hub, learner):
    hub.fault = Fault("cut", "safetensors")
    assert BUNDLED in learner(SETUP.format(lang="en"))
    hub.fault = None
    assert REAL in learner(SETUP.format(lang="en"))


def test_a_name_of_ones_own_that_fails_is_an_error_and_not_another_model(learner):
    code = """
for load in (lambda: cu.load_model("nobody/nothing"), lambda: cu.load_preferences("nobody/nothing")):
    try:
        load()
    except OSError as error:
        print(error)
"""
    said = learner(code).splitlines()
    assert len(said) == 2 and all("nobody/nothing" in line and "(401)" in line for line in said)


def test_pushing_is_for_those_with_a_token_and_what_was_pushed_loads_again(hub, learner):
    code = """
import os
from huggingface_hub.errors import HfHubHTTPError
from transformers import TrainingArguments
setup = cu.start("en")
model, tokenizer = cu.load_model("small")
pairs, _ = cu.load_preferences(setup.preferences, limit=8)
args = TrainingArguments(learning_rate=1e-3, max_steps=1, per_device_train_batch_size=4, **setup.training_args)
run = cu.train_dpo(model, tokenizer, pairs, args)
try:
    run.model.push_to_hub("learner/mine", private=True)
except HfHubHTTPError as error:
    print("refused", error.response.status_code)
os.environ["HF_TOKEN"] = "hf_secret"
run.model.push_to_hub("learner/mine", private=True)
tokenizer.push_to_hub("learner/mine")
again, its = cu.load_model("learner/mine")
assert all((a == b).all() for a, b in zip(run.model.parameters(), again.parameters(), strict=True))
assert its.chat_template == tokenizer.chat_template
"""
    said = learner(code)
    assert "refused 401" in said and "hf_secret" not in said
    assert any(request.authorized for request in hub.requests)


def lesson(hub, home, lang: str, name: str, until: str = "", then=None, last: str = "") -> dict:
    """Run a lesson with real names, up to the cell `last`; `then` happens once `until` has run. What it ended in."""
    command = [sys.executable, ROOT / "tests" / "run_lesson.py", lang, f"{name}_finetuning_example.ipynb", last]
    process = subprocess.Popen(
        command, env=hub.env(home) | {"COURSE_PROGRESS": str(home)}, text=True, stdout=-1, stderr=subprocess.DEVNULL
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if then and line.strip() == f"ran {until}":
            then()
    assert process.wait() == 0, "".join(lines[-20:])
    return json.loads(lines[-1])


@pytest.mark.parametrize(("lang", "name"), [("en", "dpo"), ("vi", "orpo")])
def test_the_lessons_run_on_real_names_and_end_well_when_the_hub_goes_after_the_set_up(hub, tmp_path, lang, name):
    def go():
        hub.fault = "gone"

    found = lesson(hub, tmp_path, lang, name, until="setup", then=go)
    assert (found["model"], found["data"], found["pairs"]) == (INSTRUCT, "DatasetDict", 420)
    laws, others = ([line for line in found["checks"] if line.startswith(sign)] for sign in "✓·")
    assert laws and others and {*laws, *others} == {*found["checks"]}  # no '✗'
    if name == "dpo":
        assert found["loss"] == pytest.approx(math.log(2), abs=1e-4)
        assert found["margin"] == pytest.approx(0, abs=1e-4)


def test_a_lesson_whose_hub_breaks_off_in_a_file_ends_well_with_the_bundled_sample(hub, tmp_path):
    hub.fault = Fault("cut", "safetensors")
    found = lesson(hub, tmp_path, "vi", "dpo", last="load")  # from here on it is the lesson that nbval runs
    assert (found["model"], found["data"]) == ("small", "PosixPath")


def test_a_dataset_gets_the_splits_that_a_lesson_needs(capsys):
    rows = Dataset.from_dict({"prompt": list(range(50))})
    ready = DatasetDict(train_prefs=rows, test_prefs=rows.select([0]), train_sft=rows)
    assert [len(with_test(ready, 9)[split]) for split in ("train", "test")] == [50, 1] and not capsys.readouterr().out
    apart = with_test(DatasetDict(train=rows), 4)
    assert sorted([*apart["train"]["prompt"], *apart["test"]["prompt"]]) == list(range(50)) and len(apart["test"]) == 4
    assert "4 rows of “train” are held out" in capsys.readouterr().out
    assert len(with_test(DatasetDict(train=rows), 100)["test"]) == 5


def test_the_storage_clients_own_errors_lead_to_the_bundled_sample_too(monkeypatch, capsys):
    def broken(*_names, **_settings):
        raise RuntimeError("Data processing error: CAS service error")

    monkeypatch.setattr("course_utils.machine.hub.snapshot_download", broken)
    monkeypatch.setattr(
        "course_utils.machine.hub.HfApi.repo_info", lambda *_names, **_settings: SimpleNamespace(siblings=[])
    )
    setup = replace(cu.start(), instruct_model="a/b", base_model="a/b")
    assert cu.fetch(setup).is_bundled
    assert "a/b: Data processing error: CAS service error. The course goes on" in capsys.readouterr().out
