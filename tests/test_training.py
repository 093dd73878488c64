import copy
import math
import os
import signal
import threading
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig
from transformers import TrainerState
from trl import DPOConfig, DPOTrainer, SFTConfig
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

import course_utils as cu
from course_utils.training import Watch, first_interrupt, fresh_copy, length_order, make_trainer, one_end_token

SIDES = ("chosen_labels", "rejected_labels")


def dpo_args(setup, **settings):
    return DPOConfig(**{**setup.training_args, "max_steps": 3, "per_device_train_batch_size": 4, **settings})


def orpo_args(setup, **settings):
    return ORPOConfig(**{**setup.training_args, "max_steps": 3, "per_device_train_batch_size": 4, **settings})


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def tuned(small, setup):
    """A model changed in memory: what is on the disk is no longer its reference."""
    data = load_dataset("json", data_files=str(setup.instructions / "train.jsonl"), split="train").select(range(40))
    args = SFTConfig(**setup.training_args, max_steps=3, per_device_train_batch_size=4, learning_rate=1e-3)
    return cu.train_sft(*small, data, args)


def test_training_leaves_the_given_model_as_it_was(small, tuned, pairs, setup):
    model, tokenizer = small
    before = weights(model)
    run = cu.train_dpo(model, tokenizer, pairs, dpo_args(setup, learning_rate=1e-3))
    assert same(before, weights(model)) and not same(before, weights(run.model))
    assert not same(before, weights(tuned.model))


def test_first_loss_is_ln_2_and_first_margin_zero_also_after_sft(small, tuned, pairs, setup):
    run = cu.train_dpo(tuned.model, small[1], pairs, dpo_args(setup, learning_rate=1e-3))
    assert run.log[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert run.log[0]["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert run.log[1]["rewards/margins"] != 0


def test_a_trained_model_answers_with_its_new_weights(small, tuned, pairs, setup):
    """Also when a trainer had touched the model it was copied from."""
    run = cu.train_dpo(tuned.model, small[1], pairs, dpo_args(setup, learning_rate=1e-3))
    fresh = copy.deepcopy(small[0])
    fresh.load_state_dict(run.model.state_dict())
    ids = torch.arange(10, 40).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(run.model(input_ids=ids).logits, fresh(input_ids=ids).logits)
        assert not torch.allclose(run.model(input_ids=ids).logits, tuned.model(input_ids=ids).logits)


def test_lora_starts_from_zero_margin_and_trains_only_its_adapter(small, tuned, pairs, setup):
    before = weights(tuned.model)
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    run = cu.train_dpo(tuned.model, small[1], pairs, dpo_args(setup, learning_rate=1e-3), peft_config=lora)
    assert run.log[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert run.log[0]["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert same(before, weights(tuned.model))
    assert all("lora" in name for name, parameter in run.model.named_parameters() if parameter.requires_grad)
    assert same(before, weights(run.model.unload()))  # under the adapter nothing has moved


def test_nan_is_an_error(small, pairs, setup):
    model = copy.deepcopy(small[0])
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"step 1: \w+ is nan"):
        cu.train_dpo(model, small[1], pairs, dpo_args(setup))


def test_nan_between_two_logs_is_an_error_too(small, pairs, setup):
    with pytest.raises(FloatingPointError):
        cu.train_dpo(*small, pairs, dpo_args(setup, logging_steps=50, learning_rate=1e30, max_grad_norm=0))


def test_rows_that_do_not_fit_are_counted_and_named(small, pairs, setup):
    long = dict(pairs[1], prompt=[{"role": "user", "content": "How long? " * 100}])
    data = pairs.select(range(8)).to_list()
    data[1:1] = [long]
    data = type(pairs).from_list(data)
    with pytest.warns(UserWarning, match="1 of 9 rows left out, the first is row 1"):
        run = cu.train_dpo(*small, data, dpo_args(setup, max_steps=1, max_length=200))
    assert all(math.isfinite(value) for value in run.log[0].values())
    with pytest.raises(ValueError, match="max_length=4"):
        cu.train_dpo(*small, pairs, dpo_args(setup, max_length=4))


def test_batches_hold_like_lengths_and_every_row_once():
    lengths = [3, 9, 1, 8, 2, 7] * 10
    dataset = Dataset.from_dict({"number": range(60), "input_ids": [[0] * length for length in lengths]})
    shuffled = dataset.select(length_order(dataset, batch_size=4, seed=0))
    assert sorted(shuffled["number"]) == list(range(60)) != list(shuffled["number"])
    assert shuffled["number"] == length_order(dataset, batch_size=4, seed=0)
    batches = [list(map(len, shuffled["input_ids"][i : i + 4])) for i in range(0, 60, 4)]
    assert all(max(batch) - min(batch) <= 6 for batch in batches)
    assert sum(max(batch) - min(batch) for batch in batches) < 15
    assert [batch[0] for batch in batches] != sorted(batch[0] for batch in batches)


def test_orpo_leaves_the_given_model_as_it_was_and_logs_both_terms(small, pairs, setup):
    model, tokenizer = small
    before = weights(model)
    run = cu.train_orpo(model, tokenizer, pairs, orpo_args(setup, beta=0.3, learning_rate=1e-3))
    assert same(before, weights(model)) and not same(before, weights(run.model))
    for entry in run.log[:-1]:
        assert entry["loss"] == pytest.approx(entry["nll_loss"] - 0.3 * entry["log_odds_ratio"], abs=1e-4)


@pytest.mark.parametrize("max_length", [60, None])
def test_a_prompt_that_fills_max_length_is_a_counted_drop_and_never_nan(small, pairs, setup, max_length):
    """With None, TRL would cut at 512 tokens."""
    words = 100 if max_length else 700
    long = dict(pairs[1], prompt=[{"role": "user", "content": "How long? " * words}])
    short = [row for row in pairs.select(range(40)).to_list() if len(row["prompt"][0]["content"]) < 60][:6]
    data = type(pairs).from_list([short[0], long, *short[1:]])
    with pytest.warns(UserWarning, match="1 of 7 rows left out, the first is row 1"):
        run = cu.train_orpo(*small, data, orpo_args(setup, max_length=max_length, per_device_train_batch_size=6))
    assert all(math.isfinite(value) for entry in run.log for value in entry.values())
    assert all(tensor.isfinite().all() for tensor in run.model.state_dict().values())


@pytest.mark.parametrize("add_start", [False, True])
@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_prompt_that_nearly_fills_max_length_trains_or_is_left_out(small, pairs, setup, room, add_start):
    model, tokenizer = small[0], copy.deepcopy(small[1])
    tokenizer.bos_token = "<|system|>" if add_start else None
    rows = pairs.select([0]).to_list()
    length = len(tokenizer.apply_chat_template(rows[0]["prompt"], add_generation_prompt=True, return_dict=False))
    args = orpo_args(setup, max_steps=1, per_device_train_batch_size=1, max_length=length + room)
    if room < 2:
        with pytest.raises(ValueError, match="no row fits"):
            cu.train_orpo(model, tokenizer, type(pairs).from_list(rows), args)
    else:
        run = cu.train_orpo(model, tokenizer, type(pairs).from_list(rows), args)
        assert math.isfinite(run.log[0]["loss"]) and run.log[0]["loss"] > 0


def test_orpo_answers_end_in_one_end_token(small, pairs, setup):
    """Also with a chat template that writes a line break after it, as ChatML's does."""
    tokenizer = copy.deepcopy(small[1])
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>{% endgen", "<|end|>\n{% endgen")
    args = orpo_args(setup, max_length=512)
    trainer = ORPOTrainer(
        copy.deepcopy(small[0]), args=args, train_dataset=pairs.select(range(4)), processing_class=tokenizer
    )
    end = tokenizer.eos_token_id

    def ends(rows):
        return {(row[side].count(end), row[side][-1] == end) for row in rows for side in SIDES}

    assert ends(trainer.train_dataset) == {(2, True)}  # TRL's second one
    mended = one_end_token(trainer.train_dataset, end)
    assert ends(mended) == {(1, False)}
    for row in mended:
        for side in ("chosen", "rejected"):
            assert len(row[f"{side}_input_ids"]) == len(row[f"{side}_labels"]) == len(row[f"{side}_attention_mask"])
    plain = ORPOTrainer(
        copy.deepcopy(small[0]), args=args, train_dataset=pairs.select(range(4)), processing_class=small[1]
    )
    assert one_end_token(plain.train_dataset, end).to_list() == plain.train_dataset.to_list()


def test_orpo_trains_a_lora_adapter(small, pairs, setup):
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    run = cu.train_orpo(*small, pairs, orpo_args(setup, learning_rate=1e-3), peft_config=lora)
    assert same(weights(small[0]), weights(run.model.unload())) and run.tokens > 0


def test_weights_in_half_precision_are_refused(small, pairs, setup):
    model = copy.deepcopy(small[0]).to(torch.bfloat16)
    with pytest.raises(ValueError, match="weights are in bfloat16"):
        cu.train_orpo(model, small[1], pairs, orpo_args(setup))


def test_tokens_are_those_of_prompts_and_answers_of_the_trained_model_alone(small, pairs, setup):
    model, tokenizer = small
    rows = pairs.select(range(8))

    def length(dialogue):
        return len(tokenizer.apply_chat_template(dialogue, return_dict=False))

    expected = sum(length(row["prompt"] + row[side]) for row in rows for side in ("chosen", "rejected"))
    one_epoch = {"max_steps": 2, "per_device_train_batch_size": 4, "max_length": 512}
    assert cu.train_orpo(model, tokenizer, rows, orpo_args(setup, **one_epoch)).tokens == expected
    assert cu.train_dpo(model, tokenizer, rows, dpo_args(setup, **one_epoch)).tokens == expected
    assert not model._forward_pre_hooks


@pytest.fixture
def interrupt_at_step_2(monkeypatch):
    """An interrupt of the kernel arrives in the middle of step 2."""

    class Interrupt(Watch):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            if state.global_step == 1:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("course_utils.training.Watch", Interrupt)


def test_an_interrupt_keeps_the_model_so_far_and_its_log(small, pairs, setup, interrupt_at_step_2):
    before = signal.getsignal(signal.SIGINT)
    with pytest.warns(UserWarning, match="interrupted after step 2 of 5"):
        run = cu.train_dpo(*small, pairs, dpo_args(setup, max_steps=5, learning_rate=1e-3))
    assert not run.finished and [entry["step"] for entry in run.log if "loss" in entry] == [1, 2]
    assert not same(weights(small[0]), weights(run.model))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_breaks_off(small):
    with pytest.raises(KeyboardInterrupt), first_interrupt() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.is_set()
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_an_interrupted_run_goes_on_and_ends_like_a_whole_one(small, pairs, setup, tmp_path, monkeypatch, method):
    train, config = {"dpo": (cu.train_dpo, dpo_args), "orpo": (cu.train_orpo, orpo_args)}[method]

    def args(folder):
        kept = {"output_dir": str(tmp_path / folder), "save_strategy": "steps", "save_steps": 100}
        return config(setup, **kept, max_steps=5, resume_from_checkpoint=True)

    whole = train(*small, pairs, args("whole"))  # no checkpoint yet: it begins
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_step_begin", lambda self, *_args, **_more: self.interrupt.set())
        with pytest.warns(UserWarning, match="interrupted after step 1 of 5.*resume_from_checkpoint=True"):
            train(*small, pairs, args("halves"))
    resumed = train(*small, pairs, args("halves"))
    assert resumed.finished and [e["step"] for e in resumed.log if "loss" in e] == [1, 2, 3, 4, 5]
    assert resumed.log[-2]["loss"] == pytest.approx(whole.log[-2]["loss"], abs=1e-4)
    again = train(*small, pairs, args("halves"))  # complete: nothing is left to do
    assert [e["step"] for e in again.log if "loss" in e] == [1, 2, 3, 4, 5] and again.tokens == 0
    assert same(weights(again.model), weights(resumed.model))
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters()):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_a_step_that_fp16s_loss_scaler_skips_is_no_error(setup):
    """At first it scales too much: that gradient is infinite, and not applied."""
    watch, state = Watch(threading.Event()), TrainerState(global_step=1, max_steps=3)
    args = SimpleNamespace(fp16=True)
    watch.on_train_begin(args, state, None)
    watch.on_log(args, state, None, {"loss": 0.7, "grad_norm": math.inf})
    with pytest.raises(FloatingPointError, match="loss is nan"):
        watch.on_log(args, state, None, {"loss": math.nan, "grad_norm": 1.0})
    args.fp16 = False
    with pytest.raises(FloatingPointError, match="grad_norm is inf"):
        watch.on_log(args, state, None, {"loss": 0.7, "grad_norm": math.inf})


def test_a_notebook_trains_on_one_gpu_though_there_are_two(small, pairs, setup):
    args = dpo_args(setup)
    args._n_gpu = 2
    trainer, _rows = make_trainer(DPOTrainer, *small, pairs.select(range(8)), args, None, threading.Event())
    assert trainer.args.n_gpu == 1 and trainer.args.train_batch_size == 4


def test_after_sft_with_an_adapter_dpo_starts_from_the_merged_model(small, pairs, setup):
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    data = pairs.rename_column("chosen", "completion").remove_columns("rejected")
    args = SFTConfig(**setup.training_args, max_steps=2, per_device_train_batch_size=4, learning_rate=1e-2)
    sft = cu.train_sft(*small, data, args, peft_config=lora)
    assert sft.model.state_dict().keys() == small[0].state_dict().keys()
    assert not same(weights(sft.model), weights(small[0]))
    run = cu.train_dpo(sft.model, small[1], pairs, dpo_args(setup, max_steps=1), peft_config=lora)
    assert run.log[0]["rewards/margins"] == pytest.approx(0, abs=1e-6)


def test_a_trained_model_trains_again_in_the_same_precision(small, pairs, setup):
    mixed = []
    model = copy.deepcopy(small[0])
    model.lm_head.register_forward_pre_hook(lambda *_args: mixed.append(torch.is_autocast_enabled("cpu")))
    model.model.register_forward_pre_hook(lambda *_args: mixed.append(torch.is_autocast_enabled("cpu")))
    args = dpo_args(setup, bf16=True, max_steps=1)
    for _stage in range(2):
        model = cu.train_dpo(model, small[1], pairs, args).model
        assert mixed and all(mixed)
        mixed.clear()
    model(torch.tensor([[1, 2]]))
    assert mixed and not any(mixed)


def test_a_merged_adapter_answers_with_its_own_weights(small, pairs, setup):
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    run = cu.train_dpo(*small, pairs, dpo_args(setup, learning_rate=1e-2), adapter)
    ids = torch.arange(10, 40).unsqueeze(0)
    before = run.model(input_ids=ids).logits
    merged = fresh_copy(run.model).merge_and_unload()
    torch.testing.assert_close(merged(input_ids=ids).logits, before, atol=1e-3, rtol=0)
    assert not torch.allclose(before, small[0](input_ids=ids).logits, atol=1e-2)
