"""The labs: their losses are TRL's, their claims are recorded, their exercises name the slips, each stands alone."""

import ast
import builtins
import csv
import random
import re
from collections import defaultdict
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from test_notebooks import numbers_with_a_decimal
from trl import DPOTrainer

import course_utils as cu
from course_utils.exercises import labs
from course_utils.i18n import DECIMAL, set_language
from course_utils.world import Verdict

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "data_samples" / "labs"
BOOKS = {lang: nbformat.read(ROOT / "notebooks" / lang / "preference_labs.ipynb", 4).cells for lang in ("en", "vi")}
CODE = {cell.id: cell.source for cell in BOOKS["en"] if cell.cell_type == "code"}
GOOD, FAULT, GIBBERISH = Verdict(), Verdict(("polite",)), Verdict(("fluent",))


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path))


@pytest.fixture(scope="module")
def names():
    found = {"torch": torch, "F": F, "cu": cu, "ipo": labs.ipo, "robust": labs.robust}
    for cell in ("family", "family-drawn"):
        exec(CODE[cell], found)
    return found


# ---------------------------------------------------------------- the losses

PAIRS, PROMPT, LENGTH = 6, 3, 16


@pytest.fixture
def random_logps():
    """Log-probabilities of every token under policy and reference, (2 · pairs, length - 1) each, and what counts."""
    torch.manual_seed(0)
    policy, ref = -torch.rand(2, 2 * PAIRS, LENGTH - 1)
    mask = torch.zeros(2 * PAIRS, LENGTH, dtype=torch.long)
    for row, tokens in enumerate(torch.randint(2, LENGTH - PROMPT, (2 * PAIRS,)).tolist()):
        mask[row, PROMPT : PROMPT + tokens] = 1
    return policy * mask[:, 1:], ref * mask[:, 1:], mask


def loss_of_trl(random_logps, kinds, beta, label_smoothing=0.0):
    """What TRL's trainer computes from these log-probabilities, in place of two models'."""

    def model(logps):
        nothing = torch.zeros_like(logps)
        more = {"entropy": nothing, "mean_logits": nothing, "is_top1": nothing.bool()}
        return lambda **_inputs: SimpleNamespace(log_probs=logps, **more)

    policy, ref, mask = random_logps
    trainer = DPOTrainer.__new__(DPOTrainer)
    gather = SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)
    settings = {
        "beta": beta,
        "label_smoothing": label_smoothing,
        "loss_types": kinds,
        "loss_weights": [1.0] * len(kinds),
    }
    settings |= {"ld_alpha": None, "precompute_ref_logps": False, "f_divergence_type": "reverse_kl", "_tp_size": 1}
    settings |= {"use_weighting": False, "aux_loss_enabled": False, "accelerator": gather, "ref_model": model(ref)}
    settings |= {"args": SimpleNamespace(gradient_checkpointing_kwargs=None), "_total_train_tokens": 0}
    settings |= {"model": SimpleNamespace(training=True)}
    vars(trainer).update(settings)
    trainer._metrics = {"train": defaultdict(list)}
    inputs = {"input_ids": mask, "attention_mask": mask, "completion_mask": mask}
    return trainer._compute_loss(model(policy), inputs, return_outputs=False)


def ours(loss, random_logps, beta):
    policy, ref, mask = random_logps
    logps = [part for one in (policy, ref) for part in one.sum(dim=1).chunk(2)]
    lengths = dict(zip(("chosen_tokens", "rejected_tokens"), mask.sum(dim=1).chunk(2)))
    asked = loss.__code__.co_varnames[: loss.__code__.co_argcount]
    return loss(*logps, beta, **{name: lengths[name] for name in lengths if name in asked}).mean()


TRLS = {"dpo": ["sigmoid"], "sigmoid_sft": ["sigmoid", "sft"]}


@pytest.mark.parametrize("name", ["dpo", "ipo", "hinge", "robust", "apo_zero", "sigmoid_sft", "sigmoid_norm"])
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_each_loss_that_trl_has_is_trls(names, random_logps, name, beta, monkeypatch):
    from trl.trainer import dpo_trainer

    monkeypatch.setattr(dpo_trainer, "is_peft_model", lambda _model: False)
    monkeypatch.setattr(dpo_trainer, "disable_gradient_checkpointing", lambda *_: torch.no_grad())
    wanted = loss_of_trl(random_logps, TRLS.get(name, [name]), beta, label_smoothing=0.1)
    found = ours(names["family"][name][0], random_logps, beta)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_simpo_is_trls(names):
    cpo = pytest.importorskip("trl.experimental.cpo", reason="TRL's experimental part has no CPO here").CPOTrainer
    trainer = cpo.__new__(cpo)
    settings = {"alpha": 0.0, "loss_type": "simpo", "simpo_gamma": 1.0, "beta": 2.0, "label_smoothing": 0.0}
    vars(trainer).update(settings | {"accelerator": SimpleNamespace(device="cpu")})
    chosen, rejected = -torch.rand(2, 8, generator=torch.Generator().manual_seed(0))
    wanted = trainer.cpo_loss(chosen, rejected)[0]
    torch.testing.assert_close(names["simpo"](-chosen, chosen, rejected, 2.0), wanted, rtol=1e-5, atol=1e-5)


def test_kto_of_pairs_is_apo_zero_where_the_batch_has_not_moved_up(names):
    down = [torch.tensor(values) for values in ([-9.0, -7.0], [-9.0, -8.0], [-8.0, -6.0], [-5.0, -7.5])]
    torch.testing.assert_close(names["kto_pair"](*down, 0.3), names["apo_zero"](*down, 0.3))
    up = [down[2], down[3], down[0], down[1]]
    assert not torch.allclose(names["kto_pair"](*up, 0.3), names["apo_zero"](*up, 0.3))


def test_the_penalty_for_length_spares_a_longer_chosen_answer(names):
    exec(CODE["length-judge"], names)
    logps, tokens = [torch.zeros(1)] * 4, torch.tensor([10.0, 20.0])
    longer, alike, shorter = (
        names["penalised"](*logps, 0.3, tokens[i], tokens[j]) for i, j in ((1, 0), (0, 0), (0, 1))
    )
    assert longer < alike < shorter  # of the first the label is explained by length


def test_robust_loss_over_flipped_labels_is_dpo_over_true_ones(names):
    torch.manual_seed(0)
    pc, pr, rc, rr = torch.randn(4, 5, dtype=torch.double) * 9
    right, turned = (names["robust"](*four, 0.3, 0.2) for four in ((pc, pr, rc, rr), (pr, pc, rr, rc)))
    torch.testing.assert_close(0.8 * right + 0.2 * turned, cu.dpo_loss(pc, pr, rc, rr, 0.3))


# ---------------------------------------------------------------- figures


def test_the_figure_of_losses_names_those_that_still_pull(names):
    figure = cu.plot_losses(names["family"], reach=30.0)
    *_rest, said = figure.axes[1].get_title().partition(":\n")
    assert {"ipo", "sigmoid_sft"} <= {*said.split(", ")}
    assert not {"dpo", "hinge"} & {*said.split(", ")} and "8" in figure.alt_text


def test_the_pull_that_is_drawn_is_minus_the_slope_of_the_loss(names):
    figure = cu.plot_losses({name: names["family"][name] for name in ("dpo", "hinge")})
    for cost, pull in zip(*(axes.get_lines() for axes in figure.axes)):
        x, y = map(torch.as_tensor, cost.get_data())
        slope = (y[2:] - y[:-2]) / (x[2:] - x[:-2])
        assert (torch.as_tensor(pull.get_ydata())[1:-1] + slope).abs().max() < 0.16  # half a kink of hinge's


def test_figures_of_arms_show_every_arm_with_its_interval():
    table = pd.read_csv(RECORDED / "losses.csv", index_col=0)
    figure = cu.plot_arms(table)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [*table.index]
    (bars,) = (one for one in figure.axes[0].collections if len(one.get_segments()) == len(table))
    ends = [sorted(segment[:, 0].tolist()) for segment in bars.get_segments()]
    assert ends == [pytest.approx(list(one)) for one in table[["preferred, low", "preferred, high"]].to_numpy()]
    assert f"{table['preferred, %'].max():.1f}% ({table['preferred, %'].idxmax()})" in figure.alt_text


# ---------------------------------------------------------------- what is recorded, and what the text says of it

CLAIMS = {"losses-read": "losses", "on-policy-read": "on_policy", "labels-read": "labels", "length-read": "length"}
CLAIMS |= {"too-far-read": "too_far"}


def rows(name):
    with (RECORDED / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


#: What is counted, or known beforehand.
WITHOUT_INTERVAL = {"", "pairs", "similar prompts", "step", *(f"preferred, seed {seed}" for seed in range(3))}


@pytest.mark.parametrize("name", CLAIMS.values())
def test_each_mean_lies_in_its_interval_and_three_seeds_were_run(name):
    for row in rows(name):
        means = [
            column for column in row if not column.endswith((", low", ", high")) and column not in WITHOUT_INTERVAL
        ]
        for column in means:
            what, unit = column.partition(", ")[::2]
            if row[column] == row[f"{what}, low"] == row[f"{what}, high"] == "":
                assert what == "wins"  # of an arm against itself
                continue
            low, mean, high = (float(row[one]) for one in (f"{what}, low", column, f"{what}, high"))
            assert low <= mean <= high and (unit != "%" or 0 <= low <= high <= 100)
        seeds = [float(row[f"preferred, seed {seed}"]) for seed in range(3)]
        assert sum(seeds) / 3 == pytest.approx(float(row["preferred, %"]), abs=0.1)


@pytest.mark.parametrize("lang", BOOKS)
@pytest.mark.parametrize(
    ("cell", "tables"), [*((cell, [table]) for cell, table in CLAIMS.items()), ("beta-means", ["../betas"])]
)
def test_each_number_with_a_decimal_in_the_text_is_recorded(cell, tables, lang):
    lesson = nbformat.read(ROOT / "notebooks" / lang / "dpo_finetuning_example.ipynb", 4).cells
    (text,) = (one.source for one in (*BOOKS[lang], *lesson) if one.id == cell)
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|\$[^$]*\$", "", text.partition("\n## ")[0])  # of this section alone
    values = [v for t in tables for v in re.split(r"[,\n]", (RECORDED / f"{t}.csv").read_text(encoding="utf-8"))]
    known = {float(value) for value in values if re.fullmatch(r"-?[\d.]+", value)}
    known = {abs(value) for one in known for value in (one, round(one, 1), round(one, 2))}
    found = numbers_with_a_decimal(text)
    assert found and found <= known


# ---------------------------------------------------------------- each lab stands alone


def test_no_lab_needs_another():
    """What a lab's cells read is defined in the first cells or in the lab itself."""
    known, own, begun = {*dir(builtins), "display"}, set(), False
    for cell in BOOKS["en"]:
        if cell.cell_type == "markdown" and re.match(r"## \d\.", cell.source):
            begun, own = True, set()
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        stored |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ExceptHandler)}
        stored |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        aliases = [
            name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for name in node.names
        ]
        stored |= {(alias.asname or alias.name).partition(".")[0] for alias in aliases}
        read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        own |= stored
        if not begun:
            known |= stored
        assert read <= known | own, cell.id


def test_each_lab_has_a_question_a_prediction_an_exercise_and_a_verdict():
    sections, current = [], []
    for cell in BOOKS["en"]:
        if cell.cell_type == "markdown" and re.match(r"## \d\.", cell.source):
            sections.append(current := [])
        current.append(cell)
    assert len(sections) == 6
    for cells in sections:
        text = "\n".join(cell.source for cell in cells)
        code = [cell for cell in cells if cell.cell_type == "code"]
        assert "cu.ex(" in text and ("**Write down:**" in text or "my_prediction" in text)
        assert any(cell.id.endswith("-holds") for cell in code)
        assert any("<details>" in cell.source for cell in cells if cell.cell_type == "markdown")
        assert len([*takewhile(lambda cell: cell.id != "progress-table", code)]) <= 9


# ---------------------------------------------------------------- exercises on data


def verdict(name, answer):
    result = cu.ex(name).check(answer)
    return result.outcome, result.diagnosis


def sides(better, even=40, conclusion="undecided"):
    """Verdicts of 120 prompts, of which ours wins so many and loses as many as are left."""
    lost = 120 - even - better
    ours, theirs = [GOOD] * better + [FAULT] * lost, [FAULT] * better + [GOOD] * lost
    return {"ours": ours + [GOOD] * even, "theirs": theirs + [GOOD] * even, "conclusion": conclusion}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (sides(70, conclusion="better"), ("pass", None)),
        (sides(10, conclusion="worse"), ("pass", None)),
        (sides(41), ("pass", None)),
        (sides(41, conclusion="better"), ("fail", "interval_holds_half")),
        (sides(70), ("fail", "undecided_though_clear")),
        (sides(70, conclusion="worse"), ("fail", "wrong_side")),
        (sides(70, conclusion="yes"), ("fail", "no_conclusion")),
        (sides(70) | {"theirs": [GOOD] * 90}, ("fail", "other_prompts")),
        ({"ours": [GOOD] * 50, "theirs": [FAULT] * 50, "conclusion": "better"}, ("fail", "too_few")),
        (sides(0, even=120), ("fail", "same_run")),
        (sides(70) | {"ours": [Verdict(judged=False)] * 120}, ("fail", "not_judged")),
        ({"ours": [GOOD] * 120}, ("fail", "not_three")),
        ([1, 2], ("fail", "not_three")),
        (None, ("todo", None)),
    ],
)
def test_a_loss_is_better_only_beyond_the_interval(answer, found):
    assert verdict("labs.own_loss", answer) == found


def shorter(ours="a b c", theirs="a b c d e f", better=41):
    found = sides(better) | {"our answers": [ours] * 120, "their answers": [theirs] * 120}
    found.pop("conclusion")
    return found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (shorter(), ("pass", None)),
        (shorter(better=70), ("pass", None)),
        (shorter(better=10), ("fail", "worse")),
        (shorter(ours="a b c d e f"), ("fail", "not_shorter")),
        (shorter(ours="a b c d e f", theirs="a b c"), ("fail", "not_shorter")),
        (shorter() | {"our answers": ["a"] * 60}, ("fail", "other_answers")),
        (shorter() | {"theirs": [GOOD] * 90}, ("fail", "other_prompts")),
        (shorter() | {"ours": [GOOD] * 50, "theirs": [FAULT] * 50}, ("fail", "too_few")),
        (shorter() | {"ours": [Verdict(judged=False)] * 120}, ("fail", "not_judged")),
        (shorter() | {"ours": [GOOD] * 120, "theirs": [GOOD] * 120}, ("fail", "same_run")),
        ({"ours": [GOOD] * 120}, ("fail", "not_four")),
        (None, ("todo", None)),
    ],
)
def test_shorter_must_not_be_worse(answer, found):
    assert verdict("labs.shorter", answer) == found


def test_the_numbers_of_words_have_the_decimal_sign_of_the_language():
    assert "3.0 words instead of 6.0" in cu.ex("labs.shorter").check(shorter()).text
    set_language("vi")
    text = cu.ex("labs.shorter").check(shorter()).text
    assert "3,0" in text and "6,0" in text and not DECIMAL.search(text)


def turned(row):
    return {"chosen": row["rejected"], "rejected": row["chosen"]}


def flips(choose):
    """A function that turns the rows of these numbers."""

    def flip(pairs, share, seed):
        some = choose(len(pairs), share, seed)
        return pairs.map(lambda row, i: turned(row) if i in some else row, with_indices=True)

    return flip


def drawn(count, share, seed):
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[: round(share * count)].tolist()


def coins(count, share, seed):
    chance = random.Random(seed)
    return [i for i in range(count) if chance.random() < share]


@pytest.mark.parametrize(
    ("flip", "found"),
    [
        (labs.flip_labels, ("pass", None)),
        (flips(drawn), ("pass", None)),
        (flips(lambda n, share, seed: range(round(share * n))), ("fail", "first_rows")),
        (flips(lambda n, share, seed: range(n - round(share * n), n)), ("fail", "first_rows")),
        (flips(lambda n, share, seed: {*range(n)} - {*drawn(n, share, seed)}), ("fail", "complement")),
        (flips(lambda n, share, seed: drawn(n, share, 3)), ("fail", "seed_unused")),
        (flips(lambda n, share, seed: torch.randperm(n)[: round(share * n)].tolist()), ("fail", "not_repeatable")),
        (flips(lambda n, share, seed: drawn(n, int(share * n) / n, seed)), ("fail", "not_the_share")),
        (flips(lambda n, share, seed: coins(n, share, seed)), ("fail", "coin")),
        (lambda pairs, share, seed: pairs, ("fail", "nothing")),
        (lambda pairs, share, seed: print(share), ("fail", "no_return")),
        (lambda pairs, share, seed: pairs.map(lambda row: {"chosen": row["rejected"]}), ("fail", "one_side")),
        (lambda pairs, share, seed: labs.flip_labels(pairs, share, seed).shuffle(seed), ("fail", "rows_changed")),
        (lambda pairs, share, seed: pairs.select(range(10)), ("fail", "rows_changed")),
        (lambda pairs, share, seed: None, ("todo", None)),
        (lambda pairs, share, seed: [1] * 50, ("fail", "not_a_dataset")),
        (lambda pairs, share, seed: pairs.nothing, ("error", "exception")),
    ],
)
def test_labels_are_flipped_in_as_many_drawn_rows_as_were_asked(flip, found):
    assert verdict("labs.flip_labels", flip) == found


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("other", "ln 2", "ln 2"), ("pass", None)),
        (("ln 2", "ln 2", "ln 2"), ("fail", "adapter_off")),
        (("other", "other", "ln 2"), ("fail", "merged")),
        (("other", "ln 2", "other"), ("fail", "copy")),
        (("yes", "ln 2", "ln 2"), ("fail", "other_words")),
        (("other", "ln 2"), ("fail", "not_three")),
    ],
)
def test_the_first_loss_tells_the_reference(words, found):
    assert verdict("labs.first_loss", dict(zip(labs.WAYS, words))) == found


def test_every_named_mistake_of_these_exercises_is_tried_here():
    tests = (test_a_loss_is_better_only_beyond_the_interval, test_shorter_must_not_be_worse)
    tests += (test_labels_are_flipped_in_as_many_drawn_rows_as_were_asked, test_the_first_loss_tells_the_reference)
    for one, test in zip((labs.OWN_LOSS, labs.SHORTER, labs.FLIP_LABELS, labs.FIRST_LOSS), tests):
        tried = {case[1][1] for mark in test.pytestmark for case in mark.args[1]} - {None, "exception", "no_return"}
        assert tried == {mistake.key for mistake in one.mistakes}
