"""For the learner with preference data: from any source to pairs that every TRL trainer takes, every row accounted for."""

import statistics
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, islice
from operator import gt, lt
from pathlib import Path

import pyarrow as pa
from datasets import Dataset
from jinja2 import TemplateError
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from ..batch import encode, leaves_room
from ..i18n import _
from .detect import choose_layout, rename
from .layouts import LAYOUTS, SCORES, Dialogue, Dialogues, InvalidRow
from .report import Report
from .sources import BATCH, has_splits, nfc, open_source, paired_split

FIRST_ROWS = 100  # by which a layout is detected
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMA = pa.schema([(column, MESSAGES) for column in ("prompt", "chosen", "rejected")])
#: The folder that the datasets of this process are mapped from; it goes when the process ends.
scratch = cache(partial(tempfile.TemporaryDirectory, prefix="course_utils_", ignore_cleanup_errors=True))


@dataclass
class Pair:
    """A prompt, its two answers, and the numbers of the rows they are from: one, or two that were joined."""

    rows: list[int]
    prompt: Dialogue
    chosen: Dialogue
    rejected: Dialogue


def check_dialogue(dialogue: Dialogue) -> None:
    """InvalidRow if a dialogue is no prompt with an answer."""
    roles = [m["role"] for m in dialogue]
    roles = roles[1:] if roles[:1] == ["system"] else roles
    if roles != ["user", "assistant"] * (len(roles) // 2) or not roles:
        raise InvalidRow("roles")
    for text, reason in ((dialogue[-2]["content"], "empty_prompt"), (dialogue[-1]["content"], "empty_answer")):
        if not text.strip():
            raise InvalidRow(reason)


def check_scores(row: dict) -> None:
    """InvalidRow if the scores of a row forbid its preference."""
    for chosen, rejected in SCORES:
        if row.get(chosen) is not None and row.get(rejected) is not None:
            if (gap := float(row[chosen]) - float(row[rejected])) <= 0:
                raise InvalidRow("scores_disagree" if gap else "tie")
            return


def read_row(row: dict, layout: str) -> Dialogues:
    """The dialogues of a row: role and content alone, in NFC, and checked. InvalidRow if it has none."""
    if None in row:
        raise InvalidRow("cells")
    if any(row.get(column) is None for column in LAYOUTS[layout].needs):
        raise InvalidRow("missing")
    try:
        check_scores(row)
        both = LAYOUTS[layout].read(row)
        tidy = [one and [{"role": m["role"], "content": nfc(m["content"])} for m in one] for one in both]
    except InvalidRow:
        raise
    except (TypeError, ValueError, LookupError, AttributeError):
        raise InvalidRow("malformed") from None
    for dialogue in tidy:
        if dialogue is not None:
            check_dialogue(dialogue)
    return tidy[0], tidy[1]


def make_pair(rows: list[int], chosen: Dialogue, rejected: Dialogue) -> Pair:
    """The pair of two dialogues; InvalidRow if they prefer nothing."""
    if chosen[:-1] != rejected[:-1]:
        raise InvalidRow("histories_differ")
    if chosen[-1] == rejected[-1]:
        raise InvalidRow("same_answers")
    return Pair(rows, chosen[:-1], chosen[-1:], rejected[-1:])


def key(dialogue: Dialogue) -> int:
    """A number to know a dialogue by."""
    return hash(tuple([message["content"] for message in dialogue]))


def read_pairs(rows: Iterable[dict], report: Report) -> Iterator[Pair]:
    """The pairs of some rows. The report gets the rows that make none; halves wait for a partner with their prompt."""
    waiting: dict[tuple[int, bool], list[tuple[int, Dialogue]]] = defaultdict(list)
    for number, row in enumerate(rows):
        report.read, numbers = number + 1, [number]
        try:
            chosen, rejected = read_row(row, report.layout)
            if chosen is None or rejected is None:
                half = chosen or rejected or []
                prompt = key(half[:-1])
                if not (partners := waiting[prompt, not chosen]):
                    waiting[prompt, bool(chosen)].append((number, half))
                    continue
                other, partner = partners.pop(0)
                numbers, chosen, rejected = [other, number], chosen or partner, rejected or partner
            pair = make_pair(numbers, chosen, rejected)
        except InvalidRow as problem:
            report.drop(str(problem), numbers)
        else:
            yield pair
    for number, _half in chain.from_iterable(waiting.values()):
        report.drop("unpaired", [number])


def open_pairs(
    name: str, rows: Iterator[dict], layout: str, columns: dict[str, str], limit: int | None = None
) -> tuple[Report, Iterator[Pair]]:
    """A fresh report that names source and layout, and the pairs of the rows; ValueError if no layout fits."""
    rows = iter(tqdm(islice(rows, limit), desc=name, unit=" rows", delay=3, mininterval=1, ncols=88))
    head = list(islice(rows, FIRST_ROWS))
    try:
        layout, unused = choose_layout(head, layout, columns)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    report = Report(name, layout, unused=unused)
    return report, read_pairs(rename(chain(head, rows), columns) if columns else chain(head, rows), report)


def other_prompts(source, split: str, other, report: Report, layout: str, columns: dict[str, str]) -> set[int]:
    """The prompts of `other`, or of the split that belongs to this one."""
    if other is not None:
        theirs, pairs = open_pairs(*open_source(other, split), "auto", {})
        report.other = theirs.source if isinstance(other, (str, Path)) else "other"
        return {key(pair.prompt) for pair in pairs}
    if (paired := paired_split(source, split)) is None:
        return set()
    other_split, *opened = paired
    try:
        found = {key(pair.prompt) for pair in open_pairs(*opened, layout, columns)[1]}
    except (ValueError, OSError) as error:  # nobody asked for it, so it only costs the comparison
        report.not_compared = f"{other_split}: {error}"
        return set()
    report.other = other_split
    return found


def fitting(
    pairs: Iterable[Pair], report: Report, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[Pair]:
    """The pairs whose prompt leaves room for an answer; the report gets the others, and those with an answer cut."""
    for pair in pairs:
        try:
            row = encode(tokenizer, pair.prompt, pair.chosen, pair.rejected)
        except (TemplateError, ValueError):
            report.drop("template", pair.rows)
            continue
        if not leaves_room(len(row.prompt), max_length):
            report.drop("prompt_too_long", pair.rows)
            continue
        if len(row.prompt) + max(map(len, row.answers)) > max_length:
            report.cut.append(pair.rows[-1])
        yield pair


def counted(pairs: Iterable[Pair], report: Report, elsewhere: set[int]) -> Iterator[Pair]:
    """The same pairs; the report gets their number, their lengths, and those that deserve a look."""
    seen: set[int] = set()
    lengths = array("L"), array("L")
    for pair in pairs:
        report.kept += 1
        report.joined += len(pair.rows) - 1
        prompt, better, worse = key(pair.prompt), key(pair.chosen), key(pair.rejected)
        this, opposite = hash((prompt, better, worse)), hash((prompt, worse, better))
        for found, rows in (
            (prompt in elsewhere, report.leaked),
            (this in seen, report.duplicates),
            (opposite in seen, report.contradictions),
        ):
            if found:
                rows.append(pair.rows[-1])
        seen.add(this)
        for numbers, answer in zip(lengths, (pair.chosen, pair.rejected)):
            numbers.append(len(answer[0]["content"]))
        yield pair
    if not report.kept:
        raise ValueError(_("{name}: no row is left").format(name=report.source) + f"\n{report}")
    report.chosen_length, report.rejected_length = map(statistics.median, lengths)
    report.longer, report.shorter = sum(map(gt, *lengths)), sum(map(lt, *lengths))
    report.equal = report.kept - report.longer - report.shorter


def load_preferences(
    source,
    split: str = "train",
    limit: int | None = None,
    layout: str = "auto",
    columns: dict[str, str] | None = None,
    other=None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int | None = None,
) -> tuple[Dataset, Report]:
    """Read preference pairs from any source and return `(dataset, report)`.

    source: a .json, .jsonl, .csv, .tsv or .parquet file (also .gz), a folder with one such file a split, a hub
        id, a `datasets.Dataset`, a pandas DataFrame, or a list of dicts.
    split: which split of a folder or of a hub dataset. limit: read at most so many rows.
    layout: a name from `course_utils.data.layouts.LAYOUTS`, or "auto" to go by the columns and the first rows.
    columns: the layout's names for your own, such as `{"prompt": "câu_hỏi"}`.
    other: the data to test with (or, for test data, to train with), any source in any layout; the report counts
        prompts that stand in both. For a folder or a hub id, train and test are compared without being asked.
    tokenizer, max_length: leave out rows whose prompt has `max_length` tokens or more, and count those of which
        an answer would be cut; if not given, `max_length` is `tokenizer.model_max_length`.

    dataset: columns `prompt`, `chosen`, `rejected`, each a list of {"role", "content"} messages; the
        prompt ends in a user turn, the answers are one assistant message each. Any TRL trainer takes it. Rows
        are read, checked and written to disk in batches, so memory does not grow with their number (but a .json
        file is read whole, and unpaired rows wait in memory for their partners).
    report: a `Report`; what is wrong with single rows is counted there, with row numbers from 0.
    Raises ValueError, OSError or TypeError for a source that cannot be read, naming file, row and what to do.
    """
    if layout not in ("auto", *LAYOUTS):
        words = _("layout {layout!r} is not known; choose one of auto, {known}")
        raise ValueError(words.format(layout=layout, known=", ".join(LAYOUTS)))
    if limit is not None and limit < 1:
        raise ValueError(_("limit={limit}: expected at least 1 row, or None for all").format(limit=limit))
    if split != "train" and not has_splits(source):
        words = _("split “{split}”: got a single table, which has no splits; leave split= out, or take a folder")
        raise ValueError(words.format(split=split))
    if tokenizer is not None and tokenizer.chat_template is None:
        raise ValueError(_("the tokenizer has no chat template; take that of an instruct model, or set one"))
    columns = {ours: nfc(theirs) for ours, theirs in (columns or {}).items()}
    report, pairs = open_pairs(*open_source(source, split), layout, columns, limit)
    elsewhere = other_prompts(source, split, other, report, layout, columns)
    if tokenizer is not None:
        report.max_length = max_length or tokenizer.model_max_length
        pairs = fitting(pairs, report, tokenizer, report.max_length)
    pairs = counted(pairs, report, elsewhere)
    path = Path(tempfile.mkdtemp(dir=scratch().name)) / "pairs.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        while batch := list(islice(pairs, BATCH)):
            cells = [[getattr(pair, column) for pair in batch] for column in SCHEMA.names]
            writer.write_batch(pa.record_batch([pa.array(one, MESSAGES) for one in cells], schema=SCHEMA))
    report.dropped = {reason: sorted(rows) for reason, rows in report.dropped.items()}
    return Dataset.from_file(str(path)), report
