"""For whoever adds exercises: what checks an answer, shows what was found, and tells which mistake explains it.

A mistake is a wrong answer that people really give, written as code. Whoever's results agree with it has made it.
Nothing is read from the notebook; nothing that a learner's code does comes back as an exception.
"""

import contextlib
import copy
import dis
import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from IPython import get_ipython
from IPython.display import display

from ..i18n import N_, _, local_decimals
from .codes import TIERS, tier_of
from .compare import all_finite, plain, pulls, relation, same
from .feedback import Result, Shown
from .runner import CheckFailed, failed, gradients, safe, todo, watch
from .store import record

SIGNS = {"pass": "✓", "fail": "✗", "error": "✗", "todo": "○"}


@dataclass(frozen=True)
class Mistake:
    """A slip that people make: its key, and what to think about (looked up when shown).

    Of a function: wrong takes the place of the right one; before changes its arguments, after its result, and these go
    together with any other slip. remark: it does not stand in the way, for another exercise is about it.
    Of data: holds says whether the answer, as its exercise reads it, is free of the mistake; outcome "todo": it is none,
    but something is still to be done.
    """

    key: str
    message: str
    wrong: Callable | None = None
    before: Callable | None = None
    after: Callable | None = None
    remark: bool = False
    outcome: str = "fail"
    holds: Callable[[Any], bool] | None = None


#: Slips of every function that returns one number a row.
AVERAGED = [
    Mistake("averaged", words := N_("The rows of the batch are averaged. Return one number for each pair; the trainer averages."), after=lambda rows: rows.mean()),
    Mistake("summed", words, after=lambda rows: rows.sum()),
]  # fmt: skip


def compose(right: Callable, *slips: Mistake) -> Callable:
    """The function that makes all these mistakes, of which one at most takes the place of the right function."""
    core = next((slip.wrong for slip in slips if slip.wrong), right)

    def function(*arguments):
        for slip in slips:
            arguments = slip.before(*arguments) if slip.before else arguments
        result = core(*arguments)
        for slip in slips:
            result = slip.after(result) if slip.after else result
        return result

    return function


@dataclass(repr=False)
class Exercise:
    """One exercise. `model_answer` is the solution's source, and `why` the line below it."""

    name: str
    why: str
    hints: tuple[str, str, str]
    mistakes: Sequence[Mistake] = ()
    model_answer: str = ""
    hints_shown: int = field(default=0, init=False)
    printed: str = field(default="", init=False)  # by the learner's code, on the first example of the last check
    said: dict[str, int] = field(default_factory=dict, init=False)  # how often each mistake was named

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
        self.printed, key, code = "", None, ""
        try:
            outcome, text = "pass", self.diagnose(answer)
        except CheckFailed as found:
            outcome, key, text, code = found.outcome, found.key, found.text, found.code
        except Exception as error:  # an answer of a kind that nobody thought of
            outcome, key, text = "error", "exception", f"{type(error).__name__}: {safe(error)}"
        words = {"pass": _("right"), "fail": _("not yet"), "error": _("your code stopped"), "todo": _("not tried yet")}
        record(self.name, outcome)
        if self.printed:
            text += " " + _("What it printed on the first example:")
            code = "\n\n".join(filter(None, (code, self.printed)))
        result = Result(f"{SIGNS[outcome]} {self.title(words[outcome])}", text, code, outcome=outcome, diagnosis=key)
        if get_ipython():  # wherever in a cell it is asked for
            display({"text/plain": repr(result), "text/html": result._repr_html_()}, raw=True)
        return result

    def mistake(self, key: str) -> CheckFailed:
        """The mistake of a key, in its own words."""
        return CheckFailed("fail", key, _(next(mistake.message for mistake in self.mistakes if mistake.key == key)))

    def hint(self) -> Shown:
        """The next of three hints; the last one again when all were shown."""
        self.hints_shown = min(self.hints_shown + 1, len(self.hints))
        number = self.hints_shown
        words = _("hint {number} of {count}").format(number=number, count=len(self.hints))
        return Shown(self.title(words), _(self.hints[number - 1]))

    def solution(self) -> Shown:
        """A right answer, and why it is."""
        return Shown(self.title(_("solution")), _(self.why), self.model_answer)


def is_stub(function: Callable) -> bool:
    """Whether a function does nothing but return None: its body is `...`, `pass` or a docstring."""
    if not inspect.isfunction(function):
        return False
    steps = list(dis.get_instructions(function))
    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "COPY_FREE_VARS"}
    constants = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return constants == [None] and all(step.opname in idle for step in steps)


@dataclass(repr=False)
class FunctionExercise(Exercise):
    """An exercise whose answer is a function.

    right computes the answer; cases gives the arguments of each example, simple ones first. gradient_of: positions of
    the tensors that a gradient must reach; in so many `extreme` examples at the end it need only be a number.
    """

    right: Callable = field(kw_only=True)
    cases: Callable[[], list[tuple]] = field(kw_only=True)
    gradient_of: tuple[int, ...] = ()
    extreme: int = 0

    def __post_init__(self):
        self.model_answer = inspect.getsource(self.right)

    def diagnose(self, answer) -> str:
        if answer is None or answer is Ellipsis or is_stub(answer):
            raise todo()
        if not callable(answer):
            words = N_("Got a {kind}; give the function itself, without calling it.")
            raise failed("not_a_function", words, kind=type(answer).__name__)
        cases = self.cases()
        try:
            inspect.signature(answer).bind(*cases[0])
        except TypeError:
            names = ", ".join(inspect.signature(self.right).parameters)
            raise failed("signature", N_("The function must take these arguments: {names}."), names=names) from None
        except Exception:  # many functions written in C have no signature
            pass
        wanted = [self.right(*copy.deepcopy(case)) for case in cases]
        seen = watch(answer, cases, wanted)
        self.printed, results = seen.printed, [self.read(result) for result in seen.results]
        remarks = []
        if not all(map(same, wanted, results)):
            found = self.explain(cases, results, wanted, seen.gradients)
            if not any(mistake.remark and mistake.key == found.key for mistake in self.mistakes):
                raise found
            remarks.append(found.text)
        if seen.changed:
            words = N_(
                "The numbers are right, but your function changes its inputs. Others still need them: make new ones."
            )
            raise failed("in_place", words)
        if not remarks:
            self.check_gradients(cases, seen.gradients)
        if isinstance(wanted[0], list) and (other := {*seen.kinds} - {"list"}):
            remarks.append(_("It returns a {kind}; TRL wants a list.").format(kind=other.pop()))
        return " ".join([_("All {count} examples agree.").format(count=len(cases)), *remarks, _(self.why)])

    def read(self, result):
        """A result as it is compared, where several forms of it are right."""
        return result

    def explain(self, cases, results, wanted, found=()) -> CheckFailed:
        """Which mistake, or which two, give the first wrong result and most of the others; else in general words."""
        silent = all if any(want is None for want in wanted) else any
        if silent(result is None for result in results):
            return failed("no_return", N_("It returns nothing. Is there a `return`?"))
        wrong = [one for one in zip(cases, results, wanted) if not same(one[2], one[1])]
        wrong.sort(key=lambda one: not all_finite(one[1]))  # what is not a number tells least
        if made := self.made(wrong):
            again = self.said.get(made[0].key, 0)
            self.said[made[0].key] = again + 1
            texts = [_(mistake.message) for mistake in made] if not again else [_(self.hints[min(again, 3) - 1])]
            both = _("Two things at once. First: {one} And then: {other}") if len(texts) > 1 else "{one}"
            return CheckFailed("fail", made[0].key, both.format(one=texts[0], other=texts[-1]))
        _case, got, want = wrong[0]
        kind = type(got).__name__
        if not all_finite(got):
            words = N_("Some results are infinite or not a number. Think of very large and very small inputs.")
            return failed("not_finite", words)
        if isinstance(want, float) and not hasattr(got, "__float__"):
            return failed("type", N_("It returns a {kind}; expected one number."), kind=kind)
        if isinstance(want, torch.Tensor) and not isinstance(got, torch.Tensor):
            words = N_("It returns a {kind}; expected a tensor, so that gradients can flow through it.")
            return failed("type", words, kind=kind)
        if isinstance(want, torch.Tensor) and want.shape != got.shape:
            words = N_("Shape: got {got}, expected {want}, one number for each row of the batch.")
            return failed("shape", words, got=tuple(got.shape), want=tuple(want.shape))
        if isinstance(got, torch.Tensor) and got.dtype in (torch.float16, torch.bfloat16):
            words = N_("It computes in 16 bits, which lose digits. Stay in the precision of the inputs.")
            return failed("precision", words)
        names = [name for name, one in zip(inspect.signature(self.right).parameters, cases[0]) if torch.is_tensor(one)]
        rights = [gradients(self.right, case) for case in cases] if found else []
        if told := relation(results, wanted) or (pulls(names, found, rights) if rights and rights[0] else None):
            return CheckFailed("fail", *told)
        words = N_("In one example it gives {got}; expected {want}. It is none of the usual mistakes; try .hint().")
        return failed(None, words, got=plain(got), want=plain(want))

    def made(self, wrong: Sequence[tuple]) -> Sequence[Mistake]:
        """The mistake, or two of them together, that explain the first of these results and most of the others."""
        coded = [slip for slip in self.mistakes if slip.wrong or slip.before or slip.after]
        pairs = [(a, b) for a, b in itertools.combinations(coded, 2) if not (a.wrong and b.wrong)]
        best: tuple[int, Sequence[Mistake]] = (0, ())
        for some in [*((slip,) for slip in coded), *pairs]:
            function, explained = compose(self.right, *some), 0
            for case, result, want in wrong:
                with contextlib.suppress(RuntimeError, TypeError, IndexError, KeyError, AttributeError, ValueError):
                    wrong_too = function(*copy.deepcopy(case))
                    explained += same(wrong_too, result) and not same(wrong_too, want)
                if not explained:
                    break  # not the first one
            best = max(best, (explained, some), key=lambda one: one[0])
            if best[0] == len(wrong):
                break
        return sorted(best[1], key=lambda mistake: mistake.remark)

    def check_gradients(self, cases, found) -> None:
        """Raise CheckFailed unless the right gradients arrived where they must."""
        for number, (case, ours) in enumerate(zip(cases, found)):
            rights: list = gradients(self.right, case)
            if any(ours[i] is None and rights[i].any() for i in self.gradient_of):
                words = N_(
                    "The numbers are right, but no gradient flows back. Avoid .item(), .detach(), numpy and no_grad."
                )
                raise failed("no_gradient", words)
            is_extreme = number >= len(cases) - self.extreme
            pairs = [(rights[i], ours[i]) for i in self.gradient_of if ours[i] is not None]
            if not all(all_finite(one) if is_extreme else same(right, one) for right, one in pairs):
                words = N_(
                    "The numbers are right, but the gradient is not: something is detached, rounded or infinite on the way."
                )
                raise failed("wrong_gradient", words)


@dataclass(repr=False)
class DataExercise(Exercise):
    """An exercise whose answer is data. read brings it into names; `done` is said when every mistake's `holds` is true.

    An answer that read cannot take makes the first mistake. Words in brackets in the messages are names that read gives.
    """

    read: Callable[[Any], SimpleNamespace] = field(kw_only=True)
    done: str = field(kw_only=True)

    def diagnose(self, answer) -> str:
        if answer is None or answer is Ellipsis or (isinstance(answer, list | dict | tuple) and not answer):
            raise todo()
        try:
            given = self.read(answer)
        except (TypeError, ValueError, LookupError, AttributeError):
            raise self.mistake(self.mistakes[0].key) from None
        for mistake in self.mistakes:
            try:
                holds = mistake.holds is None or mistake.holds(given)
            except (TypeError, ValueError, LookupError, AttributeError):
                holds = False
            if not holds:
                key = mistake.key if mistake.outcome == "fail" else None
                raise CheckFailed(mistake.outcome, key, self.words(mistake.message, given))
        return " ".join((self.words(self.done, given), _(self.why)))

    def words(self, message: str, given: SimpleNamespace) -> str:
        """A message with what was given in it, its numbers as the learner's language writes them."""
        return local_decimals(_(message).format(**vars(given)))
