"""For the learner who asks what became of the rows: plain numbers, shown as a table in the learner's language."""

import html
import reprlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..i18n import LITERAL, N_, _, format_thousands, language, shown
from .layouts import listed

#: Why rows were dropped, or were kept but deserve a look, and what to do about it.
REASONS = {
    "missing": (N_("a cell that is needed is empty"), N_("fill it in")),
    "cells": (N_("more cells than columns"), N_("put quotation marks around a text with commas")),
    "malformed": (N_("a cell has another form than the layout says"), N_("compare it with a row that was kept")),
    "header": (N_("the names of the columns again"), N_("delete this row")),
    "surrogate": (N_("half an emoji, which no file can hold"), N_("write the character anew")),
    "extras": (N_("a message holds reasoning, calls of tools or media"), N_("write it into the content")),
    "roles": (N_("user and assistant do not take turns"), N_("begin with the user, end with the assistant")),
    "empty_prompt": (N_("the question is empty"), N_("write the question")),
    "empty_answer": (N_("an answer is empty"), N_("write the answer")),
    "histories_differ": (N_("chosen and rejected answer different questions"), N_("use one prompt for both")),
    "same_answers": (N_("both answers are the same"), N_("write a worse or a better one")),
    "tie": (N_("a tie: neither answer was preferred"), N_("nothing to fix")),
    "rank_tie": (N_("all answers have the same rank"), N_("nothing to fix")),
    "scores_disagree": (N_("the rejected answer has the higher score"), N_("look which way the scores run")),
    "label": (N_("the label is none that this layout knows"), N_("look which labels the layout uses")),
    "unpaired": (N_("one answer without a partner to the same prompt"), N_("train with KTO, or add the partner")),
    "prompt_too_long": (N_("the prompt leaves no room for an answer"), N_("raise max_length, or shorten it")),
    "template": (N_("the chat template refuses the messages"), N_("take out the system message")),
    "duplicates": (N_("the same pair again"), N_("keep one of each")),
    "contradictions": (N_("the opposite of an earlier pair"), N_("decide which is right")),
    "leaked": (N_("prompt also in “{other}”"), N_("take it out of one, or the test is no test")),
    "differs": (N_("the column prompt stands in no message"), N_("the messages count; look which of the two is right")),
    "control": (N_("a text holds a control token of the model"), N_("take it out, or it may end a turn")),
    "cut": (N_("longer than max_length={max_length} tokens"), N_("the trainer cuts the end of the answer")),
}
LOOKS = ("duplicates", "contradictions", "leaked", "differs", "control", "cut")
SHOWN_ROWS, SHOWN_CHARACTERS = 5, 300  # of each reason, of each text


def beginning(cell) -> tuple[str, int]:
    """The first characters of a cell, a text or messages, and how many it has."""
    try:
        text = cell if isinstance(cell, str) else "\n".join(f"{m['role']}: {m['content']}" for m in cell)
    except (TypeError, LookupError, RecursionError):
        text = "—" if cell is None else reprlib.repr(cell)  # which knows where to stop
    return text[:SHOWN_CHARACTERS].encode("utf-8", "replace").decode(), len(text)


@dataclass
class Report:
    """What became of the rows, numbered from 0 without a table's header: read = kept + joined + all in dropped."""

    source: str
    layout: str
    unused: list[str] = field(default_factory=list)  # columns
    read: int = 0
    kept: int = 0
    joined: int = 0  # rows that gave their one answer to another row's pair
    dropped: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # rows by reason
    duplicates: list[int] = field(default_factory=list)  # rows that were kept, but repeat an earlier pair,
    contradictions: list[int] = field(default_factory=list)  # prefer what an earlier pair rejects,
    leaked: list[int] = field(default_factory=list)  # or have a prompt that stands in `other` too
    other: str | None = None
    not_compared: str = ""  # why the split to compare with could not be read
    differs: list[int] = field(default_factory=list)  # rows whose prompt column stands in none of their messages
    control: list[int] = field(default_factory=list)  # rows with a control token of the tokenizer in their text
    cut: list[int] = field(default_factory=list)  # rows of which an answer does not fit `max_length` tokens whole
    max_length: int | None = None
    chosen_length: float = 0.0  # the median, in characters
    rejected_length: float = 0.0
    longer: int = 0  # pairs whose chosen answer has more characters than the rejected one
    shorter: int = 0
    equal: int = 0
    examples: dict[str, dict[int, dict]] = field(default_factory=lambda: defaultdict(dict))  # by reason, row and column

    def show(self, key: str, number: int, row: dict) -> None:
        """Keep the beginnings of a row's texts, of the first rows of a kind."""
        if len(self.examples[key]) < SHOWN_ROWS:
            self.examples[key][number] = {column: beginning(cell) for column, cell in row.items()}

    def look(self, key: str, number: int, row: dict) -> None:
        """Count a row that is kept, but deserves a look."""
        getattr(self, key).append(number)
        self.show(key, number, row)

    @property
    def length_bias(self) -> bool:
        """Whether one side is longer in at least 60% of the pairs that differ, by more than chance (sign test)."""
        differ, gap = self.longer + self.shorter, abs(self.longer - self.shorter)
        return gap >= 0.2 * differ and gap > 1.96 * differ**0.5

    def lines(self) -> Iterator[tuple[str, str, str, str | None]]:
        """The report as (what, how many, note, key); what deserves a look begins with ⚠.

        The key is that of a reason, "" for another number of rows, None for what is no number of rows.
        """

        def lines_of(words: str, found: dict[str, list[int]]) -> Iterator[tuple[str, str, str, str]]:
            for key, rows in found.items():
                reason, advice = map(_, REASONS[key])
                what = words.format(reason=reason.format(other=self.other, max_length=self.max_length))
                yield what, format_thousands(len(rows)), _("first: row {row}").format(row=rows[0]) + f"; {advice}", key

        yield _("read"), format_thousands(self.read), _("layout: {layout}").format(layout=self.layout), ""
        yield from lines_of(_("dropped: {reason}"), self.dropped)
        if self.joined:
            yield _("joined to another row as its pair"), format_thousands(self.joined), "", ""
        yield _("kept"), format_thousands(self.kept), "", ""
        yield from lines_of("⚠ {reason}", {name: rows for name in LOOKS if (rows := getattr(self, name))})
        note = _("median, characters; chosen is longer in {longer}, shorter in {shorter} of the pairs")
        longer, shorter = (f"{count / max(self.kept, 1):.0%}" for count in (self.longer, self.shorter))
        medians = (format_thousands(round(length)) for length in (self.chosen_length, self.rejected_length))
        what = "⚠ " * self.length_bias + _("length of chosen / rejected")
        yield what, " / ".join(medians), note.format(longer=longer, shorter=shorter), None
        if self.not_compared:
            yield "⚠ " + _("prompts not compared"), "", self.not_compared, None
        if self.unused:
            yield _("columns not used"), str(len(self.unused)), listed(self.unused), None

    def __str__(self) -> str:
        lines = list(self.lines())
        width = max(len(count) for _what, count, *_more in lines)
        return "\n".join(shown(f"{count:>{width}}  {what}{note and f' ({note})'}") for what, count, note, _key in lines)

    __repr__ = __str__

    def texts(self, key: str) -> str:
        """As HTML, what the first rows of a reason say."""
        page, title = "", _("row {row}")
        for number, row in self.examples[key].items():
            page += f"<div><strong>{html.escape(title.format(row=number))}</strong>"
            for column, (text, length) in row.items():
                text = shown(text)
                if length > len(text):
                    text += _("… ({count} characters in all)").format(count=format_thousands(length))
                name = html.escape(shown(column or "…", 60))
                page += f"<div style='white-space:pre-wrap'><i>{name}</i>: {html.escape(text)}</div>"
            page += "</div>"
        return page

    def _repr_html_(self) -> str:
        left, name = "style='text-align:left;vertical-align:top'", html.escape(shown(self.source, 200))
        titles = _("rows of {name}").format(name=name), _("how many"), _("note")
        head = "".join(f"<th scope='col'>{title}</th>" for title in titles)
        rows = below = ""
        for *line, key in self.lines():
            what, count, note = (html.escape(shown(text)) for text in line)
            if key is None:  # no number of rows
                below += (
                    f"<p><strong>{what}</strong>: {count} ({note})</p>"
                    if count
                    else f"<p><strong>{what}</strong>: {note}</p>"
                )
                continue
            if key in self.examples:
                note = f"<details><summary>{note}</summary>{self.texts(key)}</details>"
            rows += f"<tr><th scope='row' {left}>{what}</th><td>{count}</td><td {left}>{note}</td></tr>"
        table = f"<table class='{LITERAL}'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return f"<div lang='{language()}' class='{LITERAL}'>{table}{below}</div>"
