"""What lessons and pages quote from papers stands in data_samples/sources.csv, and the other way round."""

import csv
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
LANGS = ("en", "vi")
with (ROOT / "data_samples" / "sources.csv").open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))

#: A place in a paper, in English or Vietnamese, and a link to one.
PLACE = re.compile(
    r"\b(?:Tables?|Figures?|Bảng|Hình) \d|\b(?:[Aa]ppendix|[Pp]hụ lục) [A-Z]\b|\b(?:section|mục) \d+\.\d"
)
LINK = re.compile(r"\]\(https://arxiv\.org/abs/[\d.]+\)")
#: What has digits and is no figure: links, formulas, code, places, equations, years, lists, names such as Llama-2 7B.
NO_FIGURES = (
    r"\]\([^)]*\)",
    r"^```[\s\S]*?^```",
    r"\$\$[^$]+\$\$|\$[^$\n]+\$",
    r"`[^`\n]+`",
    r"\b(?:Tables?|Figures?|Bảng|Hình|[Ss]ection|[Pp]hần|[Mm]ục) \d+(?:\.\d+)?",
    r"\b(?:eqs?\.|phương trình) \d+(?: (?:to|đến) \d+)?",
    r"\b(?:19|20)\d\d\b",
    r"^\s*\d+\. ",
    r"AlpacaEval 2(?:\.0)?",
    r"(?<!\w)(?=\S*\d)(?=\S*[A-Za-z])(?!\d+e-\d)[\w.,\-]+",
)
SENTENCE_END = re.compile(r"(?<=[.;!?])(?<!et al\.)(?<!\beqs\.)(?<!\beq\.)\s+|(?<=[.!?]\))\s+")
NUMBER = re.compile(r"[−-]?\d+(?:[.,]\d+)*(?:e-\d+)?%?")


def texts(lang):
    """{(file, cell id): Markdown} of all lessons and pages in a language; a page has the cell ""."""
    folder, found = ROOT / "notebooks" / lang, {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".md":
            found[path.name, ""] = path.read_text(encoding="utf-8")
        elif path.suffix == ".ipynb":
            cells = nbformat.read(path, as_version=4).cells
            found |= {(path.name, cell.id): cell.source for cell in cells if cell.cell_type == "markdown"}
    return found


def value_of(number, lang):
    """A number as sources.csv writes it: decimal point, no thousands separators, no percent sign."""
    point, comma = (",", ".") if lang == "vi" else (".", ",")
    return number.rstrip("%").replace(comma, "").replace(point, ".")


def figures(sentence, lang):
    """The numbers of a sentence that may be figures, as (as written, value)."""
    for pattern in NO_FIGURES:
        sentence = re.sub(pattern, " ", sentence, flags=re.MULTILINE)
    return [(number, value_of(number, lang)) for number in NUMBER.findall(sentence)]


def quoted(text, lang):
    """The figures of the sentences that name a place in a paper or link one.

    Of the sentences after a place, to the end of the paragraph and of the table below it, the decimals and percentages.
    """
    for block in re.split(r"\n\n(?!\|)|\n(?=- )", text):
        placed = False
        for sentence in SENTENCE_END.split(block):
            place = bool(PLACE.search(sentence))
            for number, value in figures(sentence, lang):
                if place or LINK.search(sentence) or (placed and ("." in value or "%" in number)):
                    yield number, value
            placed = placed or place


def uncovered(text, lang, values):
    return [number for number, value in quoted(text, lang) if value not in values]


@pytest.mark.parametrize("lang", LANGS)
def test_each_row_is_quoted_where_it_says(lang):
    found = texts(lang)
    for row in ROWS:
        numbers = {value for _number, value in figures(found[row["file"], row["cell"]], lang)}
        assert row["value"] in numbers, f"{lang}, {row['file']}#{row['cell']}: {row['value']} ({row['what']})"


@pytest.mark.parametrize("lang", LANGS)
def test_each_figure_quoted_from_a_paper_has_a_row(lang):
    count = 0
    for (file, cell), text in texts(lang).items():
        if cell == "sources":
            continue
        values = {row["value"] for row in ROWS if (row["file"], row["cell"]) == (file, cell)}
        assert uncovered(text, lang, values) == [], f"{lang}, {file}#{cell}: figures without a row in sources.csv"
        count += len(list(quoted(text, lang)))
    assert count > 60  # it does find them


def test_each_paper_is_linked_and_each_place_named_in_the_file_that_quotes_it():
    for file in {row["file"] for row in ROWS}:
        whole = "\n".join(text for (name, _cell), text in texts("en").items() if name == file)
        for row in ROWS:
            if row["file"] == file:
                assert f"https://arxiv.org/abs/{row['paper']}" in whole, row
                assert all(part in whole for part in row["place"].split(", ")), row


def test_a_figure_without_a_row_is_found_in_both_languages():
    values = {"41.7", "12.20"}
    assert uncovered("On HH-RLHF (Table 2) ORPO wins 41.7%, and 50.1% elsewhere.", "en", values) == ["50.1%"]
    assert uncovered("Trên HH-RLHF (Bảng 2), ORPO thắng 41,7%, còn nơi khác 50,1%.", "vi", values) == ["50,1%"]
    assert uncovered("So says Table 1 of 7B models. Mistral has 12.20%, Zephyr 10.99%.", "en", values) == ["10.99%"]
    assert uncovered("See Table 4:\n\n| a | b |\n|---|---|\n| Llama-3 8B | 18.2 |", "en", values) == ["18.2"]
    assert uncovered("It costs 7 ([Kaplan](https://arxiv.org/abs/2001.08361)).", "en", values) == ["7"]
    assert uncovered("Our own score is 97.2%.", "en", values) == []
