"""Each lesson with the solutions filled in runs through, in every language, and every check passes.

The cells run in this process, one after the other, with shorter trainings and answers and fewer prompts: what is
tested is that the solutions fit the lesson around them, not how good the models become.
"""

import json
import re
import sys

import matplotlib.pyplot as plt
import nbformat
import pytest
from test_notebooks import LANGUAGES, LESSONS, ROOT

import course_utils as cu
from course_utils.exercises import EXERCISES

CHECK = re.compile(r'^(?:verdict = )?cu\.ex\("([\w.]+)"\)\.check\((\w+)\)$', re.MULTILINE)
SHORTER = [
    (r"max_steps=\d\d+\b", "max_steps=3"),
    (r"\(0\.0, 0\.1, 1\.0, 10\.0\)", "(0.0, 1.0)"),
    (r"limit=setup.rows\b", "limit=setup.rows or 250"),
    (r"range\(400\)", "range(40)"),
    (r"range\((60|100)\)", "range(10)"),
    (r"\bwarmup_steps=\d+", "warmup_steps=1"),
    (r"^some = prompts\[:\d+\]$", "some = prompts[:10]"),
    (r"cu\.generate\(([\w.]+, tokenizer, \w+)", r"cu.generate(\1, max_new_tokens=24"),
]
#: A margin must grow on a learner's own pairs; a match needs steps enough to be at equal compute, and 100 prompts.
KEPT = {
    "dpo": [(r"max_steps=20, warmup_steps=2\)\)", "max_steps=+9))"), (r"^prompts = list\(.*", r"\g<0>[:20]")],
    "orpo": [(r"max_steps=(100|80)\b", "max_steps=+16"), (r"^prompts = list\(.*", r"\g<0>[:100]")],
}
ALL = [(lang, name) for lang in LANGUAGES for name in LESSONS]


def code_cells(lang, name):
    return [cell for cell in nbformat.read(ROOT / lang / name, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", LESSONS)
def test_every_exercise_of_a_lesson_stands_in_it_once(name):
    asked = [match[1] for cell in code_cells("en", name) for match in CHECK.finditer(cell.source)]
    prefix = name.partition("_")[0] + "."
    assert sorted(asked) == sorted(one for one in EXERCISES if one.startswith(prefix))


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_untouched_exercises_say_so_in_the_committed_outputs(lang, name):
    for cell in code_cells(lang, name):
        if CHECK.search(cell.source):
            assert "○" in cell.outputs[-1].data["text/plain"], cell.id


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_the_lesson_with_its_solutions_filled_in_passes_every_check(lang, name, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path))
    monkeypatch.chdir(ROOT / lang)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(cu, "show", plt.close)
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
        for pattern, shorter in KEPT[name.partition("_")[0]] + SHORTER:
            source = re.sub(pattern, shorter, source, flags=re.MULTILINE)
        exec(compile(source, f"{name}:{cell.id}", "exec"), names)
    assert {exercise: result.text for exercise, result in results.items() if result.outcome != "pass"} == {}
    assert len(results) >= 6
    method = name.partition("_")[0]
    assert names["loss"] is names[f"{method}_loss"] is not getattr(cu, f"{method}_loss")  # the learner's own trained
    saved = json.loads((tmp_path / "progress.json").read_text())
    assert saved == dict.fromkeys(results, "pass")
