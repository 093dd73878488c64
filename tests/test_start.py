"""What the set-up chooses. A GPU is played by what torch would say of it; what the hub answers, test_hub.py tests."""

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import TrainingArguments
from trl import DPOConfig, SFTConfig

import course_utils as cu
from course_utils.machine import clock
from course_utils.machine.models import BUNDLED, SAMPLES
from course_utils.machine.start import CPU_PLANS, HH_RLHF, PLANS, SMALLEST

PAGE = (Path(__file__).parents[1] / "notebooks" / "en" / "hardware.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\|(.+)\|$", re.MULTILINE)
INSTRUCT, BASE, PAIRS = "Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B", "trl-lib/ultrafeedback_binarized"


@pytest.fixture
def hub(monkeypatch):
    """A hub that has everything but the names in its set `lacks`; `asked` holds what it was asked for."""

    def download(name, kind, held_out):
        hub.asked.append((name, kind))
        if name in hub.lacks:
            raise ConnectionError("not today")
        return DatasetDict(train=Dataset.from_dict({})) if kind == "dataset" else name

    hub = SimpleNamespace(asked=[], lacks=set())
    monkeypatch.setattr("course_utils.machine.start.download", download)
    return hub


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
    assert (setup.device, setup.instruct_model, setup.base_model) == ("cpu", "small", "small")
    assert setup.preferences == SAMPLES / "preferences" and setup.dpo == setup.orpo == setup.sft == setup.fit == {}
    assert capsys.readouterr().out.count("\n") == 1
    assert cu.fetch(setup) == setup and hub.asked == []


def test_a_t4_trains_smollm2_135m_on_hh_rlhf_in_fp16(hub, gpu, capsys):
    gpu(15)
    setup = cu.start()
    assert (setup.device, setup.precision) == ("cuda", "fp16")
    assert setup.training_args["fp16"] and not setup.training_args["bf16"]
    assert setup.instruct_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert setup.base_model == "HuggingFaceTB/SmolLM2-135M"
    assert (setup.preferences, setup.instructions, setup.peft_config) == (HH_RLHF, None, None)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    for words in ("cuda in fp16", "SmolLM2-135M-Instruct", HH_RLHF, "2000 pairs", "4 at a time", "512 tokens"):
        assert words in said
    assert isinstance(cu.fetch(setup).preferences, DatasetDict)
    assert hub.asked == [(setup.instruct_model, "model"), (setup.base_model, "model"), (HH_RLHF, "dataset")]


def test_the_pages_table_is_what_the_set_up_chooses_and_too_little_memory_takes_the_bundled_model(gpu, capsys):
    rows = [[cell.strip() for cell in row.split("|")] for row in ROW.findall(PAGE)]
    found = {float(row[0].split()[0]): row[1:] for row in rows if re.match(r"\d+ GB", row[0])}
    assert {float(memory) for *_, memory in PLANS} <= {*found}
    for gigabytes, (model, way, pairs) in found.items():
        gpu(gigabytes, bf16=True)
        setup = cu.start()
        assert (setup.instruct_model, setup.precision) == (f"HuggingFaceTB/{model}", "bf16")
        assert (setup.peft_config is None) == {"LoRA": False, "all weights": True}[way]
        assert setup.fit == {"per_device_train_batch_size": int(pairs), "gradient_accumulation_steps": 16 // int(pairs)}
    gpu(min(found) - 1, bf16=True)
    capsys.readouterr()
    assert cu.start().is_bundled and "6.0 GB of free memory do not hold a lesson" in capsys.readouterr().out
    assert "135M" in cu.start(hub=True).instruct_model and "may not fit into 6.0 GB" in capsys.readouterr().out


def test_the_pages_sums_leave_a_fifth_of_the_memory_and_follow_from_its_figures():
    """Bytes a parameter, and megabytes a token: what the page says of each, put together as it says."""
    full, lora = map(float, re.search(r"plans with (\d+) bytes, and with (\d+) for LoRA", PAGE).groups())
    layers = dict(zip(("135M", "360M", "1.7B"), map(float, re.findall(r"(\d\.\d+) MB(?: for|,)", PAGE))))
    logits, parameters = float(re.search(r"(\d\.\d+) MB more", PAGE)[1]), {"135M": 135, "360M": 360, "1.7B": 1700}

    def gigabytes(size, adapter, pairs, tokens):
        return (lora if adapter else full) * parameters[size] / 1e3 + (layers[size] + logits) * 2 * pairs * tokens / 1e3

    for size in parameters:
        row = re.search(rf"^\| SmolLM2-{size} \|(.+)\|$", PAGE, re.MULTILINE)[1]
        sums = [gigabytes(size, adapter, 8, tokens) for adapter in (False, True) for tokens in (512, 1024)]
        assert [float(cell.split()[0]) for cell in row.split("|")] == [pytest.approx(value, abs=0.1) for value in sums]
    for model, adapter, pairs, memory in PLANS:
        assert gigabytes(model.split("-")[1], adapter, pairs, 512) <= 0.805 * memory
    shares = {"one copy": lambda n: 22, "ZeRO-1": lambda n: 14 + 8 / n, "ZeRO-2": lambda n: 10 + 12 / n}
    for name, bytes_of in (shares | {"ZeRO-3": lambda n: 22 / n}).items():
        cells = re.search(rf"^\| {name}.*$", PAGE, re.MULTILINE)[0].strip("|").split("|")
        assert [int(cell.split()[0]) for cell in cells[-2:]] == [round(7.6 * bytes_of(n)) for n in (4, 8)]


def test_longer_rows_and_32_bits_leave_room_for_fewer_pairs(gpu):
    gpu(15)
    pairs = [cu.start(**wish).fit["per_device_train_batch_size"] for wish in (
        {}, {"max_length": 1024}, {"precision": "fp32"}, {"max_length": 4096}, {"max_length": 4096, "batch_size": 3}
    )]  # fmt: skip
    assert pairs == [4, 2, 2, 1, 3]


def test_every_choice_has_its_argument(gpu, capsys):
    gpu(15)
    assert cu.start(hub=False).is_bundled and cu.start(hub=False).instructions
    assert cu.start(device="cpu").is_bundled
    assert cu.start(precision="fp32").training_args["fp16"] is False
    named = cu.start(instruct_model=INSTRUCT, base_model="a/b", lora=True)
    assert f"What memory {INSTRUCT} takes is not known here, and 15.0 GB are free" in capsys.readouterr().out
    assert (named.instruct_model, named.base_model, named.peft_config.r) == (INSTRUCT, "a/b", 16)
    assert cu.start(instruct_model=INSTRUCT).base_model == BASE
    assert cu.start(lora=True).peft_config and cu.start(lora=False).peft_config is None
    data = cu.start(preferences=PAIRS, rows=50, max_length=1024, batch_size=2)
    assert (data.preferences, data.rows, data.max_length, data.instructions) == (PAIRS, 50, 1024, None)
    assert data.fit == {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}
    large = cu.start(device="cpu", instruct_model="large")
    assert (large.instruct_model, large.base_model, large.preferences) == ("large", "large", SAMPLES / "preferences")
    assert "135M" in cu.start(device="cpu", hub=True).instruct_model


def test_a_model_of_the_table_is_trained_as_the_table_says_and_another_one_with_care(gpu, capsys):
    gpu(44)
    known, other = (cu.start(instruct_model=name) for name in ("HuggingFaceTB/SmolLM2-135M-Instruct", INSTRUCT))
    assert known.fit["per_device_train_batch_size"] == 4 and not known.peft_config
    assert other.fit["per_device_train_batch_size"] == 1 and other.peft_config
    gpu(5)
    capsys.readouterr()
    assert cu.start(instruct_model="HuggingFaceTB/SmolLM2-135M-Instruct", lora=False).peft_config is None
    assert "may not fit into 5.0 GB" in capsys.readouterr().out


YOURS = {"preferences": PAIRS, "rows": 50, "batch_size": 3, "max_length": 99}


def test_what_the_course_chose_falls_back_and_what_you_named_stays(hub, gpu, capsys):
    gpu(15)
    hub.lacks = {HH_RLHF}
    setup = cu.fetch(cu.start())
    assert setup.is_bundled and setup.instructions and setup.fit == {} and setup.rows is None
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3 and said[1].startswith(f"{HH_RLHF}: there is no connection") and "goes on with its" in said[1]
    model = cu.fetch(cu.start(instruct_model=INSTRUCT, batch_size=3))
    assert (model.instruct_model, model.base_model, model.preferences) == (INSTRUCT, BASE, SAMPLES / "preferences")
    assert model.fit["per_device_train_batch_size"] == 3
    hub.lacks = {"HuggingFaceTB/SmolLM2-135M"}
    data = cu.fetch(cu.start(**YOURS))
    assert data.is_bundled and isinstance(data.preferences, DatasetDict) and data.instructions is None
    assert (data.rows, data.max_length, data.fit) == (50, 99, {"per_device_train_batch_size": 3})


@pytest.mark.parametrize("lacking", [INSTRUCT, BASE, PAIRS])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_you_named_is_never_replaced(hub, gpu, device, lacking):
    gpu(15)
    setup = cu.start(device=device, instruct_model=INSTRUCT, preferences=PAIRS)
    hub.lacks = {lacking}
    with pytest.raises(OSError, match=f"{lacking}: there is no connection to the hub.*Nothing takes the place"):
        cu.fetch(setup)


def test_data_that_you_named_is_not_replaced_where_the_model_is(hub, gpu):
    gpu(15)
    hub.lacks = {"HuggingFaceTB/SmolLM2-135M", PAIRS}
    with pytest.raises(OSError, match=PAIRS):
        cu.fetch(cu.start(**YOURS))


@pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
def test_settings_are_those_that_every_trainer_takes(method):
    setup = cu.start(device="cpu", hub=True)
    for config in (TrainingArguments, SFTConfig, DPOConfig):
        assert config(**getattr(setup, method), **setup.training_args).learning_rate < 1e-4
    assert setup.max_length == 256


def test_less_patience_takes_fewer_steps_and_is_told_how_long_they_take(hub, monkeypatch, capsys):
    monkeypatch.setattr("course_utils.machine.clock.seconds", lambda setup: (0.9, 0.4))
    setup = cu.fetch(cu.start(device="cpu", hub=True))
    said = capsys.readouterr().out
    minutes = [int(number) for number in re.findall(r"about (\d+) minutes", said)]
    assert f"may take {setup.memory} GB of memory" in said
    assert setup.dpo["max_steps"] == 100 and minutes[0] > minutes[1] > 0
    assert setup.memory in {needed for *_plan, needed in CPU_PLANS}
    few = cu.start(device="cpu", hub=True, max_steps=20)
    assert [getattr(few, method)["max_steps"] for method in ("sft", "dpo", "orpo")] == [20, 20, 20]
    cu.fetch(few)
    said = capsys.readouterr().out
    assert f"about {minutes[1]} minutes" in said and "max_steps=20)" not in said
    assert cu.start(device="cpu", hub=True, max_steps=10**6).dpo["max_steps"] == 100


@pytest.mark.parametrize(("name", "lora"), [("small", True), ("large", False)])
def test_a_pair_and_an_answer_are_timed_on_a_model_of_the_same_shape(name, lora, tmp_path, monkeypatch):
    """By a clock that only the model moves: its parameters times the tokens that it reads."""
    work, from_config = [0], clock.AutoModelForCausalLM.from_config

    def counted(config):
        model = from_config(config)
        size = sum(weight.numel() for weight in model.parameters())

        def count(_module, read):
            work[0] += size * read[0].numel()

        model.get_input_embeddings().register_forward_pre_hook(count)
        return model

    monkeypatch.setattr(clock.AutoModelForCausalLM, "from_config", counted)
    monkeypatch.setattr(clock.time, "perf_counter", lambda: work[0])
    folder = str(shutil.copytree(BUNDLED[name], tmp_path / name))
    setup = cu.start(device="cpu", instruct_model=folder, base_model=folder, lora=lora, batch_size=8, max_length=64)
    size = cu.load_model(name)[0].num_parameters()
    assert clock.seconds(setup) == (2 * 64 * size, (64 + 15) * size)  # policy and reference; a question and its answer


def test_a_copy_of_a_known_model_in_a_folder_is_that_model(tmp_path):
    folder = shutil.copytree(BUNDLED["small"], tmp_path / "SmolLM2-135M-Instruct")
    named, copied = (cu.start(device="cpu", instruct_model=str(name)) for name in (SMALLEST, folder))
    assert (copied.fit, copied.peft_config) == (named.fit, named.peft_config)
    assert copied.instruct_model == str(folder)


@pytest.mark.parametrize(
    ("able", "used", "precision"),
    [
        ({"avx512_bf16"}, "AVX512", "bf16"),
        ({"amx_bf16"}, "AVX512", "bf16"),
        (set(), "AVX512", "fp32"),
        ({"avx512_bf16", "amx_bf16"}, "AVX2", "fp32"),  # as with ATEN_CPU_CAPABILITY=avx2
    ],
)
def test_a_real_model_is_trained_in_bf16_on_a_cpu_that_has_it_and_the_bundled_one_never(
    hub, monkeypatch, able, used, precision
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(able, True))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: used)
    real = cu.start(device="cpu", hub=True)
    assert real.precision == precision and real.training_args["bf16"] == (precision == "bf16")
    assert cu.start(device="cpu", hub=True, precision="fp32").precision == "fp32"
    hub.lacks = {real.instruct_model}
    for bundled in (cu.start(device="cpu"), cu.fetch(real)):
        assert bundled.is_bundled and bundled.precision == "fp32" and not bundled.training_args["bf16"]


def test_an_adapter_takes_larger_steps():
    full, adapter = (cu.start(hub=True, lora=lora).dpo["learning_rate"] for lora in (False, True))
    assert adapter == pytest.approx(10 * full)


def test_the_pages_choices_can_be_made():
    names = {"cu": cu}
    for line in re.findall(r"^setup = cu\.start\(.*?\)", PAGE, re.MULTILINE):
        exec(line, names)
    assert names["setup"].fit["per_device_train_batch_size"] == 2 and names["setup"].preferences == PAIRS


def test_memory_that_this_kernel_has_taken_itself_counts_as_free(gpu):
    gpu(15)
    before = cu.start()
    gpu(15, used=9e9)
    assert cu.start() == before


def test_an_own_folder_is_no_bundled_model_wherever_it_lies(hub, tmp_path):
    shutil.copytree(BUNDLED["small"], tmp_path / "mine")
    for name in (str(tmp_path / "mine"), os.path.relpath(BUNDLED["small"])):
        setup = cu.start(device="cpu", instruct_model=name, base_model=name, lora=False)
        assert not setup.is_bundled and setup.dpo["learning_rate"] < 1e-4
        assert cu.fetch(setup) == setup and hub.asked == []


@pytest.mark.parametrize("named", [{"base_model": "a/b"}, {"instruct_model": "google/gemma-3-270m-it"}])
def test_a_model_that_does_not_tell_its_counterpart_is_one_clear_error(named):
    with pytest.raises(ValueError, match="name both, instruct_model and base_model"):
        cu.start(device="cpu", **named)


def test_one_file_is_no_data_for_a_lesson(tmp_path):
    (tmp_path / "mine.csv.gz").touch()
    with pytest.raises(ValueError, match=r"train\.csv\.gz and test\.csv\.gz"):
        cu.start(preferences=tmp_path / "mine.csv.gz")
