"""Bring preference data into the one layout that every TRL trainer takes, and account for every row."""

import gzip
import html
import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from datasets import Dataset, load_dataset

from .i18n import _
from .layouts import LAYOUTS, recognise


@dataclass
class Report:
    """What became of the rows: `read` = `kept` + all in `dropped`, which lists row numbers by reason."""

    source: str
    layout: str = ""
    read: int = 0
    kept: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)

    def lines(self) -> list[tuple[str, int, str]]:
        """The report as (what, how many rows, example)."""
        first = _("first: row {row}")
        return [
            (_("read"), self.read, self.layout),
            *((reason_text(key), len(rows), first.format(row=rows[0])) for key, rows in self.dropped.items()),
            (_("kept"), self.kept, ""),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{count:>7,}  {what}{note and f' ({note})'}" for what, count, note in self.lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td style='text-align:left'>{html.escape(what)}</td><td>{count:,}</td>"
            f"<td style='text-align:left'>{html.escape(note)}</td></tr>"
            for what, count, note in self.lines()
        )
        head = "".join(f"<th scope='col'>{text}</th>" for text in (_("rows of {name}"), _("how many"), _("note")))
        return (
            f"<table><thead><tr>{head.format(name=html.escape(self.source))}</tr></thead><tbody>{rows}</tbody></table>"
        )


def reason_text(key: str) -> str:
    """Why rows were dropped, in the learner's language."""
    return {
        "roles": _("dropped: user and assistant do not take turns"),
        "histories_differ": _("dropped: chosen and rejected answer different questions"),
        "empty_answer": _("dropped: an answer is empty"),
        "same_answers": _("dropped: both answers are the same"),
    }[key]


def find_fault(chosen: list[dict], rejected: list[dict]) -> str | None:
    """Why a pair of dialogues is no preference pair, or None."""
    for dialogue in (chosen, rejected):
        roles = [m["role"] for m in dialogue if m["role"] != "system"]
        if roles != ["user", "assistant"] * (len(roles) // 2) or not roles:
            return "roles"
    if chosen[:-1] != rejected[:-1]:
        return "histories_differ"
    if not chosen[-1]["content"].strip() or not rejected[-1]["content"].strip():
        return "empty_answer"
    if chosen[-1] == rejected[-1]:
        return "same_answers"
    return None


def read_json_lines(path: Path) -> Iterator[dict]:
    """The rows of a .jsonl or .jsonl.gz file; a broken line is an error that names it."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        for number, line in enumerate(line for line in file if line.strip()):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path.name}, row {number}: got a line that is not JSON ({error}); "
                    "expected one JSON object a line; mend or delete the line"
                ) from None
            if not isinstance(row, dict):
                raise ValueError(
                    f"{path.name}, row {number}: got a JSON {type(row).__name__}; expected an object "
                    'such as {"chosen": ..., "rejected": ...}; mend or delete the line'
                )
            yield row


def read_rows(source, split: str) -> tuple[str, Iterable[dict]]:
    """A name to speak of, and the rows of a file, a folder, a hub id, a Dataset or a list."""
    if not isinstance(source, (str, Path)):
        return type(source).__name__, source
    path = Path(source)
    if path.is_dir():
        path = next((p for p in (path / f"{split}.jsonl", path / f"{split}.jsonl.gz") if p.is_file()), path)
        if path.is_dir():
            raise FileNotFoundError(
                f"{source}: got a folder without {split}.jsonl; expected one file a split; check the folder"
            )
    if path.is_file():
        return path.name, read_json_lines(path)
    if path.suffix in {".jsonl", ".gz"}:
        raise FileNotFoundError(f"{source}: there is no such file; check the path")
    return str(source), load_dataset(str(source), split=split)


def tidy(dialogue: list[dict]) -> list[dict]:
    """Role and content alone, the text in Unicode NFC."""
    return [{"role": m["role"], "content": unicodedata.normalize("NFC", m["content"])} for m in dialogue]


def load_preferences(source, split: str = "train", limit: int | None = None, layout: str = "auto"):
    """Read preference pairs from any source and return `(dataset, report)`.

    source: a .jsonl file (also gzipped), a folder with one such file a split, a hub id, a
        `datasets.Dataset`, or a list of dicts.
    split: which split of a folder or of a hub dataset. limit: read at most so many rows.
    layout: a name from `course_utils.layouts.LAYOUTS`, or "auto" to go by the columns of the first row.

    dataset: columns `prompt`, `chosen`, `rejected`, each a list of {"role", "content"} messages; the
        prompt ends in a user turn, the answers are one assistant message each. Any TRL trainer takes it.
    report: a `Report`; rows are numbered from 0.
    Raises ValueError for input that has no such form, with the file and the row.
    """
    if layout not in ("auto", *LAYOUTS):
        raise ValueError(f"layout {layout!r} is not known; choose one of auto, {', '.join(LAYOUTS)}")
    name, rows = read_rows(source, split)
    report, pairs = Report(name), []
    for number, row in enumerate(islice(rows, limit)):
        try:
            if report.read == 0:
                report.layout = recognise(row) if layout == "auto" else layout
            columns, to_dialogues = LAYOUTS[report.layout]
            wrong = [c for c, kind in columns.items() if not isinstance(row.get(c), kind)]
            if wrong:
                raise ValueError(
                    f"got {wrong[0]} = {row.get(wrong[0])!r:.60}; expected a "
                    f"{columns[wrong[0]].__name__}; fill it in or drop the row"
                )
            chosen, rejected = map(tidy, to_dialogues(row))
        except ValueError as error:
            raise ValueError(f"{name}, row {number}: {error}") from None
        report.read += 1
        if fault := find_fault(chosen, rejected):
            report.dropped.setdefault(fault, []).append(number)
            continue
        report.kept += 1
        pairs.append({"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]})
    if not report.read:
        raise ValueError(f"{name}: got no rows; expected one preference pair a row; check the file")
    if not pairs:
        raise ValueError(f"{name}: no row is left\n{report}")
    return Dataset.from_list(pairs), report
