import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from peft import LoraConfig
from trl import DPOConfig

import course_utils as cu
from course_utils.i18n import set_language
from course_utils.saving import base_name

LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


@pytest.fixture(scope="module", params=[None, LORA], ids=["full", "lora"])
def run(request, small, pairs, setup):
    args = DPOConfig(beta=0.3, learning_rate=1e-3, max_steps=2, per_device_train_batch_size=4, **setup.training_args)
    return cu.train_dpo(*small, pairs, args, peft_config=request.param)


def test_a_saved_run_comes_back_as_it_was(run, tmp_path):
    folder = cu.save_run(run, tmp_path / "mine")
    model, tokenizer = cu.load_model(folder)
    ids = torch.arange(10, 40).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, run.model(input_ids=ids).logits, atol=1e-3, rtol=0)
    assert tokenizer.chat_template == run.tokenizer.chat_template
    assert json.loads((folder / "log.json").read_text()) == run.log
    assert list(folder.glob("*.safetensors")) and not list(folder.glob("*.bin"))


def test_the_card_states_data_settings_and_results_and_nothing_of_the_machine(run, tmp_path):
    judged = pd.DataFrame({"sft": [60.0], "dpo": [95.5]}, index=["preferred"])
    folder = cu.save_run(run, tmp_path, data="200 pairs of the bundled world.", results=judged)
    card = (folder / "README.md").read_text()
    for words in ("200 pairs of the bundled world.", "| learning_rate | 0.001 |", "| beta | 0.3 |", "| 95.5 |"):
        assert words in card
    assert f"| loss | {run.log[0]['loss']:.4f}" in card and "Margins alone prove nothing" in card
    written = "".join(path.read_text() for path in folder.glob("*.*") if path.suffix in {".md", ".json"})
    assert str(tmp_path) not in written and str(cu.models.BUNDLED["small"].parent) not in written


def test_the_card_is_in_the_learners_language(run, tmp_path):
    set_language("vi")
    assert "## Dữ liệu" in (cu.save_run(run, tmp_path) / "README.md").read_text()


def test_pushing_what_was_not_saved_is_one_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="save one first"):
        cu.push_run(tmp_path, "me/model")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
        ("/cache/models--HuggingFaceTB--SmolLM2-135M/snapshots/0f1e", "HuggingFaceTB/SmolLM2-135M"),
        ("/course/data_samples/models/small", "small"),
        ("/runs/big/models--Qwen--Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("runs/mine", "mine"),
    ],
)
def test_a_card_names_the_model_that_the_run_began_with(source, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    assert base_name(source) == name


def test_a_card_never_holds_a_token(run, tmp_path):
    with_token = replace(run, args=replace(run.args, hub_token="hf_secret"))
    assert "hf_secret" not in (cu.save_run(with_token, tmp_path) / "README.md").read_text()
