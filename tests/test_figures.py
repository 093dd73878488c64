import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display
from IPython.utils.capture import capture_output

import course_utils as cu
from course_utils.figures.figure import Figure, styled
from course_utils.i18n import set_language
from course_utils.world import Verdict

ROOT = Path(__file__).parents[1]

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
FAR_OUT = [{**entry, "logps/chosen": -500.0} if entry["step"] == 17 else entry for entry in LOG]
GROUPS = pd.MultiIndex.from_product([["slow", "fast"], [0, 0.1]])
TWO_SWEEPS = pd.DataFrame({"preferred": [60.0, 80.0, 60.0, 3.0], "KL": [0.5, 0.4, 60.0, 30.0]}, index=GROUPS)
TENFOLD = [{**entry, "rewards/margins": 10 * entry["rewards/margins"]} for entry in LOG]
JUDGED = {"healthy": (LOG, [(1, 60, 99), (20, 95, 98)]), "collapsed": (TENFOLD, [(1, 60, 99), (20, 0, 3)])}
LENGTHS = {"chosen": [1, 2, 3], "rejected": [1, 2, 3]}
EARNED = {"chosen": [1.0, 2.0, 3.0], "rejected": [3.0, 2.0, 1.0]}
WINS = {"seed 0": (0.5, 0.45, 0.55), "seed 1": (0.7, 0.6, 0.8), "seed 2": (0.3, 0.2, 0.4)}


SHARES = {"preferred, %": [40.0, 60.0], "preferred, low": [35.0, 55.0], "preferred, high": [45.0, 65.0]}
ARMS = pd.DataFrame(SHARES | {"preferred, seed 0": [41.0, 59.0]}, index=["length, similar", "length, sigmoid_norm"])


def of(explorer):
    """An explorer's picture."""
    values = {name: control.value for name, control in explorer.controls.items()}
    (figure,) = (part for part in styled(explorer.draw)(**values) if isinstance(part, Figure))
    return figure


def every():
    """One of each figure."""
    return {
        "explored: DPO": of(cu.explore_dpo_loss()),
        "explored: ORPO": of(cu.explore_orpo_loss()),
        "explored: KL": of(cu.explore_kl()),
        "margins": cu.plot_reward_margins(LOG),
        "margins of ORPO": cu.plot_reward_margins(LOG, "orpo"),
        "a step far out": cu.plot_sides({"a": FAR_OUT}, method="orpo"),
        "terms": cu.plot_orpo_terms(LOG),
        "sides": cu.plot_sides({"a": LOG, "b": TENFOLD}, "rewards"),
        "sides of ORPO": cu.plot_sides({"a": LOG}, method="orpo"),
        "odds": cu.plot_why_odds(),
        "accuracy": cu.plot_accuracy(LOG),
        "judged": cu.plot_judge_against_margin(JUDGED),
        "lengths": cu.plot_length_against_reward(LENGTHS, EARNED),
        "sweep": cu.plot_sweep(SWEEP),
        "sweeps": cu.plot_sweep(TWO_SWEEPS, beside="KL"),
        "arms": cu.plot_arms(ARMS),
        "wins": cu.plot_win_rates(WINS, "DPO"),
        "verdicts": cu.plot_verdicts({"a": [Verdict()] * 3 + [Verdict(("fluent",))]}),
    }


@pytest.fixture(scope="module")
def figures():
    return every()


@pytest.fixture
def shell():
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def test_a_figure_shows_itself_once_with_its_alternative_text(shell, monkeypatch):
    """As the last line of a cell, whose value a kernel formats, and by `display`."""
    drawn, png, figure = [], Figure.png, cu.plot_accuracy(LOG)
    monkeypatch.setattr(Figure, "png", lambda figure: drawn.append(figure) or png(figure))
    formatted, _metadata = shell.display_formatter.format(figure)
    with capture_output() as captured:
        display(figure)
    (output,) = captured.outputs
    assert drawn == [figure, figure] and output.data == formatted and set(formatted) == {"text/html", "text/plain"}
    page, text = formatted["text/html"], formatted["text/plain"]
    assert page.count("<img") == 1 and f'alt="{figure.alt_text}"' in page and text == figure.alt_text
    assert " at 0x" not in page + text


def test_drawing_needs_no_pyplot_and_importing_the_course_neither():
    code = "import sys, course_utils as cu; cu.plot_accuracy([{'step': 1, 'rewards/accuracies': 0.5}])._repr_html_(); "
    run = [sys.executable, "-c", code + "sys.exit('matplotlib.pyplot' in sys.modules)"]
    assert subprocess.run(run, cwd=ROOT, check=False).returncode == 0


def test_the_style_stays_within_the_figures():
    import matplotlib

    before = dict(matplotlib.rcParams)
    every()
    assert dict(matplotlib.rcParams) == before


def test_pictures_are_small_and_as_sharp_as_a_dense_screen():
    logs = json.loads((ROOT / "data_samples" / "logs.json").read_text(encoding="utf-8"))
    judged = json.loads((ROOT / "data_samples" / "judged.json").read_text(encoding="utf-8"))
    runs = {name: (run["log"], run["points"]) for name, run in judged.items()}
    for figure in (*map(cu.plot_reward_margins, logs.values()), cu.plot_judge_against_margin(runs)):
        page = figure._repr_html_()
        png = base64.b64decode(re.search(r'base64,([^"]+)"', page)[1])
        assert len(page) <= 40_000
        assert int.from_bytes(png[16:20], "big") == 2 * int(re.search(r'width="(\d+)"', page)[1]) <= 2 * 950


def test_words_that_come_from_data_are_escaped():
    page = cu.plot_win_rates({'<b>"seed"': (0.5, 0.4, 0.6)}, "<i>")._repr_html_()
    assert "<b>" not in page and "<i>" not in page and page.count('"') == 8


@pytest.mark.parametrize(
    ("method", "formula", "unit"), [("dpo", r"\beta", "summed"), ("orpo", r"\lambda\,(\frac{1}{|y_w|}", "mean")]
)
def test_the_axis_carries_the_formula_and_the_unit_of_its_method(method, formula, unit):
    labels = [axes.get_ylabel() for axes in cu.plot_reward_margins(LOG, method).axes]
    assert formula in labels[0] and all(unit in label and "nats" in label for label in labels)
    assert (r"\frac{1}{|y|}" in labels[2]) == (unit == "mean") and ("ref" in labels[0]) == (method == "dpo")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("margins", "The margin grows from 0.55 to 1.55. Rewards of the answers: chosen from 0.00 to 0.00, rejected"),
        ("margins", "Log-probability of the answers: chosen from -5.00 to -5.00, rejected from -10.50 to -20.50."),
        ("terms", "The NLL falls from 0.59 to 0.13. The odds-ratio term stays at 0.70."),
        ("accuracy", "The reward accuracy grows from 55% to 100%."),
        ("judged", "collapsed: the margin grows from 5.50 to 15.50"),
        ("judged", "collapsed: what the judge says, %: preferred from 60 to 0, fluent from 99 to 3"),
        ("lengths", "chosen +1.00, rejected -1.00."),
        (
            "sweep",
            "preferred: highest at λ 0.1, with 90.0%. NLL grows from 0.24 to 0.25. preferred: λ 0: 60, λ 0.1: 90",
        ),
        (
            "wins",
            "Against DPO: 1 ahead, 1 behind, 1 undecided. seed 0: 50.0% (45.0% – 55.0%); seed 1: 70.0% (60.0%",
        ),
        (
            "verdicts",
            "Preferred answers: a 75.0%. a: 75.0% preferred, 0.0% fluent, but breaks a rule, 25.0% not fluent.",
        ),
    ],
)
def test_titles_state_the_finding_and_the_alternative_text_tells_the_numbers(figures, name, words):
    assert words in figures[name].alt_text


def test_a_margin_of_zero_before_the_first_update_is_no_accuracy():
    start = {"step": 1, "rewards/margins": 0.0, "rewards/accuracies": 0.0}
    later = [{"step": i, "rewards/margins": 0.1, "rewards/accuracies": 0.8} for i in (2, 3)]
    assert cu.plot_accuracy([start, *later]).alt_text == "The reward accuracy stays at 80%."


def test_the_judge_has_one_scale_and_each_margin_its_own(figures):
    axes = figures["judged"].axes
    assert axes[2].get_ylim() == axes[3].get_ylim() and axes[0].get_ylim()[1] < axes[1].get_ylim()[1] / 5
    assert len({axis.get_xlim() for axis in axes}) == 1


@pytest.mark.parametrize(("name", "panel"), [("sweep", 1), ("terms", 0)])
def test_noise_in_the_nll_does_not_look_like_a_catastrophe(figures, name, panel):
    low, high = figures[name].axes[panel].get_ylim()
    assert high - low >= 0.2 - 1e-9


def test_curves_of_one_figure_differ_by_more_than_colour_and_bars_by_hatch(figures):
    for figure in figures.values():
        named = {line.get_label(): line for axes in figure.axes for line in axes.lines if line.get_linewidth() == 2}
        for axes in figure.axes:
            lines = [
                named[line.get_label()]
                for line in axes.lines
                if line.get_label() in named and line.get_linestyle() != "None"
            ]
            assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(
                {x.get_label() for x in lines}
            )
    assert len({bar[0].get_hatch() for bar in figures["verdicts"].axes[0].containers}) == 3


def test_every_figure_has_titles_axis_names_and_one_legend_outside_its_curves(figures):
    for figure in figures.values():
        figure.draw_without_rendering()
        (legend,) = figure.legends
        words = [text.get_text() for text in legend.texts]
        assert words and len(set(words)) == len(words)
        for axes in figure.axes:
            assert axes.get_title() and axes.get_xlabel() and not legend.get_window_extent().overlaps(axes.bbox)


@pytest.mark.parametrize("lang", ["en", "vi"])
def test_titles_and_labels_of_neighbours_do_not_meet_and_nothing_is_clipped(lang):
    set_language(lang)
    for name, figure in every().items():
        figure.draw_without_rendering()
        titles = [axes.title.get_window_extent() for axes in figure.axes]
        below = [axes.xaxis.label.get_window_extent() for axes in figure.axes]
        for row in (titles, below):
            assert not [1 for i, one in enumerate(row) for other in row[:i] if one.overlaps(other)], name
        words = (
            [axes.yaxis.label.get_window_extent() for axes in figure.axes if axes.get_ylabel()]
            + titles
            + below
            + [figure.legends[0].get_window_extent()]
        )
        for box in words:
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, name
        assert not name.startswith("margins") or lang == "en" or "Điểm thưởng" in figure.alt_text


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


@pytest.mark.parametrize(("lang", "sign"), [("en", "."), ("vi", ",")])
def test_the_numbers_of_a_picture_have_the_decimal_sign_of_the_language(lang, sign):
    set_language(lang)
    figure = cu.plot_sweep(SWEEP)
    figure.png()
    left, right = figure.axes
    ticks = [text.get_text() for text in (*left.get_xticklabels(), *right.get_yticklabels())]
    assert f"0{sign}1" in ticks and {c for tick in ticks for c in tick if not c.isdigit()} == {sign}
    assert f"0{sign}24 " in right.get_title() and f"λ 0{sign}1: 0{sign}25" in figure.alt_text


def test_a_sweep_of_answers_that_nobody_judged_shows_the_fluent_ones():
    figure = cu.plot_sweep(SWEEP.assign(preferred=float("nan")))
    left, right = figure.axes
    assert [line.get_label() for line in left.get_lines()] == ["fluent"] and len(right.get_lines()) == 1
    assert left.get_title() == "fluent: highest at λ 0, with 99.0%" and "preferred" not in figure.alt_text


def test_groups_of_a_sweep_share_their_axes_and_a_span_of_decades_is_logarithmic():
    left, right = cu.plot_sweep(TWO_SWEEPS, beside="KL").axes
    assert [line.get_label() for line in left.lines] == [line.get_label() for line in right.lines] == ["slow", "fast"]
    assert left.get_title() == "slow: highest at λ 0.1, with 80.0%,\nfast: highest at λ 0, with 60.0%"
    assert right.get_yscale() == "log" and cu.plot_sweep(SWEEP).axes[1].get_yscale() == "linear"
    with pytest.raises(ValueError, match="got 3 groups; expected at most 2"):
        cu.plot_sweep(pd.concat([TWO_SWEEPS, TWO_SWEEPS.loc[["slow"]].rename({"slow": "idle"})]), beside="KL")


def test_an_axis_that_runs_share_holds_all_of_them():
    many = [{**entry, "rewards/rejected": 10 * entry["rewards/rejected"]} for entry in LOG]
    for runs in ({"a": LOG, "b": many}, {"b": many, "a": LOG}):
        figure = cu.plot_sides(runs, "rewards", same_axis=True)
        low, high = figure.axes[0].get_ylim()
        assert low < min(entry["rewards/rejected"] for entry in many) and high > 0


def test_a_step_far_out_flattens_no_other_and_is_seen_at_the_edge():
    usual = [0.1 * i for i in range(20)]
    log = [{"step": i, "rewards/margins": 500.0 if i == 17 else usual[i]} for i in range(20)]
    log = [{**LOG[0], **entry} for entry in log]
    axes = cu.plot_reward_margins(log).axes[0]
    seen = {line.get_label(): line for line in axes.lines}
    assert [label for label in seen if "beyond" in label]
    (edge,) = [line for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata())]
    assert list(edge.get_xdata()) == [17]
    (single,) = [line for label, line in seen.items() if "single" in label]
    assert sorted({*single.get_xdata()} | {17}) == list(range(20)) and max(single.get_ydata()) < 2
    assert not [line for line in cu.plot_reward_margins(LOG).axes[0].lines if "beyond" in str(line.get_label())]


def test_no_seed_of_a_sweep_hides_another():
    figure = cu.plot_sweep(SWEEP.assign(**{f"preferred, seed {seed}": [50.0, 80.0] for seed in range(3)}))
    small = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    points = [point for line in small for point in zip(line.get_xdata(), line.get_ydata())]
    assert len({*points}) == len(points) == 6
    assert figure.axes[0].get_ylim()[0] == 50  # none lies below the axis
