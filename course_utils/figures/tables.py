"""For the learner who has verdicts, answers or recorded numbers: tables to read, in the learner's language."""

import math
from collections.abc import Callable, Sequence

import pandas as pd
from IPython.display import HTML

from ..evaluation import share
from ..generation import Messages
from ..i18n import LITERAL, _, in_words, local_decimals, shown
from ..pages import paragraph, table
from ..world import RULES, Verdict, fault_text, judge, language_of


class Scores(pd.DataFrame):
    """A table to read, with the decimal sign of the learner's language, in whose names MathJax finds no formulas."""

    def _repr_html_(self) -> str:
        return local_decimals(self.to_html(border=0, classes=LITERAL, na_rep="–"))


def translated(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the labels of its rows and columns in the learner's language, where the course knows them.

    A column with the ends of its interval in the next two ("wins, %", "wins, low", "wins, high") takes these in.
    """
    table = table.copy()
    for low in [name for name in map(str, table.columns) if name.endswith(", low")]:
        name = str(table.columns[table.columns.get_loc(low) - 1])
        ends = zip(table[name], table.pop(low), table.pop(f"{low.removesuffix('low')}high"))
        places = 1 if name.endswith(("%", "words")) else 2
        words = f"{{:.{places}f}} ({{:.{places}f}} – {{:.{places}f}})"
        table[name] = ["–" if math.isnan(one[0]) else words.format(*one) for one in ends]

    def said(label: object) -> object:
        return in_words(label) if isinstance(label, str) else label

    return Scores(table.rename(index=said, columns=said).rename_axis(index=said, columns=said))


def score_table(prompts: Sequence[Messages], verdicts: dict[str, Sequence[Verdict]]) -> pd.DataFrame:
    """Percentages, a column a model: preferred, fluent, by language, each broken rule. ValueError if verdicts lack."""
    langs = [language_of(prompt[-1]["content"]) for prompt in prompts]
    known = sorted({lang for lang in langs if lang})

    def row(test: Callable | None, asked: str = "") -> list[float]:  # asked: the prompts' language, "" for all
        kept = [[v for v, lang in zip(each, langs, strict=True) if asked in ("", lang)] for each in verdicts.values()]
        return [share(those, test) for those in kept]

    tests: dict[str, Callable | None] = {_("preferred"): None, _("fluent"): lambda v: v.fluent}
    rows = {what: row(test) for what, test in tests.items()}
    rows |= {f"{what}, {lang}": row(test, lang) for what, test in tests.items() for lang in known}
    rows |= {fault_text(r): row(lambda v, r=r: r in v.broken) for r in RULES if known or r == "fluent"}
    rows |= {_("not judged"): row(lambda v: not v.judged)} if None in langs else {}
    names = [shown(in_words(name), 200) for name in verdicts]
    percentages = 100 * pd.DataFrame.from_dict(rows, orient="index", columns=names)
    return Scores(percentages.round(1).rename_axis(columns=_("share of answers, %")))


def word_of_judge(question: str, answer: str) -> str:
    """What the judge says of an answer, in the learner's language; nothing if it does not know the question."""
    if not language_of(question):
        return ""
    broken = judge(question, answer).broken
    return "✗ " + ", ".join(map(fault_text, broken)) if broken else "✓ " + _("preferred")


def side_by_side(prompts: Sequence[Messages], answers: dict[str, Sequence[str]]) -> HTML:
    """A table to read: each prompt's last turn, and what each model in `answers` said to it; ValueError if any lack.

    Below an answer to a question of the bundled world stands what the judge says of it.
    """

    def cell(question: str, answer: str) -> str | HTML:
        word = word_of_judge(question, answer)
        return HTML(paragraph(answer) + paragraph(word)) if word else answer

    questions = [prompt[-1]["content"] for prompt in prompts]
    rows = zip(questions, *answers.values(), strict=True)
    columns = [_("question"), *(local_decimals(in_words(name)) for name in answers)]
    return table(columns, *([q, *(cell(q, answer) for answer in said)] for q, *said in rows))
