import gzip
import json

import pytest
from datasets import Dataset

import course_utils as cu
from course_utils.layouts import join_dialogue, split_dialogue

U, A = "\n\nHuman: ", "\n\nAssistant: "
TRANSCRIPTS = [
    f"{U}Hi!{A}Hello.",
    f"{U}One{A}two{U}three{A}four",
    f"{U}Note: Human: is a word here.{A}So is\nAssistant: here.",
    f"{U} spaces  {A}kept \n",
    f"{U}Xin chào{A}Chào bạn, tôi giúp gì được?",
    f"{U}Are you there?{A}",
]


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def pair(chosen, rejected):
    return {"chosen": chosen, "rejected": rejected}


@pytest.mark.parametrize("text", TRANSCRIPTS)
def test_split_then_join_gives_back_the_dialogue(text):
    messages = split_dialogue(text)
    assert join_dialogue(messages) == text
    assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2)


def test_bundled_preferences_are_whole_and_in_the_layout_of_trl(setup):
    for split, rows in [("train", 3000), ("test", 400)]:
        data, report = cu.load_preferences(setup.preferences, split=split)
        assert (report.read, report.kept, report.dropped, len(data)) == (rows, rows, {}, rows)
        lines = (setup.preferences / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        for row, line in zip(data, lines):
            assert [m["role"] for m in row["prompt"]] == ["user", "assistant", "user"][-len(row["prompt"]) :]
            for answer in ("chosen", "rejected"):
                assert [m["role"] for m in row[answer]] == ["assistant"]
                assert join_dialogue(row["prompt"] + row[answer]) == json.loads(line)[answer]


def test_every_row_is_kept_or_dropped_for_a_reason(tmp_path):
    good = pair(f"{U}a{A}b", f"{U}a{A}c")
    rows = [
        good,
        pair(f"{U}a{A}b", f"{U}x{A}c"),
        pair(f"{U}a{A} ", f"{U}a{A}c"),
        pair(f"{U}a{A}b", f"{U}a{A}b"),
        pair(f"{U}a{U}b{A}c", f"{U}a{U}b{A}d"),
        pair(f"{U}a{A}b{U}c", f"{U}a{A}b{U}d"),
        pair(f"{A}a", f"{A}b"),
        good,
        pair(f"{U}a{A}", f"{U}a{A}c"),
    ]
    data, report = cu.load_preferences(write(tmp_path / "rows.jsonl", rows))
    assert report.dropped == {"histories_differ": [1], "empty_answer": [2, 8], "same_answers": [3], "roles": [4, 5, 6]}
    assert report.read == 9 == report.kept + sum(map(len, report.dropped.values())) and len(data) == report.kept
    assert "chosen and rejected answer different questions (first: row 1)" in str(report)


def test_layouts_of_trl_give_the_same_dataset():
    prompt, chosen, rejected = (
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a"}],
        [{"role": "assistant", "content": "b"}],
        [{"role": "assistant", "content": "c"}],
    )
    expected = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    explicit, report = cu.load_preferences([expected])
    implicit, other = cu.load_preferences(Dataset.from_list([pair(prompt + chosen, prompt + rejected)]))
    assert (report.layout, other.layout) == ("explicit_prompt", "implicit_prompt")
    assert explicit.to_list() == implicit.to_list() == [expected]


def test_text_is_normalised_to_nfc():
    data, _ = cu.load_preferences([pair(f"{U}tie\u0302\u0301ng{A}b", f"{U}tie\u0302\u0301ng{A}c")])
    assert data[0]["prompt"][0]["content"] == "ti\u1ebfng"


def test_gzip_byte_order_mark_blank_lines_and_limit(tmp_path):
    path = tmp_path / "train.jsonl.gz"
    line = json.dumps(pair(f"{U}a{A}b", f"{U}a{A}c"))
    path.write_bytes(gzip.compress(f"\ufeff{line}\n\n{line}\n{line}\n".encode()))
    assert cu.load_preferences(path)[1].kept == 3
    assert cu.load_preferences(tmp_path, limit=2)[1].read == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"bad\.jsonl: got no rows"),
        ('{"chosen": "x", "rejected": "y"}', r"bad\.jsonl, row 0: got a text that begins 'x'"),
        (
            json.dumps(pair(f"{U}a{A}b", f"{U}a{A}c")) + '\n{"chosen": ',
            r"bad\.jsonl, row 1: got a line that is not JSON",
        ),
        ("[1, 2]", r"bad\.jsonl, row 0: got a JSON list"),
        ('{"chosen": "x"}', r"row 0: got the columns chosen \(str\); expected one of these layouts"),
        (
            json.dumps(pair(f"{U}a{A}b", f"{U}a{A}c")) + '\n{"chosen": "x"}',
            r"row 1: got rejected = None; expected a str",
        ),
        (json.dumps(pair(f"{U}a", f"{U}a{A}c")), r"row 0: got a transcript with no .* turn .*add the answer or drop"),
        (json.dumps(pair(f"{U}a{A}b", f"{U}a{A}b")), r"no row is left(.|\n)*both answers are the same"),
    ],
)
def test_bad_input_gets_one_error_that_says_what_to_do(tmp_path, text, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        cu.load_preferences(path)


def test_missing_files_and_layouts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        cu.load_preferences(tmp_path / "none.jsonl")
    with pytest.raises(FileNotFoundError, match=r"without dev\.jsonl"):
        cu.load_preferences(tmp_path, split="dev")
    with pytest.raises(ValueError, match="choose one of auto, hh"):
        cu.load_preferences([{}], layout="hhh")


def test_a_dataset_that_comes_out_shows_its_report(tmp_path):
    _, report = cu.load_preferences([pair(f"{U}a{A}b", f"{U}a{A}c"), pair(f"{U}a{A}b", f"{U}a{A}b")])
    assert "<td>1</td>" in report._repr_html_() and "both answers are the same" in report._repr_html_()
