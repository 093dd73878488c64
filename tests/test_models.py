import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import course_utils as cu
from course_utils.machine.models import BUNDLED

NAMES = ["small", "large"]


def test_bundled_models_together_are_under_25_megabytes():
    assert sum(file.stat().st_size for folder in BUNDLED.values() for file in folder.iterdir()) < 25e6


@pytest.mark.parametrize("name", NAMES)
def test_bundled_models_are_fluent_on_topic_and_uneven(name, held_out):
    """Something to align: half of the answers are good, and nearly all are fluent and on topic."""
    model, tokenizer = cu.load_model(name)
    prompts = list(held_out["prompt"])[:200]
    verdicts = cu.judge_all(prompts, cu.generate(model, tokenizer, prompts))
    assert cu.share(verdicts, lambda v: v.fluent) >= 0.97
    assert cu.share(verdicts, lambda v: "on_topic" not in v.broken) >= 0.95
    assert 0.35 <= cu.share(verdicts) <= 0.75


@pytest.mark.parametrize("name", NAMES)
def test_models_come_in_float32_and_tell_their_size_on_their_card(name):
    model, _ = cu.load_model(name)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    card = (BUNDLED[name] / "README.md").read_text(encoding="utf-8")
    training = json.loads((BUNDLED[name] / "training.json").read_text())
    assert f"{model.num_parameters():,}" in card and f"{training['minutes']:.0f} minutes" in card


@pytest.mark.parametrize("name", NAMES)
def test_prompt_tokens_begin_the_tokens_of_the_whole_and_the_answer_ends_in_one_end(name, pairs):
    _, tokenizer = cu.load_model(name)
    for row in pairs.select(range(50)):
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(row["prompt"] + row["chosen"], return_dict=False)
        assert whole[: len(prompt)] == prompt
        assert whole[-1] == tokenizer.eos_token_id != whole[-2]


@pytest.mark.parametrize("text", ["Xin chào, đường phố Huế!", "naïve café – 東京 🐢", "two  spaces\n\nand lines"])
def test_any_text_survives_the_tokenizer(text):
    _, tokenizer = cu.load_model("small")
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_unknown_models_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OSError, match=r"neither a bundled model \(large, small\) nor a folder"):
        cu.load_model(str(tmp_path / "none"))


ROOT = Path(__file__).parents[1]
CODE = "raise SystemExit('the code of a model was run')"
CODE_FROM = {
    "config.json": {
        "model_type": "mine",
        "architectures": ["Mine"],
        "auto_map": {"AutoConfig": "mine.MyConfig", "AutoModelForCausalLM": "mine.Mine"},
    },
    "tokenizer_config.json": {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}},
}


@pytest.fixture
def folder(tmp_path):
    """The small model in a folder, with Python code beside it; and how to change one of its .json files."""
    folder = Path(shutil.copytree(BUNDLED["small"], tmp_path / "theirs", copy_function=shutil.copyfile))
    (folder / "mine.py").write_text(CODE)

    def change(name, **settings):
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | settings), encoding="utf-8")
        return folder

    return folder, change


@pytest.fixture
def base(tmp_path):
    """The small model without a chat template, as base models are."""
    return shutil.copytree(BUNDLED["small"], tmp_path / "base", ignore=shutil.ignore_patterns("*.jinja"))


def refused(theirs):
    return rf"^load_model: “{re.escape(str(theirs))}” comes with code of its own, which is never run here; take [^\n]+$"


@pytest.mark.parametrize("file", CODE_FROM)
def test_a_model_that_comes_with_code_is_one_clear_sentence_and_its_code_is_not_run(folder, file):
    theirs, change = folder
    change(file, **CODE_FROM[file])
    with pytest.raises(OSError, match=refused(theirs)):
        cu.load_model(theirs)


@pytest.mark.parametrize("file", CODE_FROM)
@pytest.mark.parametrize("needed", [True, False])
def test_no_code_that_comes_with_a_template_is_run_or_offered_to_be_run(folder, base, file, needed, monkeypatch):
    theirs, change = folder
    settings = CODE_FROM[file] if needed else {"auto_map": CODE_FROM[file]["auto_map"]}
    change(file, **settings)
    monkeypatch.setattr("builtins.input", lambda *_question: "y")
    if needed and file == "tokenizer_config.json":
        with pytest.raises(OSError, match=refused(theirs)):
            cu.load_model(base, template=theirs)
    else:
        _model, tokenizer = cu.load_model(base, template=theirs)
        assert tokenizer.chat_template == cu.load_model("small")[1].chat_template


def test_code_beside_a_model_that_transformers_knows_is_not_run(folder):
    theirs, change = folder
    change("config.json", auto_map=CODE_FROM["config.json"]["auto_map"])
    assert type(cu.load_model(theirs)[0]).__module__.startswith("transformers.")


def test_pickled_weights_are_not_read(folder):
    theirs, _change = folder
    (theirs / "model.safetensors").unlink()
    (theirs / "pytorch_model.bin").write_bytes(b"csubprocess\nrun\n(S'false'\ntR.")
    with pytest.raises(
        OSError, match=r"^load_model: “.+” has no weights as safetensors, and pickles, .+; take [^\n]+$"
    ):
        cu.load_model(theirs)


def test_no_call_of_the_course_trusts_code_from_elsewhere():
    """Every call that loads by name says so, but TRL's own of a template that was loaded so before."""
    for file in (*ROOT.glob("course_utils/**/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("data_samples/*.py")):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"trust_remote_code\W+True", text), file
        for call in re.findall(r"\b(?:from_pretrained|load_dataset)\(.*", text):
            known = ("**safe", "trust_remote_code=False", 'load_dataset("json"')
            assert any(safe in call for safe in known), (file, call)
