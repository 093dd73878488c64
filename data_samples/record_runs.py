"""Run the lessons' own cells with several seeds and record the judge's figures: `make runs`.

Each run has a process of its own, so that its peak memory is its own, on one core. Writes, in percent of the held-out
prompts unless said otherwise:

- dpo_seeds.csv and orpo_seeds.csv: each model of a lesson's default run;
- match.csv: SFT and then DPO against ORPO, at equal compute and with equal pairs, and against SFT on the chosen
  answers of these pairs, which is ORPO with λ = 0 (and reads the rejected ones for its log). Compute is tokens read ×
  parameters × 6 for forward and backward, and × 2 more for the forward passes of DPO's reference (Kaplan et al. 2020,
  table 1), in 1e12 FLOPs;
- match_wins.csv: how often the answer of one side beats the other's, with its 95% interval over distinct questions;
- sweep.csv: ORPO with other λ, a row each over all seeds; its terms are means over the last five steps, in nats;
- betas.csv: DPO with other β, a row each over all seeds, at the lesson's learning rate and in short runs at one seven
  times as high; its margins are means over the last ten steps, in nats.
"""

import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import nbformat
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("MPLBACKEND", "Agg")

import course_utils as cu  # noqa: E402
from course_utils.world import Verdict, question_of  # noqa: E402

LESSONS = {name: HERE.parent / "notebooks" / "en" / f"{name}_finetuning_example.ipynb" for name in ("dpo", "orpo")}
SEEDS = (0, 1, 2)
STEPS = {"dpo": 150, "orpo": 100}  # as the lessons have it, of 8 pairs each
LAM = 0.5  # ORPO's λ there
LAMS = (0.0, 0.1, LAM, 2.0, 10.0)
TERMS = {"nll": "nll_loss", "log odds ratio": "log_odds_chosen", "logp of rejected": "logps/rejected"}
BETAS, BETA = (0.03, 0.1, 0.3, 1.0, 3.0), 0.3  # of DPO, and that of the lesson
RATES = {"sound": 1, "hasty": 7}  # times the lesson's learning rate
HASTY = {"max_steps": 32, "pairs": 400}
MOVES = ("KL, nats", "margin", "margin / β", "log-ratio of chosen, nats")
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


def judged(prompts: list, verdicts: Sequence[Verdict]) -> dict:
    """What is kept of a model's verdicts, one a prompt."""
    return {
        "prompts": prompts,
        "verdicts": [verdict.broken for verdict in verdicts],
        "preferred, %": round(100 * cu.share(verdicts), 1),
        "fluent, %": round(100 * cu.share(verdicts, lambda v: v.fluent), 1),
    }


def measure_betas(names: dict, seed: int) -> dict[str, dict]:
    """DPO with every β at both rates, after the lesson's cells, whose own run is one of these; by rate and β."""
    reference, tokenizer, prompts, found = names["sft"].model, names["tokenizer"], names["prompts"], {}
    for rate, times in RATES.items():
        args, pairs = replace(names["dpo_args"], learning_rate=times * names["dpo_args"].learning_rate), names["pairs"]
        if rate == "hasty":
            args, pairs = replace(args, max_steps=HASTY["max_steps"]), pairs.select(range(HASTY["pairs"]))
        for beta in BETAS:
            if (rate, beta) == ("sound", BETA):
                dpo, verdicts = names["dpo"], names["verdicts"]["dpo"]
            else:
                dpo = cu.train_dpo(reference, tokenizer, pairs, args, beta=beta)
                verdicts = cu.judge_all(prompts, cu.generate(dpo.model, tokenizer, prompts, seed=seed))
            kl, *_interval = cu.policy_kl(dpo.model, reference, tokenizer, prompts[:100], max_new_tokens=64)
            ends = (fmean(step[f"rewards/{k}"] for step in dpo.log[-11:-1]) for k in ("margins", "chosen"))
            margin, chosen = ends  # the log's last entry sums up
            terms = dict(zip(MOVES, (kl, margin, margin / beta, chosen / beta)))
            found[f"{rate} {beta}"] = judged(prompts, verdicts) | {"terms": terms}
    return found


def measure(lesson: str, seed: str, steps: str = "", lam: str = "") -> None:
    """Run a lesson and print all that is recorded of it, as JSON."""
    names = run(lesson, int(seed), int(steps) if steps else None, float(lam or LAM))
    parameters = names["base"].num_parameters()
    orpo = lesson == "orpo"
    read = {"orpo": names["orpo"].tokens} if orpo else {"sft": names["sft"].tokens, "dpo": names["dpo"].tokens}
    flops = FORWARD_AND_BACKWARD * sum(read.values()) + (0 if orpo else FORWARD * read["dpo"])
    found = {
        "scores": scores(names, int(seed)).to_csv(),
        **judged(names["prompts"], names["verdicts"][lesson]),
        "compute, 1e12 FLOPs": round(flops * parameters / 1e12, 2),
        "training, s": round(sum(names[stage].log[-1]["train_runtime"] for stage in read)),
        "peak memory, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "models held in training": 1 if orpo else 2,
        "stages": len(read),
        "steps": sum(names[stage].log[-1]["step"] for stage in read),
    }
    if orpo:
        found["terms"] = {name: fmean(step[key] for step in names["orpo"].log[-6:-1]) for name, key in TERMS.items()}
    else:
        found["betas"] = measure_betas(names, int(seed))
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


def verdicts_of(runs: list[dict]) -> list[Verdict]:
    """The verdicts of several runs, one after the other."""
    return [Verdict(tuple(broken)) for run in runs for broken in run["verdicts"]]


def win_rate(ours: list[dict], theirs: list[dict]) -> tuple[float, ...]:
    """How often one side's answer beats the other's, in percent, over a run a seed of each."""
    prompts = [prompt for run in ours for prompt in run["prompts"]]
    return tuple(100 * rate for rate in cu.win_rate(verdicts_of(ours), verdicts_of(theirs), prompts))


def columns(what: str, interval: tuple[float, ...], places: int = 2) -> dict[str, float]:
    """The columns of a mean and its interval."""
    name = what.split(", ")[0]
    return {k: round(value, places) for k, value in zip((what, f"{name}, low", f"{name}, high"), interval)}


def swept(runs: list[dict]) -> dict[str, float]:
    """A row of a sweep: the runs of one value, a seed each."""
    verdicts, questions = verdicts_of(runs), [question_of(prompt) for run in runs for prompt in run["prompts"]]
    found: dict = {}
    for what in ("preferred", "fluent"):
        shares = [100 * getattr(verdict, what) for verdict in verdicts]
        found |= columns(f"{what}, %", cu.mean_interval(shares, questions), places=1)
        found |= {f"{what}, seed {seed}": run[f"{what}, %"] for seed, run in zip(SEEDS, runs)}
    return found | {name: round(fmean(run["terms"][name] for run in runs), 3) for name in runs[0]["terms"]}


def main() -> None:
    """Write the tables of the seeds, of the match, and of the sweeps over λ and β."""
    with ThreadPoolExecutor(2) as pool:
        found = {(seed, lesson): pool.submit(measured, lesson, seed) for seed in SEEDS for lesson in LESSONS}
        others = [(lam, seed) for lam in LAMS if lam != LAM for seed in SEEDS]
        swept_runs = {key: pool.submit(measured, "orpo", key[1], STEPS["orpo"], key[0]) for key in others}
        swept_runs |= {(LAM, seed): found[seed, "orpo"] for seed in SEEDS}
        sides = {(seed, PAIRS): pool.submit(measured, "orpo", seed, STEPS["dpo"]) for seed in SEEDS}
        sides |= {(seed, CHOSEN): pool.submit(measured, "orpo", seed, STEPS["dpo"], 0.0) for seed in SEEDS}
        for seed in SEEDS:
            sides[seed, DPO] = found[seed, "dpo"]
            both = (found[seed, lesson].result() for lesson in LESSONS)
            sides[seed, COMPUTE] = pool.submit(equal_compute, seed, *both)
    for lesson in LESSONS:
        parts = [io.StringIO(found[seed, lesson].result()["scores"]) for seed in SEEDS]
        table = pd.concat(pd.read_csv(part, index_col=["seed", "model"]) for part in parts)
        table.to_csv(HERE / f"{lesson}_seeds.csv")
    match = {side: [sides[seed, side].result() for seed in SEEDS] for side in (DPO, COMPUTE, PAIRS, CHOSEN)}
    rows = pd.DataFrame({(seed, side): match[side][seed] for seed in SEEDS for side in match}).T
    rows = rows.drop(columns=["scores", "prompts", "verdicts", "terms", "betas"])
    rows.rename_axis(["seed", "method"]).to_csv(HERE / "match.csv")
    every = f"seeds {SEEDS[0]}–{SEEDS[-1]}"
    wins = {(COMPUTE, DPO, f"seed {n}"): win_rate([match[COMPUTE][n]], [match[DPO][n]]) for n in SEEDS}
    for ours, theirs in ((COMPUTE, DPO), (PAIRS, DPO), (CHOSEN, DPO), (PAIRS, CHOSEN)):
        wins[ours, theirs, every] = win_rate(match[ours], match[theirs])
    names = [f"win rate, {part}" for part in ("%", "low", "high")]
    table = pd.DataFrame(wins, index=names).T.round(1).rename_axis(["ours", "theirs", "runs"])
    table.to_csv(HERE / "match_wins.csv")
    by_lam = {lam: [swept_runs[lam, seed].result() for seed in SEEDS] for lam in LAMS}
    against = {
        lam: columns(f"win rate against λ = {LAM}, %", win_rate(runs, by_lam[LAM]), places=1)
        for lam, runs in by_lam.items()
        if lam != LAM
    }
    sweep = pd.DataFrame({lam: swept(runs) | against.get(lam, {}) for lam, runs in by_lam.items()}).T
    sweep.rename_axis("λ").to_csv(HERE / "sweep.csv")
    keys = [(rate, beta) for rate in RATES for beta in BETAS]
    by_beta = {(rate, beta): swept([run["betas"][f"{rate} {beta}"] for run in match[DPO]]) for rate, beta in keys}
    betas = pd.DataFrame(by_beta).T.rename_axis(["learning rate", "β"])
    betas.to_csv(HERE / "betas.csv")
    print(rows, table, sweep, betas, sep="\n")


if __name__ == "__main__":
    measure(*sys.argv[1:]) if len(sys.argv) > 1 else main()
