"""What one notebook takes over from another is what it would have computed itself, and nothing else is taken over."""

import once
import pytest
import torch
from peft import LoraConfig
from transformers import TrainingArguments

import course_utils as cu
from course_utils import evaluation, generation, trainer


@pytest.fixture
def computed(monkeypatch, tmp_path):
    """The course as `once` leaves it; a list that grows with every training and every call for answers."""
    for module, name in ((trainer, "train"), (generation, "sample"), (evaluation, "sample")):
        monkeypatch.setattr(module, name, getattr(module, name))  # to be put back
    monkeypatch.setenv(once.FOLDER, str(tmp_path))
    once.share()
    keep, made = once.kept, []
    monkeypatch.setattr(once, "kept", lambda key, compute: keep(key, lambda: made.append(key) or compute()))
    return made


@pytest.fixture
def train(small, pairs, setup):
    def train(model=None, loss=cu.dpo_loss, beta=0.3, count=16, **settings):
        steps = {"learning_rate": 1e-4, "max_steps": 1, "per_device_train_batch_size": 4}
        args = TrainingArguments(**setup.training_args | steps | settings)
        return cu.train_dpo(model or small[0], small[1], pairs.select(range(count)), args, beta=beta, loss=loss)

    return train


def my_loss(pc, pr, rc, rr, beta):
    return -2 * torch.nn.functional.logsigmoid(beta * (pc - rc - pr + rr))


def test_a_training_and_its_answers_are_taken_over_as_they_were_computed(computed, train, small, pairs):
    prompts = list(pairs["prompt"])[:3]
    runs = [train() for _again in range(2)]
    said = [cu.generate(run.model, small[1], prompts, max_new_tokens=8) for run in runs]
    assert len(computed) == 2 and said[0] == said[1]
    assert runs[0].log == runs[1].log and runs[0].tokens == runs[1].tokens and runs[1].finished
    weights, again = (run.model.state_dict() for run in runs)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert runs[1].model is not runs[0].model and not runs[1].model.training


OTHERS = {"beta": 0.1, "seed": 1, "learning_rate": 2e-4, "count": 15, "loss": my_loss}


@pytest.mark.parametrize("other", OTHERS)
def test_another_training_is_computed(computed, train, other):
    train()
    train(**{other: OTHERS[other]})
    assert len(computed) == 2


def test_another_model_another_prompt_and_another_seed_are_computed(computed, train, small, pairs):
    prompts, short = list(pairs["prompt"])[:3], {"max_new_tokens": 4}
    run = train()
    train(run.model)
    cu.generate(run.model, small[1], prompts, **short)
    cu.generate(small[0], small[1], prompts, **short)
    cu.generate(small[0], small[1], prompts[:2], **short)
    cu.generate(small[0], small[1], prompts, **short, seed=1)
    assert len(computed) == 6


def test_an_adapter_is_trained_each_time(computed, train, small, pairs, setup):
    args = TrainingArguments(learning_rate=1e-4, max_steps=1, per_device_train_batch_size=4, **setup.training_args)
    for _again in range(2):
        adapter = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
        cu.train_dpo(*small, pairs.select(range(8)), args, peft_config=adapter)
    assert computed == []
