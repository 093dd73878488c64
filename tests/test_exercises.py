"""Every exercise: the right answer passes, every named mistake is named, nothing a learner does breaks the check."""

import builtins
import contextlib
import copy
import functools
import io
import itertools
import math
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import unicodedata
import warnings
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import course_utils as cu
from course_utils.data import Report
from course_utils.exercises import EXERCISES, LESSONS, dpo, orpo, runner, store
from course_utils.exercises.codes import BITS, decode, encode, tier_of
from course_utils.exercises.compare import same
from course_utils.exercises.core import FunctionExercise, compose
from course_utils.i18n import set_language
from course_utils.world import Verdict

FUNCTIONS = {name: one for name, one in EXERCISES.items() if isinstance(one, FunctionExercise)}
CODED = [(name, m) for name, one in FUNCTIONS.items() for m in one.mistakes if m.wrong or m.before or m.after]
GOOD, FAULT, GIBBERISH = Verdict(), Verdict(("polite",)), Verdict(("fluent",))


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path))


def check(name, answer):
    result = cu.ex(name).check(answer)
    return result.outcome, result.diagnosis


def test_there_are_enough_exercises_over_three_tiers():
    assert len(LESSONS[0]) >= 8 and len(LESSONS[1]) >= 6 and len(LESSONS[2]) >= 8
    for lesson in LESSONS:
        assert {tier_of(one.name) for one in lesson} == {"turtle", "dog", "lion"}
    assert list(EXERCISES) == list(BITS)  # the order of the codes
    for name in ("dpo.loss", "dpo.sequence_logps", "dpo.reward_margin", "orpo.log_odds", "orpo.loss"):
        assert len(EXERCISES[name].mistakes) >= 5


# ------------------------------------------------------------------ functions


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_solution_passes(name):
    assert check(name, FUNCTIONS[name].right) == ("pass", None)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_solution_that_is_shown_is_the_one_that_passes(name):
    names = {"cu": cu}
    exec(cu.ex(name).solution().code, names)
    assert check(name, names[FUNCTIONS[name].right.__name__]) == ("pass", None)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("dpo.sequence_logps", cu.sequence_logps),
        ("dpo.loss", cu.dpo_loss),
        ("orpo.log_odds", cu.log_odds),
        ("orpo.log_odds_ratio", cu.log_odds_ratio),
        ("orpo.loss", cu.orpo_loss),
    ],
)
def test_the_course_passes_its_own_exercises(name, ours):
    assert check(name, ours) == ("pass", None)


@pytest.mark.parametrize(("name", "mistake"), CODED, ids=[f"{name}-{mistake.key}" for name, mistake in CODED])
def test_a_named_mistake_is_named(name, mistake):
    expected = ("pass", None) if mistake.remark else ("fail", mistake.key)
    assert check(name, compose(FUNCTIONS[name].right, mistake)) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_two_mistakes_give_the_same_numbers(name):
    one = FUNCTIONS[name]
    coded = [m for m in one.mistakes if m.wrong or m.before or m.after]
    answers = [one.right, *(compose(one.right, mistake) for mistake in coded)]
    results = [[answer(*copy.deepcopy(case)) for case in one.cases()] for answer in answers]
    for a, b in itertools.combinations(results, 2):
        assert not all(map(same, a, b))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("dpo.diagnose_run", "labs.stop_at")])
def test_two_slips_at_once_are_named_too(name):
    one = FUNCTIONS[name]
    pairs = [(a, b) for a, b in itertools.permutations(one.mistakes, 2) if a.after and (b.wrong or b.before)]
    named = 0
    for a, b in pairs:
        one.said.clear()
        named += check(name, compose(one.right, a, b))[1] is not None
    assert pairs and named >= 0.9 * len(pairs)


def test_a_slip_in_one_tricky_example_is_named_too():
    def trips(logits, labels):  # forgets the mask where there is more than one row
        return dpo.sequence_logps(logits, labels.clamp(min=0) if len(labels) > 1 else labels)

    assert check("dpo.sequence_logps", trips) == ("fail", "not_masked")


def test_the_same_slip_again_gets_the_next_words():
    one, texts = cu.ex("dpo.loss"), []
    one.said.clear()
    for _try in range(4):
        result = one.check(lambda *a: -dpo.dpo_loss(*a))
        assert result.diagnosis == "no_minus"
        texts.append(result.text)
    assert texts[1:] == list(one.hints) and texts[0] not in one.hints


def test_lists_of_messages_are_shown_where_they_part():
    def lower(text):
        return [m | {"content": m["content"].replace("Sure", "sure")} for m in dpo.split_dialogue(text)]

    result = cu.ex("dpo.split_dialogue").check(lower)
    assert result.diagnosis == "content" and result.code.splitlines()[:2] == [
        repr("Sure.\n\nIngredients:\neggs & <sugar>"),
        repr("sure.\n\nIngredients:\neggs & <sugar>"),
    ]
    assert result.code.splitlines()[2] == " ^" and "&lt;sugar&gt;" in result._repr_html_()
    one_more = {"role": "user", "content": "?"}
    extra = cu.ex("dpo.split_dialogue").check(lambda text: [*dpo.split_dialogue(text), one_more])
    assert extra.diagnosis == "count" and "3 messages; expected 2" in extra.text


def untouched(*arguments): ...


def only_a_docstring(*arguments):
    """Nothing here yet."""


def only_pass(*arguments):
    pass


def not_implemented(*arguments):
    raise NotImplementedError


@pytest.mark.parametrize("name", EXERCISES)
def test_an_untouched_cell_is_todo(name):
    assert check(name, None) == check(name, ...) == ("todo", None)
    if name in FUNCTIONS:
        for stub in (untouched, only_a_docstring, only_pass, not_implemented):
            assert check(name, stub) == ("todo", None)


def forever(*arguments):
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.01)


def broken(*arguments):
    return arguments[0] + missing  # noqa: F821


def leaves(*arguments):
    raise SystemExit(1)


def returns_nothing(*arguments):
    print("so far so good", arguments)


@pytest.fixture(params=["a copy", "a thread"])
def place(request, monkeypatch):
    """Where answers run: what Linux does, and what all other machines do."""
    if request.param == "a thread":
        monkeypatch.setattr(runner.sys, "platform", "win32")
    elif sys.platform != "linux":
        pytest.skip("no fork that is safe")
    monkeypatch.setattr(runner, "TIME_LIMIT", 0.5)
    return request.param


def test_nothing_a_learner_does_breaks_the_check(place, capsys):
    for name in FUNCTIONS:
        assert check(name, forever) == ("error", "too_slow")
        assert check(name, broken) == ("error", "exception")
        assert check(name, leaves) == ("error", "exception")
        assert check(name, returns_nothing)[0] == "fail"
        assert check(name, 3.5) == ("fail", "not_a_function")
        assert check(name, lambda: 1) == ("fail", "signature")
        for junk in ("text", [1, 2], {}, torch.zeros(0), float("nan"), object(), (x for x in [1]), lambda: 1):
            assert check(name, lambda *arguments, junk=junk: junk)[0] in ("fail", "todo", "error")
    assert "so far so good" not in capsys.readouterr().out


def catastrophic(*arguments):
    return re.fullmatch("(a+)+b", "a" * 60)


def sums_up(*arguments):
    return sum(range(10**12))


def sleeps(*arguments):
    time.sleep(600)


def locks(*arguments):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def deaf(*arguments):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def exits(*arguments):
    os._exit(3)


def aborts(*arguments):
    os.abort()


def kills(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)


def overflows(*arguments):
    import ctypes

    ctypes.string_at(0)


def recurses(*arguments):
    return recurses(*arguments)


def eats(*arguments):
    return [bytearray(1 << 30) for _i in range(1000)]


def allocates(*arguments):
    return torch.zeros(10**11).sum()


def asks(*arguments):
    return input("What now?")


def stops(*arguments):
    raise KeyboardInterrupt


def cannot_say(*arguments):
    class Mute(Exception):
        def __str__(self):
            raise self

    raise Mute


def swaps_output(*arguments):
    sys.stdout = sys.stderr = None


def patches(*arguments):
    torch.Tensor.sum = lambda self, *a: None
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(5)
    torch.set_grad_enabled(False)
    random.seed(5)
    np.random.seed(5)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir("/")
    os.environ["HOME"] = "/nowhere"
    sys.setrecursionlimit(60)
    builtins.print = None
    return arguments[0]


def empties(*arguments):
    for module in [*sys.modules]:
        del sys.modules[module]


def closes(*arguments):
    os.closerange(0, 200)


def many(*arguments):
    for _i in range(40):
        threading.Thread(target=sleeps, daemon=True).start()
    return sleeps()


def children(*arguments):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    time.sleep(600)


class Explodes:
    def __reduce__(self):
        raise RuntimeError("no copies")


def cannot_leave(*arguments):
    return Explodes()


HOSTILE = [catastrophic, sums_up, sleeps, locks, deaf, exits, aborts, kills, overflows, recurses, eats, allocates, asks]
HOSTILE += [stops, cannot_say, swaps_output, patches, empties, closes, many, children, cannot_leave]


@pytest.mark.skipif(sys.platform != "linux", reason="answers run in a copy only where fork is safe")
@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: answer.__name__)
def test_whatever_an_answer_does_the_kernel_goes_on_as_before(answer, monkeypatch, capsys):
    monkeypatch.setattr(runner, "TIME_LIMIT", 0.5)
    ours = (sys.stdout, sys.stderr, signal.getsignal(signal.SIGINT), torch.Tensor.sum, builtins.print, builtins.input)
    state = torch.get_rng_state(), random.getstate(), torch.get_default_dtype(), torch.is_grad_enabled(), os.getcwd()
    begun = time.time()
    for name in ("dpo.split_dialogue", "dpo.loss"):
        assert check(name, answer)[0] in ("fail", "error")
    assert time.time() - begun < 20  # a frozen kernel, not a slow one
    assert ours[:3] == (sys.stdout, sys.stderr, signal.getsignal(signal.SIGINT))
    assert ours[3:] == (torch.Tensor.sum, builtins.print, builtins.input)
    after = torch.get_rng_state(), random.getstate(), torch.get_default_dtype(), torch.is_grad_enabled(), os.getcwd()
    assert torch.equal(state[0], after[0]) and state[1:] == after[1:]
    assert check("dpo.loss", dpo.dpo_loss) == ("pass", None)
    print("still here")
    assert "still here" in capsys.readouterr().out


# Answers of a second attack: the exercise, what is given, and what the check must say of it.
def yields(*arguments):
    yield dpo.dpo_loss(*arguments)


async def waits(*arguments):
    return dpo.dpo_loss(*arguments)


def has_defaults(pc, pr, rc=0.0, rr=0.0, beta=0.1):
    return dpo.dpo_loss(pc, pr, rc, rr, beta)


class Makes:
    def __init__(self, *arguments):
        self.arguments = arguments


class Unloads:
    def __reduce__(self):
        return os._exit, (3,)


class Falls:
    def __del__(self):
        raise RuntimeError("falls")


class Unsigned:
    @property
    def __signature__(self):
        raise RuntimeError("no signature")

    def __call__(self, *arguments):
        return dpo.dpo_loss(*arguments)


class Mine(torch.Tensor):
    pass


class Agrees(dict):
    def __eq__(self, other):
        return True


def scripted():
    def loss(pc: torch.Tensor, pr: torch.Tensor, rc: torch.Tensor, rr: torch.Tensor, beta: float) -> torch.Tensor:
        return -torch.nn.functional.logsigmoid(beta * (pc - rc - pr + rr))

    with warnings.catch_warnings(action="ignore"):
        return torch.jit.script(loss)


def sorts(ours, theirs):
    rate = dpo.win_rate(ours, theirs)
    ours.sort()
    return rate


def shouts(*arguments):
    print("x" * 10_000_000)
    for _line in range(50_000):
        print("and more", file=sys.stderr)
    return dpo.dpo_loss(*arguments)


def warns(*arguments):
    warnings.simplefilter("error")
    warnings.warn("careful", stacklevel=1)


def replaces(*arguments):
    torch.exp = torch.nn.functional.logsigmoid = cu.dpo_loss = math.log = None
    torch.Tensor.sum = lambda self: 0
    torch.Tensor.more = torch.more = builtins.more = lambda: None
    vars(torch.nn.functional).pop("relu", None)
    torch.set_default_dtype(torch.float64)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    os.environ["HOME"] = "/nowhere"
    os.chdir("/")
    return 3.0


def switches_off(*arguments):
    torch.set_grad_enabled(False)
    return dpo.dpo_loss(*arguments)


def starts_threads(*arguments):
    for _i in range(5):
        threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
    return dpo.dpo_loss(*arguments)


def takes_fifty_gigabytes(*arguments):
    return np.ones(50 << 27)


def forks(*arguments):
    if os.fork() == 0:
        os._exit(0)
    return dpo.dpo_loss(*arguments)


def pools(*arguments):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(abs, [-1, 2])
    return dpo.dpo_loss(*arguments)


def writes_bytes(*arguments):
    sys.stdout.buffer.write(b"no")


def closes_output(*arguments):
    sys.stdout.close()
    return dpo.dpo_loss(*arguments)


def rings(*arguments):
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(600)


def expands(*arguments):
    return torch.zeros(1).expand(10**11)


def nests(text):
    messages = []
    messages.append(messages)
    return messages


def deep(text):
    messages = []
    for _level in range(100_000):
        messages = [messages]
    return messages


IN_ANY_PLACE = [
    ("dpo.loss", yields, "fail", "type"),
    ("dpo.loss", waits, "fail", "type"),
    ("dpo.loss", has_defaults, "pass", None),
    ("dpo.loss", functools.partial(dpo.dpo_loss, beta=0.1), "fail", "signature"),
    ("dpo.loss", functools.cache(dpo.dpo_loss), "pass", None),
    ("dpo.loss", Makes, "fail", "type"),
    ("dpo.loss", Unsigned(), "pass", None),
    ("dpo.loss", scripted(), "pass", None),
    ("dpo.loss", lambda *a: Unloads(), "fail", "type"),
    ("dpo.loss", lambda *a: Falls(), "fail", "type"),
    ("dpo.loss", lambda *a: dpo.dpo_loss(*a).as_subclass(Mine), "pass", None),
    ("dpo.loss", lambda *a: torch.nn.Parameter(dpo.dpo_loss(*a)), "fail", "no_gradient"),
    ("dpo.loss", lambda *a: (dpo.dpo_loss(*a),), "fail", "type"),
    ("dpo.loss", warns, "error", "exception"),
    ("dpo.loss", replaces, "fail", "type"),
    ("dpo.loss", starts_threads, "pass", None),
    ("dpo.loss", writes_bytes, "error", "exception"),
    ("dpo.loss", expands, "fail", "type"),
    ("dpo.loss", stops, "error", "exception"),
    ("dpo.loss", asks, "error", "exception"),
    ("dpo.loss", forks, "error", "exception"),
    ("dpo.win_rate", sorts, "fail", "in_place"),
    ("dpo.split_dialogue", lambda text: itertools.count(), "fail", "count"),
    ("dpo.split_dialogue", nests, "fail", "count"),
    ("dpo.split_dialogue", lambda text: [Agrees(), Agrees()], "fail", None),
]
IN_A_COPY = [
    ("dpo.loss", pools, "error", "exception"),
    ("dpo.loss", rings, "error", "died"),
    ("dpo.loss", shouts, "pass", None),
    ("dpo.loss", switches_off, "fail", "no_gradient"),
    ("dpo.loss", takes_fifty_gigabytes, "error", "exception"),
    ("dpo.loss", closes_output, "error", "exception"),
    ("dpo.split_dialogue", deep, "fail", None),
]
ATTACKS = [(one, "a thread") for one in IN_ANY_PLACE] + [(one, "a copy") for one in IN_ANY_PLACE + IN_A_COPY]


def settings():
    """What a learner's code may change and must find unchanged afterwards."""
    numbers = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
    replaced = torch.exp, F.logsigmoid, F.relu, cu.dpo_loss, math.log, torch.Tensor.sum, print, input, os.fork
    added = [hasattr(room, "more") for room in (torch, torch.Tensor, builtins)]
    places = os.getcwd(), dict(os.environ), sys.stdout, sys.stderr, sys.getrecursionlimit()
    return (
        numbers,
        replaced,
        added,
        places,
        signal.getsignal(signal.SIGINT),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    )


@pytest.mark.parametrize(("attack", "place"), ATTACKS, indirect=["place"])
def test_a_second_attack_ends_in_a_sensible_verdict_too(attack, place, monkeypatch, capsys):
    monkeypatch.setattr(runner, "TIME_LIMIT", 60)  # none of these is endless, and a busy machine is slow
    name, answer, outcome, key = attack
    cu.ex(name).said.clear()
    before, result = settings(), cu.ex(name).check(answer)
    assert (result.outcome, result.diagnosis) == (outcome, key), result.text
    assert settings() == before and len(repr(result)) < 3000
    assert check("dpo.loss", dpo.dpo_loss) == ("pass", None)
    print("still here")
    assert capsys.readouterr().out == "still here\n"


def spins(*arguments):
    print("round and round")
    torch.manual_seed(5)
    while True:
        pass


@pytest.mark.parametrize("answer", [spins, forever])
def test_an_endless_answer_ends_with_its_time_and_leaves_nothing_behind(answer, place, capsys):
    before, threads = settings(), threading.active_count()
    assert check("dpo.loss", answer) == ("error", "too_slow")
    assert settings() == before and threading.active_count() == threads
    print("still here")
    assert capsys.readouterr().out == "still here\n"


def test_a_result_that_cannot_be_kept_is_called_by_its_kind(place, monkeypatch):
    monkeypatch.setattr(runner, "TIME_LIMIT", 60)
    kinds = {"generator": yields, "coroutine": waits, "Makes": Makes, "Unloads": lambda *a: Unloads()}
    for kind, answer in kinds.items():
        assert f"It returns a {kind}; expected a tensor" in cu.ex("dpo.loss").check(answer).text


def test_closures_and_models_of_the_notebook_can_be_used(place):
    beta_of, model = {"mine": 1.0}, torch.nn.Linear(1, 1)

    def loss(pc, pr, rc, rr, beta):
        assert model(torch.ones(1)).shape == (1,)
        return dpo.dpo_loss(pc, pr, rc, rr, beta * beta_of["mine"])

    assert check("dpo.loss", loss) == ("pass", None)


def test_an_interrupt_ends_a_check_at_once_and_silences_nothing(place, monkeypatch, capsys):
    """What ■ does while a check waits for the learner's code."""
    monkeypatch.setattr(runner, "TIME_LIMIT", 60)
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.time()
    with pytest.raises(KeyboardInterrupt):
        check("dpo.loss", forever)
    print("still here")
    assert time.time() - begun < 30 and capsys.readouterr().out == "still here\n"
    assert check("dpo.loss", dpo.dpo_loss) == ("pass", None)


def test_what_an_answer_prints_on_the_first_example_is_shown():
    def talks(chosen, rejected):
        print("<b>chosen</b>", chosen.shape)
        return FUNCTIONS["orpo.log_odds_ratio"].right(chosen, rejected)

    result = cu.ex("orpo.log_odds_ratio").check(talks)
    assert result.outcome == "pass" and repr(result).count("<b>chosen</b>") == 1
    assert "&lt;b&gt;chosen" in result._repr_html_() and "<b>" not in result._repr_html_()
    assert "<b>" not in repr(cu.ex("orpo.log_odds_ratio").check(None))


def test_an_exception_names_its_line():
    result = cu.ex("dpo.loss").check(broken)
    assert "NameError" in result.text and "in line" in result.text and "'missing' is not defined" in result.text


def test_a_function_that_changes_its_inputs_is_found_out():
    def loss(pc, pr, rc, rr, beta):
        pc -= rc
        pr -= rr
        return -F.logsigmoid(beta * (pc - pr))

    assert check("dpo.loss", loss) == ("fail", "in_place")


def test_gradients_must_flow():
    def detached(*arguments):
        with torch.no_grad():
            return dpo.dpo_loss(*arguments)

    assert check("dpo.loss", detached) == ("fail", "no_gradient")
    assert check("dpo.loss", lambda *a: torch.tensor(dpo.dpo_loss(*a).tolist())) == ("fail", "no_gradient")
    assert check("dpo.loss", lambda *a: dpo.dpo_loss(*a).numpy()) == ("fail", "no_gradient")
    assert check("dpo.loss", lambda *a: dpo.dpo_loss(*a).tolist()) == ("fail", "type")


def test_shapes_types_and_infinities_have_their_own_words():
    assert check("dpo.loss", lambda *a: dpo.dpo_loss(*a).unsqueeze(1)) == ("fail", "shape")
    assert check("dpo.loss", lambda *a: dpo.dpo_loss(*a).double()) == ("pass", None)
    assert check("dpo.loss", lambda *a: dpo.dpo_loss(*a).half())[0] == "fail"
    assert check("dpo.loss", lambda *a: dpo.dpo_loss(*a) / (a[0] > -40)) == ("fail", "not_finite")
    assert check("dpo.loss", lambda *a: dpo.dpo_loss(*(x.half() if hasattr(x, "half") else x for x in a)))[0] == "fail"


def test_a_wrong_gradient_is_found_also_where_numbers_are_extreme():
    def where(pc, pr, rc, rr, beta):
        margin = dpo.reward_margin(pc, pr, rc, rr, beta)
        return torch.where(margin > -50, torch.log1p(torch.exp(-margin)), -margin)

    assert check("dpo.loss", where) == ("fail", "wrong_gradient")
    doubled = ("fail", "wrong_gradient")
    assert check("dpo.loss", lambda *a: 2 * (m := dpo.dpo_loss(*a)) - m.detach()) == doubled
    assert check("orpo.loss", lambda *a: 2 * (m := orpo.orpo_loss(*a)) - m.detach()) == doubled


def test_right_answers_in_other_forms_pass():
    def frozen_reference(pc, pr, rc, rr, beta):
        with torch.no_grad():
            reference = rc - rr
        return -F.logsigmoid(beta * (pc - pr - reference))

    class Loss:
        def __call__(self, pc, pr, rc, rr, beta, unused=None):
            return F.softplus(-beta * ((pc - rc) - (pr - rr)))

    def by_loops(logits, labels):
        rows = []
        for row, label in zip(logits, labels):
            logps = row.log_softmax(-1)
            rows.append(
                sum((logps[t, label[t + 1]] for t in range(len(label) - 1) if label[t + 1] != -100), 0 * row.sum())
            )
        return torch.stack(rows)

    def listed(text):
        return (message for message in dpo.split_dialogue(text))

    def mapped(text):
        return map(dict, dpo.split_dialogue(text))

    for answer in (listed, mapped, lambda text: tuple(dpo.split_dialogue(text))):
        result = cu.ex("dpo.split_dialogue").check(answer)
        assert result.outcome == "pass" and "TRL wants a list" in result.text
    assert check("orpo.delta", lambda c, r: orpo.delta(c, r).numpy()) == ("pass", None)
    for answer in (frozen_reference, Loss(), functools.partial(dpo.dpo_loss)):
        assert check("dpo.loss", answer) == ("pass", None)
    assert check("dpo.sequence_logps", by_loops) == ("pass", None)
    for kind in (torch.tensor, np.float32, Fraction, Decimal):
        assert check("dpo.win_rate", lambda ours, theirs, kind=kind: kind(dpo.win_rate(ours, theirs))) == ("pass", None)
    assert check("dpo.diagnose_run", lambda log: np.array([dpo.diagnose_run(log)], dtype=object)[0]) == ("pass", None)


def test_answers_of_any_kind_end_in_a_result():
    for odd in (torch.logit, torch.expm1, max, str, Exception, torch.nn.Linear(2, 2), np.mean):
        for name in FUNCTIONS:
            assert check(name, odd)[0] in ("fail", "error")
    frame = lambda log: pd.DataFrame(log)["rewards/chosen"] < -0.5  # noqa: E731
    assert check("dpo.diagnose_run", frame)[0] in ("fail", "error")
    assert check("dpo.win_rate", lambda ours, theirs: 10**400)[0] == "fail"
    assert (
        check("dpo.loss", lambda *a: 0) == ("fail", "type")
        and check("dpo.win_rate", lambda ours, theirs: 0)[0] == "fail"
    )
    assert check("dpo.sequence_logps", lambda logits, labels: labels.log_softmax(-1)) == ("error", "exception")


def test_an_exercise_does_not_show_its_solution_by_itself():
    for name, one in EXERCISES.items():
        assert one.model_answer not in repr(one) and name in repr(one) and len(repr(one)) < 100


ALARM = "rewards/chosen"


def end(log, key):
    return sum(entry[key] for entry in log[-10:]) / 10


# Wrong answers that no check was written for.
def quantised(pc, pr, rc, rr, beta):
    return -F.logsigmoid(torch.round(beta * (pc - rc - pr + rr), decimals=1))


BANK = {
    "dpo.loss": [
        lambda pc, pr, rc, rr, beta: F.relu(1 - beta * (pc - rc - pr + rr)),
        lambda pc, pr, rc, rr, beta: (pc - rc - pr + rr - 1 / (2 * beta)) ** 2,
        lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc - rc - pr + rr)) - 0.1 * pc,
        lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc.exp() - rc.exp() - pr.exp() + rr.exp())),
        lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc - rc) + (pr - rr)),
        lambda pc, pr, rc, rr, beta: torch.full_like(pc, math.log(2)),
        lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc - rc - pr + rr)).sum().expand_as(pc),
        lambda pc, pr, rc, rr, beta: F.softplus(-beta * (pc - rc - pr + rr)).clamp(max=5),
        lambda pc, pr, rc, rr, beta: -F.logsigmoid(0.1 * (pc - rc - pr + rr)),
        lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc - pr) - (rc - rr)),
        quantised,
    ],
    "dpo.reward_margin": [
        lambda pc, pr, rc, rr, beta: beta * (pc - rc - pr + rr).abs(),
        lambda pc, pr, rc, rr, beta: beta * (pc - rc).exp() - beta * (pr - rr).exp(),
        lambda pc, pr, rc, rr, beta: beta * (rc - rr),
        lambda pc, pr, rc, rr, beta: (beta * (pc - rc - pr + rr)).sum(),
        lambda pc, pr, rc, rr, beta: beta * (pc - rc - pr + rr) / 2,
    ],
    "dpo.sequence_logps": [
        lambda logits, labels: -F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="sum"),
        lambda logits, labels: -F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:]),
        lambda logits, labels: logits.log_softmax(-1).max(-1).values.sum(1),
        lambda logits, labels: torch.zeros(len(labels)),
        lambda logits, labels: F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none").sum(1),
        lambda logits, labels: dpo.sequence_logps(logits / 2, labels),
        lambda logits, labels: dpo.gathered(logits[:, :-1].softmax(-1).log(), labels[:, 1:]).sum(1),
        lambda logits, labels: dpo.gathered((logits[:, :-1].softmax(-1) + 1e-8).log(), labels[:, 1:]).sum(1),
        lambda logits, labels: dpo.sequence_logps(logits[:3], labels[:3]),
    ],
    "dpo.split_dialogue": [
        lambda text: [{"role": "user", "content": text}],
        lambda text: [{"role": "user", "content": part} for part in text.split("\n\n") if part],
        lambda text: {"user": text, "assistant": text},
        lambda text: [(m["role"], m["content"]) for m in dpo.split_dialogue(text)],
        lambda text: dpo.split_dialogue(text.replace("\n", " ").replace("  ", "\n\n")),
        lambda text: [m for m in dpo.split_dialogue(text) if m["content"]],
        lambda text: [m | {"role": ("user", "assistant")[i % 2]} for i, m in enumerate(dpo.split_dialogue(text))],
        lambda text: [
            {"role": {"Human": "user", "Assistant": "assistant"}.get(who, who.lower()), "content": said}
            for who, said in zip(*[iter(re.split(r"\n\n(\w+): ", text)[1:])] * 2)
        ],
        lambda text: dpo.split_dialogue(re.sub(r"(?i)\n\nhuman: ?", "\n\nHuman: ", text)),
    ],
    "dpo.win_rate": [
        lambda ours, theirs: 0.5,
        lambda ours, theirs: sum(a >= b for a, b in zip(sorted(ours), sorted(theirs))) / len(ours),
        lambda ours, theirs: sum(ours) / len(ours) / 2,
        lambda ours, theirs: round(dpo.win_rate(ours, theirs), 1),
        lambda ours, theirs: max(dpo.win_rate(ours, theirs), 0.5),
    ],
    "dpo.diagnose_run": [
        lambda log: None,
        lambda log: "rewards/chosen",
        lambda log: ALARM if log[-1]["rewards/margins"] > 3 else None,
        lambda log: ALARM if log[-1]["loss"] > 0.5 else None,
        lambda log: ALARM if end(log, "rewards/chosen") < -0.5 else None,
        lambda log: ALARM if end(log, "rewards/chosen") < -1 else None,
        lambda log: ALARM if end(log, "rewards/chosen") < 0 else None,
        lambda log: ALARM if all(entry["rewards/chosen"] < 0 for entry in log[-10:]) else None,
        lambda log: ALARM if min(entry["rewards/chosen"] for entry in log) < -1 else None,
        lambda log: ALARM if end(log, "loss") > 0.44 and end(log, "rewards/margins") > 1 else None,
        lambda log: ALARM if end(log, "rewards/accuracies") < 0.83 and end(log, "rewards/margins") > 1 else None,
        lambda log: ALARM if max(e["rewards/margins"] for e in log) > 3 and end(log, "loss") > 0.44 else None,
        lambda log: ALARM if log[0]["rewards/chosen"] < 0 else None,
        lambda log: ALARM if log[-1]["rewards/rejected"] < -1 else None,
        lambda log: log[-1]["rewards/chosen"] < 0,
        lambda log: ALARM if log[-1]["rewards/chosen"] < -0.05 else None,
        lambda log: ALARM if log[-1]["rewards/chosen"] < log[0]["rewards/chosen"] else None,
        lambda log: ALARM if log in (dpo.recorded_logs()["C"], dpo.recorded_logs()["E"]) else None,
    ],
    "orpo.log_odds": [
        lambda x: torch.logit(x.exp()),
        lambda x: x,
        lambda x: torch.logit(x.exp(), eps=1e-4),
        lambda x: x - torch.log(-torch.expm1(x.clamp(max=-1e-3))),
        lambda x: (x - torch.log(-torch.expm1(x))).clamp(max=10),
    ],
    "orpo.log_odds_ratio": [
        lambda c, r: torch.log(c / r),
        lambda c, r: (c - r) / (1 - c.exp()),
        lambda c, r: cu.log_odds(c),
        lambda c, r: torch.relu(orpo.log_odds_ratio(c, r)),
    ],
    "orpo.delta": [
        lambda c, r: torch.full_like(c, 0.5),
        lambda c, r: 1 - orpo.delta(c, r) ** 2,
        lambda c, r: torch.sigmoid(-orpo.log_odds_ratio(c, r)).sum(),
    ],
    "orpo.loss": [
        lambda nll, c, r, lam: nll + lam * (r - c),
        lambda nll, c, r, lam: -c - lam * F.logsigmoid(orpo.log_odds_ratio(c, r)),
        lambda nll, c, r, lam: (1 - lam) * nll - lam * F.logsigmoid(orpo.log_odds_ratio(c, r)),
        lambda nll, c, r, lam: nll.mean() - lam * F.logsigmoid(orpo.log_odds_ratio(c, r)),
        lambda nll, c, r, lam: nll - 0.1 * F.logsigmoid(orpo.log_odds_ratio(c, r)),
        lambda nll, c, r, lam: nll - (lam or 0.1) * F.logsigmoid(orpo.log_odds_ratio(c, r)),
        lambda nll, c, r, lam: nll - lam * torch.log(torch.sigmoid(orpo.log_odds_ratio(c, r))),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", BANK)
def test_fresh_wrong_answers_do_not_pass(name):
    for i, wrong in enumerate(BANK[name]):
        assert check(name, wrong)[0] != "pass", i


# ------------------------------------------------------------------ data, tables and runs


LEARNED = [{"loss": math.log(2), "rewards/margins": 0.0}, {"loss": 0.5, "rewards/margins": 0.9}]


def pairs_of(rows):
    """Pairs that are not the course's."""

    def said(role, text):
        return [{"role": role, "content": text}]

    texts = [(f"May I grow herb {i}?", "Yes, in a pot.", "Who cares.") for i in range(rows)]
    return [
        {"prompt": said("user", q), "chosen": said("assistant", a), "rejected": said("assistant", b)}
        for q, a, b in texts
    ]


def own(rows=10, log=LEARNED, trained=None, pairs=None, **faults):
    pairs = pairs_of(rows) if pairs is None else pairs
    report = {"read": len(pairs) + sum(map(len, faults.get("dropped", {}).values())), "kept": len(pairs)} | faults
    return pairs, Report("own", "text", **report), SimpleNamespace(log=log, data=trained or pairs)


def bundled(rows=20):
    return list(cu.load_preferences(dpo.SAMPLES / "preferences", limit=rows)[0])


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (own(), None),
        ("my file", "not_three"),
        (own()[:1], "not_three"),
        ((pairs_of(9), *own()[1:]), "other_report"),
        (own(read=30), "other_report"),
        (own(dropped={"empty_answer": [4]}), "faults_left"),
        (own(duplicates=[3]), "faults_left"),
        (own(contradictions=[3]), "faults_left"),
        (own(leaked=[3]), "faults_left"),
        (own(cut=[3]), "faults_left"),
        (own(not_compared="test: broken"), "faults_left"),
        (own(pairs=[{**one, "rejected": one["chosen"]} for one in pairs_of(9)]), "no_pairs"),
        (own(rows=5), "too_few"),
        (own(pairs=bundled()), "not_own"),
        (own(pairs=bundled() + pairs_of(7)), "not_own"),
        (own(pairs=bundled() + pairs_of(8)), None),
        (own(trained=pairs_of(20)), "other_pairs"),
        (own(trained=bundled()), "other_pairs"),
        (own(log=[{"loss": 0.7}]), "no_preference_run"),
        (own(log=[]), "no_preference_run"),
        (own(log=[LEARNED[0], {"loss": float("nan"), "rewards/margins": 1.0}]), "not_a_number"),
        (own(log=[{"loss": 0.4, "rewards/margins": 2.0}]), "wrong_reference"),
        (own(log=[{"loss": math.log(2), "rewards/margins": -0.1}]), "not_learned"),
    ],
)
def test_own_dataset(answer, diagnosis):
    assert check("dpo.own_dataset", answer) == ("fail" if diagnosis else "pass", diagnosis)
    assert "{" not in cu.ex("dpo.own_dataset").check(answer).text


def test_own_data_are_checked_before_they_are_trained_on():
    ready = cu.ex("dpo.own_dataset").check(own()[:2])
    assert ready.outcome == "todo" and "train on them" in ready.text
    assert check("dpo.own_dataset", own(duplicates=[3])[:2]) == ("fail", "faults_left")


@pytest.mark.parametrize("faults", [{"dropped": {"empty_answer": [4]}}, {"duplicates": [4]}, {"leaked": [4]}])
def test_a_fault_that_is_left_is_named_in_the_learners_words(faults):
    text = cu.ex("dpo.own_dataset").check(own(**faults)).text
    set_language("vi")
    assert all(key not in text + cu.ex("dpo.own_dataset").check(own(**faults)).text for key in ("_", "leaked"))
    assert cu.ex("dpo.own_dataset").check(own(dropped={"empty_answer": [4]})).text.count("câu trả lời trống") == 1


GRID = [
    {"model": model, "data": data, "preferred": 60.0 + 9 * i + 3 * j, "fluent": 98.0}
    for i, model in enumerate(("small", "large"))
    for j, data in enumerate(("bundled", "own"))
]
APART = {"prompt": [[{"role": "user", "content": "a"}]]}, {"prompt": [[{"role": "user", "content": "b"}]]}
DATA = dict.fromkeys(("bundled", "own"), APART)


def grid(rows=GRID, data=DATA, **changed):
    """The table with another first row."""
    return [{**rows[0], **changed}, *rows[1:]], data


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (grid(), None),
        ((pd.DataFrame(GRID).to_dict("list"), DATA), None),
        (grid([{**row, "preferred": float("nan"), "accuracy": 61.0 + i} for i, row in enumerate(GRID)]), None),
        ("large", "no_table"),
        (GRID, "no_table"),
        (([{"model": "small", "margin": 3.0}], DATA), "columns"),
        (grid(model="small "), "labels"),
        (grid(model="Large"), "labels"),
        (grid([{**row, "data": 7} for row in GRID]), "labels"),
        (grid(preferred=float("nan")), "not_percent"),
        (grid(fluent=float("nan")), "not_percent"),
        (grid(preferred="60"), "not_percent"),
        (grid(fluent=None), "not_percent"),
        (grid(preferred=True), "not_percent"),
        (grid(fluent=980.0), "not_percent"),
        (grid(preferred=-1.0), "not_percent"),
        (grid([{**row, "accuracy": 500.0} for row in GRID]), "not_percent"),
        (grid([{**row, "accuracy": "97%"} for row in GRID]), "not_percent"),
        (grid([{**row, "accuracy": [97.0]} for row in GRID]), "not_percent"),
        (grid([{**row, "preferred": row["preferred"] / 100, "fluent": 0.98} for row in GRID]), "shares"),
        (grid(preferred=0.6), "shares"),
        (grid([{**row, "accuracy": 0.97} for row in GRID]), "shares"),
        ((GRID[:2], DATA), "one_model"),
        ((GRID[::2], DATA), "one_dataset"),
        ((GRID[:3], DATA), "gaps"),
        ((GRID + GRID[:1], DATA), "twice"),
        ((GRID + [{**GRID[0], "preferred": 61.0}], DATA), "twice"),
        ((([{**row, "preferred": 60.0} for row in GRID]), DATA), "copied"),
        (grid(preferred=99.0), "impossible"),
        ((GRID, {**DATA, "own": (APART[0], APART[0])}), "prompts_shared"),
        ((GRID, {"bundled": APART}), "prompts_shared"),
    ],
)
def test_scale_up(answer, diagnosis):
    assert check("dpo.scale_up", answer) == ("fail" if diagnosis else "pass", diagnosis)


def judged(preferred, fluent=95, count=200):
    """Verdicts of which so many percent are preferred, spread evenly."""
    good = [i * preferred // 100 != (i + 1) * preferred // 100 for i in range(count)]
    bad = [i * (100 - fluent) // 100 != (i + 1) * (100 - fluent) // 100 for i in range(count)]
    return [GIBBERISH if b and not g else GOOD if g else FAULT for g, b in zip(good, bad)]


def weights(choice=1.0, lams=(0.0, 0.1, 1.0, 3.0, 10.0), preferred=(40, 60, 90, 89, 50), fluent=(95,) * 5, **changed):
    nll = changed.get("nll", (0.2, 0.3, 0.4, 0.5, 0.6))
    return {lam: {"verdicts": judged(p, f), "nll": n} for lam, p, f, n in zip(lams, preferred, fluent, nll)}, choice


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (weights(), None),
        (weights(choice=3.0), None),  # no worse than chance allows
        (weights(choice=1), None),
        ("λ = 1", "not_two"),
        (pd.DataFrame({"preferred": [1.0]}), "not_two"),
        (({1.0: {"verdicts": judged(50)}}, 1.0), "not_two"),
        (weights(lams=(0.0, -0.1, 1.0, 3.0, 10.0)), "not_weights"),
        (weights(lams=(0.0, float("nan"), 1.0, 3.0, 10.0)), "not_weights"),
        (weights(lams=("0", "0.1", "1", "3", "10"), choice="1"), "not_weights"),
        (weights(lams=(0.0, 0.1, 1.0)), "too_few"),
        (weights(lams=(0.01, 0.1, 1.0, 3.0, 10.0)), "no_zero"),
        (weights(nll=(0.2, 0.3, float("inf"), 0.5, 0.6)), "not_judged"),
        (weights(nll=(0.2, 0.3, -0.4, 0.5, 0.6)), "not_judged"),
        (weights(nll=(0.2, "0.3", 0.4, 0.5, 0.6)), "not_judged"),
        (({lam: {**one, "verdicts": one["verdicts"][:20]} for lam, one in weights()[0].items()}, 1.0), "not_judged"),
        (
            ({lam: {**one, "verdicts": [Verdict(judged=False)] * 200} for lam, one in weights()[0].items()}, 1.0),
            "not_judged",
        ),
        (weights(preferred=(60,) * 5), "copied"),
        (weights(choice=2.0), "not_in_table"),
        (weights(choice=[1.0]), "not_two"),
        (weights(choice=10.0, preferred=(40, 60, 50, 50, 60), fluent=(99, 99, 99, 99, 60)), "not_fluent"),
        (weights(choice=0.0), "lowest_nll"),
        (weights(choice=0.1), "not_best"),
    ],
)
def test_loss_weights(answer, diagnosis):
    assert check("orpo.loss_weights", answer) == ("fail" if diagnosis else "pass", diagnosis)


def test_a_weight_is_chosen_on_the_first_half_of_the_prompts_and_reported_on_the_second():
    runs, choice = weights()
    for run in runs.values():
        run["verdicts"][100:] = [GIBBERISH] * 100
    done = cu.ex("orpo.loss_weights").check((runs, choice))
    assert done.outcome == "pass" and " 0% of its answers" in done.text


def test_runs_without_verdicts_are_told_of_and_nothing_else_is_said():
    runs = {lam: {"verdicts": [], "nll": 0.3} for lam in (0.0, 0.1, 1.0, 3.0, 10.0)}
    with warnings.catch_warnings(action="error"):
        assert check("orpo.loss_weights", (runs, 0.1)) == ("fail", "not_judged")


def match(ours=(GOOD,) * 200, theirs=(FAULT,) * 100 + (GOOD,) * 100, orpo=3.0, dpo=3.05, conclusion="orpo", **more):
    return {"orpo": ours, "dpo": theirs, "compute": {"orpo": orpo, "dpo": dpo}, "conclusion": conclusion, **more}


EVEN = {"ours": (GOOD, FAULT) * 100, "theirs": (FAULT, GOOD) * 100}
#: Eight wins in a hundred questions, and nothing but ties: no defeat, so the paired interval is above one half.
FEW = {"ours": (GOOD,) * 100, "theirs": (FAULT,) * 8 + (GOOD,) * 92}
#: Three seeds with the same verdicts say no more than one of them: 58% in 100 questions decide nothing.
CLOSE = {"ours": [(GOOD,) * 58 + (FAULT,) * 42] * 3, "theirs": [(FAULT,) * 58 + (GOOD,) * 42] * 3}
#: Three seeds that agree about no question, and their mean does.
SEEDS = [(FAULT,) * 33 * i + (GOOD,) * 33 + (FAULT,) * (67 - 33 * i) for i in range(3)]


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (match(), None),
        (match(**EVEN, conclusion="undecided"), None),
        (match(ours=(GIBBERISH,) * 200, conclusion="dpo"), None),
        (match(**FEW), None),
        (match(**FEW, conclusion="undecided"), "undecided_though_clear"),
        (match(**CLOSE, conclusion="undecided"), None),
        (match(**CLOSE), "interval_holds_half"),
        (match(ours=SEEDS, theirs=[(FAULT,) * 100] * 3), None),
        (match(ours=SEEDS, theirs=[(FAULT,) * 100] * 2), "other_prompts"),
        (match(ours=SEEDS, theirs=[*[(FAULT,) * 100] * 2, (FAULT,) * 99]), "other_prompts"),
        (match(ours=[], theirs=[]), "too_few"),
        (match(ours=[[]], theirs=[[]]), "too_few"),
        ("orpo", "not_four"),
        ({"orpo": []}, "not_four"),
        (match() | {"compute": "a lot"}, "not_four"),
        (match(ours=(GOOD,) * 150), "other_prompts"),
        (match(ours=(GOOD,) * 20, theirs=(FAULT,) * 20), "too_few"),
        (match(ours=(Verdict(judged=False),) * 200), "not_judged"),
        (match(orpo="a lot"), "no_compute"),
        (match(orpo=float("nan")), "no_compute"),
        (match(orpo=float("inf"), dpo=float("inf")), "no_compute"),
        (match(orpo=True, dpo=True), "no_compute"),
        (match(orpo=-1.0, dpo=-1.0), "no_compute"),
        (match(orpo=2.0), "unequal_compute"),
        (match(conclusion="ORPO wins"), "no_conclusion"),
        (match(conclusion=["orpo"]), "no_conclusion"),
        (match(**EVEN), "interval_holds_half"),
        (match(conclusion="undecided"), "undecided_though_clear"),
        (match(conclusion="dpo"), "wrong_winner"),
    ],
)
def test_versus_dpo(answer, diagnosis):
    assert check("orpo.versus_dpo", answer) == ("fail" if diagnosis else "pass", diagnosis)


BEFORE = {"margin": 2.0, "margin / beta": 6.0, "preferred": 97.0, "fluent": 99.0}
AFTER = {"margin": 3.0, "margin / beta": 3.0, "preferred": 95.0, "fluent": 60.0}
SAID = {"margin": "up", "margin / beta": "up", "preferred": "same", "fluent": "down"}


def changed(settings={"beta": 1.0}, prediction=SAID, before=BEFORE, after=AFTER):  # noqa: B006
    return settings, prediction, before, after


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (changed(), None),
        (changed({"learning_rate": 1e-4}, dict.fromkeys(SAID, "same")), None),  # wrong, and still a prediction
        ("up", "not_four"),
        (changed()[:3], "not_four"),
        (changed({}), "two_changes"),
        (changed({"beta": 1.0, "max_steps": 20}), "two_changes"),
        (changed(prediction={}), "no_prediction"),
        (changed(prediction=SAID | {"fluent": "lower"}), "no_prediction"),
        (changed(after=AFTER | {"margin": float("nan")}), "not_a_number"),
    ],
)
@pytest.mark.parametrize("name", ["dpo.change_one", "orpo.change_one"])
def test_change_one(name, answer, diagnosis):
    assert check(name, answer) == ("fail" if diagnosis else "pass", diagnosis)


def test_a_prediction_is_told_what_came_true_and_why():
    text = cu.ex("dpo.change_one").check(changed()).text
    assert "margin: you said up, it went up (2 → 3) ✓" in text and "fluent: you said down, it went down" in text
    assert "margin / beta: you said up, it went down (6 → 3) ✗" in text and "closer to it" in text


@pytest.mark.parametrize(
    ("name", "answer", "in_english", "in_vietnamese"),
    [
        ("orpo.versus_dpo", match(**EVEN), "43.1% – 56.9%", "43,1% – 56,9%"),
        ("dpo.change_one", changed(after=AFTER | {"margin": 3.25}), "(2 → 3.25)", "(2 → 3,25)"),
    ],
)
def test_the_numbers_of_a_check_have_the_decimal_sign_of_the_language(name, answer, in_english, in_vietnamese):
    assert in_english in cu.ex(name).check(answer).text
    set_language("vi")
    text = cu.ex(name).check(answer).text
    assert in_vietnamese in text and in_english not in text


def test_the_solution_finds_the_recorded_runs_that_write_gibberish():
    assert {name for name, log in dpo.recorded_logs().items() if dpo.diagnose_run(log)} == {"C", "E"}


def test_every_named_mistake_of_the_tables_is_tried_here():
    tried = {
        "dpo.own_dataset": test_own_dataset,
        "dpo.scale_up": test_scale_up,
        "orpo.loss_weights": test_loss_weights,
        "orpo.versus_dpo": test_versus_dpo,
        "dpo.change_one": test_change_one,
        "orpo.change_one": test_change_one,
    }
    for name, test in tried.items():
        keys = {case[1] for mark in test.pytestmark for case in mark.args[1] if len(case) == 2} - {None}
        assert keys == {mistake.key for mistake in EXERCISES[name].mistakes} - {"train_now"}
    in_test_labs = {"labs.own_loss", "labs.flip_labels", "labs.shorter", "labs.first_loss"}
    assert {*tried, *FUNCTIONS, *in_test_labs} == set(EXERCISES)


def test_the_signs_of_a_run_are_told_apart():
    right = dpo.diagnose_run
    for sign, key in [
        ("rewards/margins", "margin"),
        ("rewards/accuracies", "accuracy"),
        ("loss", "loss"),
        ("rewards/rejected", "rejected"),
        ("beta", "unknown_sign"),
    ]:
        wrong = lambda log, sign=sign: sign if right(log) else None  # noqa: E731
        assert check("dpo.diagnose_run", wrong) == ("fail", key)
    assert check("dpo.diagnose_run", lambda log: "logps/chosen" if right(log) else None) == ("pass", None)
    assert check("dpo.diagnose_run", lambda log: "rewards/chosen") == ("fail", "flags_healthy")
    assert check("dpo.diagnose_run", lambda log: None if len(log) else 1) == ("fail", "misses_collapsed")


# ------------------------------------------------------------------ words and progress


@pytest.mark.parametrize("lang", ["en", "vi"])
@pytest.mark.parametrize("name", EXERCISES)
def test_hints_solutions_and_results_can_be_read(name, lang):
    set_language(lang)
    one = cu.ex(name)
    one.hints_shown = 0
    hints = [str(one.hint()) for _ in range(4)]
    assert len(set(hints)) == 3 and hints[2] == hints[3]
    assert "3" in hints[2] and one.solution().code in str(one.solution())
    result = one.check(None)
    assert name in str(result) and 'role="status"' in result._repr_html_().replace("'", '"')
    assert f"lang='{lang}'" in result._repr_html_()


def test_messages_do_not_give_the_answer_away():
    for name, one in FUNCTIONS.items():
        body = [line.strip() for line in one.solution().code.splitlines() if len(line.strip()) > 25]
        for mistake in one.mistakes:
            assert not any(line in mistake.message for line in body), (name, mistake.key)


def test_an_unknown_exercise_is_named():
    with pytest.raises(ValueError, match=r"no exercise 'dpo\.los'; choose one of dpo\.split_dialogue"):
        cu.ex("dpo.los")


def test_progress_is_kept_and_a_code_carries_it(tmp_path, monkeypatch):
    cu.ex("dpo.loss").check(dpo.dpo_loss)
    cu.ex("dpo.loss").check(lambda *a: torch.zeros(3))  # once passed, passed
    cu.ex("orpo.loss").check(lambda *a: torch.zeros(3))
    cu.ex("orpo.delta").check(untouched)
    table = cu.progress()
    states = dict(zip(table.frame["exercise"], table.frame["state"]))
    assert states["dpo.loss"] == "✓ passed" and states["orpo.loss"] == "✗ tried"
    assert states["orpo.delta"] == "○ not tried yet" and "🐢 1 / 11" in str(table)
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "elsewhere"))
    assert "🐢 0 / 11" in str(cu.progress()) and "🐢 1 / 11" in str(cu.progress(table.code))
    assert [file.name for file in (tmp_path / "elsewhere").iterdir()] == ["dpo.loss.pass"]
    (tmp_path / "elsewhere" / "kto.loss.pass").touch()  # of a later edition: stays, and is not in the way
    assert "🐢 1 / 11" in str(cu.progress()) and len(list((tmp_path / "elsewhere").iterdir())) == 2


def test_codes_come_back_and_slips_are_found():
    for passed in (set(), {"dpo.loss"}, {"orpo.versus_dpo"}, set(EXERCISES)):
        code = encode(passed)
        assert decode(code) == passed == decode(code.lower().replace("-", ""))
        assert len(code) <= 17
        for i, letter in enumerate(code):
            if letter != "-":
                assert decode(code[:i] + ("A" if letter != "A" else "B") + code[i + 1 :]) is None
    with pytest.raises(ValueError, match="is no code of this course"):
        cu.progress("hello!")


def test_progress_that_cannot_be_written_or_read_loses_only_itself(tmp_path, monkeypatch, capsys):
    old = tmp_path / "progress.json"  # of the first edition
    old.write_text('{"orpo.loss": "pass", "orpo.delta": "tried", "dpo.loss": {"odd": []}}')
    assert check("orpo.delta", orpo.delta) == ("pass", None)
    states = dict(zip(*(cu.progress().frame[name] for name in ("exercise", "state"))))
    assert states["orpo.loss"] == states["orpo.delta"] == "✓ passed" and states["dpo.loss"] == "○ not tried yet"
    for torn in ('{"orpo.loss": "pa', "[]", "[" * 100_000):
        old.write_text(torn)
        assert check("dpo.loss", dpo.dpo_loss) == ("pass", None) and "🐢 2 / 11" in str(cu.progress())
        assert "progress.json is damaged" in capsys.readouterr().out and old.read_text() == torn
    monkeypatch.setenv("COURSE_PROGRESS", str(old))  # a file where a folder should be
    assert check("orpo.loss", orpo.orpo_loss) == ("pass", None)
    assert "set COURSE_PROGRESS" in capsys.readouterr().out
    monkeypatch.delenv("COURSE_PROGRESS")
    monkeypatch.setattr(Path, "expanduser", lambda path: (_ for _ in ()).throw(RuntimeError("no home")))
    assert check("orpo.loss", orpo.orpo_loss) == ("pass", None) and "🐢 0 / 11" in str(cu.progress())
    assert "set COURSE_PROGRESS" in capsys.readouterr().out


def test_a_home_sign_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("COURSE_PROGRESS", "~/mine")
    store.record("dpo.loss", "pass")
    assert store.read() == {"dpo.loss": "pass"} and (tmp_path / "mine").is_dir()


def in_a_process(work):
    """Run `work` in a copy of this process; its number."""
    with warnings.catch_warnings(action="ignore"):  # that threads are not copied
        child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is copied by fork")


@needs_fork
def test_two_processes_take_nothing_from_each_other():
    def records(name, end):
        for i in range(100):
            store.record(f"{name}.{i}", "pass")
            store.record(f"both.{i}", end)

    begun = [in_a_process(functools.partial(records, *one)) for one in (("a", "pass"), ("b", "fail"))]
    for child in begun:
        os.waitpid(child, 0)
    found = store.read()
    assert len(found) == 300 and set(found.values()) == {"pass"}


@needs_fork
def test_nothing_is_lost_when_a_process_is_killed_while_it_writes(tmp_path, monkeypatch):
    """200 times, at any moment: what `record` came back from is there, and so is what was there before."""
    dice, acknowledged = random.Random(0), 0
    for number in range(200):
        monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / str(number % 20)))
        kept, (here, there) = store.read(), os.pipe()

        def records(there=there, number=number):
            for i in range(100_000):
                name, outcome = f"{number}.{i % 50}", "pass" if i % 3 == 0 else "fail"
                store.record(name, outcome)
                os.write(there, f"{name} {outcome}\n".encode())

        child = in_a_process(records)
        os.close(there)
        told = os.read(here, 100)  # it has begun
        time.sleep(dice.uniform(0, 0.005))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while more := os.read(here, 1 << 16):
            told += more
        os.close(here)
        said = [line.split() for line in told.decode().splitlines()]
        found = store.read()
        assert all(found[name] == "pass" or outcome == "fail" for name, outcome in said)
        assert kept.items() <= found.items()
        acknowledged += len(said)
    assert acknowledged > 400


def class_progress(*arguments):
    program = Path(__file__).parents[1] / "tools" / "class_progress.py"
    command = [sys.executable, "-S", "-E", program, *arguments]  # no site packages
    return subprocess.run(command, capture_output=True, encoding="utf-8")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1258"])
def test_a_teacher_reads_a_class_with_one_command_and_without_pytorch(tmp_path, encoding):
    both, one, none = encode({"dpo.loss", "orpo.loss"}), encode({"dpo.loss"}), encode(set())
    lines = ["Tên,Mã", f"An Nguyễn {both}", "", f"Bo\t{none}", "Cy 2222-WRONG", f"=cmd()|' /C calc'!A0 {both}"]
    lines += [f'"Bo, the second";"{one}"', f"Bo,{one}", f"<b>\x1b[31mEve</b> {one}", "Z" * 300_000, one]
    text = unicodedata.normalize("NFD" if encoding == "cp1258" else "NFC", "\n".join(lines))
    data = text.encode(encoding, errors="ignore")  # code page 1258 has marks of its own
    (tmp_path / "codes.txt").write_bytes(data)
    done = class_progress(tmp_path / "codes.txt", tmp_path / "class.csv")
    raw = (tmp_path / "class.csv").read_bytes()
    table = pd.read_csv(io.BytesIO(raw), encoding="utf-8-sig")
    name = "An Nguyễn" if encoding != "cp1258" else table["name"][0]
    names = [name, "Bo", "'=cmd()|' /C calc'!A0", "Bo, the second", "Bo", "<b>[31mEve</b>", "line 11"]
    assert raw.startswith(b"\xef\xbb\xbf") and list(table["name"]) == names and name.startswith("An Ng")
    assert list(table["sum"]) == [2, 0, 2, 1, 1, 1, 1] and list(table["dpo.loss"]) == [1, 0, 1, 1, 1, 1, 1]
    assert "line 5" in done.stderr and "line 10" in done.stderr and done.stderr.count("\n") == 2
    assert class_progress(tmp_path / "codes.txt").stdout.splitlines()[2].startswith("Bo,0,")
    class_progress(tmp_path / "codes.txt", tmp_path / "class.html")
    page = (tmp_path / "class.html").read_text(encoding="utf-8")
    assert name in page and "&lt;b&gt;" in page and "<b>" not in page and page.count("<tr>") == 9


def test_what_is_no_class_is_one_clear_line(tmp_path):
    (tmp_path / "picture").write_bytes(bytes(range(256)))
    for arguments in ([], [tmp_path / "nowhere.txt"], [tmp_path], [tmp_path / "picture"]):
        done = class_progress(*arguments)
        assert done.returncode == 1 and "expected a text file" in done.stderr and done.stderr.count("\n") == 1


def test_a_whole_lesson_earns_a_certificate_in_every_language():
    code = encode({one.name for one in LESSONS[0]})
    assert "Certificate" not in cu.progress(encode({"dpo.loss"}), name="An")._repr_html_()
    page = cu.progress(code, name="<i>An</i> Nguyễn")._repr_html_()
    assert page.count("&lt;i&gt;An&lt;/i&gt; Nguyễn") == 2 and "<i>" not in page and page.count(code) == 4
    assert "Certificate: preference alignment, DPO" in page and "Chứng nhận" in page and "ORPO" not in page
    assert 'cu.progress(name="…")' in str(cu.progress(code)) and decode(code) == {one.name for one in LESSONS[0]}
