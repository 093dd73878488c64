"""The lessons in JupyterLab, in a real browser, with the solutions filled in: every cell runs and every check passes,
all is drawn, sliders move, and axe finds no fault.

The lessons' trainings are shorter here, and few prompts are answered: what is tested is what a learner sees, not the
figures. The labs', in which short ones would prove nothing, take what nbval's run of the labs computed.
A picture of each lesson goes to runs/browser.
"""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from once import in_every_kernel
from test_notebooks import ROOT
from test_pages import PAGES
from test_solutions import CHECK, filled_in

HOW = "no {}: the lessons are not tested in a real browser; {}"
pytest.importorskip("playwright", reason=HOW.format("Playwright", "pip install -r requirements.txt"))
pytest.importorskip("axe_playwright_python", reason=HOW.format("axe", "pip install -r requirements.txt"))

from browser import (  # noqa: E402
    BROWSER,
    cells,
    chromium,
    count,
    dead_sliders,
    faults,
    jupyterlab,
    label,
    notebook,
    opened,
    sliders,
    start,
    views,
    wait_for,
    wait_until_idle,
)

if not BROWSER:
    pytest.skip(HOW.format("Chromium", "apt-get install chromium"), allow_module_level=True)

#: One language each: the cells of both are the same, byte for byte.
ALL = [("en", "dpo_finetuning_example.ipynb"), ("vi", "orpo_finetuning_example.ipynb"), ("vi", "preference_labs.ipynb")]
KERNELS = """
import os, once, shorter
once.share() if "labs" in os.environ.get("JPY_SESSION_NAME", "") else shorter.shorten()
"""
PICTURES = ROOT.parent / "runs" / "browser"
THEMES = ["JupyterLab Light", "JupyterLab Dark"]
TRACEBACK = ".jp-OutputArea-output:has-text('Traceback (most recent call last)')"
SLIDER = """
import ipywidgets as w
slider, text = w.FloatSlider(description="{label}", max=1, value={value}), w.HTML("0")
slider.observe(lambda change, text=text: {then}, "value")
w.VBox([slider, text])
"""


def copy_of_the_course(root: Path) -> None:
    """The lessons without outputs, with their solutions, beside the course they import."""
    for name in ("course_utils", "data_samples", "translations"):
        (root / name).symlink_to(ROOT.parent / name)
    shutil.copytree(ROOT, root / "notebooks", ignore=shutil.ignore_patterns("runs", ".ipynb_checkpoints"))
    for lang, name in ALL:
        lesson = nbformat.read(ROOT / lang / name, as_version=4)
        for cell in lesson.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
                cell.source = filled_in(cell.source)
        nbformat.write(lesson, root / "notebooks" / lang / name)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    root, home = tmp_path_factory.mktemp("course"), tmp_path_factory.mktemp("home")
    copy_of_the_course(root)
    in_every_kernel(home / "ipythondir", KERNELS)
    PICTURES.mkdir(parents=True, exist_ok=True)
    with jupyterlab(root, home) as url, chromium() as browser:
        yield SimpleNamespace(root=root, url=url, browser=browser, progress=home / "course_progress")


@pytest.fixture(scope="module", params=ALL, ids="-".join)
def lesson(lab, request):
    lang, name = request.param
    with notebook(lab.browser, lab.url, f"notebooks/{lang}/{name}") as page:
        page.screenshot(path=PICTURES / f"{lang}-{Path(name).stem}.png")
        yield page


def said(cell):
    """The words of a cell's last check, and what it printed."""
    shown = [output.get("data", {}).get("text/plain", "") for output in cell["outputs"]]
    printed = [output.get("text", "") for output in cell["outputs"]]
    return "".join(printed) + ([*filter(None, shown)] or [""])[-1]


@pytest.fixture
def run(lab):
    """Open a notebook of these cells and run it, or do what `how` does with it."""

    def run(*sources, how=notebook):
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        small = new_notebook(cells=list(map(new_code_cell, sources)), metadata={"kernelspec": kernel})
        nbformat.write(small, lab.root / "small.ipynb")
        return how(lab.browser, lab.url, "small.ipynb")

    return run


def test_every_cell_runs_without_error_in_a_real_browser(lesson):
    code = cells(lesson)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell["outputs"] if o["output_type"] == "error"]
    assert lesson.locator(TRACEBACK).count() == 0


def test_every_check_passes_with_its_solution_and_the_learners_own_loss_trains(lab, lesson):
    checked = {CHECK.search(cell["source"])[1]: cell for cell in cells(lesson) if CHECK.search(cell["source"])}
    assert not [name for name, cell in checked.items() if "✓" not in said(cell)] and len(checked) >= 6
    assert {*checked} <= {file.stem for file in lab.progress.rglob("*.pass")}
    trained = [said(cell) for cell in cells(lesson) if "# what trained it" in cell["source"]]
    assert len(trained) == ("labs" not in lesson.url)
    assert all(re.search(r"^__main__\.(dpo|orpo)_loss$", words, re.MULTILINE) for words in trained)


def test_every_formula_is_set(lesson):
    assert lesson.locator(".jp-MarkdownOutput mjx-container").count() >= 10
    assert lesson.locator("mjx-merror").all_inner_texts() == []


def test_every_picture_is_drawn_and_described(lesson):
    held, _shown = count(lesson, "img")
    pictures = lesson.locator(".jp-Notebook img").evaluate_all("all => all.map(img => [img.alt, img.naturalWidth])")
    assert len(pictures) >= held >= 3
    assert not [alt for alt, width in pictures if len(alt) < 20 or width == 0]


def test_every_table_is_shown(lesson):
    held, shown = count(lesson, "table")
    assert shown == held >= 5


def test_every_widget_is_drawn(lesson):
    held, drawn = views(lesson)
    assert drawn == held
    text = lesson.locator(".jp-Notebook").inner_text()
    assert "Error displaying widget" not in text and "Loading widget" not in text


def test_every_slider_has_a_label_and_changes_what_stands_around_it(lesson):
    assert all(map(label, sliders(lesson)))
    assert dead_sliders(lesson) == []


@pytest.mark.parametrize("theme", THEMES)
def test_outputs_have_no_serious_accessibility_fault(lesson, theme):
    found = faults(lesson, theme)
    assert not found, "\n" + "\n".join(found)


def test_dead_sliders_errors_pictures_and_pale_words_are_found(run):
    """What the tests above look for, done on purpose."""
    live = SLIDER.format(label="live", value=0, then='setattr(text, "value", f"{change.new}")')
    full = SLIDER.format(label="at the end", value=1, then='setattr(text, "value", f"{change.new}")')
    dead = SLIDER.format(label="dead", value=0, then="None")
    pale = '<img src="data:image/png;base64,AAAA"><p style="color:#bbb;background:#fff">pale</p><input>'
    with run(live, dead, full, f"from IPython.display import HTML\nHTML('''{pale}''')", "1 / 0") as page:
        assert views(page) == (3, 3) and len(sliders(page)) == 3
        assert dead_sliders(page, patience=10) == ["dead"]
        assert cells(page)[4]["outputs"][0]["ename"] == "ZeroDivisionError"
        assert page.locator(TRACEBACK).count() == 1
        assert page.locator(".jp-Notebook img").evaluate("img => [img.alt, img.naturalWidth]") == ["Image", 0]
        found = faults(page, THEMES[0])
        assert {"color-contrast", "label"} <= {fault.partition(":")[0] for fault in found}
        assert "pale" in "\n".join(found)


BEGIN = """
import os, re, tempfile, torch, course_utils as cu
from course_utils.exercises import runner
os.environ["COURSE_PROGRESS"] = tempfile.mkdtemp()
runner.TIME_LIMIT = 600  # what ends a check below is the button
model = torch.nn.Linear(2, 1)
def endless(*arguments):
    while True:
        pass
def catastrophic(*arguments):
    return re.fullmatch("(a+)+b", "a" * 60)
print("re" + "ady")
"""


def test_the_stop_button_ends_a_check_and_the_next_cell_runs(run):
    """The toolbar's own ■, while an answer runs that never ends."""
    checks = [f'print("be" + "gun")\ncu.ex("dpo.loss").check({name})' for name in ("endless", "catastrophic")]
    goes_on = 'print("still" + " here", *model(torch.ones(2)).shape)\ncu.ex("dpo.loss").check(cu.dpo_loss)'
    with run(BEGIN, *checks, goes_on, how=opened) as page:
        start(page, 0)
        wait_for(page, 0, "ready")
        for number in (1, 2):
            start(page, number)
            wait_for(page, number, "begun")
            page.wait_for_timeout(1000)  # the copy is at work
            page.locator("[data-command='notebook:interrupt-kernel']:visible").first.click()
            wait_for(page, number, "KeyboardInterrupt")
            wait_until_idle(page)
        start(page, 3)
        wait_for(page, 3, "still here 1")
        wait_for(page, 3, "✓ 🐢 dpo.loss: right")


SHOWN = """
import os, tempfile
from test_pages import PAGES, TEXTS
os.environ["COURSE_PROGRESS"] = tempfile.mkdtemp()
for text in TEXTS.values():
    thing = PAGES[{name!r}](text)
    display(thing)
    print(repr(thing))
"""
PICTURE_ALONE = {"plot_length_against_reward"}  # it has the text on an axis, not in its words
STRANGERS = "script, style, think, h1, [onerror], [onmouseover], mjx-container, [class*=ansi]"


def test_no_text_of_any_page_runs_or_is_anything_but_text(run):
    """What test_pages.py makes of hostile texts; and a last cell in which the harm that is looked for is done."""
    harm = "<img src=x onerror='window.harmed = 1'><think>$x^2$</think>"
    harmful = f"from IPython.display import HTML\nprint('\\x1b[31mred')\nHTML({harm!r})"
    with run(*(SHOWN.format(name=name) for name in PAGES), harmful) as page:
        assert not [o for cell in cells(page) for o in cell["outputs"] if o["output_type"] == "error"]
        page.wait_for_function("() => window.harmed && document.querySelector('mjx-container')", timeout=60_000)
        assert page.evaluate("window.ran") is None
        assert page.locator(f".jp-OutputArea-output :is({STRANGERS})").count() == 4  # the harmful cell's
        for name, cell in zip(PAGES, page.locator(".jp-Notebook .jp-Cell").all()):
            words = "\n".join(cell.locator(".jp-OutputArea-output").all_inner_texts())
            assert r"<think>why</think>a<b && c>d" in words or name in PICTURE_ALONE
            if name not in PICTURE_ALONE:
                shown = r"$\frac{a}{$ and $x^2$ \(y\)", r"abc\u202edef", r"\x1b[31mred", r"nothing\x00"
                assert [text for text in shown if text not in words] == []
