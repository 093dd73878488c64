"""Record the logs of six DPO runs, sound and ruined, that an exercise shows and checks: part of `make runs`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import record_runs  # noqa: E402

import course_utils as cu  # noqa: E402

KEYS = ("loss", "rewards/margins", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "logps/chosen",
        "logps/rejected")  # fmt: skip
#: Settings beside those of the lesson. A to D are shown; E and F only check.
RUNS = {
    "A": {"max_steps": 60},
    "B": {"max_steps": 60, "beta": 1.0},
    "C": {"max_steps": 60, "learning_rate": 1e-3, "beta": 0.03},
    "D": {"max_steps": 60, "learning_rate": 2e-5},
    "E": {"max_steps": 60, "learning_rate": 1e-3, "beta": 0.1},
    "F": {"max_steps": 80, "seed": 1},
}


def main() -> None:
    names = record_runs.run("dpo", seed=0)
    logs = {}
    for name, settings in RUNS.items():
        run = cu.train_dpo(
            names["sft"].model, names["tokenizer"], names["pairs"], replace(names["dpo_args"], **settings)
        )
        verdicts = cu.judge_all(
            names["prompts"][:100], cu.generate(run.model, names["tokenizer"], names["prompts"][:100])
        )
        fluent = cu.share(verdicts, lambda v: v.fluent)
        print(name, settings, f"fluent {fluent:.0%}")
        logs[name] = [
            {"step": entry["step"], **{key: round(entry[key], 3) for key in KEYS}}
            for entry in run.log
            if "loss" in entry
        ]
    text = ",\n".join(f'"{name}": [\n' + ",\n".join(map(json.dumps, log)) + "]" for name, log in logs.items())
    (HERE / "logs.json").write_text("{" + text + "}\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
