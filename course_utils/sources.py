"""Rows from wherever they are: files, folders, the hub, tables in memory. Nothing is read before it is needed."""

import csv
import difflib
import gzip
import io
import itertools
import json
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, IterableDataset, load_dataset

from .hub import HUB_ERRORS, hub_name, trouble
from .i18n import _

BATCH = 100  # rows held at a time; more is slower, for they no longer fit the processor's cache


def text_lines(file: BinaryIO) -> Iterator[str]:
    """The lines of a UTF-8 file, decoded one by one so that an error belongs to its row."""
    for number, line in enumerate(file):
        yield line.removeprefix(b"\xef\xbb\xbf" if number == 0 else b"").decode("utf-8")


def read_json_lines(file: BinaryIO) -> Iterator[dict]:
    return (json.loads(line) for line in text_lines(file) if line.strip())


def read_json(file: BinaryIO) -> Iterator[dict]:
    """A list of objects, read whole; a file of JSON lines under this name is taken too."""
    text = file.read().removeprefix(b"\xef\xbb\xbf")
    try:
        rows = json.loads(text)
    except json.JSONDecodeError:
        if b"\n{" not in text:
            raise
        return read_json_lines(io.BytesIO(text))
    if not isinstance(rows, list):
        raise ValueError(
            _("got one JSON {kind}; expected a list of objects, one a row; put the rows into [ ]").format(
                kind="object" if isinstance(rows, dict) else type(rows).__name__
            )
        )
    return iter(rows)


def read_csv(file: BinaryIO, delimiters: str = ",;\t") -> Iterator[dict]:
    """A table whose first line names its columns; commas, semicolons or tabs part them."""
    csv.field_size_limit(2**31 - 1)
    lines = text_lines(file)
    header = next(lines, "")
    delimiter = max(delimiters, key=header.count)
    return csv.DictReader(itertools.chain([header], lines), delimiter=delimiter, strict=True)


def read_tsv(file: BinaryIO) -> Iterator[dict]:
    return read_csv(file, "\t")


def read_parquet(file: BinaryIO) -> Iterator[dict]:
    if isinstance(file, gzip.GzipFile):
        file = io.BytesIO(file.read())
    for batch in pq.ParquetFile(file).iter_batches(BATCH):
        yield from batch.to_pylist()


READERS = {".json": read_json, ".jsonl": read_json_lines, ".csv": read_csv, ".tsv": read_tsv, ".parquet": read_parquet}


def file_type(path: Path) -> str:
    """The suffix of a file, without .gz."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def file_rows(path: Path) -> Iterator[dict]:
    """The rows of a file. Whatever is broken in it is one ValueError with the file and the row."""
    reader = READERS.get(file_type(path))
    if reader is None:
        raise ValueError(
            _("{path}: got a file of type {suffix}; expected one of {known}; save it as one of these").format(
                path=path.name, suffix=path.suffix or "—", known=", ".join(READERS)
            )
        )
    number = -1
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            for number, row in enumerate(reader(file)):  # noqa: B007
                yield row
    except (ValueError, csv.Error, EOFError, gzip.BadGzipFile, zlib.error, pa.ArrowException) as error:
        raise ValueError(
            _("{path}, row {row}: {what}").format(path=path.name, row=number + 1, what=explain(error))
        ) from None


def explain(error: Exception) -> str:
    """What is broken in a file, and what to do."""
    advice = [
        (
            UnicodeDecodeError,
            _("got bytes that are not UTF-8 ({error}); save the file as UTF-8 (in Excel: “CSV UTF-8”)"),
        ),
        (json.JSONDecodeError, _("got text that is not JSON ({error}); mend or delete it")),
        (csv.Error, _("got a table that cannot be read ({error}); look for a quotation mark that is never closed")),
        ((EOFError, OSError, zlib.error), _("got a broken .gz file ({error}); download or pack it again")),
        (pa.ArrowException, _("got a broken .parquet file ({error}); download or write it again")),
    ]
    return next((words for kinds, words in advice if isinstance(error, kinds)), "{error}").format(error=error)


def clean(value):
    """A table's cell as plain Python; what pandas counts as missing is None."""
    if isinstance(value, np.ndarray):
        return [clean(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value


def table_rows(table: pd.DataFrame) -> Iterator[dict]:
    if not table.columns.is_unique:
        twice = ", ".join(sorted({str(c) for c in table.columns[table.columns.duplicated()]}))
        raise ValueError(_("got columns named twice: {columns}; rename one of each").format(columns=twice))
    for values in table.itertuples(index=False, name=None):
        yield {str(column): clean(value) for column, value in zip(table.columns, values)}


def dataset_rows(dataset: Dataset) -> Iterator[dict]:
    for table in dataset.with_format("arrow").iter(BATCH):
        yield from table.to_pylist()


def folder_file(folder: Path, split: str) -> Path | None:
    """The file that holds a split of a folder."""
    names = [f"{split}{suffix}{gz}" for suffix in READERS for gz in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def hub_dataset(name: str, split: str) -> Dataset:
    repo, folder = hub_name(name)
    try:
        return load_dataset(repo, data_dir=folder, split=split)
    except HUB_ERRORS as error:
        raise OSError(
            _(
                "{name}: there is no such file here, and the hub did not give split “{split}” ({error}); "
                "check the name, the split and the connection, or take a local file"
            ).format(name=name, split=split, error=trouble(error))
        ) from error


def open_source(source, split: str) -> tuple[str, Iterable[dict]]:
    """A name to speak of, and the rows of a file, a folder, a hub id or a table in memory."""
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.is_dir() and str(source):
            if (file := folder_file(path, split)) is None:
                raise FileNotFoundError(
                    _("{folder}: got a folder without {split}.jsonl (or {known}); check folder and split").format(
                        folder=source, split=split, known=", ".join(READERS)
                    )
                )
            path = file
        if path.is_file():
            return path.name, file_rows(path)
        if file_type(path) in READERS or isinstance(source, Path) or not str(source).strip():
            raise FileNotFoundError(_("{path}: there is no such file; check the path").format(path=source))
        return str(source), dataset_rows(hub_dataset(str(source), split))
    name = type(source).__name__
    if isinstance(source, DatasetDict):
        if split not in source:
            raise ValueError(
                _("{name}: there is no split “{split}”; choose one of {known}").format(
                    name=name, split=split, known=", ".join(source)
                )
            )
        source = source[split]
    if isinstance(source, Dataset):
        return name, dataset_rows(source)
    if isinstance(source, pd.DataFrame):
        return name, table_rows(source)
    if isinstance(source, (list, tuple, Iterator, IterableDataset)):
        return name, iter(source)
    raise TypeError(
        _(
            "got a {name}; expected a file, a folder, a hub id, a Dataset, a DataFrame or a list of dicts; "
            "a dict of columns becomes one by datasets.Dataset.from_dict"
        ).format(name=name)
    )


def has_splits(source) -> bool:
    """Whether a source can hold several splits, as a folder, a hub id or a DatasetDict does."""
    return isinstance(source, DatasetDict) or (isinstance(source, (str, Path)) and not Path(source).is_file())


def counterpart(source, split: str) -> str | None:
    """The split that a model trained on this one is tested with, or the other way round, if there is one."""
    base = split.partition("[")[0]
    other = base.replace("train", "test") if "train" in base else base.replace("test", "train")
    if other == base or not has_splits(source):
        return None
    if isinstance(source, DatasetDict):
        return other if other in source else None
    if Path(source).is_dir():
        return other if folder_file(Path(source), other) else None
    try:
        hub_dataset(str(source), other)
    except OSError:
        return None
    return other


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def tidy_rows(rows: Iterable[dict], name: str) -> Iterator[dict]:
    """The rows with their column names as text in NFC; a row without names is an error."""
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(
                _("{name}, row {row}: got a {kind}; expected an object with named columns; mend or delete it").format(
                    name=name, row=number, kind=type(row).__name__
                )
            )
        yield {column if column is None else nfc(str(column)): value for column, value in row.items()}


def rename(rows: Iterable[dict], columns: dict[str, str]) -> Iterator[dict]:
    """The rows with the columns that `columns` maps under the layout's names."""
    if not columns:
        return (yield from rows)
    theirs = set(columns.values())
    for row in rows:
        rest = {column: value for column, value in row.items() if column not in theirs}
        yield rest | {ours: row.get(name) for ours, name in columns.items()}


def check_map(columns: dict[str, str], seen: list[str], known: set[str], name: str) -> None:
    """ValueError if `columns` maps to a name that no layout reads, or from one that the file lacks."""
    for ours, theirs in columns.items():
        choices, wrong = (known, ours) if ours not in known else (seen, theirs)
        if wrong not in choices:
            near = difflib.get_close_matches(wrong, choices, n=1, cutoff=0.5)
            raise ValueError(
                _("{name}: columns= names “{wrong}”, which is none of {choices}{hint}").format(
                    name=name,
                    wrong=wrong,
                    choices=", ".join(sorted(choices)),
                    hint=_("; did you mean “{near}”?").format(near=near[0]) if near else "",
                )
            )
