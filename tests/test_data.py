"""Sources, reports and bad input. What each layout makes of a row is in test_layouts."""

import copy
import gzip
import io
import json
import threading
import tracemalloc
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from trl import DPOConfig, DPOTrainer

import course_utils as cu
from course_utils.data import sources
from course_utils.data.layouts import join_dialogue
from course_utils.i18n import set_language
from course_utils.world import LANGUAGES

U, A = "\n\nHuman: ", "\n\nAssistant: "
GOOD = {"prompt": "Nước sôi ở bao nhiêu độ?", "chosen": "Ở 100 °C, tại mực nước biển.", "rejected": "Không, cảm ơn!"}
MORE = {"prompt": "1, 2; 3", "chosen": 'He said "yes", twice.', "rejected": "two\nlines"}
EXPECTED = [
    {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "chosen": [{"role": "assistant", "content": row["chosen"]}],
        "rejected": [{"role": "assistant", "content": row["rejected"]}],
    }
    for row in (GOOD, MORE)
]
TABLE = pd.DataFrame([GOOD, MORE])
MESSAGES = Dataset.from_list(EXPECTED)


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows)


def parquet(folder):
    TABLE.to_parquet(folder / "made.parquet")
    return (folder / "made.parquet").read_bytes()


# One way to write the two rows into each kind of file.
FILES = {
    "rows.jsonl": lambda folder: lines(GOOD, MORE),
    "blank.jsonl": lambda folder: "\n" + lines(GOOD, MORE).replace("\n", "\n\n \n") + "\n\n",
    "bom.jsonl": lambda folder: "\ufeff" + lines(GOOD, MORE),
    "windows.jsonl": lambda folder: lines(GOOD, MORE).replace("\n", "\r\n"),
    "decomposed.jsonl": lambda folder: (
        lines(GOOD, MORE).replace("\\u1ed1", "o\u0302\u0301").replace("\\u01b0", "u\u031b")
    ),
    "rows.json": lambda folder: json.dumps([GOOD, MORE], ensure_ascii=False),
    "bom.json": lambda folder: "\ufeff" + json.dumps([GOOD, MORE], indent=2),
    "lines.json": lambda folder: lines(GOOD, MORE),
    "data.json": lambda folder: json.dumps({"version": 1, "data": [GOOD, MORE]}),
    "rows.csv": lambda folder: TABLE.to_csv(index=False),
    "excel.csv": lambda folder: "\ufeff" + TABLE.to_csv(index=False, sep=";", lineterminator="\r\n"),
    "quoted.csv": lambda folder: TABLE.to_csv(index=False, quoting=1) + "\n\n",
    "mac.csv": lambda folder: TABLE.to_csv(index=False, quoting=1, lineterminator="\r"),
    "rows.tsv": lambda folder: TABLE.to_csv(index=False, sep="\t"),
    "rows.parquet": parquet,
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_dataset(tmp_path, name, packed):
    content = FILES[name](tmp_path)
    content = content if isinstance(content, bytes) else content.encode("utf-8")
    path = write(tmp_path / (name + ".gz" * packed), gzip.compress(content) if packed else content)
    data, report = cu.load_preferences(str(path) if packed else path)
    assert data.to_list() == EXPECTED and (report.read, report.kept) == (2, 2)


@pytest.mark.parametrize(
    "source",
    [
        [GOOD, MORE],
        iter([GOOD, MORE]),
        TABLE,
        TABLE.assign(note=[None, float("nan")]),
        Dataset.from_list([GOOD, MORE]),
        MESSAGES,
        MESSAGES.to_pandas(),
        MESSAGES.with_format("numpy"),
        Dataset.from_list([GOOD, MORE]).to_iterable_dataset(),
        DatasetDict(train=MESSAGES, test=MESSAGES.select([0])),
    ],
    ids=lambda source: type(source).__name__,
)
def test_every_kind_of_table_gives_the_same_dataset(source):
    assert cu.load_preferences(source)[0].to_list() == EXPECTED


def test_what_comes_out_goes_in_again():
    data, _ = cu.load_preferences([GOOD, MORE])
    again, report = cu.load_preferences(data)
    assert again.to_list() == data.to_list() and again.features == data.features == MESSAGES.features
    assert report.layout == "explicit_prompt"


def test_a_name_that_is_no_file_is_asked_of_the_hub(monkeypatch):
    splits = {"train": MESSAGES, "test": MESSAGES.select([1])}

    def hub(name, data_dir, split, trust_remote_code):
        if name != "someone/pairs" or trust_remote_code:
            raise ConnectionError("no route")
        if split not in splits:
            raise ValueError(f'Unknown split "{split}"')
        return splits[split]

    monkeypatch.setattr(sources, "load_dataset", hub)
    data, report = cu.load_preferences("someone/pairs")
    assert data.to_list() == EXPECTED and (report.other, report.leaked) == ("test", [1])
    with pytest.raises(OSError, match=r"someone/other: .* the hub did not give split “train” \(there is no connection"):
        cu.load_preferences("someone/other")
    with pytest.raises(OSError, match=r'“dev” \(Unknown split "dev"\)'):
        cu.load_preferences("someone/pairs", split="dev")


@pytest.mark.parametrize("name", ["pairs.json", "pairs.csv", "pairs.parquet"])
def test_an_address_gives_what_its_file_gives(tmp_path, name):
    file, rows = tmp_path / name, TABLE.to_dict("records")
    text = {".json": json.dumps(rows), ".csv": TABLE.to_csv(index=False)}
    TABLE.to_parquet(file) if file.suffix == ".parquet" else write(file, text[file.suffix])
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        data, report = cu.load_preferences(f"{address}/{name}")
        assert data.to_list() == EXPECTED and report.other is None  # it has no other split
        with pytest.raises(OSError, match=r"this address gave no file \(.*; check it and the connection"):
            cu.load_preferences(f"{address}/none{file.suffix}")
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """A server that does not write a line for each request."""

    def log_message(self, *_args):
        pass


def test_bundled_preferences_are_whole_and_in_the_layout_of_trl(setup):
    for split, rows, other in [("train", 3000, "test"), ("test", 400, "train")]:
        data, report = cu.load_preferences(setup.preferences, split=split)
        assert (report.read, report.kept, report.dropped, len(data)) == (rows, rows, {}, rows)
        assert (report.other, report.leaked, report.duplicates, report.contradictions) == (other, [], [], [])
        transcripts = (setup.preferences / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        for row, line in zip(data, transcripts):
            assert [m["role"] for m in row["prompt"]] == ["user", "assistant", "user"][-len(row["prompt"]) :]
            for answer in ("chosen", "rejected"):
                assert [m["role"] for m in row[answer]] == ["assistant"]
                assert join_dialogue(row["prompt"] + row[answer]) == json.loads(line)[answer]


def test_every_row_is_kept_or_dropped_for_a_reason(tmp_path):
    rows = [GOOD, GOOD | {"chosen": " "}, MORE, GOOD | {"rejected": GOOD["chosen"]}, {"prompt": "p", "chosen": "c"}]
    data, report = cu.load_preferences(rows)
    assert report.dropped == {"empty_answer": [1], "same_answers": [3], "missing": [4]}
    assert report.read == 5 == report.kept + sum(map(len, report.dropped.values())) and len(data) == report.kept == 2
    assert "dropped: both answers are the same (first: row 3; write a worse or a better one)" in str(report)


def test_limit_counts_rows_that_are_read():
    assert cu.load_preferences([GOOD | {"chosen": ""}, GOOD, MORE], limit=2)[1].read == 2


def test_duplicates_contradictions_and_leaks_are_counted_and_kept():
    swapped = {"prompt": GOOD["prompt"], "chosen": GOOD["rejected"], "rejected": GOOD["chosen"]}
    data, report = cu.load_preferences([GOOD, MORE, GOOD, swapped], other=MESSAGES.select([1]))
    assert (report.duplicates, report.contradictions, report.leaked, len(data)) == ([2], [3], [1], 4)
    assert report.other == "other" and "⚠ the opposite of an earlier pair (first: row 3" in str(report)


def test_train_and_test_of_a_folder_are_compared(tmp_path):
    write(tmp_path / "train.csv", TABLE.to_csv(index=False))
    write(tmp_path / "test.jsonl", lines(MORE))
    assert cu.load_preferences(tmp_path)[1].leaked == [1]
    assert cu.load_preferences(tmp_path, split="test")[1].leaked == [0]
    assert "⚠ prompt also in “test”" in str(cu.load_preferences(tmp_path)[1])


def test_a_broken_other_split_costs_only_the_comparison(tmp_path):
    write(tmp_path / "train.csv", TABLE.to_csv(index=False))
    write(tmp_path / "test.csv", "a,b\n1,2\n")
    data, report = cu.load_preferences(tmp_path)
    assert (
        len(data) == 2 and report.other is None and "⚠ prompts not compared (test: test.csv: the columns" in str(report)
    )


def test_a_tokenizer_without_chat_template_is_named(small):
    tokenizer = copy.deepcopy(small[1])
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="has no chat template"):
        cu.load_preferences([GOOD], tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("longer", "shorter", "bias"), [(65, 35, True), (35, 65, True), (55, 45, False), (4, 1, False), (0, 0, False)]
)
def test_length_bias_is_more_than_chance(longer, shorter, bias):
    sides = [("aaa", "b")] * longer + [("a", "bbb")] * shorter + [("a", "b")] * 3
    _, report = cu.load_preferences([{"prompt": f"{i}", "chosen": c, "rejected": r} for i, (c, r) in enumerate(sides)])
    assert (report.longer, report.shorter, report.equal, report.length_bias) == (longer, shorter, 3, bias)
    assert ("⚠ length" in str(report)) == bias


def test_prompts_without_room_are_left_out_and_cut_answers_counted(small):
    _, tokenizer = small
    rows = [GOOD, GOOD | {"prompt": "word " * 600}, MORE | {"chosen": "word " * 600}]
    data, report = cu.load_preferences(rows, tokenizer=tokenizer)
    assert report.dropped == {"prompt_too_long": [1]} and report.cut == [2] and report.max_length == 512
    exact = len(tokenizer.apply_chat_template(data[0]["prompt"], add_generation_prompt=True, return_dict=False))
    assert cu.load_preferences([GOOD], tokenizer=tokenizer, max_length=exact + 1)[1].cut == [0]
    with pytest.raises(ValueError, match="leaves no room for an answer"):
        cu.load_preferences([GOOD], tokenizer=tokenizer, max_length=exact)


def test_messages_that_the_template_refuses_are_counted(small):
    tokenizer = copy.deepcopy(small[1])
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + tokenizer.chat_template
    )
    _, report = cu.load_preferences([GOOD | {"system": ""}, MORE | {"system": "Be kind."}], tokenizer=tokenizer)
    assert report.dropped == {"template": [1]} and report.kept == 1


@pytest.mark.parametrize("name", ["dpo", "orpo"])
def test_trainers_take_the_output_unchanged(small, tmp_path, monkeypatch, name):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    if name == "dpo":
        trainer_class, config = DPOTrainer, DPOConfig
    else:
        orpo = pytest.importorskip("trl.experimental.orpo", exc_type=ImportError)
        trainer_class, config = orpo.ORPOTrainer, orpo.ORPOConfig
    model, tokenizer = small
    data, _ = cu.load_preferences(write(tmp_path / "own.csv", TABLE.to_csv(index=False)))
    args = config(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=2, use_cpu=True, bf16=False, report_to="none"
    )
    trainer = trainer_class(copy.deepcopy(model), args=args, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] > 0


def test_memory_does_not_grow_with_the_number_of_rows():
    def peak(count):
        rows = ({"prompt": f"{i} {'p' * 500}", "chosen": "c" * 500, "rejected": "r" * 500} for i in range(count))
        tracemalloc.start()
        cu.load_preferences(rows)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(8000) - peak(1000) < 0.2 * 7000 * 1500


CSV = "prompt,chosen,rejected\n"
JSON_GOOD = lines(GOOD)
pq.write_table(pa.table([["a"], ["b"]], names=["chosen", "chosen"]), sink := io.BytesIO())
TWICE = sink.getvalue()

#: Files that cannot be read: (name, content, what the one error says).
BROKEN = [
    ("empty.jsonl", "", r"empty\.jsonl: got no rows"),
    ("empty.csv", "", r"empty\.csv: got no rows"),
    ("header.csv", CSV, r"header\.csv: got no rows"),
    ("empty.json", "[]", r"empty\.json: got no rows"),
    ("void.json", "", r"void\.json: got no rows"),
    ("object.json", '{"data": 1}', r"object\.json, row 0: got one JSON object; expected a list"),
    ("cut.json", '[{"prompt": "a"', r"cut\.json, row 0: got text that is not JSON"),
    ("cut.jsonl", JSON_GOOD + '\n\n{"chosen": ', r"cut\.jsonl, row 1: got text that is not JSON"),
    ("list.jsonl", JSON_GOOD + "\n[1, 2]", r"list\.jsonl, row 1: got a list; expected an object with named columns"),
    ("number.json", "[1, 2]", r"number\.json, row 0: got a float"),
    (
        "latin.csv",
        (CSV + "Nước é,b,c\n").encode("cp1258", "replace"),
        r"latin\.csv, row 0: got bytes that are not UTF-8",
    ),
    ("late.jsonl", (JSON_GOOD + "\n").encode() * 3 + b'{"prompt": "\xff"}', r"late\.jsonl, row 3: got bytes"),
    ("quote.csv", CSV + 'a,b,c\n"a,b,c\n', r"quote\.csv, row 1: got a table that cannot be read .*quotation mark"),
    ("twice.csv", "prompt,chosen,chosen\na,b,c\n", r"twice\.csv, row 0: got columns named twice: chosen; rename one"),
    (
        "twice.jsonl",
        JSON_GOOD + '\n{"prompt": 1, "prompt": 2}',
        r"twice\.jsonl, row 1: got columns named twice: prompt;",
    ),
    ("twice.json", '[{"prompt": 1, "prompt": 2}]', r"twice\.json, row 0: got columns named twice: prompt;"),
    ("twice.parquet", TWICE, r"twice\.parquet, row 0: got columns named twice: chosen;"),
    ("rows.jsonl.gz", b"\x1f\x8b\x08nothing", r"rows\.jsonl\.gz, row 0: got a broken \.gz file"),
    ("plain.csv.gz", b"prompt,chosen", r"plain\.csv\.gz, row 0: got a broken \.gz file"),
    ("cut.jsonl.gz", gzip.compress(JSON_GOOD.encode())[:-12], r"cut\.jsonl\.gz, row \d: got a broken \.gz file"),
    ("rows.parquet", b"PAR1 no", r"rows\.parquet, row 0: got a broken \.parquet file"),
    ("rows.xlsx", b"PK", r"rows\.xlsx: got a spreadsheet"),
    ("README", "hi", r"README: got a file of type —"),
    ("names.csv", "a,b,c\n1,2,3\n", r"names\.csv: the columns a \(text\), b \(text\), c \(text\) fit no layout"),
    ("headless.csv", "q,good,bad\nq,good,bad\n", r"fit no layout"),
    ("void.csv", CSV + "a,,c\n", r"void\.csv: the columns prompt \(text\), chosen \(empty\)"),
    ("half.jsonl", '{"chosen": "x"}', r"half\.jsonl: the columns chosen \(text\) fit no layout"),
    ("all_bad.jsonl", lines(GOOD | {"chosen": "no", "rejected": "no"}), r"no row is left(.|\n)*both answers are"),
]

#: Rows that are counted: (row, its reason).
FAULTY = [
    ({"prompt": "q", "chosen": "c"}, "missing"),
    ({}, "missing"),
    (GOOD | {"chosen": None}, "missing"),
    (GOOD | {"chosen": ""}, "empty_answer"),
    (GOOD | {"rejected": " \n\t"}, "empty_answer"),
    (GOOD | {"prompt": ""}, "empty_prompt"),
    (GOOD | {"rejected": GOOD["chosen"]}, "same_answers"),
    (GOOD | {"rejected": "Ở 100\u00a0°C", "chosen": ["Ở 100 °C"]}, "malformed"),
    (GOOD | {"prompt": {"text": "q"}}, "malformed"),
    (GOOD | {"chosen": 3.5}, "malformed"),
    (GOOD | {"chosen_score": 1, "rejected_score": 1}, "tie"),
    (GOOD | {"chosen_score": 1, "rejected_score": 2}, "scores_disagree"),
    (GOOD | {"chosen_score": "high", "rejected_score": "low"}, "malformed"),
    (GOOD | {None: ["more", "cells"]}, "cells"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN, ids=[case[0] for case in BROKEN])
def test_a_broken_file_is_one_error_that_says_what_to_do(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        cu.load_preferences(write(tmp_path / name, content))


@pytest.mark.parametrize(("row", "fault"), FAULTY)
def test_a_faulty_row_is_counted_with_its_reason(row, fault):
    _, report = cu.load_preferences([GOOD, row, MORE])
    assert report.dropped == {fault: [1]} and (report.read, report.kept) == (3, 2)
    for lang in ("en", "vi"):
        set_language(lang)
        assert "1" in str(report).splitlines()[1]


def test_cells_too_many_and_too_few_in_a_csv_are_counted(tmp_path):
    path = write(tmp_path / "own.csv", CSV + "a,b,c\na,b, and so on,c\na,b\n,,\n\na,b,d\n")
    assert cu.load_preferences(path)[1].dropped == {"cells": [1], "missing": [2], "empty_prompt": [3]}


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("none.jsonl", {}, FileNotFoundError, "there is no such file"),
        ("", {}, FileNotFoundError, "there is no such file"),
        (42, {}, TypeError, "got a int; expected a file"),
        ({"prompt": ["a"]}, {}, TypeError, r"got a dict; .*Dataset\.from_dict"),
        ([], {}, ValueError, "list: got no rows"),
        (["text"], {}, ValueError, "row 0: got a str"),
        ([GOOD], {"layout": "hhh"}, ValueError, "choose one of auto, hh"),
        ([GOOD], {"layout": "orca"}, ValueError, r"layout orca .* lacks question; the file has prompt, chosen"),
        ([GOOD], {"limit": 0}, ValueError, "limit=0: expected at least 1, or None"),
        ([GOOD], {"columns": {"prompt": "câu hỏi"}}, ValueError, "columns= names “câu hỏi”"),
        (pd.DataFrame([["a", "b"]], columns=["chosen", "chosen"]), {}, ValueError, "columns named twice: chosen"),
        (DatasetDict(train=MESSAGES), {"split": "dev"}, ValueError, "no split “dev”; choose one of train"),
    ],
)
def test_a_wrong_call_is_one_error_that_says_what_to_do(source, options, error, message):
    with pytest.raises(error, match=message):
        cu.load_preferences(source, **options)


def test_a_folder_without_the_split_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"without dev\.jsonl"):
        cu.load_preferences(tmp_path, split="dev")


def test_the_report_is_a_table_in_the_learners_language():
    _, report = cu.load_preferences([GOOD | {"<b>": 1}, GOOD | {"chosen": ""}])
    html = report._repr_html_()
    assert "<td>1</td>" in html and "an answer is empty" in html and "&lt;b&gt;" in html and "<b>" not in html
    set_language("vi")
    assert "câu trả lời trống" in str(report)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_bundled_table_of_ones_own_has_the_slips_that_the_exercise_asks_for(setup, small, held_out, lang):
    path = setup.preferences.parent / f"own_preferences_{lang}.csv"
    columns = dict(zip(("prompt", "chosen", "rejected"), pd.read_csv(path).columns))
    _, report = cu.load_preferences(path, columns=columns, other=held_out, tokenizer=small[1])
    assert report.dropped == {"empty_answer": [4], "same_answers": [9], "empty_prompt": [17]}
    assert (report.duplicates, report.contradictions, report.leaked) == ([23], [30], [35])


def test_a_single_table_has_no_test_split(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}')
    with pytest.raises(ValueError, match="single table, which has no splits"):
        cu.load_preferences(tmp_path / "mine.jsonl", split="test")
