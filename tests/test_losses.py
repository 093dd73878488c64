import copy
import math

import pytest
import torch
from trl import DPOConfig, DPOTrainer

import course_utils as cu

LOGPS = [torch.tensor(values) for values in ([-20.0, -31.5], [-25.0, -30.0], [-21.0, -30.0], [-24.0, -33.0])]


def test_uniform_model_gives_each_token_the_same_share():
    labels = torch.tensor([[-100, 1, 2, 3], [-100, -100, -100, 0]])
    logps = cu.sequence_logps(torch.zeros(2, 4, 5), labels)
    torch.testing.assert_close(logps, torch.tensor([-3 * math.log(5), -math.log(5)]))


def test_position_t_predicts_the_token_after_it():
    logits = torch.full((1, 3, 4), -50.0)
    logits[0, 0, 2] = logits[0, 1, 3] = 50.0
    assert cu.sequence_logps(logits, torch.tensor([[0, 2, 3]])).item() == pytest.approx(0, abs=1e-6)


def test_prompt_and_padding_do_not_count():
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 6, 7), torch.tensor([[-100, -100, 3, 4, -100, -100]])
    before = cu.sequence_logps(logits, labels)
    logits[:, [0, 3, 4, 5]] = torch.randn(1, 4, 7)  # positions that predict no counted token
    torch.testing.assert_close(cu.sequence_logps(logits, labels), before)
    logits[:, 1] += torch.arange(7.0)
    assert not torch.allclose(cu.sequence_logps(logits, labels), before)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 4, 5\) and labels \(1, 3\)"):
        cu.sequence_logps(torch.zeros(1, 4, 5), torch.zeros(1, 3, dtype=torch.long))


def test_identical_models_give_zero_margin():
    loss = cu.dpo_loss(LOGPS[0], LOGPS[1], LOGPS[0], LOGPS[1], beta=0.7)
    torch.testing.assert_close(loss, torch.full((2,), math.log(2)))


def test_dpo_loss_is_the_log_loss_of_telling_chosen_from_rejected():
    loss = cu.dpo_loss(*LOGPS, beta=0.5)
    swapped = cu.dpo_loss(LOGPS[1], LOGPS[0], LOGPS[3], LOGPS[2], beta=0.5)
    torch.testing.assert_close(torch.exp(-loss) + torch.exp(-swapped), torch.ones(2))


def test_gradient_is_beta_times_the_chance_of_being_wrong():
    chosen = LOGPS[0].clone().requires_grad_()
    loss = cu.dpo_loss(chosen, *LOGPS[1:], beta=0.3)
    loss.sum().backward()
    torch.testing.assert_close(chosen.grad, -0.3 * (1 - torch.exp(-loss)).detach())


def test_huge_margins_stay_finite():
    far = torch.tensor([-1e4])
    loss = cu.dpo_loss(far, torch.zeros(1), torch.zeros(1), far, beta=1.0)
    assert loss.isfinite().all() and loss.item() == pytest.approx(2e4)


def test_dpo_loss_matches_trl(small, pairs, setup):
    """From the same weights and rows, our loss and margin and TRL's agree to 1e-5."""
    model, tokenizer = small
    torch.manual_seed(1)
    policy = copy.deepcopy(model)
    for parameter in policy.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    args = DPOConfig(beta=0.3, per_device_train_batch_size=16, **setup.training_args)
    trainer = DPOTrainer(
        policy, ref_model=copy.deepcopy(model), args=args, train_dataset=pairs, processing_class=tokenizer
    )
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(trainer.model, batch).item()
    margin = trainer._metrics["train"]["rewards/margins"][0]

    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        chosen, rejected = cu.sequence_logps(trainer.model(**inputs).logits, labels).chunk(2)
        ref_chosen, ref_rejected = cu.sequence_logps(model(**inputs).logits, labels).chunk(2)
    ours = cu.dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.3).mean().item()
    rewards = [cu.implicit_reward(chosen, ref_chosen, 0.3), cu.implicit_reward(rejected, ref_rejected, 0.3)]
    assert abs(ours - math.log(2)) > 1e-3  # the models do differ
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert (rewards[0] - rewards[1]).mean().item() == pytest.approx(margin, abs=1e-5)
