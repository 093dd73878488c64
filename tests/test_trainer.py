"""The laws of a training, with TRL as the referee. What a batch holds, test_batch.py tests."""

import copy
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset, load_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from test_notebooks import cells
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, TrainerState, TrainingArguments, set_seed
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

import course_utils as cu
from course_utils.batch import REF_LOGPS, encode, encode_rows
from course_utils.interrupt import Guard, checkpoint_of, first_interrupt
from course_utils.trainer import PairTrainer

ROOT = Path(__file__).parents[1]
LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
NAMES = [f"{kind}/{name}" for kind in ("rewards", "logps") for name in ("chosen", "rejected")]
NAMES += ["rewards/margins", "rewards/accuracies"]
#: As TRL reads the rows. Adam's ε keeps rounding from deciding which way a weight goes whose gradient is almost 0.
IN_ORDER = {"train_sampling_strategy": "sequential", "learning_rate": 1e-4, "adam_epsilon": 1e-5}


@pytest.fixture(scope="module")
def make_args(setup, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("runs"))

    def make(config=TrainingArguments, **more):
        steps = {"max_steps": 3, "per_device_train_batch_size": 4, "output_dir": folder}
        return config(**{**setup.training_args, **steps, **more})

    return make


@pytest.fixture(scope="module")
def few(pairs):
    """18 short pairs: the last batch of four is half full."""
    lengths = [sum(len(row[side][0]["content"]) for side in ("prompt", "chosen", "rejected")) for row in pairs]
    return pairs.select(sorted(range(len(pairs)), key=lengths.__getitem__)[:18])


@pytest.fixture(scope="module")
def demonstrations(few):
    return few.rename_column("chosen", "completion").remove_columns("rejected")


@pytest.fixture(scope="module")
def tuned(small, setup, make_args):
    """A model changed in memory: what is on the disk is no longer its reference."""
    data = load_dataset("json", data_files=str(setup.instructions / "train.jsonl"), split="train").select(range(40))
    return cu.train_sft(*small, data, make_args(learning_rate=1e-3)).model


@pytest.fixture
def orpo(monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    return pytest.importorskip("trl.experimental.orpo", exc_type=ImportError)


def test_a_loss_that_asks_for_lengths_gets_the_answers_tokens(small, few, make_args):
    """End of turn included; and a loss that does not ask is not given them."""
    model, tokenizer = small
    row, seen = encode(tokenizer, few[0]["prompt"], few[0]["chosen"], few[0]["rejected"]), []

    def loss(pc, pr, rc, rr, beta, rejected_tokens, chosen_tokens):
        seen.append((chosen_tokens.tolist(), rejected_tokens.tolist()))
        return cu.dpo_loss(pc, pr, rc, rr, beta)

    one = few.select([0])
    asked, plain = (cu.train_dpo(model, tokenizer, one, make_args(max_steps=1), loss=f) for f in (loss, cu.dpo_loss))
    assert seen == [([len(row.answers[0])], [len(row.answers[1])])]
    assert asked.log[0]["loss"] == plain.log[0]["loss"]


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def steps(log):
    return [entry for entry in log if "loss" in entry]


def trl_log(trainer, model, tokenizer, rows, args, **more):
    trainer = trainer(copy.deepcopy(model), args=args, train_dataset=rows, processing_class=tokenizer, **more)
    trainer.train()
    return steps(trainer.state.log_history)


def assert_same_log(ours, theirs, names=("loss", *NAMES), tolerance=1e-4):
    ours, theirs = steps(ours), steps(theirs)
    assert [entry["step"] for entry in ours] == [entry["step"] for entry in theirs] != []
    for one, other in zip(ours, theirs):
        for name in names:
            assert one[name] == pytest.approx(other[name], abs=tolerance), f"{name} at step {one['step']}"


# TRL is the referee.


@pytest.mark.parametrize(
    ("settings", "peft_config"),
    [
        ({}, None),
        ({"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, "logging_steps": 2}, None),
        ({"learning_rate": 1e-3}, LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.1)),
    ],
    ids=["all weights", "two batches a step", "adapter with dropout"],
)
def test_every_dpo_step_is_trls(small, few, make_args, settings, peft_config):
    settings = {**IN_ORDER, "max_steps": 10, **settings}
    ours = cu.train_dpo(*small, few, make_args(**settings), beta=0.3, peft_config=peft_config)
    args = make_args(DPOConfig, **settings, beta=0.3)
    model = copy.deepcopy(small[0])
    if peft_config:
        set_seed(args.seed)
        model = get_peft_model(model, copy.deepcopy(peft_config))
    reference = None if peft_config else copy.deepcopy(small[0])
    theirs = trl_log(DPOTrainer, model, small[1], few, args, ref_model=reference)
    assert_same_log(ours.log, theirs, ["loss", "grad_norm", *NAMES])
    assert abs(theirs[-1]["rewards/margins"]) > 0.01  # it has moved


@pytest.mark.parametrize("accumulated", [1, 2])
def test_every_sft_step_is_trls_a_mean_over_the_tokens_of_all_answers(small, demonstrations, make_args, accumulated):
    settings = {**IN_ORDER, "max_steps": 5, "gradient_accumulation_steps": accumulated}
    ours = cu.train_sft(*small, demonstrations, make_args(**settings)).log
    theirs = trl_log(SFTTrainer, *small, demonstrations, make_args(SFTConfig, **settings))
    assert_same_log(ours, theirs, ["loss", "grad_norm"])
    assert abs(theirs[-1]["loss"] - theirs[0]["loss"]) > 0.01


@pytest.mark.parametrize("accumulated", [1, 2])
def test_orpo_starts_from_trls_numbers_but_for_its_nll(small, few, make_args, orpo, accumulated):
    """TRL takes the mean over prompts and chosen answers, the paper over the chosen answer."""
    settings = {**IN_ORDER, "max_steps": 1, "gradient_accumulation_steps": accumulated}
    ours = cu.train_orpo(*small, few, make_args(**settings), lam=0.3).log
    theirs = trl_log(orpo.ORPOTrainer, *small, few, make_args(orpo.ORPOConfig, **settings, beta=0.3))
    assert_same_log(ours, theirs, ["log_odds_ratio", "log_odds_chosen", *NAMES], tolerance=1e-5)
    for entry in (ours[0], theirs[0]):
        assert entry["loss"] == pytest.approx(entry["nll_loss"] - 0.3 * entry["log_odds_ratio"], abs=1e-5)
    answers, wholes = nlls(*small, few.select(range(4 * accumulated)))
    assert ours[0]["nll_loss"] == pytest.approx(answers.mean(dim=1).nanmean().item(), abs=1e-5)
    assert theirs[0]["nll_loss"] == pytest.approx(wholes.mean().item(), abs=1e-5)
    assert abs(answers.mean() - wholes.mean()) > 0.01


@torch.no_grad()
def nlls(model, tokenizer, rows):
    """By hand: the mean NLL of each chosen answer, and, a batch of four, that of prompts and chosen answers."""
    answers, wholes = [], []
    for row in rows:
        found = encode(tokenizer, row["prompt"], row["chosen"])
        ids = torch.tensor([found.prompt + found.answers[0]])
        logps = model(input_ids=ids).logits[0, :-1].log_softmax(dim=-1)
        nll = F.nll_loss(logps, ids[0, 1:], reduction="none")
        answers.append(nll[len(found.prompt) - 1 :].mean())
        wholes.append(nll)
    batches = [torch.cat(wholes[start : start + 4]).mean() for start in range(0, len(wholes), 4)]
    return torch.stack(answers)[:, None], torch.stack(batches)


# The start.


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("peft_config", [None, LORA], ids=["all weights", "adapter"])
@pytest.mark.parametrize("after_sft", [False, True])
def test_identical_models_give_ln_2_and_zero_margin(small, tuned, few, make_args, after_sft, peft_config, bf16):
    model = tuned if after_sft else small[0]
    args = make_args(learning_rate=1e-3, bf16=bf16, max_steps=2)
    log = cu.train_dpo(model, small[1], few, args, peft_config=peft_config).log
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-6) and log[0]["rewards/margins"] == 0
    assert log[1]["rewards/margins"] != 0


def test_dropout_in_attention_is_off_too(small, few, make_args):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=len(small[1]), **sizes, attention_dropout=0.5))
    run = cu.train_dpo(model, small[1], few, make_args(max_steps=1))
    assert run.log[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert run.model.model.layers[0].self_attn.attention_dropout == 0.5  # in training alone


@pytest.mark.parametrize("beta", [0.05, 0.5])
@pytest.mark.parametrize("peft_config", [None, LORA], ids=["all weights", "adapter"])
def test_a_reference_read_beforehand_changes_nothing(small, tuned, few, make_args, beta, peft_config):
    args = make_args(learning_rate=1e-3)
    known = cu.precompute_ref_logps(tuned, small[1], few, args)
    logs = [cu.train_dpo(tuned, small[1], rows, args, beta, peft_config=peft_config).log for rows in (few, known)]
    assert_same_log(*logs)


def test_a_reference_read_beforehand_in_bf16_starts_near_ln_2(small, few, make_args):
    args = make_args(bf16=True)
    known = cu.precompute_ref_logps(*small, few, args)
    assert cu.train_dpo(*small, known, args).log[0]["loss"] == pytest.approx(math.log(2), abs=5e-3)


def test_the_reference_of_another_model_is_refused(small, tuned, few, make_args):
    args = make_args()
    known = cu.precompute_ref_logps(tuned, small[1], few, args)
    with pytest.raises(ValueError, match=r"differ by up to .* leave out the columns ref_chosen_logps, ref_rejected"):
        cu.train_dpo(*small, known, args)
    again = cu.precompute_ref_logps(*small, known, args)  # takes the place of the old ones
    assert cu.train_dpo(*small, again, args).finished


def test_an_adapter_that_does_not_start_at_zero_is_refused(small, few, make_args):
    adapter = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    with pytest.raises(ValueError, match="an adapter that does not start at zero"):
        cu.train_dpo(*small, few, make_args(), peft_config=adapter)


def test_an_adapter_that_takes_its_start_out_of_the_weights_has_the_given_model_as_reference(small, few, make_args):
    """PiSSA's: the weights under it are what is left, and no reference."""
    adapter = LoraConfig(r=4, target_modules="all-linear", init_lora_weights="pissa")
    run = cu.train_dpo(*small, few, make_args(max_steps=1), peft_config=adapter)
    assert run.log[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_columns_of_the_reference_are_log_probabilities_and_nan_for_a_row_left_out(small, few, make_args):
    rows = [few[0], few[1] | {"prompt": [{"role": "user", "content": "How long? " * 300}]}, few[2]]
    with pytest.warns(UserWarning, match="1 of 3 rows left out, the first is row 1"):
        known = cu.precompute_ref_logps(*small, type(few).from_list(rows), make_args())
    for name, side in zip(REF_LOGPS, ("chosen", "rejected")):
        first, left_out, last = known[name]
        expected = cu.answer_logps(*small, [rows[0]["prompt"], rows[2]["prompt"]], [rows[0][side], rows[2][side]])
        assert [first, last] == pytest.approx(expected.tolist(), abs=1e-4) and math.isnan(left_out)


# The loss is an argument.


def own_dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    return torch.log(1 + torch.exp(-beta * ((chosen - ref_chosen) - (rejected - ref_rejected))))


def ipo_loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    return ((chosen - rejected) - (ref_chosen - ref_rejected) - 1 / (2 * beta)) ** 2


def own_orpo_loss(nll, chosen, rejected, lam):
    odds = chosen.exp() / (1 - chosen.exp()) / (rejected.exp() / (1 - rejected.exp()))
    return nll - lam * torch.log(odds / (1 + odds))


def test_a_learners_own_dpo_loss_is_what_trains(small, few, make_args):
    args = make_args(learning_rate=1e-3, adam_epsilon=1e-5)
    whole, own, other = (cu.train_dpo(*small, few, args, 0.5, loss) for loss in (cu.dpo_loss, own_dpo_loss, ipo_loss))
    assert_same_log(own.log, whole.log, tolerance=1e-5)
    assert other.log[0]["loss"] == pytest.approx(1.0, abs=1e-5)  # (1 / 2β)²
    assert not torch.allclose(other.model.lm_head.weight, whole.model.lm_head.weight, atol=1e-6)


def test_a_learners_own_orpo_loss_is_what_trains(small, few, make_args):
    args = make_args(learning_rate=1e-3, adam_epsilon=1e-5)
    whole = cu.train_orpo(*small, few, args, 0.5)
    own = cu.train_orpo(*small, few, args, 0.5, own_orpo_loss)
    sft = cu.train_orpo(*small, few, args, 0.5, lambda nll, chosen, rejected, lam: nll + 0 * lam)
    assert_same_log(own.log, whole.log, ["loss", "nll_loss", "log_odds_ratio", *NAMES], tolerance=1e-5)
    assert sft.log[0]["loss"] == pytest.approx(whole.log[0]["nll_loss"], abs=1e-6)
    assert not torch.allclose(sft.model.lm_head.weight, whole.model.lm_head.weight, atol=1e-6)


def test_lambda_zero_is_sft_on_the_chosen_answers(small, few, make_args):
    entries = steps(cu.train_orpo(*small, few, make_args(), lam=0.0).log)
    assert all(entry["loss"] == pytest.approx(entry["nll_loss"], abs=1e-6) for entry in entries)


@pytest.mark.parametrize(
    ("wrong", "error", "sentence"),
    [
        (lambda losses: losses.mean(), ValueError, r"loss returned \(\); expected a tensor of shape \(4,\), one loss"),
        (lambda losses: losses[:, None], ValueError, r"loss returned \(4, 1\); expected a tensor of shape \(4,\)"),
        (lambda losses: losses[:3], ValueError, r"loss returned \(3,\); expected"),
        (lambda losses: losses.tolist(), ValueError, "loss returned list; expected a tensor"),
        (lambda losses: losses.detach().numpy(), ValueError, "loss returned ndarray; expected a tensor"),
        (lambda losses: None, ValueError, "loss returned NoneType; expected a tensor"),
        (lambda losses: losses.detach(), ValueError, "loss returned numbers without a gradient"),
        (lambda losses: losses * math.nan, FloatingPointError, r"loss returned nan for the pair \(.*, 0\.3\)"),
        (lambda losses: losses / 0, FloatingPointError, r"loss returned inf for the pair \(.*; where these are finite"),
    ],
    ids=["mean", "column", "too few", "list", "numpy", "nothing", "detached", "nan", "infinite"],
)
@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_a_loss_that_is_none_gets_one_clear_sentence(small, few, make_args, method, wrong, error, sentence):
    train, right = {"dpo": (cu.train_dpo, cu.dpo_loss), "orpo": (cu.train_orpo, cu.orpo_loss)}[method]

    def my_loss(*arguments):
        return wrong(right(*arguments))

    before = weights(small[0])
    with pytest.raises(error, match="my_" + sentence):
        train(*small, few.select(range(4)), make_args(), 0.3, my_loss)
    assert same(before, weights(small[0]))


def test_orpo_logs_both_terms_of_its_loss(small, few, make_args):
    for entry in steps(cu.train_orpo(*small, few, make_args(learning_rate=1e-3), lam=0.3).log):
        assert entry["loss"] == pytest.approx(entry["nll_loss"] - 0.3 * entry["log_odds_ratio"], abs=1e-5)
        assert entry["log_odds_ratio"] < 0 < entry["nll_loss"] == pytest.approx(-entry["logps/chosen"], abs=1e-6)


# Settings, plain or TRL's.


@pytest.mark.parametrize("config", [TrainingArguments, DPOConfig, SFTConfig])
def test_settings_may_be_plain_or_trls(small, few, demonstrations, make_args, config):
    """The β of the call counts, since every config of TRL has one."""
    args = make_args(config, max_steps=1, **({"max_length": None} if config is not TrainingArguments else {}))
    assert cu.train_dpo(*small, few, args, beta=0.3).finished and cu.train_orpo(*small, few, args, lam=0.3).finished
    assert cu.train_sft(*small, demonstrations, args).finished


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"beta": 0.5}, r"DPOConfig has beta=0\.5, where this trainer has 0\.3"),
        ({"loss_type": ["ipo"]}, r"loss_type=\['ipo'\], where this trainer has \['sigmoid'\]"),
        ({"label_smoothing": 0.1}, "label_smoothing=0.1"),
        ({"precompute_ref_log_probs": True}, "precompute_ref_log_probs=True"),
    ],
)
def test_settings_of_trl_that_would_be_ignored_are_refused(small, few, make_args, setting, said):
    with pytest.raises(ValueError, match=said):
        cu.train_dpo(*small, few, make_args(DPOConfig, **setting), beta=0.3)


def test_the_max_length_of_a_trl_config_counts(small, few, make_args):
    longest = max(len(encode(small[1], row["prompt"]).prompt) for row in few)
    args = make_args(DPOConfig, max_length=longest + 1)
    with pytest.warns(UserWarning, match=rf"rows have an answer that is cut at max_length={longest + 1} tokens"):
        run = cu.train_dpo(*small, few, args)
    assert run.finished


def test_settings_the_adapter_and_the_rows_are_left_as_they_were(small, few, make_args):
    args, adapter = make_args(), LoraConfig(r=4)
    args._n_gpu = 2

    def state():
        return copy.deepcopy((args.to_dict(), args._n_gpu, vars(adapter), few.to_list()))

    before = state()
    cu.train_dpo(*small, few, args, peft_config=adapter)
    assert state() == before


def test_a_notebook_trains_on_one_gpu_though_there_are_two(small, few, make_args):
    one, two = make_args(), make_args()
    two._n_gpu = 2
    assert_same_log(*(cu.train_dpo(*small, few, args).log for args in (one, two)), tolerance=0)


# The models.


@pytest.mark.parametrize(("peft_config", "training"), [(None, True), (LORA, False)], ids=["all weights", "adapter"])
@pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
def test_the_given_model_is_left_as_it_was(small, few, demonstrations, make_args, method, peft_config, training):
    model = copy.deepcopy(small[0]).train(training)
    before, marks = weights(model), vars(model).keys()
    train = {"sft": cu.train_sft, "dpo": cu.train_dpo, "orpo": cu.train_orpo}[method]
    rows = demonstrations if method == "sft" else few
    run = train(model, small[1], rows, make_args(max_steps=2, learning_rate=1e-3), peft_config=peft_config)
    assert same(before, weights(model)) and not same(before, weights(run.model))
    assert model.training == training and vars(model).keys() == marks and not run.model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("peft_config", [None, LORA], ids=["all weights", "adapter"])
def test_a_copy_of_a_trained_model_answers_with_its_own_weights(small, few, make_args, peft_config, bf16):
    run = cu.train_dpo(*small, few, make_args(learning_rate=1e-2, bf16=bf16), peft_config=peft_config)
    twin, ids = copy.deepcopy(run.model), torch.arange(10, 40).unsqueeze(0)
    with torch.no_grad():
        before = run.model(input_ids=ids).logits
        assert torch.equal(twin(input_ids=ids).logits, before) and before.dtype == torch.float32
        assert not torch.allclose(before, small[0](input_ids=ids).logits, atol=1e-2)
        for parameter in twin.parameters():
            parameter.zero_()
        assert twin(input_ids=ids).logits.abs().max() == 0
        assert torch.equal(run.model(input_ids=ids).logits, before)
    plain = run.model.get_base_model() if peft_config else run.model
    assert vars(plain).keys() - {"peft_config"} == vars(small[0]).keys()


def test_an_adapter_alone_is_trained(small, few, make_args):
    for train in (cu.train_dpo, cu.train_orpo):
        run = train(*small, few, make_args(learning_rate=1e-3), peft_config=LORA)
        assert all("lora" in name for name, weight in run.model.named_parameters() if weight.requires_grad)
        assert same(weights(small[0]), weights(run.model.unload()))  # under it nothing has moved


def test_a_merged_adapter_answers_as_before(small, few, make_args):
    run, ids = cu.train_dpo(*small, few, make_args(learning_rate=1e-2), peft_config=LORA), torch.arange(10, 40)[None]
    before = run.model(input_ids=ids).logits
    merged = copy.deepcopy(run.model).merge_and_unload()
    torch.testing.assert_close(merged(input_ids=ids).logits, before, atol=1e-3, rtol=0)


def test_after_sft_with_an_adapter_dpo_starts_from_the_merged_model(small, few, demonstrations, make_args):
    sft = cu.train_sft(*small, demonstrations, make_args(learning_rate=1e-2), peft_config=LORA)
    assert weights(sft.model).keys() == weights(small[0]).keys() and not same(weights(sft.model), weights(small[0]))
    run = cu.train_dpo(sft.model, small[1], few, make_args(max_steps=1), peft_config=LORA)
    assert run.log[0]["rewards/margins"] == 0


def test_after_sft_with_an_adapter_all_weights_can_be_trained(small, few, demonstrations, make_args):
    sft = cu.train_sft(*small, demonstrations, make_args(), peft_config=LORA)
    assert all(parameter.requires_grad for parameter in sft.model.parameters())
    run = cu.train_dpo(sft.model, small[1], few, make_args(learning_rate=1e-3))
    assert not same(weights(run.model), weights(sft.model))


def test_a_trained_model_trains_again_in_the_same_precision(small, few, make_args):
    mixed, model = [], copy.deepcopy(small[0])

    def note(*_args):
        if torch.is_grad_enabled():
            mixed.append(torch.is_autocast_enabled("cpu"))

    model.lm_head.register_forward_pre_hook(note)
    model.model.register_forward_pre_hook(note)
    for _stage in range(2):
        model = cu.train_dpo(model, small[1], few, make_args(bf16=True, max_steps=1)).model
        assert mixed and all(mixed)
        mixed.clear()
    model(torch.tensor([[1, 2]]))
    assert mixed and not any(mixed)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_model_that_another_trainer_has_had_trains_like_any(small, few, make_args, bf16):
    """TRL's and accelerate's marks stay on it, and would tie a copy to the weights of the model it was copied from."""
    had, order = copy.deepcopy(small[0]), {"train_sampling_strategy": "sequential", "max_steps": 1}
    args = make_args(DPOConfig, **order, learning_rate=0.0, bf16=bf16)
    DPOTrainer(had, copy.deepcopy(had), args, train_dataset=few, processing_class=small[1]).train()
    marks, before = vars(had).keys(), weights(had)
    assert "forward" in marks
    runs = [cu.train_dpo(model, small[1], few, make_args(learning_rate=1e-3)) for model in (had, small[0])]
    assert_same_log(*(run.log for run in runs), tolerance=0)
    assert same(*(weights(run.model) for run in runs)) and "forward" not in vars(runs[0].model)
    assert vars(had).keys() == marks and same(before, weights(had))


def test_one_process_trains_in_one_precision_after_the_other(small, few, make_args):
    """Also with settings that were made before the first training."""
    fp32, bf16 = make_args(), make_args(bf16=True)
    logs = [cu.train_dpo(*small, few, args).log for args in (fp32, bf16, fp32, bf16)]
    assert_same_log(logs[0], logs[2], tolerance=0)
    assert_same_log(logs[1], logs[3], tolerance=0)
    assert logs[0][1]["logps/chosen"] != logs[1][1]["logps/chosen"]


def test_weights_in_half_precision_are_refused_but_under_an_adapter(small, few, demonstrations, make_args):
    model = copy.deepcopy(small[0]).to(torch.bfloat16)
    for train, rows in ((cu.train_sft, demonstrations), (cu.train_dpo, few), (cu.train_orpo, few)):
        with pytest.raises(ValueError, match="weights are in bfloat16"):
            train(model, small[1], rows, make_args())
    run = cu.train_dpo(model, small[1], few, make_args(), peft_config=LORA)
    assert run.log[0]["rewards/margins"] == 0


# The rows.


def test_rows_that_do_not_fit_are_counted_and_named(small, few, make_args):
    model, tokenizer = small[0], copy.deepcopy(small[1])
    tokenizer.model_max_length = 120
    too_long = few[1] | {"prompt": [{"role": "user", "content": "How long? " * 100}]}
    cut = few[1] | {"rejected": [{"role": "assistant", "content": "So long. " * 100}]}
    rows = type(few).from_list([few[0], too_long, few[2], cut, few[3], cut])
    for train in (cu.train_dpo, cu.train_orpo):
        with pytest.warns(UserWarning) as caught:
            run = train(model, tokenizer, rows, make_args(max_steps=2))
        caught = [warning for warning in caught if "max_length" in str(warning.message)]
        left_out, shortened = (str(warning.message) for warning in caught)
        assert left_out.startswith("1 of 6 rows left out, the first is row 1: their prompts fill max_length=120")
        assert shortened.startswith("2 of 6 rows have an answer that is cut at max_length=120 tokens, the first is row")
        assert {warning.filename for warning in caught} == {__file__}  # it points at the learner's line
        assert all(math.isfinite(value) for entry in run.log for value in entry.values())


@pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
def test_a_prompt_that_leaves_room_for_one_token_trains_with_one(small, few, demonstrations, make_args, method):
    model, tokenizer = small[0], copy.deepcopy(small[1])
    train = {"sft": cu.train_sft, "dpo": cu.train_dpo, "orpo": cu.train_orpo}[method]
    rows = (demonstrations if method == "sft" else few).select([0])
    length = len(encode(tokenizer, few[0]["prompt"], few[0]["chosen"]).prompt)
    tokenizer.model_max_length = length + 1
    with pytest.warns(UserWarning, match="cut at max_length"):
        run = train(model, tokenizer, rows, make_args(max_steps=1))
    assert run.tokens == length - 1 + (1 if method == "sft" else 2) and math.isfinite(run.log[0]["loss"])
    tokenizer.model_max_length = length
    with pytest.raises(ValueError, match=f"no row fits max_length={length} tokens"):
        train(model, tokenizer, rows, make_args(max_steps=1))


@pytest.mark.parametrize("ends_in", ["", "{% if add_generation_prompt %} well, I think{% endif %}"])
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(max_length=st.integers(4, 60))
def test_the_rows_that_the_report_keeps_are_those_that_are_trained(small, few, ends_in, max_length):
    tokenizer = copy.deepcopy(small[1])
    tokenizer.model_max_length, tokenizer.chat_template = max_length, tokenizer.chat_template + ends_in
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            report = cu.load_preferences(few, tokenizer=tokenizer)[1]
        except ValueError:  # it keeps none
            with pytest.raises(ValueError, match="no row fits"):
                encode_rows(tokenizer, few, ("chosen", "rejected"), SimpleNamespace())
            return
        rows = encode_rows(tokenizer, few, ("chosen", "rejected"), SimpleNamespace())
    assert [i for i, row in enumerate(rows) if row is None] == report.dropped.get("prompt_too_long", [])
    whole = [encode(tokenizer, *row.values()) for row in few]
    cut = [i for i, row in enumerate(rows) if row and row.answers != whole[i].answers]
    assert cut == report.cut and all(len(answer) > 0 for row in rows if row for answer in row.answers)


@pytest.fixture
def read(monkeypatch):
    """The prompts and answers of each batch, as they are trained."""
    seen, collate = [], PairTrainer.collate

    def note(rows, *others):
        seen.append([(tuple(row.prompt), *map(tuple, row.answers)) for row in rows])
        return collate(rows, *others)

    monkeypatch.setattr(PairTrainer, "collate", staticmethod(note))
    return seen


@pytest.mark.parametrize("order", ["group_by_length", "random", "sequential"])
def test_every_epoch_reads_every_row_once_in_the_order_asked_for(small, few, make_args, read, order):
    mixed = few.shuffle(seed=0)
    many = {"max_steps": -1, "num_train_epochs": 2, "per_device_train_batch_size": 5}
    run = cu.train_dpo(*small, mixed, make_args(**many, train_sampling_strategy=order))
    assert len(steps(run.log)) == len(read) == 8
    given = [encode(small[1], row["prompt"], row["chosen"], row["rejected"]) for row in mixed]
    given = [(tuple(row.prompt), *map(tuple, row.answers)) for row in given]
    epochs = [[row for batch in half for row in batch] for half in (read[:4], read[4:])]
    assert all(sorted(epoch) == sorted(given) for epoch in epochs)
    if order == "sequential":
        assert epochs == [given] * 2
    else:
        assert given not in epochs and epochs[0] != epochs[1]
    if order == "group_by_length":
        assert 1.5 * sum(map(spread, read[:4])) < sum(spread(given[start : start + 5]) for start in range(0, 18, 5))


def spread(batch):
    lengths = [sum(map(len, row)) for row in batch]
    return max(lengths) - min(lengths)


def test_tokens_are_those_that_the_trained_model_reads(small, few, make_args):
    """A prompt once, but for its last token, which opens each answer in place of the answer's own last one."""
    rows = [encode(small[1], row["prompt"], row["chosen"], row["rejected"]) for row in few]
    expected = sum(len(row.prompt) - 1 + sum(map(len, row.answers)) for row in rows)
    args = make_args(max_steps=2, per_device_train_batch_size=9)
    for train in (cu.train_dpo, cu.train_orpo):
        assert train(*small, few, args).tokens == expected


# What ends a training early.


@pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
def test_nan_is_an_error(small, few, demonstrations, make_args, method):
    model = copy.deepcopy(small[0])
    model.model.norm.weight.data[0] = math.nan
    train = {"sft": cu.train_sft, "dpo": cu.train_dpo, "orpo": cu.train_orpo}[method]
    said = "step 1: loss is nan" if method == "sft" else rf"{method}_loss returned nan for the pair \(nan, nan, "
    with pytest.raises(FloatingPointError, match=said):
        train(model, small[1], demonstrations if method == "sft" else few, make_args())


@pytest.mark.parametrize("last", [1, 5])
def test_nan_between_two_logs_or_in_the_last_step_is_an_error_too(small, few, make_args, last):
    args = make_args(logging_steps=50, max_steps=last, learning_rate=1e38, max_grad_norm=0, optim="sgd")
    with pytest.raises(FloatingPointError):
        cu.train_dpo(*small, few, args, beta=100.0)


def test_a_step_that_fp16s_loss_scaler_skips_is_no_error():
    """At first it scales too much: that gradient is infinite, and not applied."""
    guard, state = Guard(threading.Event()), TrainerState(global_step=1, max_steps=3)
    args = SimpleNamespace(fp16=True)
    guard.on_log(args, state, None, {"loss": 0.7, "grad_norm": math.inf})
    with pytest.raises(FloatingPointError, match="step 1: loss is nan"):
        guard.on_log(args, state, None, {"loss": math.nan, "grad_norm": 1.0})
    args.fp16 = False
    with pytest.raises(FloatingPointError, match="step 1: grad_norm is inf"):
        guard.on_log(args, state, None, {"loss": 0.7, "grad_norm": math.inf})


@pytest.fixture
def keyboard():
    """Interrupts are heard, also by tests that run in the background, where they are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def interrupt(monkeypatch, keyboard):
    """Interrupts of the kernel arrive in the middle of a step: `interrupt(step, times)`."""

    def at(step, times=1):
        class Interrupt(Guard):
            def on_pre_optimizer_step(self, args, state, control, **kwargs):
                for _ in range(times if state.global_step == step - 1 else 0):
                    os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr("course_utils.trainer.Guard", Interrupt)

    return at


def test_an_interrupt_keeps_the_model_so_far_and_its_log(small, few, make_args, interrupt):
    before, handler = weights(small[0]), signal.getsignal(signal.SIGINT)
    interrupt(step=2)
    with pytest.warns(UserWarning, match="interrupted after step 2 of 5: the model so far and its log are kept$"):
        run = cu.train_dpo(*small, few, make_args(max_steps=5, learning_rate=1e-3))
    assert not run.finished and [entry["step"] for entry in steps(run.log)] == [1, 2]
    assert same(before, weights(small[0])) and not same(before, weights(run.model))
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_interrupt_breaks_off(small, few, make_args, interrupt):
    before, marks, handler = weights(small[0]), vars(small[0]).keys(), signal.getsignal(signal.SIGINT)
    interrupt(step=2, times=2)
    with pytest.raises(KeyboardInterrupt):
        cu.train_dpo(*small, few, make_args(max_steps=5, learning_rate=1e-3))
    assert same(before, weights(small[0])) and vars(small[0]).keys() == marks
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("peft_config", [None, LORA], ids=["all weights", "adapter"])
def test_interrupts_at_any_point_leave_all_as_it_was(small, few, make_args, keyboard, peft_config):
    """Two in a row, from the set-up of the trainer to the last step; afterwards the next training is like the first."""

    def state():
        numbers = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()
        return signal.getsignal(signal.SIGINT), numbers, {*vars(small[0])}, small[0].training

    def train():
        return cu.train_dpo(*small, few, make_args(max_steps=3, learning_rate=1e-3), peft_config=peft_config)

    def wait(timers):  # interrupts that come after a training are of no interest
        for timer in timers:
            if timer.ident:  # it was started
                timer.join()
        time.sleep(0.1)

    train()
    begun, before, first = time.monotonic(), (state(), weights(small[0])), steps(train().log)
    lasts = time.monotonic() - begun
    for part in range(8):
        delays = [lasts * part / 8, lasts * part / 8 + 0.01]
        timers = [threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)) for delay in delays]
        try:
            for timer in timers:
                timer.start()
            with warnings.catch_warnings(action="ignore"):
                train()
            wait(timers)
        except KeyboardInterrupt:
            with suppress(KeyboardInterrupt):
                wait(timers)
        assert state() == before[0] and same(before[1], weights(small[0]))
    again = steps(train().log)
    assert [entry["loss"] for entry in again] == [entry["loss"] for entry in first]


def test_interrupts_break_off_again_after_a_training(keyboard):
    with first_interrupt() as asked:
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and not asked.is_set()


def test_the_first_interrupt_asks_and_the_second_breaks_off(keyboard):
    with pytest.raises(KeyboardInterrupt), first_interrupt() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.is_set()
        os.kill(os.getpid(), signal.SIGINT)


def test_a_training_runs_in_a_thread_too(small, few, make_args):
    runs = []
    thread = threading.Thread(target=lambda: runs.append(cu.train_dpo(*small, few, make_args(max_steps=1))))
    thread.start()
    thread.join()
    assert runs[0].finished


@pytest.mark.parametrize(("method", "stop"), [("dpo", 1), ("dpo", 4), ("orpo", 4), ("dpo with an adapter", 3)], ids=str)
def test_an_interrupted_run_goes_on_and_ends_like_a_whole_one(
    small, few, make_args, tmp_path, monkeypatch, method, stop
):
    def train(folder):
        kept = {"output_dir": str(tmp_path / folder), "save_strategy": "steps", "save_steps": 100}
        args = make_args(**kept, max_steps=5, learning_rate=1e-4, resume_from_checkpoint=True)
        adapter = LORA if "adapter" in method else None
        start = cu.train_orpo if method == "orpo" else cu.train_dpo
        return start(*small, few.select(range(12)), args, peft_config=adapter)  # three steps an epoch

    def stops(self, args, state, control, **_more):
        if state.global_step == stop - 1:
            self.interrupt.set()

    whole = train("whole")  # no checkpoint yet: it begins
    with monkeypatch.context() as patch:
        patch.setattr(Guard, "on_step_begin", stops)
        with pytest.warns(UserWarning, match=f"interrupted after step {stop} of 5.*resume_from_checkpoint=True"):
            half = train("halves")
    resumed = train("halves")
    assert not half.finished and resumed.finished and half.tokens + resumed.tokens == whole.tokens
    assert_same_log(resumed.log, whole.log)
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters()):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    again = train("halves")  # complete: nothing is left to do
    assert_same_log(again.log, resumed.log, tolerance=0)
    assert again.tokens == 0 and again.finished and same(weights(again.model), weights(resumed.model))


def test_a_checkpoint_that_was_cut_off_is_not_gone_on_from(make_args, tmp_path):
    args = make_args(output_dir=str(tmp_path), resume_from_checkpoint=True)
    assert checkpoint_of(args) is None
    for step, written in ((9, True), (10, True), (11, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if written:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").touch()  # written last
    assert checkpoint_of(args) == str(tmp_path / "checkpoint-10")
    assert checkpoint_of(make_args(output_dir=str(tmp_path))) is None


def test_batches_of_ever_other_lengths_take_no_more_memory():
    program = """if True:
        import ctypes, psutil, torch
        import course_utils

        def grown(lengths):
            before = psutil.Process().memory_info().rss
            for length in lengths:
                with torch.autocast("cpu", torch.bfloat16):
                    layer(torch.ones(length, 576)).sum().backward()
            if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
                libc.malloc_trim(0)
            return psutil.Process().memory_info().rss - before

        layer = torch.nn.Linear(576, 1536)
        grown(range(8, 76))
        print(grown(range(76, 400)))
        """
    course = Path(cu.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", program], cwd=course, capture_output=True, text=True, check=True)
    assert int(run.stdout.split()[-1]) < 100e6  # 400e6 with the library's own limit, on a processor with bf16


# ---------------------------------------------------------------- TRL alone


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_the_lessons_lines_of_trl_alone_train_save_and_load(method, few, tmp_path, monkeypatch):
    """From rows whose prompt is a part of both answers, as on the hub, and with no reference but the model's files."""
    lesson = cells("en", f"{method}_finetuning_example.ipynb")
    (text,) = (cell.source for cell in lesson if cell.id == "trl-text")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    rows = [{side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in few.select(range(8))]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    monkeypatch.setattr("datasets.load_dataset", lambda *_names, **_settings: Dataset.from_list(rows))
    small, bundled = str(tmp_path / "small"), ROOT / "data_samples" / "models" / "small"
    AutoModelForCausalLM.from_pretrained(bundled).to(torch.bfloat16).save_pretrained(small)  # as models on the hub are
    AutoTokenizer.from_pretrained(bundled).save_pretrained(small)
    for pattern, new in (
        (r"HuggingFaceTB/SmolLM2-135M(-Instruct)?\b", small),
        (r"max_steps=200", 'max_steps=1, bf16=False, use_cpu=True, report_to="none"'),
    ):
        code, found = re.subn(pattern, new, code)
        assert found == 1
    names: dict = {}
    exec(code.replace('f"{name}-Instruct"', "name"), names)  # the bundled base model has its own chat template
    trained, loaded = (dict(model.state_dict()) for model in (names["trainer"].model, names["model"]))
    assert all(torch.equal(trained[name], loaded[name]) for name in trained)
    assert {values.dtype for values in trained.values()} == {torch.float32}
    before = AutoModelForCausalLM.from_pretrained(small).state_dict()
    assert any(not torch.equal(before[name], loaded[name]) for name in trained)
    assert names["tokenizer"].chat_template
    if method == "dpo":
        assert names["trainer"].state.log_history[-1]["train_loss"] == pytest.approx(math.log(2), abs=1e-5)
