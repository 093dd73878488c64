"""Record what the labs show of three seeds: `make labs`, all of them, or those named: `record_labs.py losses too_far`.

Every run starts from the bundled small model, on pairs and in an order that the seed chooses. Each table in labs/ has a
row an arm, over all seeds, each mean with its 95% interval over questions (of what training logs: over its last ten
steps): the share of preferred and of fluent answers to 200 held-out prompts, in percent; words; the KL from the model
at the start, in nats; on 100 held-out pairs the margin over β, in nats, and the reward accuracy, in percent; and how
often its answer beats that of the arm named, in percent. Of preferred answers each seed stands alone as well. What each
lab adds is said beside it.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import mean

os.environ["OMP_NUM_THREADS"] = "1"  # one process a core is faster than one run on two
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import nbformat  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from record_runs import columns  # noqa: E402

import course_utils as cu  # noqa: E402
from course_utils.evaluation import answer_kl  # noqa: E402
from course_utils.exercises import labs  # noqa: E402
from course_utils.world import question_of  # noqa: E402

SEEDS, STEPS, PAIRS = (0, 1, 2), 40, 8
NOTEBOOK = HERE.parent / "notebooks" / "en" / "preference_labs.ipynb"


@cache
def lab() -> dict:
    """What the notebook's cells define that every lab and every learner has: models, data, settings, losses."""
    torch.set_num_threads(1)
    os.chdir(NOTEBOOK.parent)
    names = {"cu": cu, "setup": cu.start("en"), "ipo": labs.ipo, "robust": labs.robust, "display": lambda *shown: None}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if "recorded" in cell.metadata.get("tags", []):
            exec(cell.source, names)
    cu.trainer.SHOW_PROGRESS.clear()
    base, tokenizer, test = names["base"], names["tokenizer"], names["test"]
    names["held_out"] = cu.precompute_ref_logps(base, tokenizer, test.select(range(100)), names["args"])
    names["asked"] = list(test["prompt"])[:200]
    names["shuffled"] = {seed: names["pairs"].shuffle(seed) for seed in SEEDS}
    return names


def train(data: Dataset, seed: int, steps: int = STEPS, beta: float = 0.3, start=None, trainer=cu.train_dpo, **more):
    """One run with the labs' settings, and its own seed."""
    args = replace(lab()["args"], seed=seed, max_steps=steps, **more.pop("settings", {}))
    return trainer(start or lab()["base"], lab()["tokenizer"], data, args, beta, **more)


def some_pairs(seed: int, steps: int = STEPS) -> Dataset:
    """As many pairs as so many steps see, each once."""
    return lab()["shuffled"][seed].select(range(PAIRS * steps))


def per_question(values, prompts) -> list[tuple]:
    """Numbers, each beside the question that it belongs to."""
    return [(question_of(prompt), float(value)) for prompt, value in zip(prompts, values, strict=True)]


def judged(model, seed: int, some: int = 200, for_kl: int = 60) -> dict:
    """What `model` does at the end of a run: what was measured `each` time, and of what there is one number a run."""
    base, tokenizer, asked, held_out = lab()["base"], lab()["tokenizer"], lab()["asked"][:some], lab()["held_out"]
    answers = cu.generate(model, tokenizer, asked, seed=seed)
    margins = cu.reward_margins(model, base, tokenizer, held_out)
    verdicts = cu.judge_all(asked, answers)
    kl = answer_kl(model, base, tokenizer, asked[:for_kl], seed=seed)
    each = {
        "preferred, %": per_question([100 * verdict.preferred for verdict in verdicts], asked),
        "fluent, %": per_question([100 * verdict.fluent for verdict in verdicts], asked),
        "words": per_question([len(answer.split()) for answer in answers], asked),
        "KL, nats": per_question(kl.values(), [asked[i] for i in kl]),
        "held-out margin / β, nats": per_question(margins, held_out["prompt"]),
        "held-out accuracy, %": per_question(100 * (margins > 0), held_out["prompt"]),
    }
    return {"prompts": asked, "answers": answers, "verdicts": verdicts, "margins": margins, "each": each, "one": {}}


def row(runs: list[dict], against: list[dict] | None) -> dict:
    """One arm over its seeds."""
    found: dict = {}
    for what in runs[0]["each"]:
        groups, values = zip(*(one for run in runs for one in run["each"][what]))
        found |= columns(what, cu.mean_interval(values, groups))
    for seed, run in zip(SEEDS, runs):
        found[f"preferred, seed {seed}"] = round(100 * cu.share(run["verdicts"]), 1)
    found |= {name: round(mean(run["one"][name] for run in runs), 2) for name in runs[0]["one"]}
    if against and against is not runs:
        sides = ([verdict for run in side for verdict in run["verdicts"]] for side in (runs, against))
        wins = cu.win_rate(*sides, [prompt for run in runs for prompt in run["prompts"]])
        found |= columns("wins, %", tuple(100 * one for one in wins))
    return found


def losses(loss: str, seed: int) -> dict:
    """Each loss of the family on the same pairs in the same order."""
    if loss == "base":
        return judged(lab()["base"], seed)
    function, beta = (lab()["family"] | lab()["no_reference"])[loss]
    trainer = cu.train_orpo if loss in lab()["no_reference"] else cu.train_dpo
    run = train(some_pairs(seed), seed, beta=beta, loss=function, trainer=trainer)
    return judged(run.model, seed)


def on_policy(arm: str, seed: int) -> list[dict]:
    """Three rounds of 240 prompts each; the reference of a round is the model at its start. A row each round.

    own: two sampled answers of the model of the round, those that the judge grades differently; once: the same, but all
    sampled from the model at the start; fixed: as many of the bundled pairs, of the same prompts.
    """
    model, tokenizer, base = lab()["base"], lab()["tokenizer"], lab()["base"]
    pool, rounds = lab()["shuffled"][seed], []
    for number in range(3):
        part = pool.select(range(240 * number, 240 * (number + 1)))
        prompts = list(part["prompt"])
        speaker = base if arm == "once" else model
        one, other = (cu.generate(speaker, tokenizer, prompts, seed=10 * seed + i) for i in range(2))
        ranked = [labs.rank_pair(*three) for three in zip(prompts, one, other)]
        kept = [i for i, pair in enumerate(ranked) if pair]
        data = part.select(kept) if arm == "fixed" else Dataset.from_list([ranked[i] for i in kept])
        steps = max(1, len(kept) // PAIRS)
        model = train(data, seed, steps, start=model, settings={"warmup_steps": 2}).model
        rounds.append(judged(model, seed))
        rounds[-1]["one"]["pairs"] = len(kept)
        rounds[-1]["each"]["tied, %"] = per_question([100 * (pair is None) for pair in ranked], prompts)
    return rounds


def labels(arm: str, seed: int) -> dict:
    """A share of the labels turned round; `robust` is told how many; `3 ×`: three times as many pairs and steps."""
    share, method, times = float(arm.split("%")[0]) / 100, arm.split(", ")[1], 3 if "3 ×" in arm else 1
    data = labs.flip_labels(some_pairs(seed, STEPS * times), share, seed)

    def told(*logps_and_beta):
        return labs.robust(*logps_and_beta, flipped=share)

    run = train(data, seed, STEPS * times, loss=told if method == "robust" else cu.dpo_loss)
    found = judged(run.model, seed)
    last = run.log[STEPS * times - 10 : STEPS * times]
    found["each"]["margin in training"] = [(log["step"], log["rewards/margins"]) for log in last]
    return found


@cache
def said_at_start(seed: int) -> list[str]:
    """What the model at the start answers."""
    return cu.generate(lab()["base"], lab()["tokenizer"], lab()["asked"], seed=seed)


def length(arm: str, seed: int) -> dict:
    """Labels of a judge that likes length, or (`true labels`) those of the data; twice the learning rate.

    Against the model at the start: `true wins, %` by the judge of the world, `its own wins, %` by the one that likes
    length, `similar wins, %` by the judge of the world where both answers have similar lengths, of `similar prompts`.
    `other language, %` of the answers are not in the language of their question.
    """
    longer, data = lab()["longer"], lab()["shuffled"][seed]

    def alike(one: str, other: str) -> bool:
        return not longer(one, other) and not longer(other, one)

    if "similar" in arm:
        data = data.filter(lambda pair: alike(pair["chosen"][0]["content"], pair["rejected"][0]["content"]))
    data = data.select(range(min(PAIRS * STEPS, len(data))))
    if arm != "true labels":
        data = data.map(lab()["by_length"])
    loss, beta = lab()["penalised"] if "penalty" in arm else cu.dpo_loss, 0.1
    if "sigmoid_norm" in arm:
        loss, beta = lab()["sigmoid_norm"], 4.0  # as much as 0.1 for answers of 40 tokens
    found = judged(train(data, seed, loss=loss, beta=beta, settings={"learning_rate": 4e-4}).model, seed)
    start = said_at_start(seed)
    own, true, similar = [], [], []
    for prompt, verdict, one, was, other in zip(
        lab()["asked"], found["verdicts"], found["answers"], cu.judge_all(lab()["asked"], start), start
    ):
        true.append(50 + 50 * ((verdict.grade > was.grade) - (verdict.grade < was.grade)))
        own.append(true[-1] if alike(one, other) else 100 * longer(one, other))
        similar += per_question([true[-1]], [prompt]) if alike(one, other) else []
    found["one"]["similar prompts"] = len(similar)
    other_language = [100 * ("language" in verdict.broken) for verdict in found["verdicts"]]
    each = {"its own wins, %": own, "true wins, %": true, "other language, %": other_language}
    found["each"] |= {name: per_question(values, lab()["asked"]) for name, values in each.items()}
    found["each"]["similar wins, %"] = similar
    return found


def too_far(arm: str, seed: int) -> list[dict]:
    """The judge against the KL: checkpoints of one long run for each β, with a high learning rate. A row each point."""
    beta = float(arm)
    points = []
    with tempfile.TemporaryDirectory() as folder:
        kept = {"save_strategy": "steps", "save_steps": 12, "output_dir": folder, "learning_rate": 1e-3}
        kept |= {"lr_scheduler_type": "constant_with_warmup"}
        run = train(some_pairs(seed, 60), seed, 60, beta=beta, settings=kept)
        for step in range(12, 61, 12):
            model, _tokenizer = cu.load_model(f"{folder}/checkpoint-{step}")
            points.append(found := judged(model, seed, 100, 30))
            losses = -torch.nn.functional.logsigmoid(beta * found["margins"])
            found["each"]["held-out loss"] = per_question(losses, lab()["held_out"]["prompt"])
            found["each"]["training loss"] = [(log["step"], log["loss"]) for log in run.log[step - 10 : step]]
            found["one"]["step"] = step
    return points


def main(*chosen: str) -> None:
    """Write a table for each lab."""
    family = ["dpo", "ipo", "hinge", "robust", "apo_zero", "kto_pair", "sigmoid_sft", "sigmoid_norm", "simpo", "orpo"]
    shares = [f"{share}%, {how}" for share in (0, 10, 20, 40) for how in ("dpo", "robust") if share or how == "dpo"]
    lengths = ["true labels", "length", "length, similar", "length, penalty", "length, sigmoid_norm"]
    arms: dict[str, tuple[Callable, list[str], str | None]] = {
        "losses": (losses, ["base", *family], "dpo"),
        "on_policy": (on_policy, ["own", "once", "fixed"], "fixed"),
        "length": (length, lengths, "true labels"),
        "labels": (labels, [*shares, "40%, dpo, 3 ×"], "0%, dpo"),
        "too_far": (too_far, ["0.03", "1.0"], None),
    }
    with ProcessPoolExecutor(2) as pool:
        for name in chosen or arms:
            measure, rows, against = arms[name]
            asked = {(arm, seed): pool.submit(measure, arm, seed) for arm in rows for seed in SEEDS}
            found = {arm: [asked[arm, seed].result() for seed in SEEDS] for arm in rows}
            if isinstance(found[rows[0]][0], dict):
                table = pd.DataFrame({arm: row(runs, against and found[against]) for arm, runs in found.items()}).T
            else:
                each = {}
                for arm, points in found.items():
                    for point, runs in enumerate(zip(*points)):
                        others = [run[point] for run in found[against]] if against and arm != against else None
                        each[arm, point] = row(list(runs), others)
                table = pd.DataFrame(each).T
            table.to_csv(HERE / "labs" / f"{name}.csv")
            print(name, table.to_string(), sep="\n", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
