"""For whoever adds exercises: a learner's code, run where it can be stopped and can break nothing.

On Linux it runs in a copy of the kernel, made by `fork` in some milliseconds: notebook variables and closures are there,
and whatever it does to memory, random numbers or settings ends with the copy. Windows has no fork, macOS's is not safe,
and a GPU cannot be used in a copy; there it runs in a thread: random numbers, settings and functions that it changed are
put back, and a loop can be ended, but not a call into C, nor code that catches every exception.
"""

import builtins
import contextlib
import copy
import ctypes
import io
import math
import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch
from IPython.utils.capture import capture_output

from .. import losses
from ..i18n import N_, _, shown
from .compare import same, usual

TIME_LIMIT = 10.0  # seconds for one call of a learner's function
MEMORY = 4 << 30  # bytes that it may take
LARGEST = 1 << 26  # bytes of a result
#: Whose objects a result may hold; those of other classes come back as nothing but their kind.
KNOWN = ("torch", "numpy", "fractions", "decimal", "collections", "_codecs")


class CheckFailed(Exception):
    """Ends a check: why the answer does not pass. `code` is shown below the text."""

    def __init__(self, outcome: str, key: str | None, text: str, code: str = ""):
        super().__init__(text)
        self.outcome, self.key, self.text, self.code = outcome, key, text, code


def failed(key: str | None, words: str, code: str = "", outcome: str = "fail", **values: Any) -> CheckFailed:
    """Why an answer does not pass, in the learner's language; names in brackets in the words are among the values."""
    return CheckFailed(outcome, key, _(words).format(**values), code)


class TimeLimitExceeded(BaseException):
    """Stops a learner's code in a thread; a bare `except Exception` does not catch it."""


@dataclass
class Seen:
    """What a function did: a result and its type an example, what it printed on the first, whether it changed inputs.

    gradients: an example, those that reached its tensors of numbers; None where none did, empty where none exist.
    """

    results: list = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    printed: str = ""
    changed: bool = False
    gradients: list = field(default_factory=list)


def safe(error: BaseException) -> str:
    """What an exception says, even if it cannot say it."""
    try:
        return shown(error, 300)
    except Exception:
        return ""


def todo() -> CheckFailed:
    """What ends the check of an exercise that was not tried yet."""
    words = N_("Write your answer in the cell above, then run it. .hint() helps; .solution() tells.")
    return failed(None, words, outcome="todo")


def gradients(function: Callable, case: tuple) -> list[torch.Tensor | None]:
    """The gradients of the sum of a function's results in each tensor of numbers among its arguments."""
    given = copy.deepcopy(case)
    inputs = [one.requires_grad_() for one in given if isinstance(one, torch.Tensor) and one.is_floating_point()]
    found: Sequence[torch.Tensor | None] = [None] * len(inputs)
    if inputs:
        with contextlib.suppress(RuntimeError, AttributeError, TypeError):
            result = function(*given)
            if result.numel() <= LARGEST:
                found = torch.autograd.grad(result.sum(), inputs, allow_unused=True)
    return list(found)


def packed(result: Any) -> bytes:
    """A result as it leaves its process; empty if it cannot, or is too large."""
    if isinstance(result, torch.Tensor) and result.numel() > LARGEST:
        return b""  # expanded: small here, and larger than memory as soon as something is computed with it
    try:
        data = pickle.dumps(result)
    except Exception:
        return b""
    return data if len(data) <= LARGEST else b""


class Unpickler(pickle.Unpickler):
    """Makes no objects of a learner's classes, whose code would run in the kernel."""

    def find_class(self, module, name):
        if module.partition(".")[0] not in KNOWN:
            raise pickle.UnpicklingError(module)
        return super().find_class(module, name)


def unpacked(data: bytes, kind: str) -> Any:
    """A result as it was; else something that has only its kind."""
    try:
        return Unpickler(io.BytesIO(data)).load()
    except Exception:
        return type(kind, (), {"__repr__": lambda self: f"<{kind}>"})()


def observe(function: Callable, cases: Sequence[tuple], wanted: Sequence, send: Callable) -> None:
    """Call a function on copies of the examples, and send what became of each."""
    try:
        for case, want in zip(cases, wanted):
            given = copy.deepcopy(case)
            result = function(*given)
            changed = not all(map(same, case, given))
            printed = shown(sys.stdout.getvalue(), 1000) if hasattr(sys.stdout, "getvalue") else ""
            send("result", packed(usual(result, want)), type(result).__name__, printed, changed)
        for case in cases:
            send("gradients", gradients(function, case))
    except TimeLimitExceeded:
        raise
    except BaseException as error:
        own = getattr(getattr(function, "__code__", None), "co_filename", "site-packages")
        own = "" if "site-packages" in own or "course_utils" in own else own
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
        untried = isinstance(error, NotImplementedError) and not error.args  # torch raises it too, with a message
        send("todo") if untried else send("error", type(error).__name__, safe(error), lines[-1:])
    send("end")


def refused(*_arguments):
    """Takes the place of `input`, which nobody could answer, and of `fork`, whose copies would soon fill the machine."""
    raise RuntimeError(_("a function that is checked can neither ask for input nor start processes"))


def limit_memory() -> None:
    """Let this process take so much more memory than it has now."""
    import resource

    with open("/proc/self/statm") as file:
        wanted = int(file.read().split()[0]) * resource.getpagesize() + MEMORY
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))


@contextlib.contextmanager
def in_a_copy(work: Callable, send: Callable):
    """Run `work` in a copy of this process, which is gone afterwards, whatever happens."""
    with warnings.catch_warnings(action="ignore"):  # that other threads are not copied is as it should be
        child = os.fork()
    if child == 0:
        try:
            os.setsid()  # ■ is for the kernel
            limit_memory()
            torch.set_num_threads(1)  # the threads of the pool were not copied
            builtins.input = os.fork = refused
            with capture_output():
                work(send)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@contextlib.contextmanager
def put_back():
    """Put back afterwards what code in this process may have changed: random numbers, settings, functions."""
    states: list[tuple[Callable, Any]] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),
        (torch.set_rng_state, torch.get_rng_state()),
        (torch.set_default_dtype, torch.get_default_dtype()),
        (sys.setrecursionlimit, sys.getrecursionlimit()),
        (os.chdir, os.getcwd()),
        (os.environ.update, dict(os.environ)),
    ]
    course = sys.modules[__name__.partition(".")[0]]
    touched = (builtins, os, math, torch, torch.Tensor, torch.nn.functional, losses, course)
    rooms = [(one, dict(vars(one))) for one in touched]
    try:
        yield
    finally:
        for room, before in rooms:
            for name, value in before.items():
                if vars(room).get(name) is not value:
                    setattr(room, name, value)
            for name, value in dict(vars(room)).items():
                if name not in before and not isinstance(value, ModuleType):  # which were imported meanwhile
                    delattr(room, name)
        for put, state in states:
            put(state)


@contextlib.contextmanager
def in_a_thread(work: Callable, send: Callable):
    """Run `work` in a thread, which is asked to end when its time is over."""

    def run():
        with contextlib.suppress(TimeLimitExceeded):
            work(send)

    thread = threading.Thread(target=run, daemon=True)
    with put_back(), capture_output():
        builtins.input = os.fork = refused
        try:
            thread.start()
            yield
        finally:  # of an interrupt too
            thread.join(0.05)
            for _attempt in range(20):
                if thread.is_alive():
                    stop = ctypes.py_object(TimeLimitExceeded)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), stop)
                    thread.join(0.1)


def messages(work: Callable) -> Generator[tuple]:
    """What `work` sends, each within the time limit; ("died",) if it ends Python."""
    here, there = multiprocessing.Pipe(duplex=False)
    copies = sys.platform == "linux" and not torch.cuda.is_initialized()

    def send(*message):
        there.send_bytes(pickle.dumps(message))

    with here, there, (in_a_copy if copies else in_a_thread)(work, send):
        if copies:
            there.close()  # so that the end of the copy is the end of what comes
        end = time.monotonic() + TIME_LIMIT
        while time.monotonic() < end:
            try:
                if here.poll(0.1):  # in short turns, so that ■ is heard on every system
                    yield pickle.loads(here.recv_bytes())
                    end = time.monotonic() + TIME_LIMIT
            except EOFError:
                yield ("died",)


def watch(function: Callable, cases: Sequence[tuple], wanted: Sequence) -> Seen:
    """What a function does with examples. CheckFailed if it was not written, fails, takes too long or ends its process.

    wanted: the right results, whose form the function's are brought into.
    """
    seen = Seen()

    def work(send):
        observe(function, cases, wanted, send)

    with contextlib.closing(messages(work)) as found:
        for what, *of_it in found:
            if what == "end":
                return seen
            if what == "todo":
                raise todo()
            if what == "died":
                words = N_("It ended Python itself, or took more memory than there is.")
                raise failed("died", words, outcome="error")
            if what == "error":
                kind, error, line = of_it
                where = _("in line {line} of the cell").format(line=line[0]) if line else _("outside your function")
                words = N_("{kind} {where}: {error}")
                raise failed("exception", words, outcome="error", kind=kind, where=where, error=error)
            if what == "gradients":
                seen.gradients += of_it
                continue
            result, kind, printed, changed = of_it
            seen.printed = seen.printed if seen.results else printed
            seen.results.append(unpacked(result, kind))
            seen.kinds.append(kind)
            seen.changed |= changed
    words = N_("It did not end within {seconds:g} seconds. Look for a loop whose end is never reached.")
    raise failed("too_slow", words, outcome="error", seconds=TIME_LIMIT)
