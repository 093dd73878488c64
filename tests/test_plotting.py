import matplotlib.pyplot as plt
import pandas as pd
import pytest

import course_utils as cu
from course_utils.i18n import set_language
from course_utils.plotting import plot_kl_lab, plot_loss
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
        "rewards/accuracies": min(1.0, 0.1 * i),
    }
    for i in range(1, 21)
]
SWEEP = pd.DataFrame({"preferred": [60.0, 90.0], "fluent": [99.0, 98.0], "nll": [0.24, 0.25]}, index=[0, 0.1])
JUDGED = {"sound": (LOG, [(1, 60, 99), (20, 95, 98)]), "ruined": (LOG, [(1, 60, 99), (20, 0, 3)])}
LENGTHS = {"chosen": [1, 2, 3], "rejected": [1, 2, 3]}
EARNED = {"chosen": [1.0, 2.0, 3.0], "rejected": [3.0, 2.0, 1.0]}
CURVE = ([-1, 0, 1], [1.31, 0.69, 0.31], [0.73, 0.5, 0.27])
POLICIES = {"reference": [0.5, 0.5], "best": [0.7, 0.3], "found": [0.7, 0.3]}
PATH = ([0.1, 1, 10], [2.0, 0.5, 0.0], [1.5, 1.0, 0.5])
WINS = {"seed 0": (0.5, 0.45, 0.55), "seed 1": (0.7, 0.6, 0.8)}


def explained():
    """The figures that lines and markers must tell apart."""
    return (
        cu.plot_judge_against_margin(JUDGED),
        cu.plot_length_against_reward(LENGTHS, EARNED),
        plot_loss("dpo", CURVE, (0.0, 0.69, 0.5)),
        plot_loss("orpo", CURVE, (0.0, 0.69, 0.5), nll=0.3),
        plot_kl_lab(["a", "b"], POLICIES, PATH, (1.0, 0.5, 1.0)),
        cu.plot_accuracy(LOG),
    )


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


def test_the_alternative_text_of_the_new_figures_tells_the_numbers():
    judged, lengths, loss, _orpo, lab, accuracy = (figure.get_label() for figure in explained())
    assert "ruined: the margin goes from 0.55 to 1.55, the answers that the judge prefers from 60% to 0%" in judged
    assert lengths.endswith("chosen: correlation r = +1.00; rejected: correlation r = -1.00.")
    assert "margin 0.00, loss 0.690, weight 0.500" in loss
    assert "β = 1: KL 0.50 nats, mean reward 1.00. reference: a 50%, b 50%; best: a 70%, b 30%" in lab
    assert "from 55% to 100%" in accuracy


def test_the_runs_of_one_sheet_share_their_scales():
    axes = cu.plot_judge_against_margin(JUDGED).axes
    for row in (axes[:2], axes[2:]):
        assert len({axis.get_ylim() for axis in row}) == 1
    assert len({axis.get_xlim() for axis in axes}) == 1


def test_lines_of_one_chart_differ_by_style_marker_or_width_and_bars_by_hatch():
    for figure in explained():
        for axes in figure.axes:
            named = [line for line in axes.lines if not line.get_label().startswith("_")]
            styles = [(line.get_linestyle(), line.get_marker(), line.get_linewidth()) for line in named]
            assert len(set(styles)) == len(styles), axes.get_title()
    bars = plot_kl_lab(["a", "b"], POLICIES, PATH, (1.0, 0.5, 1.0)).axes[0].containers
    assert len({bar[0].get_hatch() for bar in bars}) == 3


def test_the_loss_axis_starts_at_zero_so_that_a_small_lambda_looks_small():
    assert plot_loss("orpo", CURVE, (0.0, 0.69, 0.5), nll=0.3).axes[0].get_ylim()[0] == 0


def test_every_figure_has_title_axis_names_and_legend():
    for figure in (
        cu.plot_reward_margins(LOG),
        cu.plot_verdicts({"a": [Verdict()]}),
        cu.plot_orpo_terms(LOG),
        cu.plot_sweep(SWEEP),
        cu.plot_win_rates(WINS, "ORPO", "DPO"),
        *explained(),
    ):
        assert len(figure.get_label()) > 20
        for axes in figure.axes:
            assert axes.get_title() and axes.get_xlabel() and axes.get_legend()


def test_figures_speak_the_language_of_the_learner():
    set_language("vi")
    assert cu.plot_reward_margins(LOG).axes[0].get_title() == "Chênh lệch điểm thưởng (reward margin)"


def test_a_log_of_another_run_is_refused():
    with pytest.raises(ValueError, match=r"no “rewards/margins”, only loss, step"):
        cu.plot_reward_margins([{"step": 1, "loss": 1.0}])
    with pytest.raises(ValueError, match="choose one of dpo, orpo"):
        cu.plot_reward_margins(LOG, method="kto")
    with pytest.raises(ValueError, match="no “rewards/accuracies”"):
        cu.plot_accuracy([{"step": 1, "loss": 1.0}])
    with pytest.raises(ValueError, match="got no run; expected"):
        cu.plot_judge_against_margin({})
    with pytest.raises(ValueError, match="got 3 lengths and 0 rewards of chosen answers; expected as many of each"):
        cu.plot_length_against_reward(LENGTHS, {})
    with pytest.raises(ValueError, match="no “nll_loss”"):
        cu.plot_orpo_terms([{"step": 1, "loss": 1.0}])


def test_lines_and_bars_differ_by_more_than_colour():
    for axes in (*cu.plot_reward_margins(LOG).axes[1:], cu.plot_orpo_terms(LOG).axes[2]):
        assert len({line.get_linestyle() for line in axes.lines if line.get_linewidth() == 2}) == 2
    bars = cu.plot_verdicts({"a": [Verdict()]}).axes[0].containers
    assert len({bar[0].get_hatch() for bar in bars}) == 3
