"""What the set-up chooses. A GPU is played by what torch would say of it; what the hub answers, test_hub.py tests."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments
from trl import DPOConfig, SFTConfig

import course_utils as cu
from course_utils.models import BUNDLED
from course_utils.start import HH_RLHF, SAMPLES, SIZES, best_plan, need, size_of

PAGE = (Path(__file__).parents[1] / "notebooks" / "en" / "hardware.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\|(.+)\|$", re.MULTILINE)


@pytest.fixture
def hub(monkeypatch):
    """A hub that has everything; holds what it was asked for."""
    asked = []
    monkeypatch.setattr(sys.modules["course_utils.start"], "unreachable", lambda names: asked.extend(names))
    return asked


@pytest.fixture
def gpu(monkeypatch):
    """A GPU with so many GB free, which has bfloat16, or only pretends to."""

    def set_up(gigabytes, bf16=False, used=0):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation
        )
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (gigabytes * 1e9 - used, gigabytes * 1e9))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: used)

    return set_up


def test_without_a_gpu_everything_is_bundled_and_the_hub_is_not_asked(hub, capsys):
    setup = cu.start()
    assert hub == [] and setup.from_hub == []
    assert (setup.device, setup.instruct_model, setup.base_model) == ("cpu", "small", "small")
    assert setup.preferences == SAMPLES / "preferences" and setup.dpo == setup.orpo == setup.sft == setup.fit == {}
    assert capsys.readouterr().out.count("\n") == 1
    assert cu.fetch(setup) == setup


def test_a_t4_trains_smollm2_135m_on_hh_rlhf_in_fp16(hub, gpu, capsys):
    gpu(15)
    setup = cu.start()
    assert (setup.device, setup.precision) == ("cuda", "fp16")
    assert setup.training_args["fp16"] and not setup.training_args["bf16"]
    assert setup.instruct_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert setup.base_model == "HuggingFaceTB/SmolLM2-135M"
    assert (setup.preferences, setup.instructions, setup.peft_config) == (HH_RLHF, None, None)
    assert hub == [(setup.instruct_model, "model"), (setup.base_model, "model"), (HH_RLHF, "dataset")]
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    for words in ("cuda in fp16", "SmolLM2-135M-Instruct", HH_RLHF, "2000 pairs", "4 at a time", "512 tokens"):
        assert words in said


def test_a_bigger_gpu_takes_a_bigger_model_and_a_small_one_an_adapter(hub, gpu):
    gpu(149, bf16=True)
    setup = cu.start()
    assert "1.7B" in setup.instruct_model and setup.precision == "bf16" and setup.peft_config is None
    gpu(7)
    setup = cu.start()
    assert "135M" in setup.instruct_model and setup.peft_config.r == 16
    assert setup.fit["per_device_train_batch_size"] * setup.fit["gradient_accumulation_steps"] == 16
    gpu(6)
    assert cu.start().instruct_model == "small"


def test_every_choice_has_its_argument(hub, gpu, capsys):
    gpu(15)
    assert cu.start(hub=False).instruct_model == "small" and hub == []
    assert cu.start(device="cpu").instruct_model == "small"
    assert cu.start(precision="fp32").training_args["fp16"] is False
    named = cu.start(instruct_model="Qwen/Qwen2.5-0.5B-Instruct", base_model="a/b", lora=True)
    assert "may not fit: a lesson with it takes about 16.9 GB, and 15.0 GB are free" in capsys.readouterr().out
    assert (named.instruct_model, named.base_model) == ("Qwen/Qwen2.5-0.5B-Instruct", "a/b") and named.peft_config
    assert cu.start(instruct_model="Qwen/Qwen2.5-0.5B-Instruct").base_model == "Qwen/Qwen2.5-0.5B"
    data = cu.start(preferences="trl-lib/ultrafeedback_binarized", rows=50, max_length=1024, batch_size=2)
    assert (data.preferences, data.rows) == ("trl-lib/ultrafeedback_binarized", 50)
    expected = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}
    assert data.fit == expected and data.max_length == 1024
    large = cu.start(device="cpu", instruct_model="large")
    assert (large.instruct_model, large.base_model, large.preferences) == ("large", "large", SAMPLES / "preferences")
    assert "135M" in cu.start(device="cpu", hub=True).instruct_model


@pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
def test_settings_are_those_that_every_trainer_takes(hub, method):
    setup = cu.start(device="cpu", hub=True)
    for config in (TrainingArguments, SFTConfig, DPOConfig):
        assert config(**getattr(setup, method), **setup.training_args).learning_rate < 1e-4
    assert setup.max_length == 512


@pytest.mark.parametrize(("able", "precision"), [({"avx512_bf16"}, "bf16"), ({"amx_bf16"}, "bf16"), (set(), "fp32")])
def test_a_real_model_is_trained_in_bf16_on_a_cpu_that_has_it_and_the_bundled_one_never(
    hub, monkeypatch, able, precision
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(able, True))
    real = cu.start(device="cpu", hub=True)
    assert real.precision == precision and real.training_args["bf16"] == (precision == "bf16")
    assert cu.start(device="cpu", hub=True, precision="fp32").precision == "fp32"
    for bundled in (cu.start(device="cpu"), real.bundled()):
        assert bundled.precision == "fp32" and not bundled.training_args["bf16"]


def test_an_adapter_takes_larger_steps(hub):
    full, adapter = (cu.start(hub=True, lora=lora).dpo["learning_rate"] for lora in (False, True))
    assert adapter == 2 * full


def test_more_of_anything_needs_more_memory():
    name = "HuggingFaceTB/SmolLM2-135M"
    one = need(name, False, 2, "fp16", 512)
    assert one < need(name, False, 4, "fp16", 512) and one < need(name, False, 2, "fp16", 1024)
    assert one < need(name, False, 2, "fp32", 512) and one > need(name, True, 2, "fp16", 512)
    assert (
        one < need("HuggingFaceTB/SmolLM2-360M", False, 2, "fp16", 512) < need("some/Other-7B", False, 2, "fp16", 512)
    )


def test_the_pages_table_of_choices_is_what_the_set_up_chooses():
    rows = [[cell.strip() for cell in row.split("|")] for row in ROW.findall(PAGE)]
    found = {float(row[0].split()[0]): row[1:] for row in rows if re.match(r"\d+ GB", row[0])}
    assert len(found) == 6
    for gigabytes, (model, way, pairs) in found.items():
        lora = {"LoRA": True, "all weights": False}[way]
        expected = (f"HuggingFaceTB/{model}", lora, int(pairs))
        assert best_plan(None, None, None, 512, "fp16", gigabytes * 1e9) == expected


def test_the_pages_sums_are_those_of_the_code():
    for size, (parameters, _token) in SIZES.items():
        row = re.search(rf"^\| SmolLM2-{size} \|(.+)\|$", PAGE, re.MULTILINE)[1]
        told = [float(cell.split()[0]) for cell in row.split("|")]
        sums = [need(size, lora, 8, "fp16", tokens) / 1e9 for lora in (False, True) for tokens in (512, 1024)]
        assert told == [pytest.approx(value, abs=0.05) for value in sums] and parameters > 1e8
    shares = {"one copy": lambda n: 22, "ZeRO-1": lambda n: 14 + 8 / n, "ZeRO-2": lambda n: 10 + 12 / n}
    for name, bytes_of in (shares | {"ZeRO-3": lambda n: 22 / n}).items():
        cells = re.search(rf"^\| {name}.*$", PAGE, re.MULTILINE)[0].strip("|").split("|")
        assert [int(cell.split()[0]) for cell in cells[-2:]] == [round(7.6 * bytes_of(n)) for n in (4, 8)]


def test_the_pages_choices_can_be_made(hub):
    names = {"cu": cu}
    for line in re.findall(r"^setup = cu\.start\(.*?\)", PAGE, re.MULTILINE):
        exec(line, names)
    assert names["setup"].fit["per_device_train_batch_size"] == 2 and names["setup"].preferences in dict(hub)


def test_memory_that_this_kernel_has_taken_itself_counts_as_free(hub, gpu):
    gpu(15)
    before = cu.start()
    gpu(15, used=9e9)
    assert cu.start() == before


def test_an_own_folder_is_no_bundled_model_wherever_it_lies(hub, tmp_path):
    shutil.copytree(BUNDLED["small"], tmp_path / "mine")
    for name in (str(tmp_path / "mine"), os.path.relpath(BUNDLED["small"])):
        setup = cu.start(device="cpu", instruct_model=name, base_model=name)
        assert not setup.is_bundled and setup.dpo["learning_rate"] < 1e-4 and setup.from_hub == []


def test_the_size_of_a_folders_model_is_counted(small):
    assert size_of(str(BUNDLED["small"]))[0] == pytest.approx(small[0].num_parameters(), rel=0.01)


@pytest.mark.parametrize("named", [{"base_model": "a/b"}, {"instruct_model": "google/gemma-3-270m-it"}])
def test_a_model_that_does_not_tell_its_sister_is_one_clear_error(hub, named):
    with pytest.raises(ValueError, match="name both, instruct_model and base_model"):
        cu.start(device="cpu", **named)


def test_one_file_is_no_data_for_a_lesson(hub, tmp_path):
    (tmp_path / "mine.csv.gz").touch()
    with pytest.raises(ValueError, match=r"train\.csv\.gz and test\.csv\.gz"):
        cu.start(preferences=tmp_path / "mine.csv.gz")
