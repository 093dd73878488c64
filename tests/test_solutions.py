"""Each lesson with the solutions filled in runs through, and every check passes.

The cells run in this process, one after the other, made shorter by shorter.py.
"""

import re
import sys

import nbformat
import pytest
import shorter
from test_notebooks import ALL as EVERY
from test_notebooks import LESSONS, ROOT

import course_utils as cu
from course_utils.exercises import EXERCISES

CHECK = re.compile(r'^(?:verdict = )?cu\.ex\("([\w.]+)"\)\.check\((\w+)\)$', re.MULTILINE)
#: One language each: the cells of both are the same, byte for byte.
ALL = [("en", "dpo_finetuning_example.ipynb"), ("vi", "orpo_finetuning_example.ipynb")]
PREFIXES = {"preference_labs.ipynb": "labs."}


def code_cells(lang, name):
    return [cell for cell in nbformat.read(ROOT / lang / name, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", LESSONS)
def test_every_exercise_of_a_lesson_stands_in_it_once(name):
    asked = [match[1] for cell in code_cells("en", name) for match in CHECK.finditer(cell.source)]
    prefix = PREFIXES.get(name, name.partition("_")[0] + ".")
    assert sorted(asked) == sorted(one for one in EXERCISES if one.startswith(prefix))


@pytest.mark.parametrize(("lang", "name"), EVERY)
def test_untouched_exercises_say_so_in_the_committed_outputs(lang, name):
    for cell in code_cells(lang, name):
        if CHECK.search(cell.source):
            assert "○" in cell.outputs[-1].data["text/plain"], cell.id


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_the_lesson_with_its_solutions_filled_in_passes_every_check(lang, name, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path))
    monkeypatch.chdir(ROOT / lang)
    monkeypatch.setattr(sys, "path", list(sys.path))
    shorter.shorten(monkeypatch.setattr)
    results = {}

    def check(exercise, answer):
        results[exercise] = cu.ex(exercise).check(answer)
        return results[exercise]

    names = {"display": lambda *shown: None, "check_exercise": check}
    for cell in code_cells(lang, name):
        source = cell.source
        if asked := CHECK.search(source):
            code = cu.ex(asked[1]).solution().code
            source = f'{code}\n\nverdict = check_exercise("{asked[1]}", {asked[2]}){source[asked.end() :]}'
        exec(compile(source, f"{name}:{cell.id}", "exec"), names)
    assert {exercise: result.text for exercise, result in results.items() if result.outcome != "pass"} == {}
    assert len(results) >= 6
    method = name.partition("_")[0]
    assert names["loss"] is names[f"{method}_loss"] is not getattr(cu, f"{method}_loss")  # the learner's own trained
    assert {file.stem for file in tmp_path.glob("*.pass")} == {*results}
