"""The languages are one course: what sync.py checks holds here, and its checks do find what they are for."""

import csv
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import draw
import nbformat
import pytest
import sync
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
LANGS = sync.languages(ROOT)
PAGES = [path for lang in ["en", *LANGS] for path in sorted((ROOT / "notebooks" / lang).glob("*.md"))]
TEXTS = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *PAGES]


@pytest.fixture
def copy(tmp_path):
    """The sources, catalogues and built files of the course, to do harm to."""
    for folder in ("notebooks", "translations"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "CITATION.cff", tmp_path)
    return tmp_path


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8", newline="\n")


# ------------------------------------------------------------------ the course as it is


def test_all_languages_are_up_to_date_and_complete():
    assert sync.check(ROOT, LANGS) == []


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "vi").glob("*.*[bd]")), ids=lambda path: path.name)
def test_formulas_have_the_decimal_comma_of_vietnamese(path):
    texts = [path.read_text(encoding="utf-8")]
    if path.suffix == ".ipynb":
        texts = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]
    formulas = [formula for text in texts for formula in re.findall(sync.KEPT["formula"], text, re.DOTALL)]
    assert not [formula for formula in formulas if re.search(r"\d\.\d", formula)]


def test_there_are_lessons_and_pages_in_vietnamese():
    names = {path.name for path in sync.sources(ROOT)}
    assert {"README.md", "dpo.md", "orpo.md", "dpo_finetuning_example.ipynb", "orpo_finetuning_example.ipynb"} <= names
    assert "vi" in LANGS
    for lang in LANGS:
        assert (
            names
            == {path.name for path in sync.sources(ROOT)}
            <= {p.name for p in (ROOT / "notebooks" / lang).iterdir()}
        )


@pytest.mark.parametrize("lang", ["en", *LANGS])
def test_the_picture_is_what_its_code_draws(lang):
    assert (ROOT / "notebooks" / lang / "stages.svg").read_bytes() == draw.draw(lang)


def anchors(path):
    """GitHub's anchors of a page's headings."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def links():
    for path in TEXTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            yield path, target
    for lang in ["en", *LANGS]:
        for path in sorted((ROOT / "notebooks" / lang).glob("*.ipynb")):
            for cell in nbformat.read(path, as_version=4).cells:
                if cell.cell_type == "markdown":
                    for target in re.findall(r"\]\(([^)\s]+)\)", cell.source):
                        yield path, target


def test_every_relative_link_and_anchor_leads_somewhere():
    relative = [(path, target) for path, target in links() if not target.startswith("http")]
    assert len(relative) > 20
    for path, target in relative:
        file, _hash, anchor = target.partition("#")
        goal = (path.parent / file).resolve() if file else path
        assert goal.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in anchors(goal), f"{path.name}: {target}"


def test_every_colab_badge_leads_to_its_own_language_and_an_existing_file():
    slug, found = sync.slug_of(ROOT), 0
    for path, target in links():
        if target.startswith("https://colab.research.google.com/github/"):
            file = target.removeprefix(f"https://colab.research.google.com/github/{slug}/blob/main/")
            assert (ROOT / file).is_file(), target
            if path.parent.name in LANGS + ["en"]:
                assert file.startswith(f"notebooks/{path.parent.name}/")
            found += 1
    assert found >= 2 * (1 + len(LANGS))


@pytest.mark.parametrize(
    "path", [page for page in PAGES if page.stem in ("dpo", "orpo")], ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_the_code_on_the_theory_pages_runs(path, monkeypatch, capsys):
    monkeypatch.chdir(path.parent)
    for code in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        exec(code.replace("max_steps=5", "max_steps=1").replace("limit=100", "limit=12"), {})
        printed = capsys.readouterr().out.splitlines()[-1]
        assert printed.startswith("0.69") if path.name == "dpo.md" else float(printed.split()[1]) > 0


def glossary():
    with (ROOT / "translations" / "glossary.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pairs(lang="vi"):
    for path in sorted((ROOT / "translations" / lang).glob("*.po")):
        for message in sync.read_catalogue(path, lang):
            if message.id:
                yield path.name, message.id, message.string


def term_pattern(term):
    """An English term in running text, singular or plural; what is in code or part of a longer word does not count."""
    return re.compile(rf"(?<![\w`_./-]){re.escape(term)}s?(?![\w`_/-])", re.IGNORECASE)


@pytest.mark.parametrize("row", glossary(), ids=lambda row: row["english"])
def test_the_glossarys_terms_are_used_and_banned_ones_are_not(row):
    term = re.sub(r" \(.*\)", "", row["english"])
    accepted = [
        re.sub(r" \(.*\)", "", form).lower() for form in [row["vietnamese"], *filter(None, row["also"].split("|"))]
    ]
    banned = [form.lower() for form in filter(None, row["banned"].split("|"))]
    for name, english, vietnamese in pairs():
        where = f"{name}: {english[:70]!r}"
        words = vietnamese.lower()
        assert not [form for form in banned if re.search(rf"(?<!\w){re.escape(form)}(?!\w)", words)], where
        if row["enforced"] == "yes" and term_pattern(term).search(
            re.sub(r"`[^`]*`|{\w+}|\[[^]]*\]\([^)]*\)", "", english)
        ):
            assert any(form in words for form in accepted), where


def test_the_glossary_is_in_nfc_and_has_no_term_twice():
    rows = glossary()
    assert len({row["english"] for row in rows}) == len(rows) >= 44
    for row in rows:
        for text in row.values():
            assert text == unicodedata.normalize("NFC", text)


# ------------------------------------------------------------------ paragraphs

LINES = st.sampled_from(["a", "```", "~~~", "$$", "$$x$$", "", " ", "| a |", "<br>", "# h", "```python", "x $$"])


@given(st.lists(LINES).map("\n".join) | st.text())
def test_cutting_into_paragraphs_loses_nothing(text):
    assert "".join(sync.paragraphs(text)) == text


def test_fences_and_formulas_stay_whole():
    text = "a\n\n```python\nx = 1\n\n\ny = 2\n```\n\n$$\na\n\nb\n$$\n\nb\n"
    blocks = [block for block in sync.paragraphs(text) if block.strip()]
    assert blocks == ["a\n", "```python\nx = 1\n\n\ny = 2\n```\n", "$$\na\n\nb\n$$\n", "b\n"]
    assert [sync.to_translate(block) for block in blocks] == [True, False, False, True]


# ------------------------------------------------------------------ what is done to it shows

PAGE = "notebooks/en/dpo.md"
OLD, NEW = "Only a difference of rewards enters, so", "Only the difference of two rewards enters, so"


def test_a_changed_sentence_is_named_as_stale_and_update_makes_it_alone_fuzzy(copy):
    edit(copy / PAGE, OLD, NEW)
    found = sync.check(copy, ["vi"])
    assert any("dpo.po" in line and "stale" in line and "**Preferences** follow" in line for line in found)
    assert all("dpo.po" in line or "dpo.md" in line for line in found)
    sync.update(copy, ["vi"])
    sync.build(copy, ["vi"])
    (left,) = sync.check(copy, ["vi"])
    assert "fuzzy" in left and "**Preferences** follow" in left
    assert NEW in (copy / "notebooks/vi/dpo.md").read_text(encoding="utf-8")  # the source shows until it is mended
    fuzzy = [m for m in sync.read_catalogue(copy / "translations/vi/dpo.po", "vi") if m.id and m.fuzzy]
    assert len(fuzzy) == 1 and fuzzy[0].string.startswith("**Sự ưu tiên**")


def test_update_and_build_change_nothing_that_is_up_to_date(copy):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    sync.update(copy, ["vi"])
    sync.build(copy, ["vi"])
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (r"$\\pi_{\\mathrm{ref}}$, tức là", r"$\\pi_{\\mathrm{re}}$, tức là", "formula"),
        ("sự, 2024](https://arxiv.org/abs/2410.08847)", "sự, 2024](https://arxiv.org/abs/2410.0884)", "link"),
        ("`cu.load_preferences` đọc", "`cu.load_preference` đọc", "inline code"),
        ("**Thiên lệch độ dài.**", "**Thiên lệch độ dài.", "bold"),
        ("## Dữ liệu", "### Dữ liệu", "heading"),
        ("mô hình giá trị", "mô hình gia\u0301 trị", "NFC"),
    ],
)
def test_a_letter_lost_in_a_translation_is_found(copy, old, new, kind):
    edit(copy / "translations/vi/dpo.po", old, new)
    sync.build(copy, ["vi"])
    assert any(kind in line for line in sync.check(copy, ["vi"]))


def test_a_missing_translation_is_found_and_shows_the_source(copy):
    edit(copy / "translations/vi/dpo.po", 'msgstr "## Dữ liệu"', 'msgstr ""')
    sync.build(copy, ["vi"])
    assert [line for line in sync.check(copy, ["vi"]) if "not translated" in line and "## The data" in line]
    assert "## The data" in (copy / "notebooks/vi/dpo.md").read_text(encoding="utf-8")


def test_an_edit_in_a_built_file_is_found_and_can_be_taken_back(copy):
    for name, old, new in [
        ("dpo.md", "## Những chỗ dễ sai", "## Những lỗi hay gặp"),
        ("orpo_finetuning_example.ipynb", "## 6. Đọc các đường cong", "## 6. Xem các đường cong"),
    ]:
        edit(copy / "notebooks/vi" / name, old, new)
    found = sync.check(copy, ["vi"])
    assert len(found) == 2 and all("adopt vi" in line for line in found)
    assert sync.adopt(copy, "vi") == 2
    assert sync.check(copy, ["vi"]) == []
    edit(copy / "notebooks/vi/dpo.md", "## Dữ liệu\n", "## Dữ liệu\n\nThêm một đoạn.\n")
    with pytest.raises(SystemExit, match="paragraphs in vi"):
        sync.adopt(copy, "vi")


def test_a_changed_code_cell_is_rebuilt_without_its_old_output(copy):
    edit(
        copy / "notebooks/en/orpo_finetuning_example.ipynb",
        "display(cu.plot_orpo_terms(orpo.log))",
        "display(cu.plot_orpo_terms(run.log))",
    )
    assert [line for line in sync.check(copy, ["vi"]) if "orpo_finetuning_example.ipynb is not what" in line]
    sync.build(copy, ["vi"])
    cells = {c.id: c for c in nbformat.read(copy / "notebooks/vi/orpo_finetuning_example.ipynb", as_version=4).cells}
    assert "cu.plot_orpo_terms(run.log)" in cells["terms"].source and not cells["terms"].outputs
    assert cells["judged-figure"].outputs


def test_a_third_language_with_few_entries_builds_and_falls_back_to_english(copy, monkeypatch):
    words = [m.id for m in sync.template(copy / "notebooks/en/orpo.md") if m.id][:20]
    catalog = sync.Catalog(locale="fr", charset="utf-8")
    for text in words:
        catalog.add(text, "FR " + text)
    sync.write_catalogue(copy / "translations/fr/orpo.po", catalog)
    assert sync.languages(copy) == ["fr", "vi"]
    sync.update(copy, ["fr"])
    sync.build(copy, ["fr"])
    page = (copy / "notebooks/fr/orpo.md").read_text(encoding="utf-8")
    assert page.count("FR ") == 20 and "## Sources" in page and 'cu.start(lang="fr")' in page
    cells = nbformat.read(copy / "notebooks/fr/dpo_finetuning_example.ipynb", as_version=4).cells
    assert 'cu.start(lang="fr")' in next(cell.source for cell in cells if cell.id == "setup")

    import course_utils as cu
    from course_utils import i18n

    po, mo = copy / "translations/fr/course_utils.po", copy / "translations/fr/course_utils.mo"
    po.write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\nmsgid "kept"\nmsgstr "gardées"\n', "utf-8"
    )
    subprocess.run(["pybabel", "-q", "compile", "-i", po, "-o", mo], check=True, env=None) if shutil.which(
        "pybabel"
    ) else subprocess.run(
        [sys.executable, "-m", "babel.messages.frontend", "-q", "compile", "-i", po, "-o", mo], check=True
    )
    monkeypatch.setattr(i18n, "TRANSLATIONS", copy / "translations")
    i18n._catalogue.cache_clear()
    cu.start(lang="fr")
    report = str(cu.load_preferences([{"prompt": "a", "chosen": "b", "rejected": "c"}])[1])
    assert "gardées" in report and "read" in report
    i18n.set_language("en")
    i18n._catalogue.cache_clear()


def test_the_slug_stands_in_one_place_and_one_command_changes_it(copy):
    """Also beside files that are none of the course's: what git ignores is not read."""
    with pytest.raises(SystemExit, match="is no clone"):
        sync.set_slug(copy, "someone/something")
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    (copy / ".gitignore").write_text("private\n")
    (copy / "private").mkdir()
    (copy / "private" / "latin.md").write_bytes("Nguyễn".encode("utf-16"))
    assert sync.slug_of(copy) == sync.slug_of(ROOT)
    assert sync.set_slug(copy, "someone/something") >= 4
    assert sync.slug_of(copy) == "someone/something" and sync.check(copy, ["vi"]) == []
    old = sync.slug_of(ROOT)
    assert not [
        path
        for path in copy.rglob("*")
        if path.suffix in {".md", ".ipynb", ".po"} and path.parent.name != "private" and old in path.read_text("utf-8")
    ]
    with pytest.raises(SystemExit, match="expected owner/name"):
        sync.set_slug(copy, "only-a-name")
