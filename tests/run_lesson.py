"""Run a lesson's cells with real names, shortened: `python tests/run_lesson.py vi dpo_finetuning_example.ipynb [CELL]`.

What the lesson chooses without a GPU is overruled by `hub=True`; nothing else of it is changed but numbers of steps,
rows and prompts. Ends, after CELL if it is named, with one JSON line: what the set-up was, the first loss and margin
if it has trained, and the lines of `cu.expect`.
"""

import json
import os
import sys
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import shorter  # noqa: E402
from test_solutions import code_cells  # noqa: E402

import course_utils as cu  # noqa: E402
from course_utils.machine import start  # noqa: E402


def main(lang: str, name: str, last: str = "") -> None:
    start.CPU = 256, 4, 420
    start.SHORT |= {method: (rate, 3) for method, (rate, _steps) in start.SHORT.items()}
    shorter.shorten()
    os.chdir(ROOT / "notebooks" / lang)
    names: dict = {"display": lambda *shown: None}
    checks: list[str] = []
    expect = cu.expect
    cu.expect = lambda *rows, **settings: checks.extend(expect(*rows, **settings).lines)
    for cell in code_cells(lang, name):
        source = cell.source.replace(f'cu.start(lang="{lang}")', f'cu.start(lang="{lang}", hub=True)')
        exec(compile(source, f"{name}:{cell.id}", "exec"), names)
        print("ran", cell.id, flush=True)
        if cell.id == last:
            break
    setup, run = names["setup"], names.get("dpo") or names.get("orpo")
    told = {"model": setup.instruct_model, "data": type(setup.preferences).__name__, "pairs": len(names["pairs"])}
    first = {"loss": run.log[0]["loss"], "margin": run.log[0]["rewards/margins"]} if run else {}
    print(json.dumps(told | first | {"checks": checks}))


if __name__ == "__main__":
    main(*sys.argv[1:])
