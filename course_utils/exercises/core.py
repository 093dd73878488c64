"""For whoever adds exercises, what checks an answer: the learner's code is run on examples, and compared with the right answer and wrong ones.

A mistake is a wrong answer that people really give, written as code. Whoever's results agree with it has made it.
Nothing is read from the notebook; nothing that a learner's code does comes back as an exception.
"""

import contextlib
import copy
import ctypes
import dis
import html
import inspect
import io
import math
import textwrap
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..i18n import _, language
from .codes import TIERS, tier_of
from .store import record

TIME_LIMIT = 10.0  # seconds for one call of a learner's function
SIGNS = {"pass": "✓", "fail": "✗", "error": "✗", "todo": "○"}


@dataclass(frozen=True)
class Shown:
    """A text to read, plain and as HTML; `code` goes below it."""

    title: str
    text: str
    code: str = ""

    def __repr__(self) -> str:
        code = f"\n\n{self.code}" if self.code else ""
        return f"{self.title}\n{textwrap.fill(self.text, 100)}{code}"

    def _repr_html_(self) -> str:
        code = f"<pre lang='en'><code>{html.escape(self.code)}</code></pre>" if self.code else ""
        return (
            f"<div lang='{language()}' style='border-left:4px solid currentColor;padding:0.3em 0.8em'>"
            f"<strong>{html.escape(self.title)}</strong><p>{html.escape(self.text)}</p>{code}</div>"
        )


@dataclass(frozen=True, repr=False)
class Result(Shown):
    """What a check found. outcome: "pass", "fail", "todo" or "error"; diagnosis: the mistake's key, or None."""

    outcome: str = "todo"
    diagnosis: str | None = None

    def _repr_html_(self) -> str:
        return super()._repr_html_().replace("<div ", "<div role='status' ", 1)


@dataclass(frozen=True)
class Mistake:
    """A wrong answer: its key, what to think about (looked up when shown), and the code that gives it."""

    key: str
    message: str
    wrong: Callable | None = None


class CheckFailed(Exception):
    """Ends a check: why the answer does not pass."""

    def __init__(self, outcome: str, key: str | None, text: str):
        self.outcome, self.key, self.text = outcome, key, text


class TimeLimitExceeded(BaseException):
    """Stops a learner's code that takes too long; a bare `except Exception` does not catch it."""


@dataclass(repr=False)
class Exercise:
    """One exercise. `model_answer` is the solution's source, and `why` the line below it."""

    name: str
    model_answer: str
    why: str
    hints: tuple[str, str, str]
    mistakes: Sequence[Mistake] = ()
    hints_shown: int = field(default=0, init=False)
    printed: str = field(default="", init=False)  # by the learner's code, on the first example of the last check

    def __repr__(self) -> str:
        return f"{TIERS[tier_of(self.name)]} {self.name}: .check(answer) · .hint() · .solution()"

    def title(self, words: str) -> str:
        """The exercise's name with its size, and what is said of it."""
        return f"{TIERS[tier_of(self.name)]} {self.name}: {words}"

    def diagnose(self, answer) -> str:
        """The words for a right answer; raises CheckFailed for any other."""
        raise NotImplementedError

    def check(self, answer=None) -> Result:
        """Say whether an answer is right, and which mistake it makes if not."""
        self.printed = ""
        try:
            text = self.diagnose(answer)
        except CheckFailed as found:
            outcome, key, text = found.outcome, found.key, found.text
        except Exception as error:  # an answer of a kind that nobody thought of
            outcome, key, text = "error", "exception", f"{type(error).__name__}: {safe(error)}"
        else:
            outcome, key = "pass", None
        words = {
            "pass": _("right"),
            "fail": _("not yet"),
            "error": _("your code stopped"),
            "todo": _("not tried yet"),
        }[outcome]
        record(self.name, outcome)
        if self.printed:
            text += " " + _("What it printed on the first example:")
        return Result(f"{SIGNS[outcome]} {self.title(words)}", text, self.printed, outcome=outcome, diagnosis=key)

    def mistake(self, key: str) -> CheckFailed:
        """The mistake of a key, in its own words."""
        return CheckFailed("fail", key, _(next(mistake.message for mistake in self.mistakes if mistake.key == key)))

    def hint(self) -> Shown:
        """The next of three hints; the last one again when all were shown."""
        self.hints_shown = min(self.hints_shown + 1, len(self.hints))
        number = self.hints_shown
        return Shown(
            self.title(_("hint {number} of {count}").format(number=number, count=len(self.hints))),
            _(self.hints[number - 1]),
        )

    def solution(self) -> Shown:
        """A right answer, and why it is."""
        return Shown(self.title(_("solution")), _(self.why), self.model_answer)


def safe(error: BaseException) -> str:
    """What an exception says, even if it cannot say it."""
    try:
        return str(error)[:300]
    except Exception:
        return ""


def todo() -> CheckFailed:
    """What ends the check of an exercise that was not tried yet."""
    return CheckFailed(
        "todo", None, _("Write your answer in the cell above, then run it. .hint() helps; .solution() tells.")
    )


def is_stub(function: Callable) -> bool:
    """Whether a function does nothing but return None: its body is `...`, `pass` or a docstring."""
    if not inspect.isfunction(function):
        return False
    steps = list(dis.get_instructions(function))
    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "COPY_FREE_VARS"}
    constants = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return constants == [None] and all(step.opname in idle for step in steps)


def call(function: Callable, arguments: tuple, limit: float | None = None) -> tuple[Any, str]:
    """The result of a function and what it printed; raises CheckFailed if it fails or takes too long."""
    outcome: dict[str, Any] = {}

    def work():
        try:
            outcome["value"] = function(*arguments)
        except TimeLimitExceeded:
            pass
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            thread.start()
            thread.join(limit or TIME_LIMIT)
    finally:  # of an interrupt too
        late = thread.is_alive()
        for _attempt in range(20 if late else 0):
            stop = ctypes.py_object(TimeLimitExceeded)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), stop)
            thread.join(0.1)
            if not thread.is_alive():
                break
    if late:
        raise CheckFailed(
            "error",
            "too_slow",
            _("It did not end within {seconds:g} seconds. Look for a loop whose end is never reached.").format(
                seconds=limit or TIME_LIMIT
            ),
        )
    error = outcome.get("error")
    if isinstance(error, NotImplementedError) and not error.args:  # torch raises it too, with a message
        raise todo()
    if error is not None:
        own = getattr(getattr(function, "__code__", None), "co_filename", "site-packages")
        own = "" if "site-packages" in own or "course_utils" in own else own
        line = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
        where = _("in line {line} of the cell").format(line=line[-1]) if line else _("outside your function")
        raise CheckFailed(
            "error",
            "exception",
            _("{kind} {where}: {error}").format(kind=type(error).__name__, where=where, error=safe(error)),
        )
    return outcome["value"], printed.getvalue()


def same(one, other) -> bool:
    """Whether two results agree: shapes, numbers to five digits, everything else exactly."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and torch.allclose(
            one.double(), other.double(), rtol=1e-4, atol=1e-5, equal_nan=True
        )
    if isinstance(one, float) and not isinstance(other, (str, bool)):
        try:
            number = float(other)  # of numpy, of torch, a fraction: all the same
        except (TypeError, ValueError, OverflowError, RuntimeError):
            return False
        return math.isclose(one, number, rel_tol=1e-4, abs_tol=1e-5) or (math.isnan(one) and math.isnan(number))
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return False
    return type(one) is type(other) and one == other


def plain(value) -> str:
    """A result in a few digits, for a message."""
    if isinstance(value, torch.Tensor):
        rounded = [round(number, 4) for number in value.detach().double().flatten().tolist()[:4]]
        return f"{rounded}{' …' if value.numel() > 4 else ''}"
    text = f"{value:.4f}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 200 else text[:200] + " …"


@dataclass(repr=False)
class FunctionExercise(Exercise):
    """An exercise whose answer is a function. `right` computes it; `cases` gives the arguments of each example."""

    right: Callable = field(kw_only=True)
    cases: Callable[[], list[tuple]] = field(kw_only=True)
    gradient_of: tuple[int, ...] = ()  # the arguments that a gradient must reach

    def diagnose(self, answer) -> str:
        if answer is None or answer is Ellipsis or is_stub(answer):
            raise todo()
        if not callable(answer):
            raise CheckFailed(
                "fail",
                "not_a_function",
                _("Got a {kind}; give the function itself, without calling it.").format(kind=type(answer).__name__),
            )
        cases = self.cases()
        expected = list(inspect.signature(self.right).parameters)
        try:
            with contextlib.suppress(ValueError):  # many functions written in C have no signature
                inspect.signature(answer).bind(*cases[0])
        except TypeError:
            raise CheckFailed(
                "fail",
                "signature",
                _("The function must take these arguments: {names}.").format(names=", ".join(expected)),
            ) from None
        given = [copy.deepcopy(case) for case in cases]
        results: list = []
        for case in given:
            result, printed = call(answer, case)
            self.printed = self.printed if results else printed[:1000]
            results.append(self.read(result))
        wanted = [self.right(*copy.deepcopy(case)) for case in cases]
        if not all(map(same, wanted, results)):
            raise self.explain(cases, results, wanted)
        if not all(same(one, other) for before, after in zip(cases, given) for one, other in zip(before, after)):
            raise CheckFailed(
                "fail",
                "in_place",
                _(
                    "The numbers are right, but your function changes its inputs. Others still need them: make new ones."
                ),
            )
        for case in cases if self.gradient_of else ():
            self.check_gradient(answer, case)
        return _("All {count} examples agree.").format(count=len(cases))

    def read(self, result):
        """A result as it is compared, where several forms of it are right."""
        return result

    def explain(self, cases, results, wanted) -> CheckFailed:
        """Which mistake gives these results; in general words if none does."""
        if any(result is None for result in results):
            return CheckFailed("fail", "no_return", _("It returns nothing. Is there a `return`?"))
        every = list(zip(cases, results, wanted))
        finite = [one for one in every if all_finite(one[1])]
        if key := self.made(every):
            return self.mistake(key)
        if finite and len(finite) < len(every) and all(same(want, result) for _case, result, want in finite):
            text = _("Some results are infinite or not a number. Think of very large and very small inputs.")
            return CheckFailed("fail", "not_finite", text)
        if key := self.made(finite):
            return self.mistake(key)
        for want, got in zip(wanted, results):
            if isinstance(want, torch.Tensor) and not isinstance(got, torch.Tensor):
                text = _("It returns a {kind}; expected a tensor, so that gradients can flow through it.")
                return CheckFailed("fail", "type", text.format(kind=type(got).__name__))
            if isinstance(want, torch.Tensor) and want.shape != got.shape:
                text = _("Shape: got {got}, expected {want}, one number for each row of the batch.")
                return CheckFailed("fail", "shape", text.format(got=tuple(got.shape), want=tuple(want.shape)))
            if isinstance(got, torch.Tensor) and got.dtype in (torch.float16, torch.bfloat16):
                text = _("It computes in 16 bits, which lose digits. Stay in the precision of the inputs.")
                return CheckFailed("fail", "precision", text)
        want, got = next((w, g) for w, g in zip(wanted, results) if not same(w, g))
        text = _("In one example it gives {got}; expected {want}. It is none of the usual mistakes; try .hint().")
        return CheckFailed("fail", None, text.format(got=plain(got), want=plain(want)))

    def made(self, examples) -> str | None:
        """The mistake that gives the results of all these examples, if any."""
        for mistake in self.mistakes if examples else ():
            if mistake.wrong and all(
                same(mistake.wrong(*copy.deepcopy(case)), result) for case, result, _want in examples
            ):
                return mistake.key
        return None

    def check_gradient(self, answer, case) -> None:
        """Raise CheckFailed unless the right gradient arrives where it must."""
        case = copy.deepcopy(case)
        inputs = [case[i].requires_grad_() for i in self.gradient_of]
        output, _printed = call(answer, case)
        wanted = torch.autograd.grad(self.right(*case).sum(), inputs)
        found: Sequence[torch.Tensor | None] = [None]
        with contextlib.suppress(RuntimeError):
            found = torch.autograd.grad(output.sum(), inputs, allow_unused=True)
        if any(got is None for got in found):
            text = _("The numbers are right, but no gradient flows back. Avoid .item(), .detach(), numpy and no_grad.")
            raise CheckFailed("fail", "no_gradient", text)
        if not all(map(same, wanted, found)):
            text = _(
                "The numbers are right, but the gradient is not: something is detached, rounded or infinite on the way."
            )
            raise CheckFailed("fail", "wrong_gradient", text)


def all_finite(result) -> bool:
    """Whether a result has no infinite number, and is one."""
    return not isinstance(result, torch.Tensor) or bool(result.isfinite().all())
