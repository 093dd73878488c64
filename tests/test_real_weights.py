"""The trainer on a real model, SmolLM2-135M-Instruct: its start, five steps, TRL's first numbers, saved and reloaded.

The bundled models, whose laws test_trainer.py has, are small in everything: depth, vocabulary, and what they know. The
sentences are this test's own. Without the package of the weights all of it is skipped.
"""

import copy
import gc
import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainingArguments
from trl import DPOConfig, DPOTrainer

import course_utils as cu
from course_utils.batch import encode, row_logps

BETA, STEPS, SIDES = 0.1, 5, ("chosen", "rejected")
LORA = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
#: All weights or an adapter, with rates that show in five steps.
WAYS = {"all weights": (None, 2e-5), "adapter": (LORA, 5e-4)}
#: Few tokens each: the system's message takes the place of the template's, which is longer.
SAID = (
    ("Could you help me?", "Of course, I would be glad to!", "No."),
    ("Bạn là ai?", "Một người bạn.", "Không biết."),
    ("Who are you?", "A friend.", "None of your business."),
    ("Mấy giờ rồi?", "Sáu giờ.", "Ai biết."),
)


@pytest.fixture(scope="module")
def real(real_weights):
    return cu.load_model(real_weights)


@pytest.fixture(scope="module")
def rows():
    def row(asked, *answers):
        prompt = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": asked}]
        return {"prompt": prompt} | {
            side: [{"role": "assistant", "content": text}] for side, text in zip(SIDES, answers)
        }

    return Dataset.from_list([row(*texts) for texts in SAID])


@pytest.fixture(scope="module")
def make_args(setup, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("runs"))

    def make(config=TrainingArguments, **more):
        plain = {"per_device_train_batch_size": 2, "max_steps": STEPS, "lr_scheduler_type": "constant"}
        plain |= {"train_sampling_strategy": "sequential", "output_dir": folder}
        return config(**{**setup.training_args, **plain, **more})

    return make


#: The last repeats in another precision what the first one says.
KINDS = ["all weights in fp32", "adapter in fp32", "adapter in bf16"]
KINDS += [pytest.param("all weights in bf16", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=KINDS)
def trained(real, rows, make_args, request):
    """Five steps with all weights or an adapter, in fp32 or bf16; and what policy and reference said in each."""
    way, _in, kind = request.param.rpartition(" in ")
    bf16 = kind == "bf16"
    if bf16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("PyTorch's bf16 takes ten times as long on this processor")
    adapter, rate = WAYS[way]
    read, given = [], {name: values.clone() for name, values in real[0].state_dict().items()}

    def loss(*arguments):
        read.append(torch.stack(arguments[:4]).detach())
        return cu.dpo_loss(*arguments)

    args = make_args(learning_rate=rate, bf16=bf16)
    run = cu.train_dpo(*real, rows, args, BETA, loss, peft_config=adapter)
    yield SimpleNamespace(run=run, read=read, given=given, bf16=bf16, adapter=adapter)
    del run  # half a gigabyte for each copy of the weights
    gc.collect()


@pytest.fixture(scope="module")
def given_logps(real, rows):
    """What the real model says of the chosen and the rejected answers, (2, pairs)."""
    return logps_of(*real, rows)


def logps_of(model, tokenizer, rows):
    return torch.stack([cu.answer_logps(model, tokenizer, rows["prompt"], rows[side]) for side in SIDES])


def said(model, tokenizer, rows):
    """The likeliest answers to two questions."""
    return cu.generate(model, tokenizer, rows["prompt"][:2], temperature=0, max_new_tokens=8)


@pytest.fixture(scope="module")
def given_answers(real, rows):
    return said(*real, rows)


def test_it_speaks(real):
    asked = [[{"role": "user", "content": "What is the capital of France?"}]]
    assert "Paris" in cu.generate(*real, asked, temperature=0, max_new_tokens=12)[0]


def test_a_shared_prompt_gives_the_numbers_of_separate_rows(real, rows, given_logps):
    encoded = [encode(real[1], row["prompt"], row["chosen"], row["rejected"]) for row in rows]
    shared, separate = (row_logps(real[0], encoded, real[1].pad_token_id, shared=way) for way in (True, False))
    assert (shared - separate).abs().max() <= 1e-2 and (shared - given_logps.T).abs().max() <= 1e-2
    for row, found in zip(encoded[:2], shared):
        ids, labels = row.prompt + row.answers[0], [-100] * len(row.prompt) + row.answers[0]
        with torch.no_grad():
            alone = cu.sequence_logps(real[0](input_ids=torch.tensor([ids])).logits, torch.tensor([labels]))
        assert (alone - found[0]).abs() <= 1e-2
    assert separate.max() < -1 and (separate[:, 0] - separate[:, 1]).abs().min() > 0.1  # they tell answers apart


def test_the_first_loss_is_ln_2_and_the_first_margin_0(trained):
    first = trained.run.log[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6) and first["rewards/margins"] == 0


def test_the_loss_of_the_same_pairs_falls(trained, real, rows, given_logps):
    assert trained.run.finished and all(math.isfinite(entry["loss"]) for entry in trained.run.log[:STEPS])
    after = cu.dpo_loss(*logps_of(trained.run.model, real[1], rows), *given_logps, BETA)
    assert after.mean() < math.log(2) - 0.1 and trained.run.log[STEPS - 1]["rewards/margins"] > 0.1


def test_the_reference_is_the_given_model_in_every_step(trained, given_logps):
    tolerance = 2e-2 * given_logps.abs().max() if trained.bf16 else 1e-2
    assert len(trained.read) == STEPS
    for step, logps in enumerate(trained.read):
        start = 2 * step % len(SAID)
        assert (logps[2:] - given_logps[:, start : start + 2]).abs().max() <= tolerance


def test_the_logged_margin_is_beta_times_how_far_the_answers_went_apart(trained):
    for entry, (chosen, rejected, ref_chosen, ref_rejected) in zip(trained.run.log, trained.read):
        margins = BETA * ((chosen - ref_chosen) - (rejected - ref_rejected))
        assert entry["rewards/margins"] == pytest.approx(margins.mean().item(), abs=1e-4)


def test_the_given_weights_stay_and_an_adapter_leaves_them_in_what_it_trains(trained, real, rows, given_logps):
    now = real[0].state_dict()
    assert all(torch.equal(values, now[name]) for name, values in trained.given.items())
    found = trained.run.model.state_dict()
    if trained.adapter is None:
        assert not any(torch.equal(values, found[name]) for name, values in trained.given.items() if "proj" in name)
        return
    plain = {name.removeprefix("base_model.model.").replace(".base_layer", ""): name for name in found}
    assert all(torch.equal(values, found[plain[name]]) for name, values in trained.given.items())
    assert all(values.any() for name, values in found.items() if "lora_B" in name)
    with trained.run.model.disable_adapter():
        assert (logps_of(trained.run.model, real[1], rows) - given_logps).abs().max() <= 1e-2


def test_saved_and_reloaded_it_gives_the_same_answers(trained, real, rows, given_answers, tmp_path):
    model = copy.deepcopy(trained.run.model)
    if trained.adapter:
        before = logps_of(model, real[1], rows)
        model = model.merge_and_unload()
        assert (logps_of(model, real[1], rows) - before).abs().max() <= 1e-2
    answers = said(model, real[1], rows)
    model.save_pretrained(tmp_path)
    real[1].save_pretrained(tmp_path)
    again, tokenizer = cu.load_model(tmp_path)
    assert all(torch.equal(*both) for both in zip(model.parameters(), again.parameters(), strict=True))
    assert said(again, tokenizer, rows) == answers != given_answers
    shutil.rmtree(tmp_path, ignore_errors=True)  # half a gigabyte, which pytest would keep


def test_trls_first_numbers_are_ours(real, rows, make_args):
    more = {"max_steps": 1}
    ours = cu.train_dpo(*real, rows, make_args(**more), BETA).log[0]
    model, reference = copy.deepcopy(real[0]), copy.deepcopy(real[0])
    args = make_args(DPOConfig, beta=BETA, **more)
    trainer = DPOTrainer(model, args=args, ref_model=reference, train_dataset=rows, processing_class=real[1])
    trainer.train()
    theirs = trainer.state.log_history[0]
    for name in ("loss", *(f"{kind}/{side}" for kind in ("rewards", "logps") for side in SIDES), "rewards/margins"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-3), name
    assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
