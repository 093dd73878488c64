"""For the learner with preference data: from any source to pairs that every TRL trainer takes; no row is lost."""

import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from ..i18n import _
from .checks import Pair, answer_is_cut, read_row
from .detect import choose_layout
from .layouts import LAYOUTS, Dialogue, InvalidRow
from .report import Report
from .sources import BATCH, has_splits, named_rows, nfc, open_source, paired_split

FIRST_ROWS = 100  # by which a layout is detected
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMA = pa.schema([(column, MESSAGES) for column in ("prompt", "chosen", "rejected")])
#: The folder that the datasets of this process are mapped from; it goes when the process ends.
scratch = cache(partial(tempfile.TemporaryDirectory, prefix="course_utils_", ignore_cleanup_errors=True))


def key(dialogue: Dialogue) -> int:
    """A number to know a dialogue by."""
    return hash(tuple([message["content"] for message in dialogue]))


def read_pairs(rows: Iterable[dict], report: Report, tokenizer=None) -> Iterator[Pair]:
    """The pairs of some rows; the report gets the rows that make none. Halves wait for a partner with their prompt."""
    waiting: dict[tuple[int, bool], list[tuple[int, Dialogue]]] = defaultdict(list)
    layout = LAYOUTS[report.layout]
    for number, row in enumerate(rows):
        numbers = [number]
        try:
            chosen, rejected = read_row(row, layout)
            if chosen is None or rejected is None:
                half = chosen or rejected or []
                prompt = key(half[:-1])
                if not (partners := waiting[prompt, not chosen]):
                    waiting[prompt, bool(chosen)].append((number, half))
                    continue
                other, partner = partners.pop(0)
                numbers, chosen, rejected = [other, number], chosen or partner, rejected or partner
            pair = Pair(numbers, chosen, rejected)
            if report.max_length and answer_is_cut(pair, tokenizer, report.max_length):
                report.cut.append(number)
        except InvalidRow as problem:
            report.dropped[str(problem)] += numbers
        else:
            yield pair
    for number, _half in chain.from_iterable(waiting.values()):
        report.dropped["unpaired"].append(number)


def open_pairs(
    opened: tuple[str, Iterator], layout: str, columns: dict[str, str], limit=None, tokenizer=None, max_length=None
) -> tuple[Report, Iterator[Pair]]:
    """A fresh report that names source and layout, and the pairs of the rows; ValueError if no layout fits."""
    name, rows = opened
    bar = tqdm(islice(rows, limit), desc=name, unit=" rows", delay=3, mininterval=1, ncols=88)
    rows = named_rows(bar, name, columns)
    head = list(islice(rows, FIRST_ROWS))
    report = Report(name, *choose_layout(name, head, layout, columns), max_length=max_length)
    return report, read_pairs(chain(head, rows), report, tokenizer)


def other_prompts(report: Report, source, split: str, other, *layout_and_columns) -> set[int]:
    """The prompts of `other`, or of the split that belongs to this one; if that is broken, the report says so."""
    if other is not None:
        theirs, pairs = open_pairs(open_source(other, split), "auto", {})
        report.other = theirs.source if isinstance(other, (str, Path)) else "other"
        return {key(pair.chosen[:-1]) for pair in pairs}
    if paired := paired_split(source, split):
        try:
            found = {key(pair.chosen[:-1]) for pair in open_pairs(paired[1], *layout_and_columns)[1]}
            report.other = paired[0]
            return found
        except (ValueError, OSError) as error:
            report.not_compared = f"{paired[0]}: {error}"
    return set()


def counted(pairs: Iterable[Pair], report: Report, elsewhere: set[int]) -> Iterator[dict]:
    """The pairs as rows of a dataset; the report gets their number, their lengths, and those that deserve a look."""
    seen: set[int] = set()
    lengths = array("L"), array("L")
    for pair in pairs:
        row = {"prompt": pair.chosen[:-1], "chosen": pair.chosen[-1:], "rejected": pair.rejected[-1:]}
        prompt, better, worse = map(key, row.values())
        number, this = pair.rows[-1], hash((prompt, better, worse))
        report.joined += len(pair.rows) - 1
        if prompt in elsewhere:
            report.leaked.append(number)
        if this in seen:
            report.duplicates.append(number)
        if hash((prompt, worse, better)) in seen:
            report.contradictions.append(number)
        seen.add(this)
        lengths[0].append(len(pair.chosen[-1]["content"]))
        lengths[1].append(len(pair.rejected[-1]["content"]))
        yield row
    report.close(*map(np.array, lengths))


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

    source: a .json, .jsonl, .csv, .tsv or .parquet file (also .gz), a folder with one such file a split, a hub id,
        a `datasets.Dataset`, a pandas DataFrame, or a list of dicts; split: which split of a folder or hub dataset.
    limit: read at most so many rows. columns: the layout's names for your own, such as `{"prompt": "câu_hỏi"}`.
    layout: a name from `course_utils.data.layouts.LAYOUTS`, or "auto" to go by the columns and the first rows.
    other: the data to test with (or, for test data, to train with), any source in any layout; the report counts
        prompts that stand in both. For a folder or a hub id, train and test are compared without being asked.
    tokenizer, max_length: leave out rows whose prompt has `max_length` tokens or more, and count those of which
        an answer would be cut; if not given, `max_length` is `tokenizer.model_max_length`.

    dataset: columns `prompt`, `chosen`, `rejected`, each a list of {"role", "content"} messages; the prompt ends in
        a user turn, the answers are one assistant message each. Any TRL trainer takes it. It is written to disk in
        batches, so memory stays flat (but a .json file is read whole, and unpaired rows wait for their partners).
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
    max_length = None if tokenizer is None else max_length or tokenizer.model_max_length
    report, pairs = open_pairs(open_source(source, split), layout, columns, limit, tokenizer, max_length)
    rows = counted(pairs, report, other_prompts(report, source, split, other, layout, columns))
    path = Path(tempfile.mkdtemp(dir=scratch().name)) / "pairs.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        while batch := list(islice(rows, BATCH)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
    if not report.kept:
        raise ValueError(_("{name}: no row is left").format(name=report.source) + f"\n{report}")
    return Dataset.from_file(str(path)), report
