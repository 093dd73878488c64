"""For the learner who waits: a progress bar, and a figure that grows in the notebook while a model trains."""

import time
from typing import ClassVar

from IPython import get_ipython
from IPython.display import display
from tqdm import tqdm
from transformers import TrainerCallback

from ..i18n import _
from .curves import FORMULAS, SINGLE, draw, sides, unit_of
from .figure import Figure, styled


@styled
def progress_figure(log: list[dict], total: int, title: str) -> Figure:
    """The margin and both log-probabilities as they are logged. ORPO's margin is drawn without λ, which may be 0."""
    method = "orpo" if any("log_odds_ratio" in entry for entry in log) else "dpo"
    log = [dict(entry) for entry in log if "logps/chosen" in entry]
    for entry in log if method == "orpo" else ():
        entry["rewards/margins"] = entry["logps/chosen"] - entry["logps/rejected"]
    figure = Figure(9.5, 3.7)
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    what = _("The margin") if method == "dpo" else _("The margin before λ")
    draw(left, log, what, {"rewards/margins": (_("margin"), SINGLE)}, unit_of(method))
    draw(right, log, _("Log-probability of the answers"), sides("logps"), f"{FORMULAS[method][2]}\n({unit_of(method)})")
    for axes in (left, right):
        axes.set_xlim(0, total)
    return figure.with_legend()


class LiveFigure:
    """`progress_figure`, as a model trains; nothing where no notebook shows it.

    A redraw is followed by a wait of at least `pause` seconds, and of 40 times as long as it took: so drawing takes
    less than 3% of the time. What stays in the notebook, drawn once more at the end, is a plain picture. Several
    trainings in one cell share the place: the last one stays.
    """

    place: ClassVar[tuple] = (None, None)  # the cell that was run, and its display

    def __init__(self, pause: float = 2.0, clock=time.perf_counter):
        self.clock, self.pause = clock, pause
        self.due = clock() + pause
        self.shown = hasattr(get_ipython(), "kernel")
        self.last: tuple = ()

    def update(self, log: list[dict], step: int, total: int, seconds_left: float) -> None:
        """Redraw if it is time. log: TRL's log_history so far; seconds_left: until the last step."""
        self.last = log, step, total
        if self.clock() >= self.due:
            minutes, seconds = divmod(round(seconds_left), 60)
            self._redraw(_("step {step} of {total}, {time} left"), time=f"{minutes}:{seconds:02}")

    def close(self) -> None:
        """Draw the whole run a last time."""
        if self.last:
            self._redraw(_("step {step} of {total}"))

    def _redraw(self, title: str, **words: str) -> None:
        log, step, total = self.last
        if not self.shown or not any("rewards/margins" in entry for entry in log):
            return
        start = self.clock()
        figure = progress_figure(log, total, title.format(step=step, total=total, **words))
        cell, handle = get_ipython().execution_count, LiveFigure.place[1]
        if LiveFigure.place[0] == cell:
            handle.update(figure)
        else:
            LiveFigure.place = cell, display(figure, display_id=True)
        self.due = self.clock() + max(self.pause, 40 * (self.clock() - start))


class ShowProgress(TrainerCallback):
    """A progress bar with the loss and the reward margin, and the live figure."""

    bar = None

    def on_train_begin(self, args, state, control, **kwargs):
        """Begin where the training begins: after a checkpoint, not at 0."""
        hidden = not state.is_world_process_zero
        self.bar = tqdm(initial=state.global_step, total=state.max_steps, mininterval=1, ncols=88, disable=hidden)
        self.figure = LiveFigure()

    def on_log(self, args, state, control, logs, **kwargs):
        """Show the newest numbers."""
        if "loss" in logs and state.is_world_process_zero:
            shown = {"loss": logs["loss"], "margin": logs.get("rewards/margins")}
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items() if value is not None})
            done = self.bar.format_dict
            left = done["elapsed"] / (done["n"] - done["initial"] or 1) * (done["total"] - done["n"])
            self.figure.update(state.log_history, state.global_step, state.max_steps, left)

    def on_step_end(self, args, state, control, **kwargs):
        """Count the step."""
        self.bar.update(1)

    def close(self):
        """Leave the whole bar and the whole figure."""
        if self.bar is not None:
            self.bar.close()
            self.figure.close()
