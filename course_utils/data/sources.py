"""For the learner who asks where rows come from: files, folders, the hub, tables in memory, read as they are needed."""

import csv
import gzip
import io
import itertools
import json
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, IterableDataset, load_dataset

from ..i18n import N_, _
from ..machine.hub import HUB_ERRORS, explain_hub_error, hub_name

BATCH = 100  # rows held at a time; more is slower, because they no longer fit the processor's cache
#: What is broken in a file, and what to do.
ADVICE: list[tuple[Any, str]] = [
    (UnicodeDecodeError, N_("got bytes that are not UTF-8 ({error}); save the file as UTF-8 (in Excel: “CSV UTF-8”)")),
    (json.JSONDecodeError, N_("got text that is not JSON ({error}); fix or delete it")),
    (csv.Error, N_("got a table that cannot be read ({error}); look for a quotation mark that is never closed")),
    ((EOFError, gzip.BadGzipFile, zlib.error), N_("got a broken .gz file ({error}); download or pack it again")),
    (pa.ArrowException, N_("got a broken .parquet file ({error}); download or write it again")),
    (ValueError, "{error}"),
]
nfc = partial(unicodedata.normalize, "NFC")  # in which letters that look the same are the same


def check_names(names: Iterable) -> None:
    """ValueError if two columns have one name."""
    names = [str(name) for name in names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(_("got columns named twice: {columns}; rename one of each").format(columns=", ".join(twice)))


def as_object(items: list[tuple]) -> dict:
    """A JSON object; ValueError if it has one name twice."""
    if len(found := dict(items)) < len(items):
        check_names(name for name, _value in items)
    return found


def text_lines(file: IO[bytes]) -> Iterator[str]:
    """The lines of a UTF-8 file, decoded one by one so that an error belongs to its row."""
    return (line.decode("utf-8" if number else "utf-8-sig") for number, line in enumerate(file))


def read_json_lines(file: IO[bytes]) -> Iterator[dict]:
    """One JSON object a line."""
    parse = json.JSONDecoder(object_pairs_hook=as_object).decode
    return (parse(line) for line in text_lines(file) if line.strip())


def read_json(file: IO[bytes]) -> Iterator[dict]:
    """A list of objects, also under "data", read whole; a file of JSON lines under this name is taken too."""
    text = file.read()
    try:
        found = json.loads(text, object_pairs_hook=as_object)
    except json.JSONDecodeError:
        if b"\n{" not in text:
            raise
        return read_json_lines(io.BytesIO(text))
    rows = found.get("data") if isinstance(found, dict) else found
    if not isinstance(rows, list):
        words = _("got one JSON {kind}; expected a list of objects, one a row; put the rows into [ ]")
        raise ValueError(words.format(kind="object" if isinstance(found, dict) else type(found).__name__))
    return iter(rows)


def read_csv(file: IO[bytes], delimiters: str = ",;\t") -> Iterator[dict]:
    """A table whose first line names its columns, between commas, semicolons or tabs; any line ends."""
    csv.field_size_limit(2**31 - 1)
    lines = (part for line in text_lines(file) for part in io.StringIO(line, newline=""))
    header = next(lines, "")
    rows = csv.DictReader(itertools.chain([header], lines), delimiter=max(delimiters, key=header.count), strict=True)
    check_names(rows.fieldnames or ())
    return rows


def read_parquet(file: IO[bytes]) -> Iterator[dict]:
    """A parquet file, batch by batch."""
    table = pq.ParquetFile(io.BytesIO(file.read()) if isinstance(file, gzip.GzipFile) else file)
    check_names(table.schema_arrow.names)
    return (row for batch in table.iter_batches(BATCH) for row in batch.to_pylist())


READERS: dict[str, Callable[[Any], Iterator[dict]]] = {".json": read_json, ".jsonl": read_json_lines, ".csv": read_csv}
READERS |= {".tsv": partial(read_csv, delimiters="\t"), ".parquet": read_parquet}


def file_type(path: Path) -> str:
    """The suffix of a file, without .gz."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def file_rows(path: Path) -> Iterator[dict]:
    """The rows of a file. Whatever is broken in it is one ValueError with the file and the row."""
    if (reader := READERS.get(file_type(path))) is None:
        words = _("{path}: got a file of type {suffix}; expected one of {known}; save it as one of these")
        raise ValueError(words.format(path=path.name, suffix=path.suffix or "—", known=", ".join(READERS)))
    number = -1
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, row in enumerate(reader(file)):  # noqa: B007
                yield row
    except Exception as error:
        if (advice := next((words for kinds, words in ADVICE if isinstance(error, kinds)), None)) is None:
            raise
        what = _(advice).format(error=error)
        raise ValueError(_("{path}, row {row}: {what}").format(path=path.name, row=number + 1, what=what)) from None


def find(name: str | Path, split: str) -> Path | Dataset:
    """The file or the hub dataset of this name, or of its split; OSError if there is none."""
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir() and str(name):
        files = (path / f"{split}{suffix}{gz}" for suffix in READERS for gz in ("", ".gz"))
        if found := next(filter(Path.is_file, files), None):
            return found
        words = _("{folder}: got a folder without {split}.jsonl (or {known}); check folder and split")
        raise FileNotFoundError(words.format(folder=name, split=split, known=", ".join(READERS)))
    if file_type(path) in READERS or isinstance(name, Path) or not name.strip():
        raise FileNotFoundError(_("{path}: there is no such file; check the path").format(path=name))
    repo, folder = hub_name(name)
    try:
        return load_dataset(repo, data_dir=folder, split=split, trust_remote_code=False)
    except HUB_ERRORS as error:  # type: ignore[misc]
        words = _(
            "{name}: there is no such file here, and the hub did not give split “{split}” ({error}); "
            "check the name, the split and the connection, or take a local file"
        )
        raise OSError(words.format(name=name, split=split, error=explain_hub_error(error))) from error


def has_splits(source) -> bool:
    """Whether a source can hold several splits, as a folder, a hub id or a DatasetDict does."""
    return isinstance(source, DatasetDict) or (isinstance(source, (str, Path)) and not Path(source).is_file())


def open_source(source, split: str) -> tuple[str, Iterator]:
    """A name to speak of, and the rows, none of them read yet; OSError, ValueError or TypeError if there is no such."""
    name = type(source).__name__
    if isinstance(source, (str, Path)):
        name, source = str(source), find(source, split)
    if isinstance(source, DatasetDict):
        if split not in source:
            words = _("{name}: there is no split “{split}”; choose one of {known}")
            raise ValueError(words.format(name=name, split=split, known=", ".join(source)))
        source = source[split]
    if isinstance(source, Path):
        return source.name, file_rows(source)
    if isinstance(source, Dataset):
        return name, (row for table in source.with_format("arrow").iter(BATCH) for row in table.to_pylist())
    if isinstance(source, pd.DataFrame):
        check_names(source.columns)
        parts = (source.iloc[start : start + BATCH] for start in range(0, len(source), BATCH))
        return name, (row for part in parts for row in json.loads(part.to_json(orient="records")))
    if isinstance(source, (list, tuple, Iterator, IterableDataset)):
        return name, iter(source)
    words = _(
        "got a {name}; expected a file, a folder, a hub id, a Dataset, a DataFrame or a list of dicts; "
        "a dict of columns becomes one by datasets.Dataset.from_dict"
    )
    raise TypeError(words.format(name=name))


def named_rows(rows: Iterable, name: str, columns: dict[str, str]) -> Iterator[dict]:
    """The rows, their columns named in NFC, or as `columns` maps them; ValueError for a row without names."""
    mapped = {*columns, *columns.values()}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            words = _("{name}, row {row}: got a {kind}; expected an object with named columns; fix or delete it")
            raise ValueError(words.format(name=name, row=number, kind=type(row).__name__))
        row = {column if column is None else nfc(str(column)): cell for column, cell in row.items()}
        ours = {column: row[theirs] for column, theirs in columns.items() if theirs in row}
        yield {column: cell for column, cell in row.items() if column not in mapped} | ours if columns else row
