"""Every layout turns hand-made rows into exactly the messages one expects, detected by its columns."""

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import course_utils as cu
from course_utils.data.layouts import BLANK, LAYOUTS, MARKER, join_dialogue, split_dialogue

U, A = "\n\nHuman: ", "\n\nAssistant: "


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def turn(who, text):
    return {"from": who, "value": text}


PLAIN = ([user("q")], "good", "bad")
TWO_TURNS = ([user("p"), bot("r"), user("q")], "good", "bad")
WITH_SYSTEM = ([system("s"), user("q")], "good", "bad")
WHOLE = {"chosen": [user("q"), bot("good")], "rejected": [user("q"), bot("bad")]}
SCORES = {"score_chosen": 8.0, "score_rejected": 3.5}

#: layout: [(row, the pair it makes or the reason why it makes none), ...]
ROWS = {
    "hh": [
        ({"chosen": f"{U}q{A}good", "rejected": f"{U}q{A}bad"}, PLAIN),
        ({"chosen": f"{U}p{A}r{U}q{A}good", "rejected": f"{U}p{A}r{U}q{A}bad"}, TWO_TURNS),
        ({"chosen": f"{U}q{A}good", "rejected": f"{U}other{A}bad"}, "histories_differ"),
        ({"chosen": f"{U}q{A}", "rejected": f"{U}q{A}bad"}, "empty_answer"),
        ({"chosen": f"{U}{A}good", "rejected": f"{U}{A}bad"}, "empty_prompt"),
        ({"chosen": f"{U}p{U}q{A}good", "rejected": f"{U}p{U}q{A}bad"}, "roles"),
        ({"chosen": f"{U}q", "rejected": f"{U}q{A}bad"}, "roles"),
        ({"chosen": f"{U}q{A}good", "rejected": f"{U}q{A}good"}, "same_answers"),
        ({"chosen": f"{U}q{A}good", "rejected": "bad"}, "malformed"),
        (
            {"chosen": f"{U}say Human: hi{A}good", "rejected": f"{U}say Human: hi{A}bad"},
            ([user("say Human: hi")], "good", "bad"),
        ),
    ],
    "hh_prompt": [
        ({"prompt": f"{U}q{A}", "chosen": "good", "rejected": "bad"}, PLAIN),
        ({"prompt": f"{U}p{A}r{U}q{A.rstrip()}", "chosen": "good", "rejected": "bad"}, TWO_TURNS),
    ],
    "explicit_prompt": [
        ({"prompt": [user("q")], "chosen": [bot("good")], "rejected": [bot("bad")]}, PLAIN),
        ({"prompt": [user("q")], "chosen": "good", "rejected": "bad"}, PLAIN),
        ({"prompt": [system("s"), user("q")], "chosen": [bot("good")], "rejected": [bot("bad")]}, WITH_SYSTEM),
        ({"prompt": [user("q")], **WHOLE}, PLAIN),  # not the prompt twice
        ({"prompt": [user("q"), system("s")], "chosen": [bot("good")], "rejected": [bot("bad")]}, "roles"),
    ],
    "implicit_prompt": [
        ({**WHOLE, **SCORES}, PLAIN),
        ({**WHOLE, "score_chosen": 5, "score_rejected": 5}, "tie"),
        ({**WHOLE, "score_chosen": 3, "score_rejected": 5}, "scores_disagree"),
        ({"chosen": [user("q"), {"role": "assistant"}], "rejected": WHOLE["rejected"]}, "malformed"),
        ({"chosen": [user("q"), bot(None)], "rejected": WHOLE["rejected"]}, "malformed"),
    ],
    "messages_and_text": [
        ({"prompt": "q", "messages": WHOLE["chosen"], **WHOLE, **SCORES}, PLAIN),
        ({"prompt": "not looked at", "question": "q", "source": "s", **WHOLE}, PLAIN),
        ({"prompt": "q", "chosen": [bot("good")], "rejected": [bot("bad")]}, PLAIN),
    ],
    "text": [
        ({"prompt": "q", "chosen": "good", "rejected": "bad"}, PLAIN),
        ({"system": "s", "prompt": "q", "chosen": "good", "rejected": "bad"}, WITH_SYSTEM),
        ({"system": "", "prompt": "q", "chosen": "good", "rejected": "bad"}, PLAIN),
        ({"system": None, "prompt": "q", "chosen": "good", "rejected": "bad"}, PLAIN),
        ({"prompt": "q", "chosen": None, "rejected": "bad"}, "missing"),
        ({"prompt": "  ", "chosen": "good", "rejected": "bad"}, "empty_prompt"),
        ({"prompt": "q", "chosen": 7, "rejected": "bad"}, "malformed"),
    ],
    "orca": [
        ({"system": "", "question": "q", "chosen": "good", "rejected": "bad"}, PLAIN),
        ({"system": "s", "question": "q", "chosen": "good", "rejected": "bad"}, WITH_SYSTEM),
    ],
    "distilabel_orca": [
        ({"system": "s", "input": "q", "chosen": "good", "rejected": "bad", "status": "unchanged"}, WITH_SYSTEM),
        ({"system": "", "input": "q", "chosen": "good", "rejected": "bad", "status": "tie"}, "tie"),
    ],
    "orca_vi": [
        (
            {"question_vi": "tie\u0302\u0301ng", "chosen_vi": "good", "rejected_vi": "bad"},
            ([user("tiếng")], *PLAIN[1:]),
        ),
        ({"system_vi": "s", "question_vi": "q", "chosen_vi": "good", "rejected_vi": "bad"}, WITH_SYSTEM),
    ],
    "argilla": [
        (
            {
                "instruction": "q",
                "chosen_response": "good",
                "rejected_response": "bad",
                "chosen_avg_rating": 4.5,
                "rejected_avg_rating": 2.0,
            },
            PLAIN,
        ),
        (
            {
                "instruction": "q",
                "chosen_response": "good",
                "rejected_response": "bad",
                "chosen_avg_rating": 4.0,
                "rejected_avg_rating": 4.0,
            },
            "tie",
        ),
    ],
    "alpaca": [
        ({"instruction": "q", "input": "", "output": "o", "chosen": "good", "rejected": "bad"}, PLAIN),
        (
            {"instruction": "do", "input": "this", "chosen": "good", "rejected": "bad"},
            ([user("do\n\nthis")], "good", "bad"),
        ),
        ({"instruction": "q", "system": "s", "chosen": "good", "rejected": "bad"}, WITH_SYSTEM),
        ({"instruction": "q", "history": [["p", "r"]], "chosen": "good", "rejected": "bad"}, TWO_TURNS),
    ],
    "sharegpt": [
        (
            {
                "conversations": [turn("human", "p"), turn("gpt", "r"), turn("human", "q")],
                "chosen": turn("gpt", "good"),
                "rejected": turn("gpt", "bad"),
            },
            TWO_TURNS,
        ),
        (
            {
                "conversations": [turn("system", "s"), turn("human", "q")],
                "chosen": [turn("gpt", "good")],
                "rejected": [turn("gpt", "bad")],
            },
            WITH_SYSTEM,
        ),
        (
            {
                "conversations": [turn("tool", "q")],
                "chosen": turn("gpt", "good"),
                "rejected": turn("gpt", "bad"),
            },
            "roles",
        ),
    ],
    "pku_better": [
        ({"prompt": "q", "response_0": "bad", "response_1": "good", "better_response_id": 1}, PLAIN),
        ({"prompt": "q", "response_0": "good", "response_1": "bad", "better_response_id": "0"}, PLAIN),
        ({"prompt": "q", "response_0": "good", "response_1": "bad", "better_response_id": -1}, "label"),
    ],
    "pku_safer": [
        ({"prompt": "q", "response_0": "bad", "response_1": "good", "safer_response_id": 1}, PLAIN),
        ({"prompt": "q", "response_0": "good", "response_1": "bad", "safer_response_id": 0}, PLAIN),
    ],
    "shp": [
        ({"history": "q", "human_ref_A": "good", "human_ref_B": "bad", "labels": 1}, PLAIN),
        ({"history": "q", "human_ref_A": "bad", "human_ref_B": "good", "labels": 0}, PLAIN),
        ({"history": "q", "human_ref_A": "bad", "human_ref_B": "good", "labels": 2}, "label"),
    ],
    "helpsteer3": [
        ({"context": [user("q")], "response1": "good", "response2": "bad", "overall_preference": -3}, PLAIN),
        ({"context": [user("q")], "response1": "bad", "response2": "good", "overall_preference": 1}, PLAIN),
        ({"context": [user("q")], "response1": "bad", "response2": "good", "overall_preference": 0}, "tie"),
        ({"context": [user("q")], "response1": "bad", "response2": "good", "overall_preference": 9}, "label"),
        ({"context": [user("q")], "response1": "bad", "response2": "good", "overall_preference": "?"}, "label"),
    ],
    "nectar": [
        (
            {
                "prompt": f"{U}p{A}r{U}q{A}",
                "answers": [
                    {"answer": "middle", "rank": 2.0},
                    {"answer": "good", "rank": 1.0},
                    {"answer": "bad", "rank": 7.0},
                ],
            },
            TWO_TURNS,
        ),
        (
            {"prompt": f"{U}q{A}", "answers": [{"answer": "a", "rank": 1.0}, {"answer": "b", "rank": 1.0}]},
            "rank_tie",
        ),
    ],
    "mt_bench": [
        (
            {
                "winner": "model_b",
                "turn": 1,
                "conversation_a": [user("q"), bot("bad"), user("more"), bot("a")],
                "conversation_b": [user("q"), bot("good"), user("more"), bot("b")],
            },
            PLAIN,
        ),
        (
            {
                "winner": "model_a",
                "turn": 2,
                "conversation_a": [user("q"), bot("one"), user("more"), bot("a")],
                "conversation_b": [user("q"), bot("two"), user("more"), bot("b")],
            },
            "histories_differ",
        ),
        ({"winner": "tie", "turn": 1, "conversation_a": WHOLE["chosen"], "conversation_b": WHOLE["rejected"]}, "tie"),
        ({"winner": "me", "turn": 1, "conversation_a": WHOLE["chosen"], "conversation_b": WHOLE["rejected"]}, "label"),
        (
            {"winner": "model_a", "turn": 3, "conversation_a": WHOLE["chosen"], "conversation_b": WHOLE["rejected"]},
            "label",
        ),
    ],
}


def loaded(rows, **options):
    """The pairs of some rows as (prompt, chosen, rejected), and the report."""
    data, report = cu.load_preferences(rows, **options)
    for row in data:
        assert [m["role"] for side in ("chosen", "rejected") for m in row[side]] == ["assistant"] * 2
    return [(row["prompt"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in data], report


CASES = [(layout, *case) for layout, cases in ROWS.items() for case in cases]


@pytest.mark.parametrize(("layout", "row", "expected"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)])
def test_each_row_gives_its_messages_or_its_reason(layout, row, expected):
    rows = [ROWS[layout][0][0], row]
    pairs, report = loaded(rows, layout=layout)
    if isinstance(expected, str):
        assert report.dropped == {expected: [1]} and len(pairs) == 1
    else:
        assert report.dropped == {} and pairs[1] == expected


@pytest.mark.parametrize("layout", ROWS)
def test_each_layout_is_detected_by_its_columns(layout):
    valid = [row for row, expected in ROWS[layout] if not isinstance(expected, str)]
    for row in valid:
        assert loaded([row])[1].layout == layout
    assert loaded(valid)[1].layout == layout


def test_a_broken_first_row_does_not_mislead_the_detection():
    good = ROWS["hh"][0][0]
    _, report = loaded([{"chosen": "oh", "rejected": None}, good, good])
    assert report.layout == "hh" and report.dropped == {"missing": [0]}


def test_every_layout_of_the_course_has_its_rows_here():
    assert set(ROWS) | {"kto", "kto_messages"} == set(LAYOUTS)


@pytest.mark.parametrize("as_messages", [False, True])
def test_unpaired_answers_are_paired_within_a_prompt_and_the_rest_is_counted(as_messages):
    said = [("q", "good", True), ("x", "alone", True), ("q", "bad", False), ("q", "bad too", 0), ("z", "no", False)]
    said += [("q", "good too", "1"), ("q", "?", "perhaps"), ("q", "", False), ("x", "too", True)]
    if as_messages:
        rows = [{"messages": [user(p), bot(a)], "label": label} for p, a, label in said]
    else:
        rows = [{"prompt": p, "completion": a, "label": label} for p, a, label in said]
    pairs, report = loaded(rows)
    assert report.layout == ("kto_messages" if as_messages else "kto")
    assert pairs == [([user("q")], "good", "bad"), ([user("q")], "good too", "bad too")]
    assert (report.read, report.kept, report.joined) == (9, 2, 2)
    assert report.dropped == {"unpaired": [1, 4, 8], "label": [6], "empty_answer": [7]}
    with pytest.raises(ValueError, match=r"no row is left(.|\n)*train with KTO"):
        loaded(rows[:2])


def test_two_layouts_that_fit_are_an_error_that_names_both():
    row = ROWS["pku_better"][0][0] | {"safer_response_id": 0}
    with pytest.raises(ValueError, match=r"fit more than one layout.*pku_better.*pku_safer"):
        loaded([row])
    assert loaded([row], layout="pku_better")[0] == [PLAIN]
    assert loaded([row], layout="pku_safer")[0] == [([user("q")], "bad", "good")]


def test_columns_that_fit_nothing_are_an_error_that_names_the_nearest_layouts():
    with pytest.raises(
        ValueError, match=r"q \(text\), chosen \(text\), rejected \(text\) fit no layout; .*nearest.*text \("
    ):
        loaded([{"q": "q", "chosen": "a", "rejected": "b"}])
    with pytest.raises(ValueError, match="messages written as text"):
        loaded([{"chosen": str(WHOLE["chosen"]), "rejected": json.dumps(WHOLE["rejected"])}])


def test_columns_of_ones_own_are_mapped():
    own = {"câu_hỏi": "q", "hay": "good", "dở": "bad", "ghi_chú": "x"}
    names = {"prompt": "câu_hỏi", "chosen": "hay", "rejected": "dở"}
    pairs, report = loaded([own], columns=names)
    assert pairs == [PLAIN] and report.layout == "text" and report.unused == ["ghi_chú"]
    decomposed = {"prompt": "ca\u0302u_ho\u0309i", "chosen": "hay", "rejected": "dơ\u0309"}
    assert loaded([own], columns=decomposed)[0] == [PLAIN]
    assert loaded([{unicodedata.normalize("NFD", name): cell for name, cell in own.items()}], columns=names)[0] == [
        PLAIN
    ]
    with pytest.raises(ValueError, match=r"columns= names “cau_hoi”.*did you mean “câu_hỏi”"):
        loaded([own], columns={**names, "prompt": "cau_hoi"})
    with pytest.raises(ValueError, match=r"columns= names “promt”.*did you mean “prompt”"):
        loaded([own], columns={"promt": "câu_hỏi"})


PIECES = st.sampled_from(["Human:", "Assistant: ", "\n", "\nHuman: ", "Human", ":", " ", "\n\n", "ố"])
CONTENT = st.lists(PIECES | st.text(max_size=8), max_size=6).map("".join)


@given(st.lists(CONTENT, min_size=1, max_size=6))
def test_split_then_join_gives_back_the_dialogue(contents):
    """For any text: what is split is joined to the same transcript, whose last marker gets its space if it lacks it."""
    transcript = "".join((U, A)[i % 2] + text for i, text in enumerate(contents))
    assert join_dialogue(split_dialogue(transcript)) == re.sub(r"(\n\n(Human|Assistant):)\Z", r"\1 ", transcript)


@given(st.lists(CONTENT, min_size=1, max_size=6))
def test_join_then_split_gives_back_the_messages(contents):
    """For any text that holds no marker of a turn ("\\n\\nHuman: "); "Human:" inside a turn is none."""
    messages = [(user, bot)[i % 2](text) for i, text in enumerate(contents)]
    transcript = join_dialogue(messages)
    if len(MARKER.findall(transcript)) == len(messages):
        assert split_dialogue(transcript) == messages


@given(CONTENT, CONTENT, CONTENT)
def test_no_row_is_lost_whatever_it_says(prompt, chosen, rejected):
    rows = [ROWS["text"][0][0], {"prompt": prompt, "chosen": chosen, "rejected": rejected}]
    _, report = loaded(rows)
    assert report.read == 2 == report.kept + sum(map(len, report.dropped.values()))
    empty = not all(text.strip(BLANK) for text in (prompt, chosen, rejected))
    if "malformed" in report.dropped:  # a whole transcript where the layout has a text
        assert any(text.startswith("\n\nHuman:") for text in (prompt, chosen, rejected))
    else:
        assert (report.kept == 1) == (empty or report.dropped.get("same_answers") == [1])
