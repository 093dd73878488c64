import matplotlib.pyplot as plt
import pandas as pd
import pytest

import course_utils as cu
from course_utils.i18n import set_language
from course_utils.world import Verdict

LOG = [
    {
        "step": i,
        "rewards/margins": 0.1 * i,
        "rewards/chosen": 0.0,
        "rewards/rejected": -0.1 * i,
        "logps/chosen": -5.0,
        "logps/rejected": -5.0 - i,
        "nll_loss": 2.0 / i,
        "log_odds_ratio": -0.7,
    }
    for i in range(1, 21)
]
SWEEP = pd.DataFrame({"preferred": [60.0, 90.0], "fluent": [99.0, 98.0], "nll": [0.24, 0.25]}, index=[0, 0.1])
WINS = {"seed 0": (0.5, 0.45, 0.55), "seed 1": (0.7, 0.6, 0.8)}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.mark.parametrize(
    ("method", "formula", "unit"), [("dpo", "ref", "summed"), ("orpo", r"\frac{1}{|y_w|}", "mean")]
)
def test_the_axis_carries_the_formula_and_the_unit_of_its_method(method, formula, unit):
    label = cu.plot_reward_margins(LOG, method).axes[0].get_ylabel()
    assert formula in label and unit in label and "nats" in label


def test_the_alternative_text_tells_the_numbers():
    text = cu.plot_reward_margins(LOG).get_label()
    assert "margin goes from 0.55 to 1.55" in text and "rejected answers from -10.5 to -20.5" in text
    text = cu.plot_verdicts({"a": [Verdict()] * 3 + [Verdict(("fluent",))]}).get_label()
    assert text == "a: 75% preferred, 0% fluent, but breaks a rule, 25% not fluent"
    assert "odds-ratio term from 0.70 to 0.70" in cu.plot_orpo_terms(LOG).get_label()
    assert "λ 0.1: preferred 90%, fluent 98%, NLL 0.250" in cu.plot_sweep(SWEEP).get_label()
    text = cu.plot_win_rates(WINS, "ORPO", "DPO").get_label()
    assert text == "How often ORPO beats DPO. seed 0: 50% (45% – 55%); seed 1: 70% (60% – 80%)"


def test_every_figure_has_title_axis_names_and_legend():
    for figure in (
        cu.plot_reward_margins(LOG),
        cu.plot_verdicts({"a": [Verdict()]}),
        cu.plot_orpo_terms(LOG),
        cu.plot_sweep(SWEEP),
        cu.plot_win_rates(WINS, "ORPO", "DPO"),
    ):
        assert len(figure.get_label()) > 20
        for axes in figure.axes:
            assert axes.get_title() and axes.get_xlabel() and axes.get_legend()


def test_figures_speak_the_language_of_the_learner():
    set_language("vi")
    assert cu.plot_reward_margins(LOG).axes[0].get_title() == "Chênh lệch điểm thưởng (reward margin)"


def test_a_log_of_another_run_is_refused():
    with pytest.raises(ValueError, match=r"no 'rewards/margins', only loss, step"):
        cu.plot_reward_margins([{"step": 1, "loss": 1.0}])
    with pytest.raises(ValueError, match="choose one of dpo, orpo"):
        cu.plot_reward_margins(LOG, method="kto")
    with pytest.raises(ValueError, match="no 'nll_loss'"):
        cu.plot_orpo_terms([{"step": 1, "loss": 1.0}])


def test_lines_and_bars_differ_by_more_than_colour():
    for axes in (*cu.plot_reward_margins(LOG).axes[1:], cu.plot_orpo_terms(LOG).axes[2]):
        assert len({line.get_linestyle() for line in axes.lines if line.get_linewidth() == 2}) == 2
    bars = cu.plot_verdicts({"a": [Verdict()]}).axes[0].containers
    assert len({bar[0].get_hatch() for bar in bars}) == 3
