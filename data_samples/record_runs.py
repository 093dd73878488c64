"""Run the lessons' own cells with several seeds and record the judge's figures: `make runs`.

Each run has a process of its own, so that its peak memory is its own, on one core. Writes, in percent of the held-out
prompts unless said otherwise:

- dpo_seeds.csv and orpo_seeds.csv: each model of a lesson's default run;
- match.csv: SFT and then DPO against ORPO, at equal compute and with equal pairs, and against SFT on the chosen
  answers of these pairs, which is ORPO with λ = 0 (and reads the rejected ones for its log). Compute is tokens read ×
  parameters × 6 for forward and backward, and × 2 more for the forward passes of DPO's reference (Kaplan et al. 2020,
  table 1), in 1e12 FLOPs;
- match_wins.csv: how often the answer of one side beats the other's, with its 95% interval over distinct questions.
"""

import io
import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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
STEPS = {"dpo": 150, "orpo": 100}  # as the lessons have it, of 8 pairs each
LAM = 0.5  # ORPO's λ there
FORWARD_AND_BACKWARD, FORWARD = 6, 2  # FLOPs for each token and parameter
COMPUTE, PAIRS, CHOSEN, DPO = "ORPO, equal compute", "ORPO, equal pairs", "SFT on chosen, equal pairs", "SFT + DPO"


def run(lesson: str, seed: int, steps: int | None = None, lam: float = LAM) -> dict:
    """Run a lesson's cells tagged `default-run` with another seed, number of steps or λ; what they define."""
    os.chdir(LESSONS[lesson].parent)
    names = {"cu": cu, "setup": cu.start("en"), "loss": {"dpo": cu.dpo_loss, "orpo": cu.orpo_loss}[lesson]}
    names |= {"display": lambda *shown: None}
    cells = [
        cell.source
        for cell in nbformat.read(LESSONS[lesson], as_version=4).cells
        if "default-run" in cell.metadata.get("tags", [])
    ]
    source = "\n".join(cells)
    changes = {"seed = 0\n": f"seed = {seed}\n", f"max_steps={STEPS[lesson]}": f"max_steps={steps or STEPS[lesson]}"}
    changes |= {f"lam = {LAM} if": f"lam = {lam} if"} if lesson == "orpo" else {}
    for old, new in changes.items():
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


def measure(lesson: str, seed: str, steps: str = "", lam: str = "") -> None:
    """Run a lesson and print all that is recorded of it, as JSON."""
    names = run(lesson, int(seed), int(steps) if steps else None, float(lam or LAM))
    parameters = names["base"].num_parameters()
    orpo = lesson == "orpo"
    read = {"orpo": names["orpo"].tokens} if orpo else {"sft": names["sft"].tokens, "dpo": names["dpo"].tokens}
    flops = FORWARD_AND_BACKWARD * sum(read.values()) + (0 if orpo else FORWARD * read["dpo"])
    verdicts = names["verdicts"][lesson]
    found = {
        "scores": scores(names, int(seed)).to_csv(),
        "prompts": names["prompts"],
        "verdicts": [verdict.broken for verdict in verdicts],
        "preferred, %": round(100 * cu.share(verdicts), 1),
        "fluent, %": round(100 * cu.share(verdicts, lambda v: v.fluent), 1),
        "compute, 1e12 FLOPs": round(flops * parameters / 1e12, 2),
        "training, s": round(sum(names[stage].log[-1]["train_runtime"] for stage in read)),
        "peak memory, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "models held in training": 1 if orpo else 2,
        "stages": len(read),
        "steps": sum(names[stage].log[-1]["step"] for stage in read),
    }
    print(json.dumps(found))


def measured(*arguments) -> dict:
    """What `measure` prints, run in a process of its own, on one core."""
    command = [sys.executable, __file__, *map(str, arguments)]
    one_core = os.environ | {"OMP_NUM_THREADS": "1"}
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one_core).stdout.splitlines()
    return json.loads(lines[-1])


def equal_compute(seed: int, dpo: dict, orpo: dict) -> dict:
    """ORPO with as much compute as this run of SFT and DPO; `orpo` is a run from which the steps are reckoned."""
    compute = "compute, 1e12 FLOPs"
    while abs(dpo[compute] / orpo[compute] - 1) > 0.02:  # batches differ in length
        orpo = measured("orpo", seed, round(orpo["steps"] * dpo[compute] / orpo[compute]))
    return orpo


def win_rate(runs: list[dict], ours: str, theirs: str) -> tuple[float, ...]:
    """How often one side's answer beats the other's, over the runs of one match a seed."""
    one, other = (
        [Verdict(tuple(broken)) for run in runs for broken in run[side]["verdicts"]] for side in (ours, theirs)
    )
    return cu.win_rate(one, other, [prompt for run in runs for prompt in run[ours]["prompts"]])


def main() -> None:
    """Write the tables of the seeds, and of the match."""
    with ThreadPoolExecutor(2) as pool:
        found = {(seed, lesson): pool.submit(measured, lesson, seed) for seed in SEEDS for lesson in LESSONS}
        sides = {(seed, PAIRS): pool.submit(measured, "orpo", seed, STEPS["dpo"]) for seed in SEEDS}
        sides |= {(seed, CHOSEN): pool.submit(measured, "orpo", seed, STEPS["dpo"], 0.0) for seed in SEEDS}
        for seed in SEEDS:
            sides[seed, DPO] = found[seed, "dpo"]
            both = (found[seed, lesson].result() for lesson in LESSONS)
            sides[seed, COMPUTE] = pool.submit(equal_compute, seed, *both)
    tables: dict[str, list] = {lesson: [] for lesson in LESSONS}
    for (_seed, lesson), one in found.items():
        tables[lesson].append(pd.read_csv(io.StringIO(one.result()["scores"]), index_col=["seed", "model"]))
    matches = [{side: sides[seed, side].result() for side in (DPO, COMPUTE, PAIRS, CHOSEN)} for seed in SEEDS]
    for lesson, parts in tables.items():
        pd.concat(parts).to_csv(HERE / f"{lesson}_seeds.csv")
    rows = pd.DataFrame({(seed, side): one for seed, sides in enumerate(matches) for side, one in sides.items()}).T
    rows.drop(columns=["scores", "prompts", "verdicts"]).rename_axis(["seed", "method"]).to_csv(HERE / "match.csv")
    every = f"seeds {SEEDS[0]}–{SEEDS[-1]}"
    asked = {(COMPUTE, DPO, f"seed {seed}"): [matches[seed]] for seed in SEEDS}
    asked |= {(ours, DPO, every): matches for ours in (COMPUTE, PAIRS, CHOSEN)} | {(PAIRS, CHOSEN, every): matches}
    columns = [f"win rate, {part}" for part in ("%", "low", "high")]
    wins = 100 * pd.DataFrame({key: win_rate(runs, *key[:2]) for key, runs in asked.items()}, index=columns).T
    wins.round(1).rename_axis(["ours", "theirs", "runs"]).to_csv(HERE / "match_wins.csv")
    print(rows, wins, sep="\n")


if __name__ == "__main__":
    measure(*sys.argv[1:]) if len(sys.argv) > 1 else main()
