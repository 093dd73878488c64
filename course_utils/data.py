"""Bring preference data into the one layout that every TRL trainer takes, and account for every row."""

import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset
from jinja2 import TemplateError
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from .batch import leaves_room, same_start
from .i18n import _
from .layouts import LAYOUTS, Dialogue, Fault, column_kinds, describe, recognise
from .report import Report
from .sources import BATCH, check_map, counterpart, has_splits, nfc, open_source, rename, tidy_rows

FIRST_ROWS = 100  # by which a layout is recognised
ROLES = {"system", "user", "assistant"}
SCORES = [
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_avg_rating", "rejected_avg_rating"),
]
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMA = pa.schema([(column, MESSAGES) for column in ("prompt", "chosen", "rejected")])

#: Row numbers (two for a pair joined from two rows), the chosen and the rejected dialogue, and why not, if not.
Pair = tuple[list[int], Dialogue | None, Dialogue | None, str | None]


def tidy(dialogue: Dialogue) -> Dialogue:
    """Role and content alone, the text in Unicode NFC."""
    return [{"role": m["role"], "content": nfc(m["content"])} for m in dialogue]


def dialogue_fault(dialogue: Dialogue) -> str | None:
    """Why a dialogue is no prompt with an answer, or None."""
    roles = [m["role"] for m in dialogue]
    roles = roles[1:] if roles[:1] == ["system"] else roles
    if roles != ["user", "assistant"] * (len(roles) // 2) or not roles:
        return "roles"
    if not dialogue[-2]["content"].strip():
        return "empty_prompt"
    return None if dialogue[-1]["content"].strip() else "empty_answer"


def pair_fault(chosen: Dialogue, rejected: Dialogue) -> str | None:
    """Why two dialogues are no preference pair, or None."""
    if fault := dialogue_fault(chosen) or dialogue_fault(rejected):
        return fault
    if chosen[:-1] != rejected[:-1]:
        return "histories_differ"
    return "same_answers" if chosen[-1] == rejected[-1] else None


def score_fault(row: dict) -> str | None:
    """Why the scores of a row forbid its preference, or None."""
    for chosen, rejected in SCORES:
        if row.get(chosen) is not None and row.get(rejected) is not None:
            gap = float(row[chosen]) - float(row[rejected])
            return "tie" if gap == 0 else "scores_disagree" if gap < 0 else None
    return None


def to_dialogues(row: dict, layout: str) -> tuple[Dialogue | None, Dialogue | None]:
    """The two dialogues of a row, tidy; Fault if it has none."""
    if None in row:
        raise Fault("cells")
    if any(row.get(column) is None for column in LAYOUTS[layout].needs):
        raise Fault("missing")
    try:
        if fault := score_fault(row):
            raise Fault(fault)
        chosen, rejected = LAYOUTS[layout].to_dialogues(row)
        return chosen and tidy(chosen), rejected and tidy(rejected)
    except Fault:
        raise
    except (TypeError, ValueError, LookupError, AttributeError):
        raise Fault("malformed") from None


def pairs_of(rows: Iterable[dict], layout: str) -> Iterator[Pair]:
    """A pair, or why there is none, for each row; halves wait for a partner with the same prompt."""
    waiting = defaultdict(list)
    for number, row in enumerate(rows):
        try:
            chosen, rejected = to_dialogues(row, layout)
        except Fault as fault:
            yield [number], None, None, str(fault)
            continue
        if chosen and rejected:
            yield [number], chosen, rejected, pair_fault(chosen, rejected)
            continue
        half, wanted = chosen or rejected, bool(rejected)
        if fault := dialogue_fault(half):
            yield [number], None, None, fault
        elif partners := waiting[key(half[:-1]), wanted]:
            other, partner = partners.pop(0)
            chosen, rejected = (half, partner) if chosen else (partner, half)
            yield [other, number], chosen, rejected, pair_fault(chosen, rejected)
        else:
            waiting[key(half[:-1]), not wanted].append((number, half))
    for halves in waiting.values():
        for number, _half in halves:
            yield [number], None, None, "unpaired"


def key(dialogue: Dialogue) -> int:
    """A number to know a dialogue by."""
    return hash(tuple([message["content"] for message in dialogue]))


def open_pairs(source, split: str, limit: int | None, layout: str, columns: dict) -> tuple[Report, Iterator[Pair]]:
    """A fresh report that names source and layout, and the pairs of the rows."""
    name, rows = open_source(source, split)
    rows = tidy_rows(islice(rows, limit), name)
    head = list(islice(rows, FIRST_ROWS))
    if not head:
        raise ValueError(_("{name}: got no rows; expected one preference pair a row; check the file").format(name=name))
    known = {column for one in LAYOUTS.values() for column in (*one.needs, *one.may)}
    check_map(columns, list({c: None for row in head for c in row if c is not None}), known, name)
    kinds = column_kinds(list(rename(head, columns)))
    if layout == "auto":
        try:
            layout = recognise(kinds)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if lacking := [column for column in LAYOUTS[layout].needs if column not in kinds]:
        raise ValueError(
            _("{name}: layout {layout} lacks {lacking}; the file has {seen}; map your own names with columns=").format(
                name=name, layout=describe(layout), lacking=", ".join(lacking), seen=", ".join(kinds)
            )
        )
    read = {*LAYOUTS[layout].needs, *LAYOUTS[layout].may, *chain(*SCORES)}
    report = Report(name, layout, unused=[column for column in kinds if column not in read])
    return report, pairs_of(rename(chain(head, rows), columns), layout)


def token_fault(prompts: list[Dialogue], chosen: list[Dialogue], rejected: list[Dialogue], tokenizer, max_length: int):
    """For each pair: why its prompt does not fit, or None, and whether an answer would be cut."""

    def tokens(dialogues, **options):
        return tokenizer.apply_chat_template(dialogues, return_dict=False, **options)

    try:
        rows = list(zip(tokens(prompts, add_generation_prompt=True), tokens(chosen), tokens(rejected)))
    except (TemplateError, ValueError):
        if len(prompts) == 1:
            return [("template", False)]
        return [token_fault([p], [c], [r], tokenizer, max_length)[0] for p, c, r in zip(prompts, chosen, rejected)]
    faults = [None if leaves_room(same_start(*row), max_length) else "prompt_too_long" for row in rows]
    return [(fault, max(map(len, row[1:])) > max_length) for fault, row in zip(faults, rows)]


def keep(batch: list[Pair], report: Report, tokenizer) -> list[Pair]:
    """The pairs of a batch that are kept; the report counts all."""
    sound = [pair for pair in batch if pair[3] is None]
    if tokenizer is not None and sound:
        whole = [c for _rows, c, _r, _fault in sound], [r for _rows, _c, r, _fault in sound]
        found = token_fault([c[:-1] for c in whole[0]], *whole, tokenizer, report.max_length)
        faults = {pair[0][-1]: fault for pair, (fault, _cut) in zip(sound, found)}
        report.cut += [pair[0][-1] for pair, (fault, cut) in zip(sound, found) if cut and not fault]
        batch = [(rows, c, r, fault or faults.get(rows[-1])) for rows, c, r, fault in batch]
    kept = []
    for rows, chosen, rejected, fault in batch:
        report.read += len(rows)
        if fault:
            report.dropped.setdefault(fault, []).extend(rows)
        else:
            report.kept += 1
            report.joined += len(rows) - 1
            kept.append((rows, chosen, rejected, None))
    return kept


def other_prompts(source, split: str, other, report: Report, layout: str, columns: dict) -> set[int]:
    """The prompts of `other`, or of the split that belongs to this one."""
    if other is not None:
        theirs, pairs = open_pairs(other, split, None, "auto", {})
        report.other = theirs.source if isinstance(other, (str, Path)) else "other"
        return prompts_of(pairs)
    if (other_split := counterpart(source, split)) is None:
        return set()
    try:
        found = prompts_of(open_pairs(source, other_split, None, layout, columns)[1])
    except (ValueError, OSError) as error:  # nobody asked for it, so it only costs the comparison
        report.not_compared = f"{other_split}: {error}"
        return set()
    report.other = other_split
    return found


def prompts_of(pairs: Iterable[Pair]) -> set[int]:
    return {key(chosen[:-1]) for _rows, chosen, _rejected, fault in pairs if not fault}


@cache
def scratch() -> tempfile.TemporaryDirectory:
    """The folder that the datasets of this process are mapped from; it goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="course_utils_", ignore_cleanup_errors=True)


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
    layout: a name from `course_utils.layouts.LAYOUTS`, or "auto" to go by the columns and the first rows.
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
        raise ValueError(
            _("layout {layout!r} is not known; choose one of auto, {known}").format(
                layout=layout, known=", ".join(LAYOUTS)
            )
        )
    if limit is not None and limit < 1:
        raise ValueError(_("limit={limit}: expected at least 1 row, or None for all").format(limit=limit))
    if split != "train" and not has_splits(source):
        raise ValueError(
            _("split “{split}”: got a single table, which has no splits; leave split= out, or take a folder").format(
                split=split
            )
        )
    columns = {ours: nfc(theirs) for ours, theirs in (columns or {}).items()}
    report, pairs = open_pairs(source, split, limit, layout, columns)
    elsewhere = other_prompts(source, split, other, report, layout, columns)
    if tokenizer is not None:
        if tokenizer.chat_template is None:
            raise ValueError(_("the tokenizer has no chat template; take that of an instruct model, or set one"))
        report.max_length = max_length or tokenizer.model_max_length
    seen: set[int] = set()
    chosen_lengths, rejected_lengths = array("L"), array("L")
    path = Path(tempfile.mkdtemp(dir=scratch().name)) / "pairs.arrow"
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, SCHEMA) as writer,
        tqdm(desc=report.source, unit=" rows", delay=3, mininterval=1, ncols=88) as bar,
    ):
        while batch := list(islice(pairs, BATCH)):
            out = []
            for rows, chosen, rejected, _fault in keep(batch, report, tokenizer):
                prompt = key(chosen[:-1])
                if prompt in elsewhere:
                    report.leaked.append(rows[-1])
                better, worse = key(chosen[-1:]), key(rejected[-1:])
                if hash((prompt, better, worse)) in seen:
                    report.duplicates.append(rows[-1])
                if hash((prompt, worse, better)) in seen:
                    report.contradictions.append(rows[-1])
                seen.add(hash((prompt, better, worse)))
                chosen_lengths.append(len(chosen[-1]["content"]))
                rejected_lengths.append(len(rejected[-1]["content"]))
                out.append({"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]})
            writer.write_batch(pa.RecordBatch.from_pylist(out, schema=SCHEMA))
            bar.update(len(batch))
    report.dropped = {fault: sorted(rows) for fault, rows in report.dropped.items()}
    if not report.kept:
        raise ValueError(_("{name}: no row is left").format(name=report.source) + f"\n{report}")
    chosen, rejected = np.array(chosen_lengths), np.array(rejected_lengths)
    report.chosen_length, report.rejected_length = float(np.median(chosen)), float(np.median(rejected))
    report.longer, report.shorter = int((chosen > rejected).sum()), int((chosen < rejected).sum())
    report.equal = report.kept - report.longer - report.shorter
    return Dataset.from_file(str(path)), report
