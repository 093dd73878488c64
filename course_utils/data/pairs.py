"""For the learner with preference data: from any source to pairs that every TRL trainer takes; no row is lost."""

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
from .detect import SCORES, choose_layout
from .layouts import LAYOUTS, Dialogue, Dialogues, InvalidRow, Layout
from .report import Report
from .sources import BATCH, has_splits, named_rows, nfc, open_source, paired_split

FIRST_ROWS = 100  # by which a layout is detected
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMA = pa.schema([(column, MESSAGES) for column in ("prompt", "chosen", "rejected")])
#: The folder that the datasets of this process are mapped from; it goes when the process ends.
scratch = cache(partial(tempfile.TemporaryDirectory, prefix="course_utils_", ignore_cleanup_errors=True))


@dataclass
class Pair:
    """Two dialogues that part in their last message, an answer, and the numbers of the rows they are from: one or two."""

    rows: list[int]
    chosen: Dialogue
    rejected: Dialogue

    def __post_init__(self) -> None:
        """InvalidRow if they prefer nothing."""
        if self.chosen[:-1] != self.rejected[:-1]:
            raise InvalidRow("histories_differ")
        if self.chosen == self.rejected:
            raise InvalidRow("same_answers")


def checked(dialogue: Dialogue) -> Dialogue:
    """A dialogue, role and content alone, in Unicode NFC; InvalidRow if it is no prompt with an answer."""
    dialogue = [{"role": m["role"], "content": nfc(m["content"])} for m in dialogue]
    roles = [m["role"] for m in dialogue]
    roles = roles[1:] if roles[:1] == ["system"] else roles
    if roles != ["user", "assistant"] * (len(roles) // 2) or not roles:
        raise InvalidRow("roles")
    for message, reason in zip(dialogue[-2:], ("empty_prompt", "empty_answer")):
        if not message["content"].strip():
            raise InvalidRow(reason)
    return dialogue


def read_row(row: dict, layout: Layout) -> Dialogues:
    """The dialogues of a row; InvalidRow if it has none, or its scores forbid its preference."""
    if None in row:
        raise InvalidRow("cells")
    cells = [row.get(column) for column in (*layout.needs, *layout.optional)]
    if None in cells[: len(layout.needs)]:
        raise InvalidRow("missing")
    try:
        for good, bad in ((row.get(good), row.get(bad)) for good, bad in SCORES.items()):
            if good is not None and bad is not None and (gap := float(good) - float(bad)) <= 0:
                raise InvalidRow("scores_disagree" if gap else "tie")
        chosen, rejected = layout.read(*cells)
        return chosen and checked(chosen), rejected and checked(rejected)
    except InvalidRow:
        raise
    except (TypeError, ValueError, LookupError, AttributeError):
        raise InvalidRow("malformed") from None


def key(dialogue: Dialogue) -> int:
    """A number to know a dialogue by."""
    return hash(tuple([message["content"] for message in dialogue]))


def read_pairs(rows: Iterable[dict], report: Report) -> Iterator[Pair]:
    """The pairs of some rows; the report gets the rows that make none. Halves wait for a partner with their prompt."""
    waiting: dict[tuple[int, bool], list[tuple[int, Dialogue]]] = defaultdict(list)
    for number, row in enumerate(rows):
        report.read, numbers = number + 1, [number]
        try:
            chosen, rejected = read_row(row, LAYOUTS[report.layout])
            if chosen is None or rejected is None:
                half = chosen or rejected or []
                prompt = key(half[:-1])
                if not (partners := waiting[prompt, not chosen]):
                    waiting[prompt, bool(chosen)].append((number, half))
                    continue
                other, partner = partners.pop(0)
                numbers, chosen, rejected = [other, number], chosen or partner, rejected or partner
            pair = Pair(numbers, chosen, rejected)
        except InvalidRow as problem:
            report.drop(str(problem), numbers)
        else:
            yield pair
    for number, _half in chain.from_iterable(waiting.values()):
        report.drop("unpaired", [number])


def open_pairs(name: str, rows: Iterator, layout: str, columns: dict, limit=None) -> tuple[Report, Iterator[Pair]]:
    """A fresh report that names source and layout, and the pairs of the rows; ValueError if no layout fits."""
    rows = tqdm(islice(rows, limit), desc=name, unit=" rows", delay=3, mininterval=1, ncols=88)
    rows = named_rows(rows, name, columns)
    head = list(islice(rows, FIRST_ROWS))
    try:
        layout, unused = choose_layout(head, layout, columns)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    report = Report(name, layout, unused=unused)
    return report, read_pairs(chain(head, rows), report)


def other_prompts(source, split: str, other, report: Report, layout: str, columns: dict[str, str]) -> set[int]:
    """The prompts of `other`, or of the split that belongs to this one, which costs only the comparison if broken."""
    if other is not None:
        theirs, pairs = open_pairs(*open_source(other, split), "auto", {})
        report.other = theirs.source if isinstance(other, (str, Path)) else "other"
        return {key(pair.chosen[:-1]) for pair in pairs}
    report.other, name, rows = paired_split(source, split) or (None, "", iter(()))
    try:
        return {key(pair.chosen[:-1]) for pair in open_pairs(name, rows, layout, columns)[1]} if report.other else set()
    except (ValueError, OSError) as error:
        report.not_compared, report.other = f"{report.other}: {error}", None
        return set()


def fitting(
    pairs: Iterable[Pair], report: Report, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[Pair]:
    """The pairs whose prompt leaves room for an answer; the report gets the others, and those with an answer cut."""
    for pair in pairs:
        try:
            row = encode(tokenizer, pair.chosen[:-1], pair.chosen[-1:], pair.rejected[-1:])
        except (TemplateError, ValueError):
            report.drop("template", pair.rows)
            continue
        if not leaves_room(len(row.prompt), max_length):
            report.drop("prompt_too_long", pair.rows)
            continue
        if len(row.prompt) + max(map(len, row.answers)) > max_length:
            report.cut.append(pair.rows[-1])
        yield pair


def counted(pairs: Iterable[Pair], report: Report, elsewhere: set[int]) -> Iterator[dict]:
    """The pairs as rows of a dataset; the report gets their number, their lengths, and those that deserve a look."""
    seen: set[int] = set()
    lengths = array("L"), array("L")
    for pair in pairs:
        row = {"prompt": pair.chosen[:-1], "chosen": pair.chosen[-1:], "rejected": pair.rejected[-1:]}
        prompt, better, worse = map(key, row.values())
        this, opposite = hash((prompt, better, worse)), hash((prompt, worse, better))
        report.kept += 1
        report.joined += len(pair.rows) - 1
        report.leaked += pair.rows[-1:] * (prompt in elsewhere)
        report.duplicates += pair.rows[-1:] * (this in seen)
        report.contradictions += pair.rows[-1:] * (opposite in seen)
        seen.add(this)
        for numbers, answer in zip(lengths, (row["chosen"], row["rejected"])):
            numbers.append(len(answer[0]["content"]))
        yield row
    if not report.kept:
        raise ValueError(_("{name}: no row is left").format(name=report.source) + f"\n{report}")
    report.chosen_length, report.rejected_length = (float(statistics.median(numbers)) for numbers in lengths)
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
    rows = counted(pairs, report, elsewhere)
    path = Path(tempfile.mkdtemp(dir=scratch().name)) / "pairs.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        while batch := list(islice(rows, BATCH)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
    report.dropped = {reason: sorted(rows) for reason, rows in report.dropped.items()}
    return Dataset.from_file(str(path)), report
