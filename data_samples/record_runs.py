"""Run the lessons' own cells with several seeds and record the judge's figures: `make runs`.

Each run has a process of its own, so that its peak memory is its own. Writes, in percent of the held-out prompts
unless said otherwise:

- dpo_seeds.csv and orpo_seeds.csv: each model of a lesson's default run;
- match.csv: SFT and then DPO against ORPO at equal compute. Compute is tokens read × parameters × 6 for forward and
  backward, and × 2 more for the forward passes of DPO's reference (Kaplan et al. 2020, table 1), in 1e12 FLOPs;
- match_wins.csv: how often ORPO's answer beats DPO's, with its 95% interval over distinct questions, by
  seed and over all.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("MPLBACKEND", "Agg")

import course_utils as cu  # noqa: E402
from course_utils.world import Verdict  # noqa: E402

LESSONS = {name: HERE.parent / "notebooks" / "en" / f"{name}_finetuning_example.ipynb" for name in ("dpo", "orpo")}
SEEDS = (0, 1, 2)
STEPS = {"dpo": "max_steps=150", "orpo": "max_steps=100"}  # as the lessons have it
FORWARD_AND_BACKWARD, FORWARD = 6, 2  # FLOPs for each token and parameter


def run(lesson: str, seed: int, steps: int | None = None) -> dict:
    """Run a lesson's cells tagged `default-run` with another seed, or another number of steps; what they define."""
    os.chdir(LESSONS[lesson].parent)
    names = {"cu": cu, "setup": cu.start("en"), "loss": {"dpo": cu.dpo_loss, "orpo": cu.orpo_loss}[lesson]}
    names["display"] = lambda *shown: None
    cells = [
        cell.source
        for cell in nbformat.read(LESSONS[lesson], as_version=4).cells
        if "default-run" in cell.metadata.get("tags", [])
    ]
    source = "\n".join(cells)
    for old, new in (
        ("seed = 0\n", f"seed = {seed}\n"),
        (STEPS[lesson], f"max_steps={steps}" if steps else STEPS[lesson]),
    ):
        if source.count(old) != 1:
            raise ValueError(f"{lesson}: expected {old!r} once in the cells tagged default-run")
        source = source.replace(old, new)
    exec(source, names)
    return names


def scores(names: dict, seed: int) -> pd.DataFrame:
    """The judge's percentages, one row a model."""
    table = cu.score_table(names["prompts"], names["verdicts"]).T
    table = table[[column for column in table if column.startswith(("preferred", "fluent"))]]
    table.index = pd.MultiIndex.from_product([[seed], table.index], names=["seed", "model"])
    return table


def measure(lesson: str, seed: str, steps: str = "") -> None:
    """Run a lesson and print all that is recorded of it, as JSON."""
    names = run(lesson, int(seed), int(steps) if steps else None)
    parameters = names["base"].num_parameters()
    orpo = lesson == "orpo"
    read = {"orpo": names["orpo"].tokens} if orpo else {"sft": names["sft"].tokens, "dpo": names["dpo"].tokens}
    flops = FORWARD_AND_BACKWARD * sum(read.values()) + (0 if orpo else FORWARD * read["dpo"])
    found = {
        "scores": scores(names, int(seed)).to_csv(),
        "prompts": names["prompts"],
        "verdicts": [verdict.broken for verdict in names["verdicts"][lesson]],
        "compute": flops * parameters / 1e12,
        "seconds": sum(names[stage].log[-1]["train_runtime"] for stage in read),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "models": 1 if orpo else 2,
        "stages": len(read),
    }
    print(json.dumps(found))


def measured(*arguments) -> dict:
    """What `measure` prints, run in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return json.loads(lines[-1])


def main() -> None:
    """Write the tables of the seeds, and of the match at equal compute."""
    tables, rows, wins, all_verdicts = {"dpo": [], "orpo": []}, [], {}, {"orpo": [], "dpo": []}
    for seed in SEEDS:
        found = {lesson: measured(lesson, seed) for lesson in LESSONS}
        for lesson, one in found.items():
            tables[lesson].append(pd.read_csv(pd.io.common.StringIO(one["scores"]), index_col=["seed", "model"]))
            print(tables[lesson][-1])
        steps = 100
        while abs(found["dpo"]["compute"] / found["orpo"]["compute"] - 1) > 0.02:  # batches differ in length
            steps = round(steps * found["dpo"]["compute"] / found["orpo"]["compute"])
            found["orpo"] = measured("orpo", seed, steps)
        verdicts = {lesson: [Verdict(tuple(broken)) for broken in one["verdicts"]] for lesson, one in found.items()}
        for lesson, one in found.items():
            all_verdicts[lesson] += verdicts[lesson]
            rows.append(
                {
                    "seed": seed,
                    "method": "SFT + DPO" if lesson == "dpo" else "ORPO",
                    "preferred, %": round(100 * cu.share(verdicts[lesson]), 1),
                    "fluent, %": round(100 * cu.share(verdicts[lesson], lambda v: v.fluent), 1),
                    "compute, 1e12 FLOPs": round(one["compute"], 2),
                    "training, s": round(one["seconds"]),
                    "peak memory, MB": round(one["memory"]),
                    "models in training": one["models"],
                    "stages": one["stages"],
                    "steps": steps if lesson == "orpo" else 190,
                }
            )
        prompts = found["orpo"]["prompts"]
        wins[f"seed {seed}"] = cu.win_rate(verdicts["orpo"], verdicts["dpo"], prompts)
        print(pd.DataFrame(rows))
    wins["all seeds"] = cu.win_rate(all_verdicts["orpo"], all_verdicts["dpo"], prompts * len(SEEDS))
    for lesson, parts in tables.items():
        pd.concat(parts).to_csv(HERE / f"{lesson}_seeds.csv")
    pd.DataFrame(rows).set_index(["seed", "method"]).to_csv(HERE / "match.csv")
    win_table = pd.DataFrame(wins, index=["rate", "low", "high"]).T.round(3)
    win_table.rename_axis("comparison").to_csv(HERE / "match_wins.csv")
    print(win_table)


if __name__ == "__main__":
    measure(*sys.argv[1:]) if len(sys.argv) > 1 else main()
