"""The script of own_model.md trains on real weights, and its page says what stands in it."""

import csv
import re
import unicodedata
from pathlib import Path

import own_model
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoTokenizer

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "notebooks" / "en" / "own_model.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / "tools" / "own_model.py").read_text(encoding="utf-8")
PAIRS = [
    ("Chào bạn!", "Chào bạn, mình giúp gì được?", "Gì?"),
    ("Say hi.", "Hello there!", "No."),
    ("Cảm ơn bạn.", "Không có gì, rất vui được giúp.", "Ừ."),
    ("Is tea hot?", "Usually, yes; it may be iced.", "None"),
    ("Trà có ngon không?", "Ngon, nhất là khi uống nóng.", "Không."),
    ("Thanks!", "You are welcome!", "Whatever."),
    ("Phở là gì?", "Phở là món bún nước của Việt Nam.", "Ăn."),
    ("Name a fruit.", "An apple, for example.", "Fruit."),
]


def write(path, rows, header=tuple(own_model.ROLES)):
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def logits(model, tokenizer, text="Chào bạn!"):
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits


# ------------------------------------------------------------------ on real weights


@pytest.fixture(scope="module")
def run(real_weights, tmp_path_factory):
    """Two steps of SFT, two of DPO: the folder that the script wrote and what it said."""
    folder = tmp_path_factory.mktemp("own")
    table = write(folder / "pairs.csv", PAIRS)
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_model, "ANSWER", 6)
        patch.setattr(own_model, "print", said.append, raising=False)
        own_model.main(
            ["--model", str(real_weights), "--data", str(table), "--output", str(folder / "out"), "--max_steps", "2"]
        )
    return folder / "out", said


def answers(said, who):
    return [line for line in said if line.startswith(f"{who}: ")]


def test_dpo_starts_at_ln_2(run):
    (line,) = [line for line in run[1] if line.startswith("first loss of DPO")]
    assert float(re.search(r"DPO: ([\d.]+);", line)[1]) == pytest.approx(0.6931, abs=1e-3)


def test_the_same_three_questions_are_asked_each_time_and_were_not_trained_on(run):
    asked = [prompt for prompt, _, _ in PAIRS[-3:]]
    for who in ("before", "after SFT", "after DPO", "reloaded"):
        assert [re.search(r": (.+) -> ", line)[1] for line in answers(run[1], who)] == asked
    assert run[1][0].startswith("5 pairs to train on; 0 are longer")


def test_what_is_saved_answers_like_what_was_trained(run, monkeypatch):
    folder, said = run
    tuned = [line.removeprefix("after DPO") for line in answers(said, "after DPO")]
    assert tuned == [line.removeprefix("reloaded") for line in answers(said, "reloaded")]
    assert said[-1].startswith("3 of 3 answers are the same")
    monkeypatch.setattr(own_model, "ANSWER", 6)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    now = own_model.ask("now", own_model.load(folder / "model"), tokenizer, [PAIRS[-1][0]])
    assert tuned[-1].endswith(f"-> {now[0]!r}")


def test_the_reference_is_the_merged_sft_model_and_not_the_base(run, real_weights):
    folder, _ = run
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    sft = own_model.load(folder / "sft")
    after_sft = logits(sft, tokenizer)
    policy = PeftModel.from_pretrained(sft, folder / "adapter").eval()
    assert policy.peft_config["default"].base_model_name_or_path == str(folder / "sft")
    with policy.disable_adapter():
        assert torch.equal(logits(policy, tokenizer), after_sft)
    tuned = logits(policy, tokenizer)
    assert not torch.allclose(tuned, after_sft, atol=1e-3)  # DPO trained it,
    assert not torch.allclose(logits(own_model.load(real_weights), tokenizer), after_sft, atol=1e-3)  # and SFT did
    torch.testing.assert_close(logits(own_model.load(folder / "model"), tokenizer), tuned, atol=1e-3, rtol=1e-3)


def test_the_merged_model_stands_alone_in_32_bits(run):
    folder, _ = run
    assert not (folder / "model" / "adapter_config.json").exists()
    weights = load_file(folder / "model" / "model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    assert not [name for name in weights if "lora" in name]
    assert AutoTokenizer.from_pretrained(folder / "model").chat_template


# ------------------------------------------------------------------ the CSV


def test_a_table_keeps_each_letter_in_one_form_and_the_word_none(tmp_path):
    rows = [[unicodedata.normalize("NFD", f" {cell} ") for cell in row] for row in PAIRS]
    table = own_model.read_pairs(write(tmp_path / "pairs.csv", rows))
    assert [tuple(row) for row in table.to_numpy()] == PAIRS


@pytest.mark.parametrize(
    ("rows", "header", "error"),
    [
        (PAIRS, ("prompt", "good", "bad"), "no column chosen, rejected; found prompt, good, bad"),
        ([("a", "b", " "), *PAIRS, ("a", "", "b")], tuple(own_model.ROLES), "empty cells in pair 1, 10"),
        (PAIRS[:7], tuple(own_model.ROLES), "found 7 pairs; expected at least 8"),
        ([(*row, "more") for row in PAIRS], tuple(own_model.ROLES), "more cells than the header"),
        ([*PAIRS, ("a", "b", "c", "d")], tuple(own_model.ROLES), "in double quotes"),
    ],
)
def test_a_table_that_does_not_fit_gets_one_sentence(tmp_path, rows, header, error):
    with pytest.raises(SystemExit, match=re.escape(error)) as said:
        own_model.read_pairs(write(tmp_path / "pairs.csv", rows, header))
    assert len(str(said.value).strip().splitlines()) == 1


@pytest.mark.parametrize("content", [None, b"", "câu,chosen\n".encode("utf-16")])
def test_a_file_that_is_no_table_in_utf_8_gets_one_sentence(tmp_path, content):
    path = tmp_path / "pairs.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match="expected a CSV file in UTF-8"):
        own_model.read_pairs(path)


def test_a_folder_that_exists_is_left_alone(tmp_path):
    with pytest.raises(SystemExit, match="name a new folder"):
        own_model.main(["--model", "none", "--data", "none", "--output", str(tmp_path)])


@pytest.mark.parametrize(
    ("prompt", "error"), [("a", None), ("word " * 400, "no pair is left")], ids=["short", "all too long"]
)
def test_pairs_that_are_too_long_are_counted_and_an_empty_rest_is_refused(tmp_path, capsys, monkeypatch, prompt, error):
    class Trained(Exception):
        pass

    def load(name):
        raise Trained

    monkeypatch.setattr(own_model, "load", load)  # what follows is another test's
    rows = [(prompt, "b", "c")] * 8 + [("word " * 400, "b", "c")] + PAIRS[:3]
    words = ["--model", str(ROOT / "data_samples" / "models" / "small"), "--output", str(tmp_path / "out")]
    words += ["--data", str(write(tmp_path / "pairs.csv", rows)), "--max_length", "300"]
    with pytest.raises(SystemExit if error else Trained, match=error):
        own_model.main(words)
    kept = 0 if error else 8
    assert f"{kept} pairs to train on; {9 - kept} are longer than 300 tokens" in capsys.readouterr().out


# ------------------------------------------------------------------ the page


def code(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_pages_code_is_the_scripts():
    blocks = code("python")
    assert len(blocks) >= 5
    lines = [line.strip() for line in SCRIPT.splitlines()]
    for block in blocks:
        wanted = [line.strip() for line in block.splitlines() if line.strip()]
        start = lines.index(wanted[0])
        assert lines[start : start + len(wanted)] == wanted, block


def test_the_pages_options_are_the_scripts(capsys):
    with pytest.raises(SystemExit):
        own_model.main(["--help"])
    options = set(re.findall(r"--\w+", capsys.readouterr().out))
    used = {word for block in code("bash") if "own_model.py" in block for word in re.findall(r"--\w+", block)}
    assert used and used <= options


def test_the_script_needs_nothing_of_the_course():
    assert "course_utils" not in SCRIPT and "import cu" not in SCRIPT
