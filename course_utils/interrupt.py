"""For the curious: what ends a training early, and where an interrupted one goes on."""

import math
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import reduce
from transformers import TrainerCallback, TrainingArguments

from .i18n import _


class Guard(TrainerCallback):
    """Ends a training after the step at hand when asked to, and at the first value that is NaN or infinite."""

    def __init__(self, interrupt: threading.Event):
        self.interrupt = interrupt

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step >= state.max_steps:
            raise Complete  # the Trainer would take one more step

    def on_log(self, args, state, control, logs, **kwargs):
        for name, value in logs.items():
            skipped = args.fp16 and name == "grad_norm"  # fp16's loss scaler leaves such a step out, and scales less
            if not math.isfinite(value) and not skipped:
                words = _("step {step}: {name} is {value}; lower the learning rate or look at the last rows")
                raise FloatingPointError(words.format(step=state.global_step, name=name, value=value))

    def on_step_end(self, args, state, control, **kwargs):
        asked = torch.tensor(float(self.interrupt.is_set()), device=args.device)
        if reduce(asked) > 0:  # of several processes one may have heard of it before a step, another after
            control.should_training_stop = True
            control.should_save = args.save_strategy != "no"


class Complete(Exception):
    """The checkpoint to go on from was made after the last step."""


@contextmanager
def first_interrupt() -> Iterator[threading.Event]:
    """An event that the first interrupt sets, instead of breaking off; the second one breaks off as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # where no interrupt arrives
        yield asked
        return

    def ask(_number, _frame):
        asked.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def same_random_state() -> Iterator[None]:
    """Leave Python's, NumPy's and PyTorch's random numbers as if nothing had been drawn or seeded."""
    with ExitStack() as kept, torch.random.fork_rng():
        kept.callback(random.setstate, random.getstate())
        kept.callback(np.random.set_state, np.random.get_state())
        yield


def checkpoint_of(args: TrainingArguments) -> str | None:
    """Where to go on: the checkpoint that the settings name, with True the last whole one in `output_dir`, if any."""
    if str(args.resume_from_checkpoint).lower() != "true":  # a word, when it comes from a command line
        return args.resume_from_checkpoint
    whole = [file.parent for file in Path(str(args.output_dir)).glob("checkpoint-*/trainer_state.json")]  # written last
    return str(max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]))) if whole else None
