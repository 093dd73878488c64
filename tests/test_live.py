from itertools import pairwise
from types import SimpleNamespace

import pytest
from transformers import TrainerState

from course_utils.figures.figure import Figure
from course_utils.figures.live import ShowProgress, progress_figure

ENTRY = {"rewards/margins": 0.5, "logps/chosen": -5.0, "logps/rejected": -6.0}


class Notebook:
    """A clock that only work moves, and what is shown while it runs."""

    def __init__(self, monkeypatch, cost, kernel=True):
        self.now, self.drawn, self.cost, self.shown = 0.0, 0.0, cost, []
        shell = self.shell = SimpleNamespace(execution_count=1, **({"kernel": None} if kernel else {}))
        monkeypatch.setattr("course_utils.figures.live.get_ipython", lambda: shell)
        monkeypatch.setattr("course_utils.figures.live.display", self.display)
        monkeypatch.setattr(ShowProgress, "place", (None, None))
        monkeypatch.setattr(Figure, "png", lambda _figure: b"")  # `cost` stands for what drawing takes

    def display(self, page, raw, display_id):
        self.update(page, raw)
        return self

    def update(self, page, raw):
        self.now += self.cost
        self.drawn += self.cost
        self.shown.append((self.now, page["text/plain"]))
        self.is_picture = "<img" in page["text/html"]

    def train(self, seconds, step_time=0.25, entry=ENTRY, left=0):
        live, steps = ShowProgress(clock=lambda: self.now), int(seconds / step_time)
        state = TrainerState(max_steps=steps + left)
        live.on_train_begin(None, state, None)
        for step in range(1, steps + 1):
            self.now += step_time
            state.global_step = step
            state.log_history.append({"step": step, **entry})
            live.on_step_end(None, state, None)
            live.on_log(None, state, None, {"loss": 1.0, **entry})
        before = self.drawn
        live.close()
        return before


@pytest.mark.parametrize("cost", [0.01, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("seconds", [30, 300])
def test_drawing_takes_less_than_3_percent_of_the_time(monkeypatch, cost, seconds):
    notebook = Notebook(monkeypatch, cost)
    spent = notebook.train(seconds)
    assert spent - cost <= 0.03 * seconds  # the first drawing must be made to be measured
    times = [time for time, _page in notebook.shown[:-1]]
    assert all(b - a >= max(2, 40 * cost) for a, b in pairwise(times))


def test_a_cheap_picture_is_redrawn_about_every_two_seconds(monkeypatch):
    notebook = Notebook(monkeypatch, cost=0.01)
    notebook.train(30)
    assert 12 <= len(notebook.shown) <= 16


def test_the_title_counts_down_and_the_last_words_are_of_the_whole_run(monkeypatch):
    notebook = Notebook(monkeypatch, cost=0.01)
    notebook.train(100)
    assert not notebook.is_picture
    told = [text for _time, text in notebook.shown]
    assert told[0].startswith("step 8 of 400, 1:38 left. The margin stays at 0.50.")
    assert told[-1].startswith("step 400 of 400.") and "left" not in told[-1]


@pytest.mark.parametrize(("extra", "unit"), [({}, "summed over tokens"), ({"log_odds_ratio": -0.7}, "mean per token")])
def test_the_axes_name_the_unit_of_the_method(extra, unit):
    axes = progress_figure([{"step": 1, **ENTRY, **extra}], 10, "").axes
    assert all(f"{unit}, nats" in panel.get_ylabel() and panel.get_xlim() == (0, 10) for panel in axes)


def test_orpo_with_lambda_zero_shows_the_margin_before_lambda():
    log = [{"step": i, **ENTRY, "rewards/margins": 0.0, "log_odds_ratio": -0.7} for i in (1, 2)]
    assert "The margin before λ stays at 1.00." in progress_figure(log, 2, "").alt_text
    assert log[0]["rewards/margins"] == 0


def test_a_short_run_leaves_its_words_and_a_broken_one_its_picture(monkeypatch):
    notebook = Notebook(monkeypatch, cost=0.01)
    notebook.train(1)
    assert len(notebook.shown) == 1 and not notebook.is_picture
    notebook.train(1, left=2)
    assert len(notebook.shown) == 2 and notebook.is_picture
    assert notebook.shown[-1][1].startswith("step 4 of 6.")


@pytest.mark.parametrize(("kernel", "entry"), [(False, ENTRY), (True, {"loss": 1.0})])
def test_nothing_is_drawn_without_a_notebook_or_a_margin(monkeypatch, kernel, entry):
    notebook = Notebook(monkeypatch, cost=0.01, kernel=kernel)
    notebook.train(20, entry=entry)
    assert not notebook.shown


def test_a_training_that_never_began_leaves_nothing(monkeypatch):
    notebook = Notebook(monkeypatch, cost=0.01)
    ShowProgress().close()
    assert not notebook.shown


def test_trainings_in_one_cell_share_one_picture_and_another_cell_gets_its_own(monkeypatch):
    notebook = Notebook(monkeypatch, cost=0.01)
    places = []
    monkeypatch.setattr(
        "course_utils.figures.live.display", lambda page, raw, display_id: places.append(page) or notebook
    )
    notebook.train(10)
    notebook.train(10)
    assert len(places) == 1
    notebook.shell.execution_count = 2
    notebook.train(10)
    assert len(places) == 2
