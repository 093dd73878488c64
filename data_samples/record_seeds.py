"""Run the DPO lesson's own cells with several seeds and record the judge's figures: `make seeds`."""

import os
import sys
from pathlib import Path

import nbformat
import pandas as pd

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("MPLBACKEND", "Agg")

import course_utils as cu  # noqa: E402

LESSON = HERE.parent / "notebooks" / "en" / "dpo_finetuning_example.ipynb"
SEEDS = (0, 1, 2)


def run(seed: int) -> pd.DataFrame:
    """Run the cells tagged `default-run` with another seed; percentages, one row a model."""
    names = {"cu": cu, "setup": cu.start("en")}
    for cell in nbformat.read(LESSON, as_version=4).cells:
        if "default-run" in cell.metadata.get("tags", []):
            exec(cell.source.replace("seed = 0\n", f"seed = {seed}\n"), names)
    table = cu.score_table(names["prompts"], names["verdicts"]).T
    table = table[[column for column in table if column.startswith(("preferred", "fluent"))]]
    table.index = pd.MultiIndex.from_product([[seed], table.index], names=["seed", "model"])
    return table


if __name__ == "__main__":
    tables = []
    for seed in SEEDS:
        tables.append(run(seed))
        print(tables[-1])
    pd.concat(tables).to_csv(HERE / "seeds.csv")
