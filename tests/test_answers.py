"""Answers written without a look at the checks: no wrong one passes, most slips are named, right ones pass."""

import sys
from pathlib import Path

import pytest

import course_utils as cu
from course_utils.exercises import runner
from course_utils.exercises.orpo import CANCELS

sys.path.append(str(Path(__file__).parent / "answers"))
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path))
    monkeypatch.setattr(runner, "TIME_LIMIT", 5)


def test_no_wrong_answer_passes_and_four_plausible_slips_in_five_are_named():
    from wrong import WRONG
    from wrong_labs import WRONG as OF_LABS

    passed, named, plausible = [], 0, 0
    for name, slip, is_plausible, answer in [*WRONG, *OF_LABS]:
        cu.ex(name).said.clear()
        result = cu.ex(name).check(answer)
        if result.outcome == "pass" and CANCELS not in result.text:  # which orpo.log_odds is about
            passed.append((name, slip))
        elif is_plausible:
            plausible += 1
            named += result.diagnosis not in (None, "exception")
    assert not passed and len(WRONG) >= 300 and len(OF_LABS) >= 150 and named >= 0.8 * plausible


def test_unusual_right_answers_pass():
    from right import RIGHT
    from right_labs import RIGHT as OF_LABS

    every = [*RIGHT, *OF_LABS]
    answers = [one for one in every if one[0] != "dpo.diagnose_run"]  # there the text names what a rule must not do
    refused = [(name, how) for name, how, answer in answers if cu.ex(name).check(answer).outcome != "pass"]
    assert len(answers) >= 120 and refused == []
