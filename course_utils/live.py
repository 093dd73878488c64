"""A figure that grows in the notebook while a model trains."""

import time
from typing import ClassVar

from IPython import get_ipython
from IPython.display import HTML, display
from matplotlib.figure import Figure
from tqdm import tqdm
from transformers import TrainerCallback

from .i18n import _
from .plotting import BLUE, VERMILLION, draw, ends, picture


class LiveFigure:
    """The margin and both log-probabilities as they are logged; nothing where no notebook shows it.

    A redraw is followed by a wait of at least `pause` seconds, and of 40 times as long as it took: so drawing takes
    less than 3% of the time. What stays in the notebook, drawn once more at the end, is a plain picture. Several
    trainings in one cell share the place: the last one stays.
    """

    place: ClassVar[tuple] = (None, None)  # the cell that was run, and its display

    def __init__(self, pause: float = 2.0, clock=time.perf_counter):
        self.clock, self.pause = clock, pause
        self.due = clock() + pause
        self.shown = hasattr(get_ipython(), "kernel")
        self.last = None

    def update(self, log: list[dict], step: int, total: int, seconds_left: float) -> None:
        """Redraw if it is time. log: TRL's log_history so far; seconds_left: until the last step."""
        self.last = log, step, total
        if self.clock() >= self.due:
            minutes, seconds = divmod(round(seconds_left), 60)
            self.redraw(_("step {step} of {total}, {time} left"), time=f"{minutes}:{seconds:02}")

    def close(self) -> None:
        """Draw the whole run a last time."""
        if self.last:
            self.redraw(_("step {step} of {total}"))

    def redraw(self, title: str, **words: str) -> None:
        log, step, total = self.last
        if not self.shown or not any("rewards/margins" in entry for entry in log):
            return
        start = self.clock()
        figure = Figure(figsize=(9, 3))
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.07, right=0.98, bottom=0.16, top=0.82, wspace=0.18)
        curves = {
            "m": draw(left, log, "rewards/margins", _("margin, mean of 10 steps"), color=BLUE),
            "c": draw(right, log, "logps/chosen", _("chosen"), color=BLUE),
            "r": draw(right, log, "logps/rejected", _("rejected"), color=VERMILLION, linestyle="--"),
        }
        means = any("log_odds_ratio" in entry for entry in log)  # ORPO's
        unit = _("mean per token, nats") if means else _("summed over tokens, nats")
        left.set(title=_("Reward margin"))
        right.set(title=_("Log-probability of the answers"))
        for axes in (left, right):
            axes.set(xlabel=_("step"), ylabel=unit, xlim=(0, total))
            axes.grid(alpha=0.3)
        left.legend(loc="upper left")
        right.legend(loc="lower left")
        title = title.format(step=step, total=total, **words)
        figure.suptitle(title)
        told = _(
            "the margin goes from {m0:.2f} to {m1:.2f}, the log-probability of chosen answers from {c0:.1f} to "
            "{c1:.1f}, that of rejected answers from {r0:.1f} to {r1:.1f}."
        ).format(**ends(curves))
        figure.set_label(f"{title}: {told}")
        image = HTML(picture(figure, dpi=80, bbox_inches=None))
        cell, handle = get_ipython().execution_count, LiveFigure.place[1]
        if LiveFigure.place[0] == cell:
            handle.update(image)
        else:
            LiveFigure.place = cell, display(image, display_id=True)
        self.due = self.clock() + max(self.pause, 40 * (self.clock() - start))


class ShowProgress(TrainerCallback):
    """A progress bar with the loss and the reward margin, and the live figure."""

    bar = None

    def on_train_begin(self, args, state, control, **kwargs):
        hidden = not state.is_world_process_zero
        self.bar = tqdm(initial=state.global_step, total=state.max_steps, mininterval=1, ncols=88, disable=hidden)
        self.figure = LiveFigure()

    def on_log(self, args, state, control, logs, **kwargs):
        if "loss" in logs and state.is_world_process_zero:
            shown = {"loss": logs["loss"], "margin": logs.get("rewards/margins")}
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items() if value is not None})
            done = self.bar.format_dict
            left = done["elapsed"] / (done["n"] - done["initial"] or 1) * (done["total"] - done["n"])
            self.figure.update(state.log_history, state.global_step, state.max_steps, left)

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(1)

    def close(self):
        if self.bar is not None:
            self.bar.close()
            self.figure.close()
