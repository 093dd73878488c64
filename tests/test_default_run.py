"""The lesson's own run, with the seeds that the lesson does not show live."""

import pandas as pd
import pytest
import record_seeds


def holds(row_base, row_sft, row_dpo):
    assert row_dpo["preferred"] >= 90 and row_dpo["fluent"] >= 97
    for lang in ("en", "vi"):
        assert row_dpo[f"preferred, {lang}"] >= 88 and row_dpo[f"fluent, {lang}"] >= 95
    assert row_base["fluent"] >= 97 and row_sft["preferred"] < row_dpo["preferred"] - 20


@pytest.mark.parametrize("seed", [1])
def test_the_default_run_holds_with_another_seed(seed):
    table = record_seeds.run(seed).loc[seed]
    holds(*(table.loc[name] for name in ("base", "sft", "dpo")))


def test_the_recorded_table_holds_for_every_seed_and_is_what_the_lesson_shows():
    table = pd.read_csv(record_seeds.HERE / "seeds.csv", index_col=["seed", "model"])
    assert list(table.index.levels[0]) == list(record_seeds.SEEDS)
    for seed in record_seeds.SEEDS:
        holds(*(table.loc[seed, name] for name in ("base", "sft", "dpo")))
    assert 35 <= table.xs("base", level="model")["preferred"].mean() <= 60
