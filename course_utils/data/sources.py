"""For the learner who asks where rows come from: files, folders, the hub, tables in memory, read as they are needed."""

import os
import re
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pandas as pd
import pyarrow as pa
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, load_dataset

from ..i18n import _
from ..machine.hub import HUB_ERRORS, explain_hub_error, hub_name
from .files import (
    ADVICE,
    BATCH,
    READERS,
    SPREADSHEET,
    Broken,
    check_names,
    column_name,
    file_rows,
    file_type,
)

#: What stands for an empty cell in pandas, in lower case, so that a text means the same by every way in.
NOTHING = {"nan", "-nan", "n/a", "na", "#n/a", "#na", "<na>", "null", "none"}


def frame_rows(table: pd.DataFrame) -> Iterator[dict]:
    """The rows of a DataFrame."""
    check_names(table.columns)
    table = table.set_axis([*map(column_name, table.columns)], axis=1)
    for start in range(0, len(table), BATCH):
        yield from table.iloc[start : start + BATCH].to_dict("records")


def is_address(source) -> bool:
    """Whether a file is named by its address in the web."""
    return isinstance(source, str) and source.startswith(("https://", "http://"))


def download(address: str) -> bytes:
    """The file at an address; OSError if it does not come."""
    try:
        with urlopen(address, timeout=30) as answer:
            return answer.read()
    except (*HUB_ERRORS, HTTPException) as error:
        words = _("{name}: this address gave no file ({error}); check it and the connection, or take a local file")
        raise OSError(words.format(name=address, error=explain_hub_error(error))) from error


def find(name: str | Path, split: str) -> Path | Dataset:
    """The file or the hub dataset of this name, or of its split; OSError or ValueError if there is none to read."""
    path, text = Path(name), str(name)
    if os.path.isfile(path):
        return path
    if os.path.isdir(path) and text:
        wanted = {f"{split}{suffix}{gz}".lower() for suffix in READERS for gz in ("", ".gz")}
        if len(files := sorted(file for file in os.listdir(path) if file.lower() in wanted)) == 1:
            return path / files[0]
        if files:
            words = _("{folder}: got {files} for one split; give the path of one of them")
            raise ValueError(words.format(folder=name, files=", ".join(files)))
        words = _("{folder}: got a folder without {split}.jsonl (or {known}); check folder and split")
        raise FileNotFoundError(words.format(folder=name, split=split, known=", ".join(READERS)))
    if len(text) > 500 or re.search(r"[\n\r{\[]", text):
        words = _("got a text of {count} characters; expected a path: save the text as a file, or give a list of dicts")
        raise FileNotFoundError(words.format(count=len(text)))
    if file_type(path) in READERS or isinstance(name, Path) or not text.strip():
        raise FileNotFoundError(_("{path}: there is no such file; check the path").format(path=column_name(name)))
    repo, folder = hub_name(text)
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
    return isinstance(source, (DatasetDict, IterableDatasetDict)) or (
        isinstance(source, (str, Path)) and not os.path.isfile(source) and not is_address(source)
    )


def open_source(source, split: str) -> tuple[str, Iterator]:
    """A name to speak of, and the rows, none of them read yet; OSError, ValueError or TypeError if there is no such."""
    name, content = type(source).__name__, None
    if is_address(source):
        content, source = download(source), Path(urlsplit(source).path)
    elif isinstance(source, (str, Path)):
        name, source = column_name(source), find(source, split)
    if isinstance(source, (DatasetDict, IterableDatasetDict)):
        if split not in source:
            words = _("{name}: there is no split “{split}”; choose one of {known}")
            raise ValueError(words.format(name=name, split=split, known=", ".join(map(str, source))))
        source = source[split]
    if isinstance(source, Path):
        if (suffix := file_type(source)) not in READERS:
            words = _("got a file of type {suffix}; expected one of {known}; save it as one of these")
            words = _(SPREADSHEET) if suffix in (".xlsx", ".xls", ".ods", ".zip") else words
            raise ValueError(f"{source.name}: " + words.format(suffix=suffix or "—", known=", ".join(READERS)))
        return column_name(source.name), file_rows(source, content)
    if isinstance(source, Dataset):
        return name, (row for table in source.with_format("arrow").iter(BATCH) for row in table.to_pylist())
    if isinstance(source, pd.DataFrame):
        return name, frame_rows(source)
    if isinstance(source, (list, tuple, Iterator, IterableDataset)):
        return name, iter(source)
    words = _(
        "got a {name}; expected a file, a folder, a hub id, a Dataset, a DataFrame or a list of dicts; "
        "a dict of columns becomes one by datasets.Dataset.from_dict"
    )
    raise TypeError(words.format(name=name))


def plain(cell):
    """A cell without its library's wrapping; None for what stands for nothing."""
    if isinstance(cell, str):
        return None if len(cell) < 9 and cell.strip().lower() in NOTHING else cell
    if cell is None or isinstance(cell, (dict, list)):
        return cell
    if isinstance(cell, tuple) or hasattr(cell, "tolist"):  # numpy's, torch's
        cell = list(cell) if isinstance(cell, tuple) else cell.tolist()
    if isinstance(cell, list):
        return [*map(plain, cell)]
    return None if pd.isna(cell) is True else cell


def named_rows(rows: Iterable, name: str, columns: dict[str, str]) -> Iterator[dict]:
    """The rows, their columns named in NFC, or as `columns` maps them; ValueError with its row for what is broken."""
    number = 0
    own = {ours: _("{column} (of the file)").format(column=ours) for ours in columns if ours not in columns.values()}
    try:
        for row in rows:
            if not isinstance(row, dict):
                words = _("got a {kind}; expected an object with named columns; fix or delete it")
                raise Broken(words.format(kind=type(row).__name__))
            named: dict = {
                column if column is None else column_name(column): plain(cell) for column, cell in row.items()
            }
            if len(named) < len(row):
                check_names(row)
            if columns:
                ours = {column: named[theirs] for column, theirs in columns.items() if theirs in named}
                rest = {own.get(column, column): named[column] for column in named if column not in columns.values()}
                named = rest | ours
            yield named
            number += 1
    except Exception as error:
        broken = pa.ArrowException if file_type(Path(name)) == ".parquet" else type(error)
        advice = next(words for kinds, words in ADVICE if isinstance(error, kinds) or kinds is broken)
        what = _(advice).format(error=str(error).partition("\n")[0][:2000] or type(error).__name__)
        raise ValueError(_("{path}, row {row}: {what}").format(path=name, row=number, what=what)) from error
