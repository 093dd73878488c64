import ast
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

import course_utils as cu
from course_utils import i18n
from course_utils.i18n import TRANSLATIONS, _, set_language

PACKAGE = Path(cu.__file__).parent
CATALOGUES = sorted(TRANSLATIONS.glob("*/course_utils.po"))


def shown_words():
    """Every literal that course_utils hands to _() or N_()."""
    for path in [*PACKAGE.rglob("*.py"), PACKAGE.parent / "tools" / "draw.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in ("_", "N_"):
                assert not isinstance(node.args[0], ast.JoinedStr), f"{path.name}: an f-string cannot be looked up"
                if isinstance(node.args[0], ast.Constant):  # else a message that N_() marked elsewhere
                    yield node.args[0].value


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parent.name)
def test_every_word_is_translated_and_keeps_its_places(path):
    catalogue = read_po(path.open("rb"))
    assert {m.id for m in catalogue if m.id} == set(shown_words())
    for message in catalogue:
        if message.id:
            assert message.string and not message.fuzzy, message.id
            assert sorted(re.findall(r"{.*?}", message.id)) == sorted(re.findall(r"{.*?}", message.string)), message.id


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parent.name)
def test_compiled_catalogues_are_what_their_source_gives(path):
    built = io.BytesIO()
    write_mo(built, read_po(path.open("rb")))
    assert built.getvalue() == path.with_suffix(".mo").read_bytes()


def test_words_are_looked_up_when_shown():
    assert _("preferred") == "preferred"
    set_language("vi")
    assert _("preferred") != "preferred" and _("a word of no catalogue") == "a word of no catalogue"


def test_the_report_speaks_vietnamese():
    set_language("vi")
    pair = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    assert "giữ lại" in str(cu.load_preferences([pair])[1])


def test_unknown_languages_are_named():
    with pytest.raises(ValueError, match="choose one of en, vi"):
        cu.start("fr")
    assert i18n.languages() == ["en", "vi"]


def raised_in_plain_english(source: str) -> list[str]:
    """The texts that a module raises without looking them up."""
    calls = [node.exc for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Raise)]
    texts = [call.args[0] for call in calls if isinstance(call, ast.Call) and call.args]
    plain = [text for text in texts if isinstance(text, (ast.Constant, ast.JoinedStr))]
    return [ast.unparse(text) for text in plain if re.search(r"[a-z]{2,} [a-z]{2,}", ast.unparse(text))]


def test_errors_are_in_the_learners_language():
    """But for the one about the language itself, and one that only whoever writes the world's sentences can meet."""
    found = {file.name: raised_in_plain_english(file.read_text("utf-8")) for file in PACKAGE.rglob("*.py")}
    assert {name: len(texts) for name, texts in found.items() if texts} == {"i18n.py": 1, "world.py": 1}
    assert raised_in_plain_english('raise ValueError(f"row {row}: no answer there")')


#: What a table keeps in every language: names of code, of runs and methods, and units.
NAMES = re.compile(
    r"base|sft|dpo|orpo|world|(manners|world|hh-rlhf)-[-\w]+|SFT \+ DPO|ORPO|KL|seeds?( [\d–]+)?"
    r"|en|vi|%|s|GB|MB|1e12 FLOPs"
)


def label_parts(table):
    labels = [*table.columns, *table.index.names, *table.index.to_frame().to_numpy().ravel()]
    return {part for label in labels if isinstance(label, str) for part in label.split(", ")}


@pytest.mark.parametrize(
    ("table", "index"),
    [
        ("dpo_seeds", ["seed", "model"]),
        ("orpo_seeds", ["seed", "model"]),
        ("match", ["seed", "method"]),
        ("match_wins", ["ours", "theirs", "runs"]),
        ("real/runs", ["run"]),
        ("real/points", ["run", "model"]),
        ("real/judged", ["run", "model"]),
    ],
)
def test_recorded_tables_speak_the_learners_language(table, index):
    read = pd.read_csv(PACKAGE.parent / "data_samples" / f"{table}.csv", index_col=index)
    read = read[[name for name in read if not name.endswith((", low", ", high"))]]  # which go into another column
    assert cu.translated(read).equals(read) and label_parts(cu.translated(read)) == label_parts(read)
    set_language("vi")
    shown = cu.translated(read)
    assert {part for part in label_parts(shown) & label_parts(read) if not NAMES.fullmatch(part)} == set()
    assert shown.set_axis(read.index).set_axis(read.columns, axis=1).equals(read)
