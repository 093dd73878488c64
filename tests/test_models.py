import json

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
