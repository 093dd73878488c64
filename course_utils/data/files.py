"""For the learner who asks how a file is read: text in whatever encoding, JSON, tables, parquet, packed or not."""

import codecs
import csv
import gzip
import io
import json
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice, product
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..i18n import N_, _
from .layouts import listed, nfc

BATCH = 100  # rows held at a time; more is slower, because they no longer fit the processor's cache


class Broken(ValueError):
    """What is wrong with a row, as a sentence to the learner; `named_rows` adds where it stands."""


#: What is broken in a source, and what to do; the first that fits counts, and a .parquet file has but one.
ADVICE: list[tuple[Any, str]] = [
    (Broken, "{error}"),
    (pa.ArrowException, N_("got a broken .parquet file ({error}); download or write it again")),
    (UnicodeDecodeError, N_("got bytes that are not UTF-8 ({error}); save the file as UTF-8 (in Excel: “CSV UTF-8”), "
                            "or give the table that pandas reads with encoding=, such as cp1258 or latin-1")),
    (json.JSONDecodeError, N_("got text that is not JSON ({error}); fix or delete it")),
    (csv.Error, N_("got a table that cannot be read ({error}); look for a quotation mark that is never closed")),
    ((EOFError, gzip.BadGzipFile, zlib.error), N_("got a broken .gz file ({error}); download or pack it again")),
    (RecursionError, N_("got objects that lie too deep in each other; fix or delete this row")),
    (Exception, N_("this cannot be read ({error}); check that it is what its name says, or make it anew")),
]  # fmt: skip
VIETNAMESE = {"đ", *(nfc(a + b) for a, b in product("aăâeêioôơuưy", ["", *"\u0300\u0301\u0303\u0309\u0323"]))}


@lru_cache(maxsize=10_000, typed=True)  # 1, 1.0 and True are one key
def column_name(column) -> str:
    """A column's name as a text in NFC that can be shown: half an emoji becomes its code."""
    return nfc(str(column)).encode("utf-8", "backslashreplace").decode()


def check_names(names: Iterable) -> None:
    """Broken if two columns have one name."""
    if twice := sorted(name for name, times in Counter(map(column_name, names)).items() if times > 1):
        raise Broken(_("got columns named twice: {columns}; rename one of each").format(columns=listed(twice)))


def as_object(items: list[tuple]) -> dict:
    """A JSON object; Broken if it has one name twice."""
    if len(found := dict(items)) < len(items):
        check_names(name for name, _value in items)
    return found


def encoding_of(head: bytes) -> str:
    """How a text that begins with these bytes is written, where they tell: UTF-8 else, which fails if it is not."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-32" if head.startswith(codecs.BOM_UTF32_LE) else "utf-16"
    if 0 in head[:2]:
        return "utf-16-le" if head[0] else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:  # the older Vietnamese of Windows, if all letters are Vietnamese and five of them tell
        text = nfc(head.decode("cp1258", "replace")).lower()
        odd = {c for c in text if c > "\x7f" and (unicodedata.category(c)[0] in "LMC" or c == "\ufffd")}
        if odd <= VIETNAMESE and sum(c > "\xff" for c in odd) >= 5:
            return "cp1258"
    return "utf-8"


def text_lines(file: IO[bytes]) -> Iterator[str]:
    """The lines of a file, decoded one by one so that an error belongs to its row."""
    encoding = encoding_of(file.read(2**16))
    file.seek(0)
    lines: Iterator[str] = (line.decode(encoding).removeprefix("\ufeff") for line in file)
    if encoding.startswith(("utf-16", "utf-32")):
        lines = io.TextIOWrapper(file, encoding, newline="\n")  # type: ignore[arg-type]
    first = next(lines, "")
    lines = chain([first], lines)
    if "\r" in first.rstrip("\r\n"):  # the line ends of an old Mac; else a lone CR is within a cell
        lines = (part for line in lines for part in io.StringIO(line, newline=""))
    return lines


#: The parser of JSON. As floats, whole numbers may have any number of digits.
parse = json.JSONDecoder(object_pairs_hook=as_object, parse_int=float).decode
TABLE = re.compile(r'(?m)\s*(\[|\{\s*("data"\s*:\s*\[|$))')  # how a file begins that is not one object a line


def read_json(file: IO[bytes]) -> Iterator[dict]:
    """One JSON object a line; or a list of objects, also under "data", which is read whole."""
    lines: Iterator[str] = (line for line in text_lines(file) if line and not line.isspace())
    head = [*islice(lines, 2)]
    first, lines = "".join(head[:1]), chain(head, lines)
    if len(head) > 1 and not TABLE.match(first):
        return map(parse, lines)
    found = parse("".join(lines)) if head else []
    rows = found.get("data", [found]) if isinstance(found, dict) else found
    if not isinstance(rows, list):
        words = _("got one JSON {kind}; expected a list of objects, one a row; put the rows into [ ]")
        raise Broken(words.format(kind="object" if isinstance(found, dict) else type(found).__name__))
    return iter(rows)


def read_csv(file: IO[bytes]) -> Iterator[dict]:
    """A table below a line that names its columns, between commas, semicolons, tabs or bars; any line ends.

    Lines above it that have less than two cells are its title; "sep=;" among them is Excel's.
    """
    csv.field_size_limit(2**31 - 1)
    lines = text_lines(file)
    head, delimiters, start = [*islice(lines, 20)], ",;\t|", 0
    for number, line in enumerate(head):
        if told := re.match(r'"?sep=(.)"?\s*$', line):
            delimiters = told[1]
        elif len([*filter(str.strip, next(csv.reader([line], delimiter=max(delimiters, key=line.count)), []))]) > 1:
            start = number
            break
    delimiter = max(delimiters, key=head[start].count)
    rows = csv.reader(chain(head[start:], lines), delimiter=delimiter, strict=True)
    names = [name or f"#{number}" for number, name in enumerate(next(rows, []), 1)]
    check_names(names)
    for cells in rows:
        lines_of = "\t".join(cells).split("\n") if delimiter == "\t" else []
        if len(lines_of) > 1 and {line.count("\t") for line in lines_of} == {len(names) - 1}:
            raise Broken(_("got a cell that swallows whole rows; double the quotation mark that it begins with"))
        row: dict = dict(zip(names, cells))
        if more := cells[len(names) :] or (cells == names and "header"):
            row[None] = more
        if cells:
            yield row


def read_parquet(file) -> Iterator[dict]:
    """A parquet file, batch by batch."""
    file = io.BytesIO(file.read()) if isinstance(file, gzip.GzipFile) else file
    table = pq.ParquetFile(file, page_checksum_verification=True)
    check_names(table.schema_arrow.names)
    return (row for batch in table.iter_batches(BATCH) for row in batch.to_pylist())


READERS: dict[str, Callable[[Any], Iterator[dict]]] = {".json": read_json, ".jsonl": read_json, ".csv": read_csv}
READERS |= {".tsv": read_csv, ".parquet": read_parquet}
SPREADSHEET = N_("got a spreadsheet or a packed file; save it as “CSV UTF-8” (File → Save As), or unpack it")


def file_type(path: Path) -> str:
    """The suffix of a file, without .gz."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def file_rows(path: Path, content: bytes | None = None) -> Iterator[dict]:
    """The rows of a file, or of its content."""

    def unopened() -> IO[bytes]:
        return path.open("rb") if content is None else io.BytesIO(content)

    with unopened() as file:
        head = file.read(4)
    if head == b"PK\3\4":
        raise Broken(_(SPREADSHEET))
    packed = path.suffix.lower() == ".gz" or head.startswith(b"\x1f\x8b")
    with unopened() as file, gzip.open(file) if packed else file as opened:
        reader = READERS[".parquet" if head == b"PAR1" else file_type(path)]
        yield from reader(opened)
