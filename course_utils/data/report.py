"""For the learner who asks what became of the rows: plain numbers, shown as a table in the learner's language."""

import html
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..i18n import N_, _, format_thousands

#: Why rows were dropped, or were kept but deserve a look, and what to do about it.
REASONS = {
    "missing": (N_("a cell that is needed is empty"), N_("fill it in")),
    "cells": (N_("more cells than columns"), N_("put quotation marks around a text with commas")),
    "malformed": (N_("a cell has another form than the layout says"), N_("compare it with a row that was kept")),
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
    "cut": (N_("longer than max_length={max_length} tokens"), N_("the trainer cuts the end of the answer")),
}


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
    cut: list[int] = field(default_factory=list)  # rows of which an answer does not fit `max_length` tokens whole
    max_length: int | None = None
    chosen_length: float = 0.0  # the median, in characters
    rejected_length: float = 0.0
    longer: int = 0  # pairs whose chosen answer has more characters than the rejected one
    shorter: int = 0
    equal: int = 0

    @property
    def length_bias(self) -> bool:
        """Whether one side is longer in at least 60% of the pairs that differ, by more than chance (sign test)."""
        differ, gap = self.longer + self.shorter, abs(self.longer - self.shorter)
        return gap >= 0.2 * differ and gap > 1.96 * differ**0.5

    def lines(self) -> Iterator[tuple[str, str, str]]:
        """The report as (what, how many, note); what deserves a look begins with ⚠."""

        def lines_of(words: str, found: dict[str, list[int]]) -> Iterator[tuple[str, str, str]]:
            for key, rows in found.items():
                reason, advice = map(_, REASONS[key])
                what = words.format(reason=reason.format(other=self.other, max_length=self.max_length))
                yield what, format_thousands(len(rows)), _("first: row {row}").format(row=rows[0]) + f"; {advice}"

        looks = {name: getattr(self, name) for name in ("duplicates", "contradictions", "leaked", "cut")}
        yield _("read"), format_thousands(self.read), _("layout: {layout}").format(layout=self.layout)
        yield from lines_of(_("dropped: {reason}"), self.dropped)
        if self.joined:
            yield _("joined to another row as its pair"), format_thousands(self.joined), ""
        yield _("kept"), format_thousands(self.kept), ""
        yield from lines_of("⚠ {reason}", {name: rows for name, rows in looks.items() if rows})
        note = _("median, characters; chosen is longer in {longer}, shorter in {shorter} of the pairs")
        longer, shorter = (f"{count / max(self.kept, 1):.0%}" for count in (self.longer, self.shorter))
        medians = (format_thousands(round(length)) for length in (self.chosen_length, self.rejected_length))
        what = "⚠ " * self.length_bias + _("length of chosen / rejected")
        yield what, " / ".join(medians), note.format(longer=longer, shorter=shorter)
        if self.not_compared:
            yield "⚠ " + _("prompts not compared"), "", self.not_compared
        if self.unused:
            yield _("columns not used"), str(len(self.unused)), ", ".join(self.unused)

    def __str__(self) -> str:
        lines = list(self.lines())
        width = max(len(count) for _what, count, _note in lines)
        return "\n".join(f"{count:>{width}}  {what}{note and f' ({note})'}" for what, count, note in lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        left, name = "style='text-align:left'", html.escape(self.source)
        titles = _("rows of {name}").format(name=name), _("how many"), _("note")
        head = "".join(f"<th scope='col'>{title}</th>" for title in titles)
        rows = "".join(
            f"<tr><th scope='row' {left}>{what}</th><td>{count}</td><td {left}>{note}</td></tr>"
            for what, count, note in (map(html.escape, line) for line in self.lines())
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
