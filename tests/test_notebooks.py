"""What holds of the notebooks as files. That they run, and print what is committed, nbval tests."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1] / "notebooks"
sys.path.insert(0, str(ROOT.parent / "translations"))

from sync import slug_of  # noqa: E402

from course_utils.i18n import DECIMAL, local_decimals, set_language  # noqa: E402

LESSONS = sorted(path.name for path in (ROOT / "en").glob("*.ipynb"))
LANGUAGES = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
ALL = [(lang, name) for lang in LANGUAGES for name in LESSONS]


def cells(lang, name):
    return nbformat.read(ROOT / lang / name, as_version=4).cells


def numbers_with_a_decimal(text):
    return {float(number.replace(",", ".")) for number in re.findall(r"(?<![\w.,])\d+[.,]\d+(?![\w.,]*\w)", text)}


def ignored(cell):
    return "nbval-ignore-output" in cell.metadata.get("tags", [])


def test_there_are_lessons_in_every_language():
    assert LESSONS and {"en", "vi"} <= set(LANGUAGES)
    for lang in LANGUAGES:
        assert sorted(path.name for path in (ROOT / lang).glob("*.ipynb")) == LESSONS


@pytest.mark.parametrize(("lang", "name"), [pair for pair in ALL if pair[0] != "en"])
def test_languages_share_code_byte_for_byte_but_for_the_set_up_cell(lang, name):
    source, other = cells("en", name), cells(lang, name)
    assert [(c.id, c.cell_type, c.metadata) for c in source] == [(c.id, c.cell_type, c.metadata) for c in other]
    code = [(a, b) for a, b in zip(source, other) if a.cell_type == "code"]
    assert [a.id for a, b in code if a.source != b.source] == ["setup"]
    setup = next((a, b) for a, b in code if a.id == "setup")
    assert setup[0].source.replace('lang="en"', f'lang="{lang}"') == setup[1].source


@pytest.mark.parametrize(("lang", "name"), [pair for pair in ALL if pair[0] != "en"])
def test_headings_formulas_code_and_links_are_the_same_in_both_languages(lang, name):
    for one, other in zip(cells("en", name), cells(lang, name)):
        if one.cell_type == "markdown":
            for pattern in (r"^#+ (?:\d+\.|🐢|🐕|🦁)?", r"\$\$.+?\$\$", r"`[^`\n]+`", r"\]\(([^)]+)\)", r"\*\*"):
                texts = one.source, other.source.replace(f'lang="{lang}"', 'lang="en"')
                found = [re.findall(pattern, text, re.MULTILINE | re.DOTALL) for text in texts]
                assert found[0] == found[1], one.id


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_markdown_in_a_fold_begins_after_a_blank_line(lang, name):
    """On the line of its summary all is HTML: stars, backticks and links would show as they are written."""
    for cell in cells(lang, name):
        if cell.cell_type == "markdown":
            for line in re.findall(r"</summary>(.+)", cell.source):
                assert not re.search(r"[*`]|\]\(", line), cell.id


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_every_code_cell_was_run_in_order_without_error(lang, name):
    code = [cell for cell in cells(lang, name) if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [cell.id for cell in code for output in cell.outputs if output.output_type == "error"]


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_results_are_compared_and_training_is_followed_by_a_compared_cell(lang, name):
    code = [cell for cell in cells(lang, name) if cell.cell_type == "code"]
    assert sum(bool(cell.outputs) and not ignored(cell) for cell in code) >= 12
    for i, cell in enumerate(code):
        if "cu.train_" in cell.source and not cell.id.startswith("ex-"):
            assert ignored(cell)
            assert any(later.outputs and not ignored(later) for later in code[i + 1 : i + 4]), cell.id


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_what_must_hold_holds(lang, name):
    checks = [cell for cell in cells(lang, name) if re.search("-(holds?|agrees)$", cell.id)]
    assert len(checks) >= 6
    for cell in checks:
        text = cell.outputs[0].data["text/plain"]
        assert "✓" in text and "✗" not in text, cell.id


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_code_cells_are_short_and_nothing_of_the_machine_is_saved(lang, name):
    notebook = nbformat.read(ROOT / lang / name, as_version=4)
    text = (ROOT / lang / name).read_text(encoding="utf-8")
    assert "widgets" not in notebook.metadata and "widget-view" not in text  # a reader would see an error instead
    words = re.sub(r"base64,[\w+/=]+", "", text)  # a picture may spell anything
    assert not re.search(r"/(home|root|work|tmp|Users)/", words)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            is_folded = cell.metadata.get("jupyter", {}).get("source_hidden")
            assert len(cell.source.splitlines()) <= (25 if is_folded else 20), cell.id


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_every_figure_has_alternative_text(lang, name):
    shown = [
        o.data["text/html"]
        for c in cells(lang, name)
        if c.cell_type == "code"
        for o in c.outputs
        if "data" in o and "<img" in o.data.get("text/html", "")
    ]
    assert shown and all(re.search(r'<img alt="[^"]{20,}"', html) for html in shown)


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_the_numbers_of_tables_and_pictures_have_the_decimal_sign_of_the_language(lang, name):
    set_language(lang)
    for cell in cells(lang, name):
        for output in cell.get("outputs", ()):
            page = output.get("data", {}).get("text/html", "")
            if page.startswith("<div lang="):
                continue  # a report, whose numbers are rows, in thousands
            words = " ".join([*re.findall('alt="([^"]*)"', page), re.sub(r"<[^>]*>", " ", page)])
            other = [found[0] for found in DECIMAL.finditer(words) if local_decimals(found[0]) != found[0]]
            assert not other, (cell.id, other)


#: Checks of what holds of every model.
LAWS = {"by-hand-agrees", "dpo-first-step-holds", "log1mexp-holds", "orpo-first-step-holds"}


@pytest.mark.parametrize("name", [name for name in LESSONS if "finetuning" in name])
def test_a_check_whose_numbers_were_set_for_the_bundled_model_says_so(name):
    checks = {cell.id: cell.source for cell in cells("en", name) if "cu.expect(" in cell.source}
    assert len(checks) >= 6
    assert {one for one in checks if "bundled=setup.is_bundled" not in checks[one]} == LAWS & {*checks}


def set_up(lang, name, content):
    """The set-up cell, with another folder in the place of Colab's."""
    return next(cell.source for cell in cells(lang, name) if cell.id == "setup").replace("/content/", f"{content}/")


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_in_colab_the_set_up_cell_fetches_the_course_and_only_trl(lang, name, tmp_path, monkeypatch):
    """Colab itself is not here: git and pip are recorded, and the clone is a link to this folder."""
    called = []

    def run(command, check):
        called.append(command)
        if command[0] == "git":
            os.symlink(ROOT.parent, command[-1])

    monkeypatch.setitem(sys.modules, "google.colab", object())
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    source = set_up(lang, name, tmp_path)
    with pytest.raises(SystemExit, match="owner's name"):
        exec(source.replace(slug_of(ROOT.parent), "OWNER/preference-alignment"), {})
    source = source.replace(slug_of(ROOT.parent), "someone/something")
    for _again in range(2):
        names = {}
        exec(source, names)
        assert names["setup"].lang == lang and Path("../../data_samples").is_dir()
    assert [command[0] for command in called] == ["git", sys.executable]  # the second time all is there
    assert called[1][-1].startswith("trl==") and "--no-deps" in called[1]  # nothing that is loaded already changes
    assert called[0][-2] == "https://github.com/someone/something"
    release = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert called[0][called[0].index("--branch") + 1] == f"v{release}"  # the one that the notebook was built for
