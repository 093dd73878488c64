"""What the lessons and hardware.md say of a real model stands in data_samples/real; and their cells that train one run.

The cells are run as a learner runs them, with an experiment named, on a tiny model and the bundled data.
"""

import csv
import importlib.util
import json
import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch
from transformers import TrainingArguments

import course_utils as cu

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "data_samples"
REAL = SAMPLES / "real"
EXPERIMENTS = json.loads((REAL / "experiments.json").read_text(encoding="utf-8"))
NUMBER = r"\d+(?:[.,]\d+)*"


@pytest.fixture(scope="module")
def recorder():
    spec = importlib.util.spec_from_file_location("record_real", SAMPLES / "record_real.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs(recorder):
    found = {name: REAL / f"{name}.json" for name in recorder.RUNS}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in found.items() if path.exists()}


def table(name) -> list[dict]:
    with (REAL / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def last(run) -> dict:
    return [*run["points"].values()][-1]


# ---------------------------------------------------------------- the records


def test_the_tables_are_made_of_the_records(recorder, tmp_path):
    recorder.write_tables(tmp_path)
    for made in tmp_path.iterdir():
        assert made.read_text() == (REAL / made.name).read_text(), made.name
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in REAL.glob("*.csv")}


def test_every_record_says_what_it_was_made_of(runs):
    for name, run in runs.items():
        plan = EXPERIMENTS[run["experiment"]]
        assert "de-quantized" in run["weights"] and "cores" in run["machine"], name
        assert (plan["held_out"] or 1000) >= run["pairs"]["held out"] >= 190, name  # less those that leave no room
        same = {key: value for key, value in run["settings"].items() if key in plan["settings"]}
        changed = {key for key, value in same.items() if value != plan["settings"][key]}
        assert changed <= {"learning_rate"}, name
        for answers in run["answers"].values():
            assert len(answers) == 12 and all(answers.values()), name
        for point in run["points"].values():
            assert point["words"][2] <= 80, name  # in answers of at most 80 tokens


def test_manners_take_five_minutes_and_seven_gigabytes(runs):
    for name in ("manners-dpo-0", "manners-dpo-1"):
        run = runs[name]
        assert run["seconds"] <= 300 and run["memory"] <= 7, name
        assert last(run)["accuracy"][0] >= 0.8, name


def test_hh_rlhf_takes_twenty_minutes_and_is_above_chance_over_both_seeds(runs):
    both = [runs[f"hh-rlhf-dpo-{seed}"] for seed in (0, 1)]
    for run in both:
        assert run["settings"]["max_steps"] == 100 and run["pairs"]["held out"] >= 300
        assert run["seconds"] <= 1200 and run["memory"] <= 8
    (row,) = (row for row in table("points") if row["run"] == "hh-rlhf-dpo, both seeds")
    _accuracy, low, _high = map(float, re.findall(NUMBER, row["accuracy, %"]))
    assert low > 50
    for run in both:  # what it has learned is in good part to prefer the shorter answer
        assert last(run)["accuracy, chosen longer"][2] < 0.5 < last(run)["accuracy, chosen not longer"][1]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_judge_accepts_the_real_model_after_sft_and_nothing_of_it_before(runs, seed):
    run = runs[f"world-{seed}"]
    before = runs["world-0"]["judged"]["base"]  # recorded once
    sft, after = (run["judged"][label] for label in ("sft", "step 50"))
    assert before["preferred"][2] < sft["preferred"][1]  # the intervals part
    assert sft["preferred"][1] < after["preferred"][0] < sft["preferred"][2]  # that of DPO's does not
    assert last(run)["accuracy"][0] > 0.95 and after["fluent"][2] < 0.7


def test_a_hasty_run_is_the_most_accurate_and_ruined(runs):
    sound, hasty = last(runs["manners-dpo-0"]), last(runs["manners-dpo-hasty"])
    manners = [last(run)["accuracy"][0] for run in runs.values() if run["experiment"] == "manners"]
    assert hasty["accuracy"][0] == max(manners) and hasty["kl"][1] > 5 * sound["kl"][2]

    hasty_answers = runs["manners-dpo-hasty"]["answers"]["step 60"]

    def repeated(run):  # runs of three words that were there before
        said = [text.split() for text in run["answers"][[*run["answers"]][-1]].values()]
        found = [[*zip(words, words[1:], words[2:])] for words in said]
        return 1 - sum(len({*one}) for one in found) / sum(map(len, found))

    assert repeated(runs["manners-dpo-hasty"]) > 0.5 > 0.3 > repeated(runs["manners-dpo-0"])
    assert all(answer.startswith("I'd be happy to help") for answer in hasty_answers.values())


def test_orpo_raises_both_answers_where_dpo_pushes_the_rejected_down(runs):
    def risen(name, key):
        values = [entry[key] for entry in runs[name]["log"] if key in entry]
        return sum(values[-20:]) / 20 - sum(values[:20]) / 20

    assert risen("manners-orpo", "logps/chosen") > risen("manners-orpo", "logps/rejected") > 0
    assert risen("manners-dpo-0", "rewards/rejected") < 0 < risen("manners-dpo-0", "rewards/margins")


# ---------------------------------------------------------------- what the lessons say of them

#: The cells and the page that read the records, and what they read: columns of a row of a table.
ACCURACY, KL, WORDS = "accuracy, %", "KL, nats", "words"
LONGER, OTHERS = "accuracy, chosen longer, %", "accuracy, chosen not longer, %"
CLAIMS: dict[tuple[str, str], dict[tuple[str, ...], tuple[str, ...]]] = {
    ("dpo_finetuning_example.ipynb", "real-points-read"): {
        ("points", "manners-dpo-0", "step 60"): (ACCURACY, WORDS),
        ("points", "manners-dpo-1", "step 60"): (ACCURACY, WORDS),
        ("points", "manners-dpo-0", "base"): (WORDS,),
        ("points", "manners-dpo-hasty", "step 60"): (ACCURACY, KL),
    },
    ("real_model.md", ""): {
        ("points", "manners-dpo-0", "step 60"): (OTHERS, LONGER, KL),
        ("points", "manners-dpo-1", "step 60"): (KL,),
        ("points", "hh-rlhf-dpo-0", "step 100"): (OTHERS, LONGER),
        ("points", "hh-rlhf-dpo, both seeds", "step 100"): (ACCURACY,),
        **{("judged", f"world-{seed}", "sft"): ("preferred, %",) for seed in (0, 1)},
        **{("judged", f"world-{seed}", "step 50"): ("preferred, %", "fluent, %") for seed in (0, 1)},
        **{("points", f"world-{seed}", "step 50"): (ACCURACY, KL) for seed in (0, 1)},
        **{("runs", f"manners-{name}", ""): ("minutes", "GB") for name in ("orpo", "dpo-0", "dpo-1")},
    },
    ("orpo_finetuning_example.ipynb", "real-points-read"): {
        ("points", "manners-orpo", "step 60"): (ACCURACY, KL, WORDS),
        ("points", "manners-dpo-0", "step 60"): (ACCURACY, KL, WORDS),
        ("points", "manners-dpo-1", "step 60"): (KL, WORDS),
        ("points", "manners-dpo-0", "base"): (WORDS,),
    },
}


def claimed(name, run, model, column) -> str:
    (row,) = (row for row in table(name) if row.get("run") == run and row.get("model", "") == model)
    return row[column]


@pytest.mark.parametrize("lang", ["en", "vi"])
@pytest.mark.parametrize(("file", "cell"), CLAIMS)
def test_each_number_of_the_text_stands_in_a_record(file, cell, lang):
    path = ROOT / "notebooks" / lang / file
    if cell:
        (text,) = (one.source for one in nbformat.read(path, 4).cells if one.id == cell)
    else:  # a page, without its first section and its last, which say how to record and to run
        text = "".join(path.read_text(encoding="utf-8").split("\n## ")[2:-1])
    said = re.findall(NUMBER, re.sub(r"`[^`]*`|\]\([^)]*\)|95%", "", text))
    said = {float(number.replace(",", ".")) for number in said if re.search(r"[.,]", number)}
    read = [claimed(*row, column) for row, columns in CLAIMS[file, cell].items() for column in columns]
    shown = [[*map(float, re.findall(NUMBER, one))] for one in read]
    assert said <= {number for numbers in shown for number in numbers}
    assert {numbers[0] for numbers in shown} <= said


@pytest.mark.parametrize("lang", ["en", "vi"])
def test_hardware_md_shows_the_measured_sizes_beside_its_own_sums(recorder, lang):
    page = (ROOT / "notebooks" / lang / "hardware.md").read_text(encoding="utf-8").replace(",", ".")
    full, lora, token, rest = 22, 10, 1.63, 1
    assert all(re.search(rf"\b{number}\b", page) for number in (full, lora, token))
    found = re.findall(r"^\| [^|]+ \| (\d+) \| ([\d.]+) \| ([\d.]+) GB \| ([\d.]+) GB \|$", page, re.MULTILINE)
    assert len(found) == len(table("sizes")) == len(recorder.SIZES)
    for row, (tokens, seconds, memory, reckoned) in zip(table("sizes"), found):
        assert (tokens, seconds, memory) == (row["tokens"], row["s a step"], row["GB"])
        size = json.loads((REAL / f"size-{row['trained']}-{tokens}.json").read_text(encoding="utf-8"))
        bytes_each = {"dpo": full, "lora": lora}[row["trained"]]
        summed = bytes_each * 0.1345 + 2 * size["tokens a pair"] * token / 1e3 + rest
        assert float(reckoned) == pytest.approx(summed, abs=0.051)
        assert summed == pytest.approx(float(memory), rel=0.2)  # near enough to plan with


# ---------------------------------------------------------------- the cells that train it


def sources(lesson) -> dict[str, str]:
    book = nbformat.read(ROOT / "notebooks" / "en" / f"{lesson}_finetuning_example.ipynb", 4)
    return {cell.id: cell.source for cell in book.cells}


@pytest.mark.parametrize("lesson", ["dpo", "orpo"])
@pytest.mark.parametrize("experiment", ["manners", "hh-rlhf"])
def test_the_cell_trains_each_experiment(lesson, experiment, tmp_path):
    shutil.copytree(SAMPLES / "models" / "small", tmp_path / "SmolLM2-135M-Instruct")
    own = SAMPLES / "preferences" / "train.jsonl" if experiment == "manners" else SAMPLES / "preferences"
    shown, settings = [], EXPERIMENTS[experiment]["settings"] | {"max_steps": 2, "warmup_steps": 0}
    begin = ["real-points", "real-answers"] if lesson == "dpo" else ["real-terms", "real-answers"]
    names = {
        "samples": SAMPLES,
        "real": REAL,
        "setup": cu.start("en"),
        "display": shown.append,
        "cu": cu,
        "json": json,
        "pd": pd,
    }
    names |= {"TrainingArguments": TrainingArguments, "loss": cu.dpo_loss if lesson == "dpo" else cu.orpo_loss}
    names["both"] = ["manners-dpo-0", "manners-orpo"]
    for cell in begin:
        exec(sources(lesson)[cell], names)
    plan = EXPERIMENTS[experiment] | {"settings": settings, "source": str(own), "held_out": 12}
    plan |= {"rows": 40} if plan["rows"] else {}
    recorded = names["record"]
    names["record"] = lambda name: {experiment: plan} if name == "experiments" else recorded(name)
    shown.clear()
    train = sources(lesson)["real-run"].replace("experiment = None", f"experiment = {experiment!r}")
    exec(train.replace("HuggingFaceTB/SmolLM2-135M-Instruct", str(tmp_path / "SmolLM2-135M-Instruct")), names)
    assert len(names["held_out"]) == 12 and len(names["real_pairs"]) >= (20 if plan["rows"] else 2000)
    assert not any(prompt in names["held_out"] for prompt in names["real_pairs"]["prompt"])
    assert names["real_run"].tokens and len(shown) == 3
    assert [*shown[1].index] == ["reward accuracy", "KL, nats"] and [*shown[1]] == ["mean", "low", "high"]
    assert len([entry for entry in names["real_run"].log if "loss" in entry]) == 2
    assert torch.isfinite(torch.tensor(names["found"]["KL, nats"])).all()
