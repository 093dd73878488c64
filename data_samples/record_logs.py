"""Record DPO runs, sound and ruined: part of `make runs`.

- logs.json: the logs of six runs that an exercise shows and checks;
- judged.json: two runs, and every ten steps what the judge says of their answers: [step, preferred %, fluent %];
- lam_0.json: the log of the ORPO lesson's run with λ = 0, which is SFT on the chosen answers;
- asked.json: in each language one question, and what the models before and after these runs answer.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import record_runs  # noqa: E402

import course_utils as cu  # noqa: E402
from course_utils.trainer import Run  # noqa: E402

KEYS = ("loss", "rewards/margins", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "logps/chosen",
        "logps/rejected")  # fmt: skip
#: Settings beside those of the lesson. A to D are shown; E and F only check.
RUNS = {
    "A": {"max_steps": 60},
    "B": {"max_steps": 60, "beta": 1.0},
    "C": {"max_steps": 60, "learning_rate": 3e-3, "beta": 0.03},
    "D": {"max_steps": 60, "learning_rate": 2e-5},
    "E": {"max_steps": 60, "learning_rate": 1e-3, "beta": 0.1},
    "F": {"max_steps": 80, "seed": 1},
}
#: Judged as they train: the lesson's settings, and those of its section 8.
JUDGED = {"lr 1.25e-4": {"max_steps": 60}, "lr 3e-3": {"max_steps": 60, "learning_rate": 3e-3}}
EVERY = 10


def tidy(log: list[dict]) -> list[dict]:
    """The figures that a picture needs, with three digits."""
    return [{"step": entry["step"], **{key: round(entry[key], 3) for key in KEYS}} for entry in log if "loss" in entry]


def train(names: dict, beta: float | None = None, **settings) -> Run:
    """The lesson's DPO run with other settings."""
    args = replace(names["dpo_args"], **settings)
    return cu.train_dpo(names["sft"].model, names["tokenizer"], names["pairs"], args, beta=beta or names["beta"])


def judged(names: dict, settings: dict) -> tuple[dict, list[list[str]]]:
    """Train with checkpoints, and have the answers of each judged; step 0 is the model before. And all answers."""
    prompts, answers = names["prompts"][:200], []

    def point(step, model):
        answers.append(cu.generate(model, names["tokenizer"], prompts))
        found = cu.judge_all(prompts, answers[-1])
        shares = cu.share(found), cu.share(found, lambda v: v.fluent)
        return [step, *(round(100 * share, 1) for share in shares)]

    with tempfile.TemporaryDirectory() as folder:
        kept = {"save_strategy": "steps", "save_steps": EVERY, "output_dir": folder, **settings}
        run = train(names, **kept)
        points = [point(0, names["sft"].model)]
        for step in range(EVERY, settings["max_steps"] + 1, EVERY):
            points.append(point(step, cu.load_model(f"{folder}/checkpoint-{step}")[0]))
    print(settings, points)
    return {"points": points, "log": tidy(run.log)}, answers


def asked(questions: list[str], before: list[str], after: dict[str, list[str]]) -> dict:
    """In each language the first question at which the first run of `after` changed the judge's word for the better."""
    found: dict = {}
    for question, was, *now in zip(questions, before, *after.values()):
        if not cu.judge(question, was).preferred and cu.judge(question, now[0]).preferred:
            found.setdefault(cu.language_of(question), {"question": question, "before": was} | dict(zip(after, now)))
    return found


def main() -> None:
    """Write judged.json, asked.json and logs.json, which the DPO lesson shows, and lam_0.json, which ORPO's does."""
    log = tidy(record_runs.run("orpo", seed=0, lam=0.0)["orpo"].log)
    text = json.dumps(log).replace("}, {", "},\n{")
    (HERE / "lam_0.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    names = record_runs.run("dpo", seed=0)
    found = {name: judged(names, settings) for name, settings in JUDGED.items()}
    text = json.dumps({name: one for name, (one, _answers) in found.items()}).replace("}, {", "},\n{")
    (HERE / "judged.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    answers = {name: said[-1] for name, (_one, said) in found.items()}
    before = found["lr 1.25e-4"][1][0]
    shown = asked([prompt[-1]["content"] for prompt in names["prompts"][:200]], before, answers)
    text = json.dumps(shown, ensure_ascii=False, indent=1)
    (HERE / "asked.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    logs = {}
    for name, settings in RUNS.items():
        run = train(names, **settings)
        verdicts = cu.judge_all(
            names["prompts"][:100], cu.generate(run.model, names["tokenizer"], names["prompts"][:100])
        )
        fluent = cu.share(verdicts, lambda v: v.fluent)
        print(name, settings, f"fluent {fluent:.0%}")
        logs[name] = tidy(run.log)
    text = ",\n".join(f'"{name}": [\n' + ",\n".join(map(json.dumps, log)) + "]" for name, log in logs.items())
    (HERE / "logs.json").write_text("{" + text + "}\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
