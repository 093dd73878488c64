"""Input that is not as it should be: read right, or counted with its reason, or one error that says what to do.

Rows are spoilt in every way they can come in, files in every format; hypothesis draws more. Nothing is silently wrong,
and no error comes from inside a library.
"""

import copy
import gzip
import io
import json
import os
import platform
import random
import re
import resource
import subprocess
import sys
import tempfile
import traceback
import unicodedata
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, IterableDatasetDict
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import course_utils as cu
from course_utils.data import pairs as pairs_module
from course_utils.data import sources
from course_utils.data.report import REASONS
from course_utils.i18n import set_language

A = {"prompt": "Nước sôi ở bao nhiêu độ?", "chosen": "Ở 100 °C.", "rejected": "Không, cảm ơn!"}
B = {"prompt": "1, 2; 3", "chosen": 'He said "yes", twice.', "rejected": "two\nlines"}
C = {"prompt": "Tại sao trời xanh?", "chosen": "Vì ánh sáng tán xạ.", "rejected": "Vì đó là màu\tcủa nó."}
HEAD = "prompt,chosen,rejected\n"
#: The package's own directory: an error raised from elsewhere would be one from inside a library.
HOME = str(Path(pairs_module.__file__).parent)


def u(text, **more):
    return {"role": "user", "content": text, **more}


def a(text, **more):
    return {"role": "assistant", "content": text, **more}


def plain(row):
    """The last texts of a pair."""
    return {side: row[side][-1]["content"] for side in ("prompt", "chosen", "rejected")}


def outcome(source, **options):
    """The pairs and the report's reasons; or the text of the one error. Whatever it is, it is in order."""
    try:
        data, report = cu.load_preferences(source, **options)
    except (ValueError, OSError, TypeError) as error:
        said, frames = str(error), traceback.extract_tb(error.__traceback__)
        assert frames[-1].filename.startswith(HOME), f"raised inside a library: {frames[-1]}: {error!r}"
        assert type(error) in (ValueError, FileNotFoundError, OSError, TypeError)
        assert ("\n" not in said or "no row is left" in said) and len(said) < 6000, said[:300]
        said.encode()
        return said
    gone = [row for rows in report.dropped.values() for row in rows]
    assert report.read == report.kept + report.joined + len(gone) and report.kept == len(data)
    assert len({*gone}) == len(gone) and all(0 <= row < report.read for row in gone)
    assert {*report.dropped} <= {*REASONS}
    for lang in ("vi", "en"):
        set_language(lang)
        (str(report) + report._repr_html_()).encode()
    for row in data:
        for side in ("prompt", "chosen", "rejected"):
            assert all(message["content"] == unicodedata.normalize("NFC", message["content"]) for message in row[side])
    return [plain(row) for row in data], dict(report.dropped), report


# ---------------------------------------------------------------- rows, by every way in


def as_json(rows, folder):
    (folder / "rows.json").write_text(json.dumps(rows))
    return folder / "rows.json"


def as_pretty_json(rows, folder):
    (folder / "rows.json").write_text(json.dumps({"data": rows}, indent=1, ensure_ascii=True))
    return folder / "rows.json"


def as_lines(rows, folder):
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


def as_packed_lines(rows, folder):
    (folder / "rows.jsonl").write_bytes(gzip.compress("\r".join(map(json.dumps, rows)).encode()))
    return folder / "rows.jsonl"


def as_parquet(rows, folder):
    pq.write_table(
        pa.Table.from_pylist(rows, schema=Dataset.from_list(rows).features.arrow_schema), folder / "rows.parquet"
    )
    return folder / "rows.parquet"


def as_csv(rows, folder, **style):
    pd.DataFrame(rows).to_csv(folder / "rows.csv", index=False, **style)
    return folder / "rows.csv"


WAYS = {
    "list": lambda rows, folder: rows,
    "iterator": lambda rows, folder: iter(rows),
    "frame": lambda rows, folder: pd.DataFrame(rows, dtype=object),
    "dataset": lambda rows, folder: Dataset.from_list(rows),
    "json": as_json,
    "pretty": as_pretty_json,
    "jsonl": as_lines,
    "gzip": as_packed_lines,
    "parquet": as_parquet,
    "csv": as_csv,
    "excel": lambda rows, folder: as_csv(rows, folder, sep=";", lineterminator="\r\n", encoding="utf-16"),
    "tsv": lambda rows, folder: as_csv(rows, folder, sep="\t").rename(folder / "rows.tsv"),
}
TREES = ("list", "iterator", "frame", "json", "pretty", "jsonl", "gzip")  # take cells of any kind
ALL = tuple(WAYS)
HALF = "\ud83d"

#: A spoilt row between A and B: (what is added to C, its reason or None if it is kept, the ways in that can hold it).
ROWS = {
    "nan": ({"chosen": float("nan")}, "missing", TREES),
    "none": ({"chosen": None}, "missing", tuple(way for way in ALL if way not in ("csv", "excel", "tsv"))),
    "text NaN": ({"chosen": "NaN"}, "missing", ALL),
    "text N/A": ({"rejected": " N/A "}, "missing", ALL),
    "text null": ({"prompt": "null"}, "missing", ALL),
    "blank": ({"chosen": " \n\t "}, "empty_answer", ALL),
    "blank prompt": ({"prompt": "\u3000"}, "empty_prompt", ALL),
    "invisible": ({"rejected": "\u200b\ufeff"}, "empty_answer", ALL),
    "same in NFD": ({"chosen": "Đế", "rejected": "Đe\u0302\u0301"}, "same_answers", ALL),
    "transcript": ({"chosen": "\n\nHuman: hi\n\nAssistant: ho"}, "malformed", ALL),
    "messages as text": ({"chosen": '[{"role": "user", "content": "hi"}]'}, "malformed", ALL),
    "half an emoji": ({"chosen": "oh " + HALF}, "surrogate", TREES),
    "half an emoji asked": ({"prompt": HALF + " oh"}, "surrogate", TREES),
    "number": ({"chosen": 7}, "malformed", TREES),
    "infinity": ({"chosen": float("inf")}, "malformed", TREES),
    "truth": ({"rejected": True}, "malformed", TREES),
    "list": ({"chosen": ["one", "two"]}, "malformed", TREES),
    "object": ({"prompt": {"text": "q"}}, "malformed", TREES),
    "no messages": ({"prompt": []}, "roles", TREES),
    "score 400 digits": ({"score_chosen": 10**400, "score_rejected": 1}, None, ("json", "jsonl", "pretty", "gzip")),
    "score 400 digits here": ({"score_chosen": 10**400, "score_rejected": 1}, "malformed", ("list", "iterator")),
    "score 5000 digits": ({"score_chosen": 1, "score_rejected": 10**4299}, "scores_disagree", ("json", "jsonl")),
    "scores tie": ({"score_chosen": 5, "score_rejected": 5}, "tie", ALL),
    "scores disagree": ({"score_chosen": 4, "score_rejected": 5}, "scores_disagree", ALL),
    "score is text": ({"score_chosen": "high", "score_rejected": "low"}, "malformed", TREES),
    "score is NaN": ({"score_chosen": float("nan"), "score_rejected": 1}, None, TREES),
    "score +nan": ({"score_chosen": "+nan", "score_rejected": "1"}, "malformed", ("list", "json", "jsonl")),
    "score N/A": ({"score_chosen": "N/A", "score_rejected": "1"}, None, TREES),
    "score both infinite": ({"score_chosen": float("inf"), "score_rejected": float("inf")}, "tie", TREES),
    "system NaN": ({"system": "NaN"}, None, ALL),
    "system number": ({"system": 5}, "malformed", TREES),
    "system half an emoji": ({"system": HALF}, "surrogate", TREES),
    "only spaces differ in nothing": ({"chosen": "x", "rejected": "x"}, "same_answers", ALL),
    "whole row": ({"prompt": None, "chosen": None, "rejected": None}, "missing", TREES),
    "lone CR": ({"chosen": "one\rtwo"}, None, ("list", "json", "jsonl", "gzip", "parquet")),
    "NUL": ({"chosen": "one\0two"}, None, ("list", "json", "jsonl", "parquet")),
    "line separator": ({"chosen": "one\u2028two\x85three\x0cfour"}, None, ALL),
}
ROW_CASES = [(name, way) for name, (_more, _reason, ways) in ROWS.items() for way in ways]


@pytest.mark.parametrize(("name", "way"), ROW_CASES, ids=[f"{name}-{way}" for name, way in ROW_CASES])
def test_a_spoilt_row_costs_itself_and_is_counted_by_every_way_in(tmp_path, name, way):
    more, reason, _ways = ROWS[name]
    blank = {key: None if "score" in key or key == "system" else "" for key in more if key not in A}
    found = outcome(WAYS[way]([A | blank, C | more, B | blank], tmp_path))
    assert not isinstance(found, str), found
    pairs, dropped, _report = found
    if reason:
        assert (pairs, dropped) == ([A, B], {reason: [1]})
    else:
        assert (pairs, dropped) == ([A, {side: (C | more)[side] for side in A}, B], {})


# ---------------------------------------------------------------- messages


def dialogue(question="q", good="good", bad="bad", **more):
    return {"chosen": [u(question), a(good, **more)], "rejected": [u(question), a(bad)]}


#: (a layout's good row, spoilt ones, the reason)
SPOILT = [
    (dialogue(), dialogue(thinking="because …"), "extras"),
    (dialogue(), dialogue(reasoning_content="because …"), "extras"),
    (dialogue(), dialogue(tool_calls=[{"function": {"name": "f"}}]), "extras"),
    (dialogue(), dialogue(good=None, tool_calls=[{"function": {"name": "f"}}]), "extras"),
    (dialogue(), dialogue(thinking=None, tool_calls=[]), None),
    (dialogue(), dialogue(good=None), "malformed"),
    (dialogue(), dialogue(good=[{"type": "text", "text": "hi"}]), "malformed"),
    (dialogue(), dialogue(good=HALF), "surrogate"),
    (dialogue(), {"chosen": [u("q"), a("good")], "rejected": [u("Q"), a("bad")]}, "histories_differ"),
    (dialogue(), {"chosen": [u("q"), a("good")], "rejected": [a("bad")]}, "roles"),
    (dialogue(), {"chosen": [u("q"), "good"], "rejected": [u("q"), a("bad")]}, "malformed"),
    (dialogue(), {"chosen": [u("q"), {"role": "tool", "content": "1"}], "rejected": [u("q"), a("bad")]}, "roles"),
    (dialogue(), {"chosen": {"role": "user"}, "rejected": [u("q"), a("bad")]}, "malformed"),
    (dialogue(), {"chosen": "good", "rejected": "bad"}, "malformed"),
    (dialogue(), {"chosen": [u("q"), u("q"), a("good")], "rejected": [u("q"), u("q"), a("bad")]}, "roles"),
    (dialogue(), {"chosen": [{"role": ["user"], "content": "q"}, a("good")], "rejected": [u("q"), a("bad")]}, "roles"),
    (
        {"instruction": "q", "chosen": "good", "rejected": "bad", "history": []},
        {"instruction": "q", "chosen": "good", "rejected": "bad", "history": ["ab", "cd"]},
        "malformed",
    ),
    (
        {"instruction": "q", "chosen": "good", "rejected": "bad", "history": []},
        {"instruction": "q", "chosen": "good", "rejected": "bad", "history": "ab"},
        "malformed",
    ),
    (
        {"instruction": "q", "chosen": "good", "rejected": "bad", "history": []},
        {"instruction": "q", "chosen": "good", "rejected": "bad", "history": [["ab", "cd", "ef"]]},
        "malformed",
    ),
    (
        {"instruction": "q", "chosen": "good", "rejected": "bad", "history": []},
        {"instruction": "q", "chosen": "good", "rejected": "bad", "history": {"ab": 1, "cd": 2}},
        "malformed",
    ),
    (
        {
            "prompt": "\n\nHuman: q\n\nAssistant: ",
            "answers": [{"answer": "good", "rank": 1}, {"answer": "bad", "rank": 2}],
        },
        {
            "prompt": "\n\nHuman: q\n\nAssistant: ",
            "answers": [{"answer": "good", "rank": float("nan")}, {"answer": "bad", "rank": 2}],
        },
        "malformed",
    ),
    (
        {
            "prompt": "\n\nHuman: q\n\nAssistant: ",
            "answers": [{"answer": "good", "rank": 1}, {"answer": "bad", "rank": 2}],
        },
        {
            "prompt": "\n\nHuman: q\n\nAssistant: ",
            "answers": [{"answer": "good", "rank": "1"}, {"answer": "bad", "rank": 1.0}],
        },
        "rank_tie",
    ),
    (
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "good", "thinking": "hm"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        "extras",
    ),
]


@pytest.mark.parametrize("way", ["list", "json", "jsonl", "gzip"])
@pytest.mark.parametrize("case", range(len(SPOILT)))
def test_messages_that_are_none_are_counted(tmp_path, case, way):
    good, spoilt, reason = SPOILT[case]
    found = outcome(WAYS[way]([good, spoilt, good], tmp_path))
    assert not isinstance(found, str), found
    expected = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    assert found[:2] == ([expected] * (2 if reason else 3), {reason: [1]} if reason else {})


def test_a_system_column_is_not_lost_below_a_prompt_that_both_dialogues_hold():
    turns = [{"from": "human", "value": "q"}]
    said = {who: [*turns, {"from": "gpt", "value": who}] for who in ("chosen", "rejected")}
    data, _report = cu.load_preferences([{"conversations": turns, "system": "s", **said}])
    assert [message["role"] for message in data[0]["prompt"]] == ["system", "user"]


def test_a_prompt_column_that_differs_from_the_dialogues_is_counted():
    rows = [{"prompt": "q", **dialogue()}, {"prompt": "something else", **dialogue()}]
    found = outcome(rows)
    assert found[2].differs == [1] and "stands in no message (first: row 1" in str(found[2])


# ---------------------------------------------------------------- files


def old_windows(text):
    """Vietnamese as an old Windows writes it: the tone is a letter of its own."""
    marks = "\u0300\u0301\u0303\u0309\u0323"
    parts = (unicodedata.normalize("NFD", letter) for letter in text)
    moved = (
        unicodedata.normalize("NFC", "".join(c for c in part if c not in marks))
        + "".join(c for c in part if c in marks)
        for part in parts
    )
    return "".join(moved).encode("cp1258")


def lines(*rows):
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def table(**style):
    return pd.DataFrame([A, B]).to_csv(index=False, **style)


def parquet(rows=(A, B), **style):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([*rows]), sink, **style)
    return sink.getvalue()


def damaged(content, at):
    content = bytearray(content)
    for i in range(at, at + 40):
        content[i] ^= 0x5A
    return bytes(content)


def twins(*names):
    sink = io.BytesIO()
    pq.write_table(pa.table([["a"]] * len(names), names=names), sink)
    return sink.getvalue()


READ = None  # the two rows, and nothing dropped
VIET = pd.DataFrame([A, C, A]).to_csv(index=False)
NFC, NFD = "câu", "ca\u0302u"
#: (name, content, READ or the reasons of its rows or what the one error says).
FILES = [
    ("utf16.csv", table().encode("utf-16"), READ),
    ("utf16le.csv", table().encode("utf-16-le"), READ),
    ("utf16be.csv", table().encode("utf-16-be"), READ),
    ("utf32.csv", table().encode("utf-32"), READ),
    ("utf16.tsv", table(sep="\t").encode("utf-16"), READ),
    ("utf16.json", json.dumps([A, B]).encode("utf-16"), READ),
    ("utf16.jsonl", lines(A, B).encode("utf-16"), READ),
    ("utf16le.jsonl", lines(A, B).encode("utf-16-le"), READ),
    ("bom.csv", b"\xef\xbb\xbf" + table().encode(), READ),
    ("bom.jsonl", b"\xef\xbb\xbf" + lines(A, B).encode(), READ),
    ("cut16.csv", table().encode("utf-16")[:-1], r"cut16\.csv, row \d: got bytes that are not UTF-8"),
    ("latin.csv", (HEAD + "é,ç,õ\n").encode("latin-1"), r"latin\.csv, row 0: got bytes .*encoding=, such as cp1258"),
    ("latin.jsonl", lines(A, {"prompt": "é"}).encode("utf-8") + b"\n\xe9", r"row 2: got bytes that are not UTF-8"),
    ("italian.csv", (HEAD + "può,però,perciò\n").encode("cp1252"), r"row 0: got bytes that are not UTF-8"),
    ("portuguese.csv", (HEAD + "não,ações,mãe\n").encode("cp1252"), r"row 0: got bytes that are not UTF-8"),
    ("russian.csv", (HEAD + "Привет,да,нет\n" * 9).encode("cp1251"), r"row 0: got bytes that are not UTF-8"),
    ("turkish.csv", (HEAD + "ağaç,şımarık,İĞDE ıĞ\n" * 9).encode("cp1254"), r"row 0: got bytes that are not UTF-8"),
    ("letters.csv", (HEAD + "ãaðoõuýi,oòeì,ç\n").encode("latin-1"), r"row 0: got bytes that are not UTF-8"),
    ("chinese.csv", (HEAD + "水在多少度沸腾,一百度,不知道\n").encode("gbk"), r"row 0: got bytes that are not UTF-8"),
    ("sep.csv", "sep=;\n" + table(sep=";"), READ),
    ("sep2.csv", "sep=,\r\n" + table(), READ),
    ("sep3.csv", '"sep=|"\n' + table(sep="|"), READ),
    ("sep16.csv", ("sep=\t\n" + table(sep="\t")).encode("utf-16"), READ),
    ("bars.csv", table(sep="|"), READ),
    ("tabs.csv", table(sep="\t"), READ),
    ("commas.tsv", table(), READ),
    ("title.csv", "My preferences\n\n" + table(), READ),
    ("title2.csv", "My preferences,,\n,,\nMay 2024,,\n" + table(), READ),
    ("title3.csv", '"Pairs, of May",,\n' + table(), READ),
    ("title4.csv", '"Two\nlines"\n' + table(), READ),
    ("title5.csv", "Pairs, of May\n" + table(), r"title5\.csv: the columns Pairs .* In a table, .* first line"),
    ("title6.tsv", "Preferences, of May\n" + table(sep="\t"), r"title6\.tsv: the columns Preferences"),
    ("mac.csv", table(quoting=1, lineterminator="\r"), READ),
    ("mac.jsonl", lines(A, B).replace("\n", "\r"), READ),
    ("mac.json", lines(A, B).replace("\n", "\r"), READ),
    ("cr.csv", HEAD + "a,b,c\rd\ne,f,g\n", r"cr\.csv, row 0: got a table that cannot be read"),
    ("crcr.csv", HEAD + '"a\rb",c,d\n', ([{"prompt": "a\rb", "chosen": "c", "rejected": "d"}], {})),
    ("again.csv", table() + HEAD, ([A, B], {"header": [2]})),
    ("again.tsv", table(sep="\t") + HEAD.replace(",", "\t"), ([A, B], {"header": [2]})),
    ("bom_inside.csv", table() + "\ufeff" + HEAD + "a,b,c\n", ([A, B, dict(zip(A, "abc"))], {"header": [2]})),
    ("bom_inside.jsonl", lines(A) + "\n\ufeff" + lines(B), READ),
    ("few.csv", table() + "a,b\n", ([A, B], {"missing": [2]})),
    ("many.csv", table() + "a,b,c,d\n", ([A, B], {"cells": [2]})),
    ("trailing.csv", "prompt,chosen,rejected,,\na,b,c,,\n", ([dict(zip(A, "abc"))], {})),
    ("unnamed.csv", "prompt,chosen,rejected,,\na,b,c,d,e\n", ([dict(zip(A, "abc"))], {})),
    ("quote.csv", HEAD + 'a,"b,c\n' + "d,e,f\n" * 9, r"quote\.csv, row 0: got a table .*quotation mark"),
    ("quote2.csv", HEAD + 'a,b,c\n"a" b,c,d\n', r"quote2\.csv, row 1: got a table"),
    (
        "swallow.tsv",
        'prompt\tchosen\trejected\na\tb\tc\n"Yes\tb\tc\nNo"\te\tf\n',
        r"swallow\.tsv, row 1: got a cell that swallows whole rows",
    ),
    (
        "swallow3.tsv",
        'prompt\tchosen\trejected\n"Yes\tb\tc\nd\te\tf\nNo"\te\tf\n',
        r"swallow3\.tsv, row 0: got a cell that swallows",
    ),
    ("quote.tsv", 'prompt\tchosen\trejected\n"Yes\tb\tc\nd\te\tf\n', r"quote\.tsv, row 0: got a table that"),
    (
        "code.tsv",
        'prompt\tchosen\trejected\nq\t"if x:\n\tgo()"\tc\n',
        ([dict(prompt="q", chosen="if x:\n\tgo()", rejected="c")], {}),
    ),
    ("twice.csv", "prompt,chosen,chosen\na,b,c\n", r"twice\.csv, row 0: got columns named twice: chosen; rename"),
    ("twin.csv", f"{NFC},{NFD},rejected\na,b,c\n", r"row 0: got columns named twice: câu;"),
    ("twin.tsv", f"{NFC}\t{NFD}\na\tb\n", r"row 0: got columns named twice: câu;"),
    ("twice.jsonl", lines(A) + '\n{"chosen": 1, "chosen": 2}', r"twice\.jsonl, row 1: got columns named twice: chosen"),
    ("twin.jsonl", lines(A, {NFC: 1, NFD: 2}), r"twin\.jsonl, row 1: got columns named twice: câu;"),
    ("twin.json", json.dumps([A, {NFC: 1, NFD: 2}]), r"twin\.json, row 1: got columns named twice: câu;"),
    ("inner.jsonl", '{"chosen": [{"role": "user", "content": "a", "content": "b"}]}', r"named twice: content"),
    ("twice.parquet", twins("chosen", "chosen"), r"twice\.parquet, row 0: got columns named twice: chosen"),
    ("twin.parquet", twins(NFC, NFD), r"twin\.parquet, row 0: got columns named twice: câu"),
    ("data.json", json.dumps({"data": [A, B]}), READ),
    ("data.jsonl", json.dumps({"data": [A, B]}), READ),
    ("late_data.json", json.dumps({"version": 2, "data": [A, B]}), READ),
    ("pretty.jsonl", json.dumps([A, B], indent=2), READ),
    ("pretty_data.jsonl", json.dumps({"version": 2, "data": [A, B]}, indent=2), READ),
    ("list.jsonl", json.dumps([A, B]), READ),
    ("one.json", json.dumps(A), ([A], {})),
    ("null.json", "null", r"null\.json, row 0: got one JSON NoneType; expected a list"),
    ("text.json", '"text"', r"text\.json, row 0: got one JSON str; expected a list"),
    ("data_null.json", '{"data": null}', r"row 0: got one JSON object; expected a list"),
    ("split.json", json.dumps({"columns": ["a"], "data": [["x"]]}), r"row 0: got a list; expected an object"),
    ("columns.json", json.dumps({"prompt": ["a"], "chosen": ["b"]}), r"columns\.json: the columns .* fit no layout"),
    ("numbers.jsonl", "1\n2\n", r"numbers\.jsonl, row 0: got a float; expected an object"),
    ("comma.jsonl", lines(A) + ",\n" + lines(B), r"comma\.jsonl, row 0: got text that is not JSON"),
    ("single.jsonl", "{'prompt': 'a'}\n{'prompt': 'b'}", r"single\.jsonl, row 0: got text that is not JSON"),
    ("cut.jsonl", lines(A, B)[:-9], r"cut\.jsonl, row 1: got text that is not JSON"),
    (
        "deep.jsonl",
        lines(A) + '\n{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}",
        r"row 1: got objects that lie too deep",
    ),
    ("deep.json", "[" * 100_000, r"deep\.json, row 0: got objects that lie too deep"),
    ("deep2.json", '{"a":' * 100_000, r"row 0: got (objects that lie too deep|text that is not JSON)"),
    (
        "nan.jsonl",
        '{"prompt": NaN, "chosen": -Infinity, "rejected": Infinity}\n' + lines(A, B),
        ([A, B], {"missing": [0]}),
    ),
    ("header.csv", "x" * 2**20 + ",b\n1,2\n", r"header\.csv: the columns x{60} \(number|text\)"),
    ("header2.csv", "a," * 2**19 + "b\n1,2\n", r"header2\.csv, row 0: got columns named twice: a;"),
    ("header3.csv", ",".join(f"c{i}" for i in range(150_000)) + "\n1,2\n", r"header3\.csv: the columns c0"),
    ("long.csv", HEAD + "a," + "b" * 2**21 + ",c\n", ([dict(prompt="a", chosen="b" * 2**21, rejected="c")], {})),
    ("packed.jsonl", gzip.compress(lines(A, B).encode()), READ),
    ("packed.csv", gzip.compress(table().encode()), READ),
    ("packed.parquet", gzip.compress(parquet()), READ),
    ("PACKED.CSV.GZ", gzip.compress(table().encode()), READ),
    ("plain.jsonl.gz", lines(A, B).encode(), r"plain\.jsonl\.gz, row 0: got a broken \.gz file"),
    ("cut.csv.gz", gzip.compress(table().encode())[:-12], r"cut\.csv\.gz, row \d: got a broken \.gz file"),
    ("flipped.json.gz", damaged(gzip.compress(lines(*[A] * 99).encode()), 20), r"row 0: got a broken \.gz file"),
    ("rows.csv", parquet(), READ),
    ("rows.parquet", table().encode(), r"rows\.parquet, row 0: got a broken \.parquet file"),
    ("cut.parquet", parquet()[:-20], r"cut\.parquet, row 0: got a broken \.parquet file"),
    ("page.parquet", damaged(parquet([A] * 999, write_page_checksum=True), 30), r"page\.parquet, row 0: got a broken"),
    (
        "page2.parquet",
        damaged(parquet([A, B], compression="none", use_dictionary=False, write_page_checksum=True), 60),
        r"broken \.parquet",
    ),
    ("zstd.parquet", damaged(parquet([A, B] * 99, compression="zstd", use_dictionary=False), 60), r"broken \.parquet"),
    (
        "changed.parquet",
        parquet(compression="none", use_dictionary=False, write_page_checksum=True).replace(b"He said", b"He sold"),
        r"changed\.parquet, row 0: got a broken \.parquet",
    ),
    ("empty.parquet", parquet([A])[:0], r"empty\.parquet, row 0: got a broken \.parquet"),
    ("none.parquet", parquet([A])[:4], r"none\.parquet, row 0: got a broken \.parquet"),
    ("book.xlsx", b"PK\3\4...", r"book\.xlsx: got a spreadsheet .*save it as “CSV UTF-8”"),
    ("book.xls", b"\xd0\xcf\x11\xe0", r"book\.xls: got a spreadsheet"),
    ("book.csv", b"PK\3\4...", r"book\.csv, row 0: got a spreadsheet"),
    ("rows.zip", b"PK\3\4...", r"rows\.zip: got a spreadsheet or a packed file"),
    ("rows.txt", b"hello", r"rows\.txt: got a file of type \.txt; expected one of \.json"),
    ("rows", b"hello", r"rows: got a file of type —"),
    ("zeros.csv", b"\0" * 5000, r"zeros\.csv"),
    ("zeros.jsonl", b"\0" * 5000, r"zeros\.jsonl, row 0: got text that is not JSON"),
    ("random.csv", random.Random(0).randbytes(5000), r"random\.csv, row 0: got"),
    ("random.jsonl", random.Random(1).randbytes(5000), r"random\.jsonl, row 0: got"),
    ("random.parquet", random.Random(2).randbytes(5000), r"random\.parquet, row 0: got"),
    ("empty.csv", b"", r"empty\.csv: got no rows"),
    ("empty.json", b"", r"empty\.json: got no rows"),
    ("empty.jsonl", b"\n\n \n", r"empty\.jsonl: got no rows"),
    ("empty.tsv", b"\n\n", r"empty\.tsv: got no rows"),
    ("headless.csv", table(header=False), r"headless\.csv: the columns"),
    ("half_name.jsonl", json.dumps(A | {HALF: 1}), ([A], {})),
]


@pytest.mark.parametrize(("name", "content", "expected"), FILES, ids=[case[0] for case in FILES])
def test_a_malformed_file_is_read_right_or_counted_or_named(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = outcome(tmp_path / name)
    if isinstance(expected, str):
        assert isinstance(found, str) and re.search(expected, found), found if isinstance(found, str) else found[:2]
    else:
        assert not isinstance(found, str), found
        assert found[:2] == (expected or ([A, B], {}))


def test_old_vietnamese_windows_is_read_where_its_letters_tell(tmp_path):
    for name, text in {
        "old.csv": VIET,
        "old.jsonl": lines(A, C, B),
        "old.json": json.dumps([A, C], ensure_ascii=False),
    }.items():
        (tmp_path / name).write_bytes(old_windows(text))
        found = outcome(tmp_path / name)
        assert not isinstance(found, str), found
        assert found[0][:2] == [A, C]


# ---------------------------------------------------------------- calls


def frame(*names):
    return pd.DataFrame([["a"] * len(names)], columns=[*names])


OWN = [{"prompt": "old", "question": "q", "chosen": "good", "rejected": "bad"}]
#: (source, options, what the one error says).
CALLS = [
    ([A], {"columns": ["prompt"]}, r"columns=: got a list; expected dict"),
    ([A], {"columns": "prompt"}, r"columns=: got a str; expected dict"),
    ([A], {"columns": {"prompt": None}}, r"columns= names “None”, which is none of"),
    ([A], {"columns": {"prompt": ["a"]}}, r"columns= names “\['a'\]”"),
    ([A], {"columns": {1: "prompt"}}, r"columns= names “1”, which is none of"),
    ([A], {"columns": {"prompt": "chosen", "chosen": "chosen"}}, r"columns= takes one column for two"),
    ([A], {"columns": {"prompt": NFC, "chosen": NFD}}, r"columns= takes one column for two"),
    ([A], {"columns": {"prompt": "x" * 9999}}, r"columns= names"),
    ([A], {"limit": "10"}, r"limit=: got a str; expected int"),
    ([A], {"limit": 2.5}, r"limit=: got a float; expected int"),
    ([A], {"limit": True}, r"limit=: got a bool; expected int"),
    ([A], {"limit": -1}, r"limit=-1: expected at least 1"),
    ([A], {"max_length": 0}, r"max_length=0: expected at least 1"),
    ([A], {"max_length": -5}, r"max_length=-5: expected at least 1"),
    ([A], {"max_length": 12.0}, r"max_length=: got a float"),
    ([A], {"max_length": "512"}, r"max_length=: got a str"),
    ([A], {"max_length": 512}, r"max_length= counts tokens; give tokenizer= too"),
    ([A], {"tokenizer": "gpt2"}, r"tokenizer=: got a str; expected PreTrainedTokenizerBase"),
    ([A], {"tokenizer": len}, r"tokenizer=: got a builtin_function_or_method"),
    ([A], {"layout": None}, r"layout=: got a NoneType; expected str"),
    ([A], {"layout": ["text"]}, r"layout=: got a list"),
    ([A], {"layout": "kto"}, r"layout kto .* lacks completion, label"),
    ([A], {"split": 3}, r"split=: got a int; expected str"),
    ([A], {"split": None}, r"split=: got a NoneType"),
    ([A], {"split": "test"}, r"single table, which has no splits"),
    ([A], {"other": 5}, r"got a int; expected a file"),
    ([A], {"other": [1]}, r"list, row 0: got a int"),
    ([A], {"other": "none.csv"}, r"there is no such file"),
    (b"bytes", {}, r"got a bytes; expected a file"),
    (None, {}, r"got a NoneType; expected a file"),
    (True, {}, r"got a bool; expected a file"),
    (pd.Series([1]), {}, r"got a Series"),
    (pa.table({"a": [1]}), {}, r"got a Table"),
    ({1, 2}, {}, r"got a set"),
    (outcome, {}, r"got a function"),
    ([None], {}, r"list, row 0: got a NoneType; expected an object"),
    ([A, [1]], {}, r"list, row 1: got a list; expected an object"),
    ([A, "text"], {}, r"list, row 1: got a str; expected an object"),
    (iter([]), {}, r"got no rows"),
    ([{}], {}, r"the columns  fit no layout"),
    ((1 / n for n in [0]), {}, r"generator, row 0: this cannot be read \(division by zero\)"),
    ([A | {1: "a", "1": "b"}], {}, r"list, row 0: got columns named twice: 1;"),
    ([A, {NFC: "a", NFD: "b"}], {}, r"list, row 1: got columns named twice: câu;"),
    ([{b"prompt": "a", b"chosen": "b"}], {}, r"the columns b'prompt'"),
    (frame("chosen", "chosen"), {}, r"DataFrame, row 0: got columns named twice: chosen"),
    (frame(1, "1"), {}, r"DataFrame, row 0: got columns named twice: 1;"),
    (frame(NFC, NFD), {}, r"DataFrame, row 0: got columns named twice: câu"),
    (frame(None, ("a", "b")), {}, r"the columns None \(text\)|the columns nan \(text\)"),
    (pd.DataFrame(), {}, r"DataFrame: got no rows"),
    (Dataset.from_dict({}), {}, r"Dataset: got no rows"),
    (Dataset.from_dict({NFC: ["a"], NFD: ["b"]}), {}, r"Dataset, row 0: got columns named twice: câu"),
    (Dataset.from_dict({"prompt": [b"a"], "chosen": [b"b"], "rejected": [b"c"]}), {}, r"prompt \(bytes\)"),
    (
        IterableDatasetDict(train=Dataset.from_list([A]).to_iterable_dataset()),
        {"split": "x"},
        r"no split “x”; .* train",
    ),
    (json.dumps(A), {}, r"got a text of \d+ characters; expected a path"),
    ("prompt,chosen,rejected\na,b,c", {}, r"got a text of 28 characters; expected a path"),
    ("a" * 100_000, {}, r"got a text of 100000 characters; expected a path"),
    (Path("a" * 100_000 + ".csv"), {}, r"got a text of 100004 characters"),
    ("no\0file.csv", {}, r"there is no such file"),
    ("no" + HALF + ".csv", {}, r"there is no such file"),
    ("/dev/null", {}, r""),
    (" ", {}, r"there is no such file"),
    ([A | {"chosen": "x", "rejected": "x"}], {}, r"list: no row is left(.|\n)*both answers are the same"),
]


@pytest.mark.parametrize("case", range(len(CALLS)))
def test_a_call_that_cannot_be_meant_is_one_error(monkeypatch, case):
    monkeypatch.setattr(sources, "load_dataset", lambda *_args, **_options: Path("/no/route").read_text())
    source, options, message = CALLS[case]
    found = outcome(source, **options)
    assert isinstance(found, str) and re.search(message, found), found


def test_rows_of_an_unusual_table_are_read(tmp_path):
    numbered = pd.DataFrame([[*A.values()]])
    assert outcome(numbered, columns={"prompt": 0, "chosen": 1, "rejected": 2})[:2] == ([A], {})
    assert outcome(pd.DataFrame([A, B], index=["x", "x"]))[:2] == ([A, B], {})
    assert outcome(IterableDatasetDict(train=Dataset.from_list([A]).to_iterable_dataset()))[:2] == ([A], {})
    turns = pd.DataFrame([{"instruction": "q", "chosen": "a", "rejected": "b", "history": [["p", "r"]]}])
    turns.to_parquet(tmp_path / "history.parquet")
    data, _report = cu.load_preferences(pd.read_parquet(tmp_path / "history.parquet"))
    assert [message["content"] for message in data[0]["prompt"]] == ["p", "r", "q"]
    exact = [A | {"score_chosen": 0.12345678901234, "score_rejected": 0.12345678901233}]
    assert outcome(pd.DataFrame(exact))[:2] == ([A], {})


def test_columns_that_are_not_used_are_named():
    found = outcome([*[A] * 150, A | {"late": 1}, B | {"late": 2}])
    assert found[2].unused == ["late"] and "columns not used (late)" in str(found[2])
    found = outcome(OWN, columns={"prompt": "question"})
    assert found[0] == [dict(prompt="q", chosen="good", rejected="bad")]
    assert found[2].unused == ["prompt (of the file)"]
    swapped = outcome([A], columns={"chosen": "rejected", "rejected": "chosen"})
    assert swapped[0] == [A | {"chosen": A["rejected"], "rejected": A["chosen"]}] and swapped[2].unused == []
    assert outcome([A | {"score_chosen": 3}])[2].unused == ["score_chosen"]


def test_a_folder_with_two_files_of_a_split_is_refused(tmp_path):
    (tmp_path / "train.jsonl").write_text(lines(A))
    (tmp_path / "test.csv").write_text(HEAD + "a,b,c\n")
    assert not isinstance(outcome(tmp_path), str)
    (tmp_path / "test.tsv").write_text(HEAD + "a,b,c\n")
    assert "got test.csv, test.tsv for one split" in outcome(tmp_path, split="test")
    assert "got test.csv, test.tsv for one split" in outcome(tmp_path)[2].not_compared
    (tmp_path / "train.csv").write_text(HEAD + "a,b,c\n")
    assert "got train.csv, train.jsonl for one split; give the path of one" in outcome(tmp_path)


def test_control_tokens_in_a_text_are_counted(small):
    control = small[1].eos_token
    rows = [A, A | {"chosen": f"oh {control} no"}, B | {"prompt": control}, C]
    found = outcome(rows, tokenizer=small[1])
    assert found[2].control == [1, 2] and found[2].kept == 4
    assert outcome(rows)[2].control == []


def test_a_template_that_fails_costs_the_row(small):
    tokenizer = copy.deepcopy(small[1])
    tokenizer.chat_template = "{{ messages[0]['content'] + 1 }}" + tokenizer.chat_template
    assert "the chat template refuses the messages" in outcome([A], tokenizer=tokenizer)


# ---------------------------------------------------------------- temporary files


def test_a_full_disk_is_one_error_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pairs_module.scratch.cache_clear()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        found = outcome({"prompt": f"{i} {'p' * 500}", "chosen": "c", "rejected": "r"} for i in range(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "the pairs cannot be written" in found and "set TMPDIR" in found
    assert not [*tmp_path.rglob("*.arrow")]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    pairs_module.scratch.cache_clear()
    assert "the pairs cannot be written" in outcome([A])
    pairs_module.scratch.cache_clear()


def test_what_a_killed_process_left_behind_is_taken_away(monkeypatch, tmp_path):
    run = subprocess.Popen([sys.executable, "-c", "pass"])
    run.wait()
    mine = f"course_utils_{platform.node()}_"
    dead, alive, foreign = (f"{mine}{run.pid}_a", f"{mine}{os.getppid()}_a", f"course_utils_elsewhere_{run.pid}_a")
    for name in (dead, alive, foreign):
        (tmp_path / name / "x").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pairs_module.scratch.cache_clear()
    assert not isinstance(outcome([A]), str)
    assert {path.name for path in tmp_path.iterdir()} >= {alive, foreign} and not (tmp_path / dead).exists()
    pairs_module.scratch.cache_clear()


# ---------------------------------------------------------------- the report as a page


def test_a_row_of_the_report_opens_to_what_it_says():
    long = "<script>alert(1)</script>" + "ố" * 5000
    rows = [
        A,
        {"prompt": long, "chosen": "x", "rejected": "x"},
        A,
        C | {"chosen": HALF},
        A | {None: ["<u>"]},
        *[C | {"chosen": ""}] * 9,
    ]
    report = outcome(rows)[2]
    page = report._repr_html_()
    assert "<script" not in page and "&lt;script&gt;" in page and "onclick" not in page and "<u>" not in page
    assert page.count("<details>") == page.count("</details>") == len(report.dropped) + 1
    assert "… (5,025 characters in all)" in page and len(page) < 12_000
    table, below = page.split("</table>")
    assert "length of chosen" not in table and "length of chosen" in below
    set_language("vi")
    assert "lang='vi'" in report._repr_html_()


# ---------------------------------------------------------------- drawn by hypothesis

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8)
    | st.sampled_from(["NaN", "n/a", HALF, "\n\nHuman: ", "[{'content': 'a'}]", "user", "assistant", 10**400]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "thinking", "rank", "answer"]), inner),
    max_leaves=6,
)  # fmt: skip
NAMES = st.sampled_from([
    "prompt", "chosen", "rejected", "system", "instruction", "history", "input", "label", "completion", "messages",
    "score_chosen", "score_rejected", "question", "conversations", "answers", "winner", "turn", "status", NFC, NFD, 1,
    "1", None,
])  # fmt: skip


@QUICK
@given(st.lists(st.dictionaries(NAMES, JUNK, max_size=5), max_size=4))
def test_any_rows_are_in_order(rows):
    outcome([A, A, A, A, A, *rows])
    outcome(rows)


@QUICK
@given(
    st.dictionaries(st.sampled_from([*A, "system"]), JUNK, max_size=4),
    st.sampled_from(
        [
            "text",
            "explicit_prompt",
            "alpaca",
            "nectar",
            "sharegpt",
            "kto",
            "mt_bench",
            "implicit_prompt",
            "helpsteer3",
            "shp",
        ]
    ),
)
def test_any_row_under_any_layout_is_in_order(row, layout):
    outcome([row, A], layout=layout)


@QUICK
@given(st.sampled_from(["csv", "tsv", "json", "jsonl", "parquet", "csv.gz"]), st.binary(max_size=300))
def test_any_bytes_are_in_order(tmp_path_factory, kind, content):
    path = tmp_path_factory.getbasetemp() / f"any.{kind}"
    path.write_bytes(content)
    outcome(path)


GOODS = {
    "csv": table().encode(), "tsv": table(sep="\t").encode(), "json": json.dumps([A, B]).encode(),
    "jsonl": lines(A, B).encode(), "csv.gz": gzip.compress(table().encode()), "parquet": parquet(),
}  # fmt: skip


@QUICK
@given(st.sampled_from([*GOODS]), st.integers(0, 10**6), st.binary(max_size=3), st.integers(0, 4))
@example("csv", 0, b"\r", 0)
def test_a_good_file_with_a_few_bytes_changed_is_in_order(tmp_path_factory, kind, at, more, less):
    content = GOODS[kind]
    at %= len(content)
    path = tmp_path_factory.getbasetemp() / f"changed.{kind}"
    path.write_bytes(content[:at] + more + content[at + less :])
    outcome(path)


@QUICK
@given(
    st.lists(
        st.fixed_dictionaries(dict.fromkeys(A, st.text(st.characters(exclude_categories=["Cs"]), max_size=12))),
        min_size=1,
        max_size=4,
    )
)
def test_every_way_in_says_the_same_of_the_same_texts(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("ways")
    rows = [A, *rows]
    expected = outcome(rows, layout="text")[:2]
    for way in ("frame", "dataset", "json", "jsonl", "parquet"):
        assert outcome(WAYS[way](rows, folder), layout="text")[:2] == expected, way
