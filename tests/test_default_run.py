"""The lessons' own runs, with a seed that they do not show live, and what is recorded of three."""

import re
from dataclasses import replace

import pandas as pd
import pytest
import record_runs
from test_notebooks import cells, numbers_with_a_decimal

import course_utils as cu


def recorded(name, *index):
    return pd.read_csv(record_runs.HERE / f"{name}.csv", index_col=list(index))


def dpo_holds(table):
    base, sft, dpo = (table.loc[name] for name in ("base", "sft", "dpo"))
    assert dpo["preferred"] >= 90 and dpo["fluent"] >= 97
    for lang in ("en", "vi"):
        assert dpo[f"preferred, {lang}"] >= 88 and dpo[f"fluent, {lang}"] >= 95
    assert base["fluent"] >= 97 and sft["preferred"] < dpo["preferred"] - 20


def orpo_holds(table):
    base, orpo = table.loc["base"], table.loc["orpo"]
    assert orpo["preferred"] >= 88 and orpo["fluent"] >= 95 and base["preferred"] < orpo["preferred"] - 20
    for lang in ("en", "vi"):
        assert orpo[f"preferred, {lang}"] >= 85 and orpo[f"fluent, {lang}"] >= 93


HOLDS = {"dpo": dpo_holds, "orpo": orpo_holds}


@pytest.mark.slow
@pytest.mark.parametrize("lesson", HOLDS)
def test_the_default_run_holds_with_another_seed(lesson, monkeypatch):
    monkeypatch.chdir(record_runs.HERE)  # where the run ends up does not matter to other tests
    setup = replace(cu.start("en"), held_out=200)  # half of them do for the bounds above
    monkeypatch.setattr(cu, "start", lambda _lang: setup)
    HOLDS[lesson](record_runs.scores(record_runs.run(lesson, seed=1), 1).loc[1])


@pytest.mark.parametrize("lesson", HOLDS)
def test_the_recorded_runs_hold_for_every_seed(lesson):
    table = recorded(f"{lesson}_seeds", "seed", "model")
    assert list(table.index.levels[0]) == list(record_runs.SEEDS)
    for seed in record_runs.SEEDS:
        HOLDS[lesson](table.loc[seed])
    assert 35 <= table.xs("base", level="model")["preferred"].mean() <= 60


def test_the_recorded_match_is_at_equal_compute_and_with_equal_pairs():
    match = recorded("match", "seed", "method")
    assert list(match.index.levels[0]) == list(record_runs.SEEDS)
    compute = match["compute, 1e12 FLOPs"].unstack("method")
    assert ((compute[record_runs.COMPUTE] / compute[record_runs.DPO] - 1).abs() < 0.03).all()
    equal_pairs = match["steps"].unstack("method")[[record_runs.PAIRS, record_runs.CHOSEN]]
    assert (equal_pairs == record_runs.STEPS["dpo"]).all(axis=None)
    assert compute[record_runs.CHOSEN].equals(compute[record_runs.PAIRS])  # the same pairs in the same order


def test_the_recorded_win_rates_fit_the_scores_of_the_match():
    """Whoever wins more often does not have the lower score."""
    match = recorded("match", "seed", "method")["preferred, %"].unstack("method")
    match.index = [f"seed {seed}" for seed in match.index]
    match.loc["seeds 0–2"] = match.mean()
    wins = recorded("match_wins", "ours", "theirs", "runs")
    assert len(wins) >= 7 and {*wins.index.get_level_values("theirs")} == {record_runs.DPO, record_runs.CHOSEN}
    for (ours, theirs, runs), (rate, low, high) in wins.iterrows():
        assert low <= rate <= high
        assert abs(rate - 50 - (match.loc[runs, ours] - match.loc[runs, theirs]) / 2) < 3
    seeds = wins.xs(record_runs.COMPUTE).drop("seeds 0–2", level="runs")["win rate, %"]
    mean = wins["win rate, %"][record_runs.COMPUTE, record_runs.DPO, "seeds 0–2"]
    assert mean == pytest.approx(seeds.mean(), abs=0.2)  # of rounded ones


def means_are_of_the_seeds_and_one_row_of_the_default(sweep, row, default):
    for what in ("preferred", "fluent"):
        low, mean, high = (sweep[f"{what}, {part}"] for part in ("low", "%", "high"))
        seeds = sweep[[f"{what}, seed {seed}" for seed in record_runs.SEEDS]]
        assert ((low <= mean) & (mean <= high)).all()
        assert ((seeds.mean(axis=1) - mean).abs() <= 0.1).all()  # each is rounded
        assert list(seeds.loc[row]) == list(default[what])


def test_the_recorded_sweep_is_the_default_run_with_other_weights():
    sweep, default = recorded("sweep", "λ"), recorded("orpo_seeds", "seed", "model").xs("orpo", level="model")
    assert list(sweep.index) == list(record_runs.LAMS)
    means_are_of_the_seeds_and_one_row_of_the_default(sweep, record_runs.LAM, default)
    assert sweep["log odds ratio"].is_monotonic_increasing
    wins = sweep[f"win rate against λ = {record_runs.LAM}, %"]
    assert wins.isna().tolist() == [lam == record_runs.LAM for lam in sweep.index]
    gain = (sweep["preferred, %"] - sweep["preferred, %"][record_runs.LAM]) / 2
    assert ((wins - 50 - gain).dropna().abs() < 3).all()


def test_the_recorded_sweep_over_beta_is_the_default_run_with_other_betas_and_rates():
    betas, default = (
        recorded("betas", "learning rate", "β"),
        recorded("dpo_seeds", "seed", "model").xs("dpo", level="model"),
    )
    assert list(betas.index) == [(rate, beta) for rate in record_runs.RATES for beta in record_runs.BETAS]
    means_are_of_the_seeds_and_one_row_of_the_default(betas, ("sound", record_runs.BETA), default)
    for rate in record_runs.RATES:  # a higher β stays closer to the reference, whatever the margin says
        assert betas.loc[rate]["margin"].is_monotonic_increasing
        assert all(betas.loc[rate][name].is_monotonic_decreasing for name in ("KL, nats", "margin / β"))
    fallen = -betas["log-ratio of chosen, nats"] > betas["margin / β"] / 2  # what the lesson says of a collapse
    assert (
        (betas["preferred, %"][fallen] < 75).all() and (betas["preferred, %"][~fallen] > 80).all() and fallen.sum() == 3
    )


def cell_of(lang, name):
    return next(cell for cell in cells(lang, "orpo_finetuning_example.ipynb") if cell.id == name)


@pytest.mark.parametrize("lang", ["en", "vi"])
def test_each_number_that_the_text_says_of_the_sweep_and_the_match_is_recorded(lang):
    match = recorded("match", "seed", "method")
    fluent = match["fluent, %"].unstack("method")
    lost = {*(fluent[[record_runs.PAIRS, record_runs.DPO]].sub(fluent[record_runs.COMPUTE], axis=0).round(1).stack())}
    curves = "".join(out.data["text/html"] for out in cell_of(lang, "terms").outputs)
    before = numbers_with_a_decimal(" ".join(re.findall(r'alt="([^"]+)', curves)))
    for name, records, more in (
        ("sweep-read", [recorded("sweep").stack()], before),
        ("match-read", [match["preferred, %"], recorded("match_wins").select_dtypes("number").stack()], lost),
    ):
        values = [abs(value) for record in records for value in pd.to_numeric(record)]
        known = {round(value, places) for value in values for places in (1, 2, 3)} | more
        of_a_paper = r"<details><summary>[^<]*λ = 10.*?</details>"
        said = numbers_with_a_decimal(re.sub(of_a_paper, "", cell_of(lang, name).source, flags=re.DOTALL))
        assert len(said) >= 8 and said <= known, name
