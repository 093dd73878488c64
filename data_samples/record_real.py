"""Train a real model, SmolLM2-135M-Instruct, and record what came of it: `make real`, about two hours on 2 cores.

    python data_samples/record_real.py [--model NAME] [--manners FILE] [--hh FOLDER] [--weights WORDS] [RUN ...]

Model and data come from the hub or, where there is none, from folders and a file: tools/real_weights.py writes the
model out of a package. Each run has a process of its own, so that its peak memory is its own, and writes real/RUN.json:
settings, machine, log, held-out reward accuracy, KL, length and answers to twelve prompts of the course's; the first of
each experiment also of the model before it and of its middle. Nothing of the data is written. The tables beside are
made of all runs.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from datasets import concatenate_datasets, load_dataset
from transformers import TrainingArguments

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import course_utils as cu  # noqa: E402
from course_utils.evaluation import wilson  # noqa: E402
from course_utils.trainer import encode_rows  # noqa: E402
from course_utils.world import language_of  # noqa: E402

REAL = HERE / "real"
EXPERIMENTS = json.loads((REAL / "experiments.json").read_text(encoding="utf-8"))
PROMPTS = json.loads((REAL / "prompts.json").read_text(encoding="utf-8"))
LORA = {"learning_rate": 2e-4}
#: Each run: its experiment, its method, and what differs from the experiment's settings.
RUNS: dict[str, tuple[str, str, dict]] = {
    "manners-dpo-0": ("manners", "dpo", {}),
    "manners-dpo-1": ("manners", "dpo", {"seed": 1}),
    "manners-dpo-hasty": ("manners", "dpo", {"learning_rate": 3e-4}),
    "manners-dpo-lora": ("manners", "lora", LORA),
    "manners-orpo": ("manners", "orpo", {}),
    "world-0": ("world", "dpo", {}),
    "world-1": ("world", "dpo", {"seed": 1}),
    "hh-rlhf-dpo-0": ("hh-rlhf", "dpo", {}),
    "hh-rlhf-dpo-1": ("hh-rlhf", "dpo", {"seed": 1}),
}
#: A few steps on the longest rows, for hardware.md: how long they take, and in how much memory.
SIZES = {
    f"size-{method}-{tokens}": ("hh-rlhf", method, {"max_steps": 4, "max_length": tokens})
    for method in ("dpo", "lora")
    for tokens in (256, 512)
}
ASKED, JUDGED = 30, 100  # held-out prompts that are answered for KL and length, and for the judge


def memory() -> float:
    """The most memory that this process has taken so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def pairs_of(experiment: str, source: str) -> tuple:
    """Training and held-out pairs, which share no prompt; of the bundled world the English ones."""
    plan = EXPERIMENTS[experiment]
    if experiment == "world":
        both = (cu.load_preferences(HERE / "preferences", split=split)[0] for split in ("train", "test"))
        train, test = (pairs.filter(lambda row: language_of(row["prompt"][-1]["content"]) == "en") for pairs in both)
        return train, test
    if Path(source).is_file() or source.startswith("http"):
        halves = cu.load_preferences(source)[0].train_test_split(test_size=plan["held_out"], seed=0)
        train, test = halves["train"], halves["test"]
    else:
        train, test = (
            cu.load_preferences(source, split=split, limit=limit)[0]
            for split, limit in (("train", plan["rows"]), ("test", plan["held_out"]))
        )
    asked = {json.dumps(prompt) for prompt in test["prompt"]}
    return train.filter(lambda row: json.dumps(row["prompt"]) not in asked), test


def measure(name: str, model: str, source: str, weights: str) -> dict:
    """One run, and all that is recorded of it."""
    experiment, method, changes = (RUNS | SIZES)[name]
    plan = EXPERIMENTS[experiment]
    settings = plan["settings"] | changes
    max_length = settings.pop("max_length", plan["max_length"])
    setup = cu.start("en", instruct_model=model, base_model=model, max_length=max_length, lora=method == "lora")
    base, tokenizer = cu.load_model(model, max_length=max_length)
    train, test = pairs_of(experiment, source)
    fitting = [i for i, row in enumerate(encode_rows(tokenizer, test, ("chosen", "rejected"))) if row]
    test = test.select(fitting)  # held out are those that training would take, as `reward_margins` does
    if name in SIZES:
        lengths = [len(cu.encode(tokenizer, row["prompt"], row["chosen"]).prompt) for row in train]
        short = [i for i, length in enumerate(lengths) if length < max_length - 64]
        train = train.select(sorted(short, key=lengths.__getitem__)[-32:])
    first = method == "dpo" and not changes  # of its experiment; what it began with and its middle are recorded once
    started, found = time.perf_counter(), {"base": base} if first else {}
    with tempfile.TemporaryDirectory() as folder:
        steps = settings["max_steps"]
        args = TrainingArguments(
            **{**setup.training_args, "output_dir": folder, "save_strategy": "steps", "save_steps": steps // 2},
            **settings, lr_scheduler_type="cosine", save_only_model=True,
        )  # fmt: skip
        log = []
        if experiment == "world":
            told = load_dataset("json", data_files=str(HERE / "instructions" / "train.jsonl"), split="train")
            told = told.filter(lambda row: language_of(row["prompt"][-1]["content"]) == "en")
            chosen = train.select_columns(["prompt", "chosen"]).rename_column("chosen", "completion")
            told = concatenate_datasets([told, chosen])  # this model has never read a sentence of that world
            sft = cu.train_sft(base, tokenizer, told, replace(args, **plan["sft"], save_strategy="no"))
            log, found["sft"], base = sft.log, sft.model, sft.model
        if method == "orpo":
            run = cu.train_orpo(base, tokenizer, train, args, lam=plan["beta"])
        else:
            run = cu.train_dpo(base, tokenizer, train, args, beta=plan["beta"], peft_config=setup.peft_config)
        clocked = {"seconds": run.log[-1]["train_runtime"], "memory": memory()}
        if name in SIZES:
            read = run.tokens / len(train)
            return {"seconds a step": clocked["seconds"] / steps, "memory": clocked["memory"], "tokens a pair": read}
        if first and experiment != "world":
            found[f"step {steps // 2}"] = cu.load_model(f"{folder}/checkpoint-{steps // 2}")[0]
    found[f"step {steps}"] = run.model
    known = cu.precompute_ref_logps(base, tokenizer, test, replace(args, bf16=False))
    asked = [*dict.fromkeys(map(json.dumps, test["prompt"]))]
    few = [json.loads(prompt) for prompt in asked[:ASKED]]
    longer = torch.tensor(
        [len(c[0]["content"]) > len(r[0]["content"]) for c, r in zip(test["chosen"], test["rejected"])]
    )
    points, judged, answers = {}, {}, {}
    for label, one in found.items():
        point = points[label] = {}
        if label.startswith("step"):
            right = (cu.reward_margins(one, base, tokenizer, known) > 0).float()
            point["right"] = "".join(str(int(value)) for value in right)
            point["accuracy"] = wilson(right.mean().item(), len(right))
            for words, which in (("chosen longer", longer), ("chosen not longer", ~longer)):
                point[f"accuracy, {words}"] = wilson(right[which].mean().item(), int(which.sum()))
            point["kl"] = cu.policy_kl(one, base, tokenizer, few, max_new_tokens=64)
        said = cu.generate(one, tokenizer, few, max_new_tokens=80)
        point["words"] = cu.mean_interval([len(text.split()) for text in said])
        texts = [*PROMPTS["en"], *PROMPTS["vi"]]
        ours = [[{"role": "user", "content": text}] for text in texts]
        answers[label] = dict(zip(texts, cu.generate(one, tokenizer, ours, temperature=0, max_new_tokens=80)))
        if experiment == "world":
            prompts = list(test["prompt"])[:JUDGED]
            verdicts = cu.judge_all(prompts, cu.generate(one, tokenizer, prompts, max_new_tokens=80))
            shares = {"preferred": cu.share(verdicts), "fluent": cu.share(verdicts, lambda v: v.fluent)}
            judged[label] = {what: wilson(share, len(verdicts)) for what, share in shares.items()}
        print(name, label, {key: value for key, value in point.items() if key != "right"}, judged.get(label, ""))
    return {
        "experiment": experiment,
        "method": method,
        "settings": settings | {"beta": plan["beta"], "max_length": plan["max_length"]},
        "pairs": {"train": len(train), "held out": len(test)},
        "weights": weights,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {setup.precision}, torch {torch.__version__}",
        "parameters": base.num_parameters(),
        **clocked,
        "seconds with all that was measured": time.perf_counter() - started,
        "sft log": log,
        "log": [entry for entry in run.log if "loss" in entry],
        "points": points,
        "judged": judged,
        "answers": answers,
    }


def rounded(value):
    """Four significant digits are enough to read."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, (list, tuple)) else value


def write_tables(folder: Path = REAL) -> None:
    """What lessons and hardware.md show of the recorded runs, shares in percent: runs, points, judged, sizes as CSV."""
    paths = {name: REAL / f"{name}.json" for name in RUNS | SIZES}
    found = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}
    runs, points, judged, sizes = {}, {}, {}, {}
    for name, run in found.items():
        if name in SIZES:
            _size, method, tokens = name.split("-")
            sizes[method, tokens] = {"s a step": f"{run['seconds a step']:.1f}", "GB": f"{run['memory']:.1f}"}
            continue
        plan = run["settings"]
        taken = plan["per_device_train_batch_size"] * plan["gradient_accumulation_steps"] * plan["max_steps"]
        runs[name] = {"method": run["method"], "learning rate": f"{plan['learning_rate']:g}", "pairs": taken}
        runs[name] |= {"minutes": f"{run['seconds'] / 60:.1f}", "GB": f"{run['memory']:.1f}"}
        for label, point in run["points"].items():
            row = points[name, label] = {}
            for key in ("accuracy", "accuracy, chosen longer", "accuracy, chosen not longer"):
                row |= interval_columns(f"{key}, %", [100 * share for share in point.get(key, [])])
            row |= interval_columns("KL, nats", point.get("kl")) | interval_columns("words", point["words"])
            if shares := run["judged"].get(label):
                judged[name, label] = {f"{what}, %": round(100 * share, 1) for what, (share, *_) in shares.items()}
    for name, run in found.items():
        if name.endswith("-0"):  # two seeds of training, the same held-out pairs: an interval over pairs
            label, other = [*run["points"]][-1], found.get(f"{name[:-1]}1", {"points": {}})["points"]
            if other := other.get(label):
                halves = [(int(a) + int(b)) / 2 for a, b in zip(run["points"][label]["right"], other["right"])]
                both = interval_columns("accuracy, %", [100 * share for share in cu.mean_interval(halves)])
                points[f"{name[:-2]}, both seeds", label] = both
    tables = {"runs": (runs, "run"), "sizes": (sizes, ["trained", "tokens"])}
    tables |= {name: (rows, ["run", "model"]) for name, rows in {"points": points, "judged": judged}.items()}
    for name, (rows, index) in tables.items():
        pd.DataFrame.from_dict(rows, orient="index").rename_axis(index).to_csv(folder / f"{name}.csv")


def interval_columns(name: str, values: list[float] | None) -> dict[str, str]:
    """A mean with its interval, in one column; empty where nothing was measured."""
    return {name: "{:.1f} ({:.1f} – {:.1f})".format(*values) if values else ""}


def main() -> None:
    """Record the runs that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--manners", default=EXPERIMENTS["manners"]["source"])
    parser.add_argument("--hh", default=EXPERIMENTS["hh-rlhf"]["source"])
    parser.add_argument("--weights", default="as published", help="what to say of the model's weights")
    parser.add_argument("runs", nargs="*", default=[*RUNS, *SIZES], metavar="RUN", help=", ".join(RUNS | SIZES))
    given = parser.parse_args()
    sources = {"manners": given.manners, "hh-rlhf": given.hh, "world": ""}
    if len(given.runs) > 1:
        for name in given.runs:
            print(f"{name} …", flush=True)
            options = [f"--{key}={value}" for key, value in vars(given).items() if key != "runs"]
            subprocess.run([sys.executable, __file__, *options, name], check=True)
        write_tables()
        return
    (name,) = given.runs
    source = sources[(RUNS | SIZES)[name][0]]
    try:
        found = measure(name, given.model, source, given.weights)
    except (OSError, ValueError) as error:
        sys.exit(f"{name}: {error}\nIt needs the model {given.model} (--model) and the data {source} (see --help).")
    text = json.dumps(rounded(found), ensure_ascii=False, indent=1)
    (REAL / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
