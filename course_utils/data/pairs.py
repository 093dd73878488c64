"""For the learner with preference data: from any source to pairs that every TRL trainer takes; no row is lost."""

import os
import platform
import re
import shutil
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, islice
from numbers import Integral
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from ..batch import encode, leaves_room
from ..i18n import _
from .layouts import LAYOUTS, SCORES, Dialogue, InvalidRow, choose_layout, drop_if, nfc, read_row
from .report import Report
from .sources import BATCH, column_name, has_splits, named_rows, open_source

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMA = pa.schema([(column, MESSAGES) for column in ("prompt", "chosen", "rejected")])
Numbered = Iterator[tuple[int, dict[str, Dialogue]]]  # rows of SCHEMA, each with the number of the last row it is from


@cache
def scratch() -> tempfile.TemporaryDirectory:
    """The folder that the datasets of this process are mapped from; it goes when the process ends.

    A killed process leaves its own behind, which the next one on this machine takes away.
    """
    mine = f"course_utils_{platform.node()}_"
    for old in Path(tempfile.gettempdir()).glob(f"{mine}*_*"):
        pid = old.name.removeprefix(mine).partition("_")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{mine}{os.getpid()}_", ignore_cleanup_errors=True)


def key(dialogue: Dialogue) -> int:
    """A number to know a dialogue by."""
    return hash(tuple([message["content"] for message in dialogue]))


def answer_is_cut(pair: dict[str, Dialogue], tokenizer: PreTrainedTokenizerBase, max_length: int) -> bool:
    """Whether an answer does not fit `max_length` tokens whole; InvalidRow if not a token of it would."""
    try:
        row = encode(tokenizer, *pair.values())
    except Exception:  # a template is a program
        raise InvalidRow("template") from None
    drop_if(not leaves_room(len(row.prompt), max_length), "prompt_too_long")
    return len(row.prompt) + max(map(len, row.answers)) > max_length


def read_pairs(rows: Iterable[dict], report: Report, tokenizer=None) -> Numbered:
    """The pairs of some rows, alike but for the answer; the report counts the others. Halves wait for a partner."""
    waiting: dict[tuple[int, bool], list[tuple[int, Dialogue]]] = defaultdict(list)
    layout = LAYOUTS[report.layout]
    known = {*layout.needs, *layout.optional, *SCORES, *SCORES.values(), *report.unused, None}
    tokens = (
        {t.content for t in tokenizer.added_tokens_decoder.values() if t.special and t.content} if tokenizer else ()
    )
    controls = re.compile("|".join(map(re.escape, tokens)) or "(?!)")
    for number, row in enumerate(rows):
        numbers = [number]
        report.read += 1
        if not known.issuperset(row):
            report.unused += [column for column in row if column not in known]
            known.update(row)
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
                report.look("cut", number, pair)
            if tokenizer and any(controls.search(m["content"]) for said in pair.values() for m in said):
                report.look("control", number, pair)
            asked = nfc(row["prompt"]).strip() if report.layout == "messages_and_text" else ""  # unread, see `both`
            if asked and not any(asked in m["content"] for m in pair["prompt"]):
                report.look("differs", number, row)
        except InvalidRow as problem:
            report.dropped[str(problem)] += numbers
            report.show(str(problem), number, {name: row[name] for name in (*layout.needs, None) if name in row})
        else:
            report.joined += len(numbers) - 1
            yield number, pair
    for number, half in sorted(chain.from_iterable(waiting.values()), key=itemgetter(0)):
        report.dropped["unpaired"].append(number)
        report.show("unpaired", number, {m["role"]: m["content"] for m in half[-2:]})
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
        missing = isinstance(error, OSError) and not opened  # there is no such split
        report.not_compared = "" if missing else f"{twin}: {error}"
    return prompts


def counted(pairs: Numbered, report: Report, elsewhere: set[int]) -> Iterator[dict[str, Dialogue]]:
    """The pairs without their numbers; the report counts them, measures them, and lists those that deserve a look."""
    seen: set[int] = set()
    lengths = array("L"), array("L")
    for number, pair in pairs:
        prompt, better, worse = map(key, pair.values())
        if prompt in elsewhere:
            report.look("leaked", number, pair)
        if (this := hash((prompt, better, worse))) in seen:
            report.look("duplicates", number, pair)
        if hash((prompt, worse, better)) in seen:
            report.look("contradictions", number, pair)
        seen.add(this)
        lengths[0].append(len(pair["chosen"][0]["content"]))
        lengths[1].append(len(pair["rejected"][0]["content"]))
        yield pair
    chosen, rejected = map(np.array, lengths)
    report.kept, report.equal = len(chosen), int((chosen == rejected).sum())
    report.longer, report.shorter = int((chosen > rejected).sum()), int((chosen < rejected).sum())
    if report.kept:
        report.chosen_length, report.rejected_length = float(np.median(chosen)), float(np.median(rejected))


def check_arguments(**arguments: Any) -> None:
    """TypeError or ValueError if an argument of `load_preferences` cannot be meant."""
    kinds: dict[str, Any] = dict(split=str, layout=str, columns=dict, limit=Integral, max_length=Integral)
    for name, value in arguments.items():
        kind = kinds.get(name, PreTrainedTokenizerBase)
        if value is None and kind is not str:
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            words = _("{name}=: got a {kind}; expected {expected}; see help(cu.load_preferences)")
            expected = kind.__name__.replace("Integral", "int")
            raise TypeError(words.format(name=name, kind=type(value).__name__, expected=expected))
        if kind is Integral and int(value) < 1:
            raise ValueError(_("{name}={value}: expected at least 1, or None").format(name=name, value=value))


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

    source: a .json, .jsonl, .csv, .tsv or .parquet file (also .gz) or its address in the web, a folder with one such
        file a split, a hub id, a `datasets.Dataset`, a pandas DataFrame, or a list of dicts.
    split: which split of a folder or hub dataset.
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
    check_arguments(
        split=split, layout=layout, columns=columns, limit=limit, tokenizer=tokenizer, max_length=max_length
    )
    if layout not in ("auto", *LAYOUTS):
        words = _("layout {layout!r} is not known; choose one of auto, {known}")
        raise ValueError(words.format(layout=layout, known=", ".join(LAYOUTS)))
    if split != "train" and not has_splits(source):
        words = _("split “{split}”: got a single table, which has no splits; leave split= out, or take a folder")
        raise ValueError(words.format(split=split))
    if max_length and tokenizer is None:
        raise ValueError(_("max_length= counts tokens; give tokenizer= too"))
    if tokenizer is not None and tokenizer.chat_template is None:
        raise ValueError(_("the tokenizer has no chat template; take that of an instruct model, or set one"))
    columns = {column_name(ours): column_name(str(theirs)) for ours, theirs in (columns or {}).items()}
    if len({*columns.values()}) < len(columns):
        raise ValueError(_("columns= takes one column for two of the layout's; take another for one of them"))
    max_length = None if tokenizer is None else max_length or tokenizer.model_max_length
    report, pairs = open_pairs(*open_source(source, split), layout, columns, limit, tokenizer, max_length)
    rows, path = counted(pairs, report, other_prompts(report, source, split, other, layout, columns)), None
    try:
        path = Path(tempfile.mkdtemp(dir=scratch().name)) / "pairs.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
            while batch := list(islice(rows, BATCH)):
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
    except OSError as error:  # what is read has errors of its own
        if path:
            path.unlink(missing_ok=True)
        words = _("the pairs cannot be written ({error}); make room for temporary files, or set TMPDIR to a folder "
                  "that has it and restart the kernel")  # fmt: skip
        raise OSError(words.format(error=error)) from None
    if not report.kept:
        raise ValueError(_("{name}: no row is left").format(name=report.source) + f"\n{report}")
    return Dataset.from_file(str(path)), report
