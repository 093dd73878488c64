"""For the learner who waits: a progress bar, and a figure that grows in the notebook while a model trains."""

import time
from typing import ClassVar

from IPython import get_ipython
from IPython.display import display
from tqdm import tqdm
from transformers import TrainerCallback

from ..i18n import _
from ..pages import paragraph
from .figure import Figure, styled
from .plots import FORMULAS, LOGPS, MARGIN, draw


@styled
def progress_figure(log: list[dict], total: int, title: str) -> Figure:
    """The margin and both log-probabilities as they are logged. Where ORPO's λ is 0, the margin is drawn without it."""
    log, what = [entry for entry in log if "logps/chosen" in entry], _("The margin")
    method = "orpo" if any("log_odds_ratio" in entry for entry in log) else "dpo"
    if method == "orpo" and not any(entry["rewards/margins"] for entry in log):
        log = [{**entry, "rewards/margins": entry["logps/chosen"] - entry["logps/rejected"]} for entry in log]
        what = _("The margin before λ")
    *_others, logp, unit = FORMULAS[method]
    figure = Figure(9.5, 3.7)
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    draw(left, log, what, MARGIN, _(unit))
    draw(right, log, _("Log-probability of the answers"), LOGPS, f"{logp}\n({_(unit)})")
    for axes in (left, right):
        axes.set_xlim(0, total)
    return figure.with_legend()


class ShowProgress(TrainerCallback):
    """A progress bar, and in a notebook `progress_figure`; trainings in one cell share its place.

    A training that ran to its end leaves only the figure's words, because then its whole log can be drawn. Two drawings
    are at least 2 seconds apart, and 40 times what one takes: less than 3% of the time goes into them.
    """

    place: ClassVar[tuple] = (None, None)  # the cell that was run, and its display

    def __init__(self, clock=time.perf_counter):
        self.clock, self.bar, self.state = clock, None, None

    def on_train_begin(self, args, state, control, **kwargs):
        """Begin where the training begins: after a checkpoint, not at 0."""
        hidden = not state.is_world_process_zero
        self.bar = tqdm(initial=state.global_step, total=state.max_steps, mininterval=1, ncols=88, disable=hidden)
        self.begin, self.due = self.clock(), self.clock() + 2

    def on_log(self, args, state, control, logs, **kwargs):
        if "loss" in logs and state.is_world_process_zero:
            self.state = state
            shown = {"loss": logs["loss"], "margin": logs.get("rewards/margins")}
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items() if value is not None})
            if self.clock() >= self.due:
                pace = (self.clock() - self.begin) / (state.global_step - self.bar.initial or 1)
                minutes, seconds = divmod(round(pace * (state.max_steps - state.global_step)), 60)
                self.redraw(_("step {step} of {total}, {time} left"), time=f"{minutes}:{seconds:02}")

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(1)

    def close(self):
        """Leave the whole bar, and the whole figure or its words."""
        if self.bar is not None:
            self.bar.close()
            self.redraw(_("step {step} of {total}"))

    def redraw(self, title: str, **time: str) -> None:
        """Draw the log so far, in place of what this cell has drawn; nothing without a notebook or a margin."""
        shell, state, start = get_ipython(), self.state, self.clock()
        if hasattr(shell, "kernel") and state and any("rewards/margins" in entry for entry in state.log_history):
            title = title.format(step=state.global_step, total=state.max_steps, **time)
            figure = progress_figure(state.log_history, state.max_steps, title)
            words = figure.alt_text
            page = paragraph(words) if state.global_step >= state.max_steps else figure._repr_html_()
            shown = {"text/plain": words, "text/html": page}
            cell, handle = ShowProgress.place
            if cell == shell.execution_count:
                handle.update(shown, raw=True)
            else:
                ShowProgress.place = shell.execution_count, display(shown, raw=True, display_id=True)
            self.due = self.clock() + max(2, 40 * (self.clock() - start))
