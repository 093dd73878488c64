"""Where the exercises stand in the lessons. That the solutions pass there, test_browser.py tests."""

import re

import nbformat
import pytest
from test_notebooks import ALL, LESSONS, ROOT

from course_utils.exercises import EXERCISES, ex

CHECK = re.compile(r'^(?:verdict = )?cu\.ex\("([\w.]+)"\)\.check\((\w+)\)$', re.MULTILINE)
PREFIXES = {"preference_labs.ipynb": "labs."}


def code_cells(lang, name):
    return [cell for cell in nbformat.read(ROOT / lang / name, as_version=4).cells if cell.cell_type == "code"]


def filled_in(source):
    """A cell with the solution in front of its check, if it has one."""
    if not (asked := CHECK.search(source)):
        return source
    return f"{ex(asked[1]).solution().code}\n\n{source[asked.start() :]}"


@pytest.mark.parametrize("name", LESSONS)
def test_every_exercise_of_a_lesson_stands_in_it_once(name):
    asked = [match[1] for cell in code_cells("en", name) for match in CHECK.finditer(cell.source)]
    prefix = PREFIXES.get(name, name.partition("_")[0] + ".")
    assert sorted(asked) == sorted(one for one in EXERCISES if one.startswith(prefix))


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_untouched_exercises_say_so_in_the_committed_outputs(lang, name):
    for cell in code_cells(lang, name):
        if CHECK.search(cell.source):
            assert "○" in cell.outputs[-1].data["text/plain"], cell.id
