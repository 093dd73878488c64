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
from jinja2 import TemplateError
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from ..batch import encode, leaves_room
from ..i18n import _
from .layouts import LAYOUTS, SCORES, Dialogue, Dialogues, InvalidRow, Layout, as_messages, choose_layout, drop_if
from .report import Report
from .sources import BATCH, has_splits, named_rows, nfc, open_source

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMA = pa.schema([(column, MESSAGES) for column in ("prompt", "chosen", "rejected")])
Numbered = Iterator[tuple[int, dict[str, Dialogue]]]  # rows of SCHEMA, each with the number of the last row it is from
#: The folder that the datasets of this process are mapped from; it goes when the process ends.
scratch = cache(partial(tempfile.TemporaryDirectory, prefix="course_utils_", ignore_cleanup_errors=True))


def key(dialogue: Dialogue) -> int:
    """A number to know a dialogue by."""
    return hash(tuple([message["content"] for message in dialogue]))


def checked(dialogue: Dialogue | None) -> Dialogue | None:
    """A dialogue, role and content alone, in Unicode NFC; InvalidRow if it is no prompt with an answer."""
    if dialogue is None:
        return None
    dialogue = [{"role": m["role"], "content": nfc(m["content"])} for m in dialogue]
    roles = [m["role"] for m in dialogue]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    drop_if(turns != ["user", "assistant"] * (len(turns) // 2) or not turns, "roles")
    drop_if(not dialogue[-2]["content"].strip(), "empty_prompt")
    drop_if(not dialogue[-1]["content"].strip(), "empty_answer")
    return dialogue


def read_row(row: dict, layout: Layout) -> Dialogues:
    """The dialogues of a row; InvalidRow if it has none, or its scores forbid its preference."""
    drop_if(None in row, "cells")
    cells = [row.get(column) for column in layout.needs]
    drop_if(any(cell is None for cell in cells), "missing")
    try:
        for good, bad in SCORES.items():
            if row.get(good) is not None and row.get(bad) is not None:
                gap = float(row[good]) - float(row[bad])
                drop_if(gap < 0, "scores_disagree")
                drop_if(gap == 0, "tie")
        read = map(as_messages, cells, layout.needs.values())
        chosen, rejected = layout.read(*read, *map(row.get, layout.optional))
        return checked(chosen), checked(rejected)
    except (TypeError, ValueError, LookupError, AttributeError):
        raise InvalidRow("malformed") from None


def answer_is_cut(pair: dict[str, Dialogue], tokenizer: PreTrainedTokenizerBase, max_length: int) -> bool:
    """Whether an answer does not fit `max_length` tokens whole; InvalidRow if not a token of it would."""
    try:
        row = encode(tokenizer, *pair.values())
    except (TemplateError, ValueError):
        raise InvalidRow("template") from None
    drop_if(not leaves_room(len(row.prompt), max_length), "prompt_too_long")
    return len(row.prompt) + max(map(len, row.answers)) > max_length


def read_pairs(rows: Iterable[dict], report: Report, tokenizer=None) -> Numbered:
    """The pairs of some rows, alike but for the answer; the report counts the others. Halves wait for a partner."""
    waiting: dict[tuple[int, bool], list[tuple[int, Dialogue]]] = defaultdict(list)
    layout = LAYOUTS[report.layout]
    for number, row in enumerate(rows):
        numbers = [number]
        report.read += 1
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
            drop_if(chosen[:-1] != rejected[:-1], "histories_differ")
            drop_if(chosen[-1] == rejected[-1], "same_answers")
            pair = {"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}
            if report.max_length and answer_is_cut(pair, tokenizer, report.max_length):
                report.cut.append(number)
        except InvalidRow as problem:
            report.dropped[str(problem)] += numbers
        else:
            report.joined += len(numbers) - 1
            yield number, pair
    if alone := [number for number, _half in chain.from_iterable(waiting.values())]:
        report.dropped["unpaired"] = alone
    report.dropped = {reason: sorted(dropped) for reason, dropped in report.dropped.items()}


def open_pairs(name, rows, layout, columns, limit=None, tokenizer=None, max_length=None) -> tuple[Report, Numbered]:
    """A fresh report that names source and layout, and the pairs of the rows; ValueError if no layout fits."""
    bar = tqdm(islice(rows, limit), desc=name, unit=" rows", delay=3, mininterval=1, ncols=88)
    rows = named_rows(bar, name, columns)
    head = list(islice(rows, BATCH))
    report = Report(name, *choose_layout(name, head, layout, columns), max_length=max_length)
    return report, read_pairs(chain(head, rows), report, tokenizer)


def other_prompts(report: Report, source, split: str, other, *layout_and_columns) -> set[int]:
    """The prompts of `other`, or of the split that belongs to this one; if that is broken, the report says so."""
    if other is not None:
        theirs, pairs = open_pairs(*open_source(other, split), "auto", {})
        report.other = theirs.source if isinstance(other, (str, Path)) else "other"
        return {key(pair["prompt"]) for _number, pair in pairs}
    base, opened, prompts = split.partition("[")[0], None, set()
    twin = base.replace("train", "test") if "train" in base else base.replace("test", "train")
    try:
        if twin != base and has_splits(source):
            opened = open_source(source, twin)
            prompts = {key(pair["prompt"]) for _number, pair in open_pairs(*opened, *layout_and_columns)[1]}
            report.other = twin
    except (OSError, ValueError) as error:
        report.not_compared = f"{twin}: {error}" if opened else ""  # not opened: there is no such split
    return prompts


def counted(pairs: Numbered, report: Report, elsewhere: set[int]) -> Iterator[dict[str, Dialogue]]:
    """The pairs without their numbers; the report counts them, measures them, and lists those that deserve a look."""
    seen: set[int] = set()
    lengths = array("L"), array("L")
    for number, pair in pairs:
        prompt, better, worse = map(key, pair.values())
        if prompt in elsewhere:
            report.leaked.append(number)
        if (this := hash((prompt, better, worse))) in seen:
            report.duplicates.append(number)
        if hash((prompt, worse, better)) in seen:
            report.contradictions.append(number)
        seen.add(this)
        lengths[0].append(len(pair["chosen"][0]["content"]))
        lengths[1].append(len(pair["rejected"][0]["content"]))
        yield pair
    chosen, rejected = map(np.array, lengths)
    report.kept, report.equal = len(chosen), int((chosen == rejected).sum())
    report.longer, report.shorter = int((chosen > rejected).sum()), int((chosen < rejected).sum())
    if report.kept:
        report.chosen_length, report.rejected_length = float(np.median(chosen)), float(np.median(rejected))


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
    other: the data to test with (or, for test data, to train with), any source; the report counts prompts that
        stand in both. Train and test of a folder or a hub id are compared without being asked.
    tokenizer, max_length: leave out prompts of `max_length` tokens (`tokenizer.model_max_length` if not given) or
        more, and count the rows of which an answer would be cut.

    dataset: columns `prompt`, `chosen`, `rejected`, lists of {"role", "content"} messages, as any TRL trainer takes
        them: one answer each, to a prompt that ends in a user turn. It lies on disk, so memory stays flat (but a .json
        file is read whole, and unpaired rows wait for their partners).
    report: a `Report` of the rows, which are numbered from 0, and of what is wrong with them.
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
    report, pairs = open_pairs(*open_source(source, split), layout, columns, limit, tokenizer, max_length)
    rows = counted(pairs, report, other_prompts(report, source, split, other, layout, columns))
    path = Path(tempfile.mkdtemp(dir=scratch().name)) / "pairs.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        while batch := list(islice(rows, BATCH)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
    if not report.kept:
        raise ValueError(_("{name}: no row is left").format(name=report.source) + f"\n{report}")
    return Dataset.from_file(str(path)), report
