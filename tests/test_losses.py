import copy
import math

import pytest
import torch
from trl import DPOConfig, DPOTrainer

import course_utils as cu

LOGPS = [torch.tensor(values) for values in ([-20.0, -31.5], [-25.0, -30.0], [-21.0, -30.0], [-24.0, -33.0])]


def in_order(setup):
    """Settings under which TRL reads the rows one after the other."""
    return {**setup.training_args, "train_sampling_strategy": "sequential"}


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
        parameter.data += 0.02 * torch.randn_like(parameter)
    args = DPOConfig(beta=0.3, per_device_train_batch_size=16, **in_order(setup))
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


MEANS = torch.tensor([-0.1, -1.0, -3.0]), torch.tensor([-0.2, -0.5, -3.0])


def test_the_mean_is_the_sum_over_the_number_of_tokens():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 7), torch.tensor([[-100, 1, 2, 3, 4], [-100, -100, 5, 6, -100]])
    ours = cu.mean_logps(logits, labels)
    torch.testing.assert_close(ours, cu.sequence_logps(logits, labels) / torch.tensor([4.0, 2.0]))


def test_an_answer_without_tokens_is_refused():
    with pytest.raises(ValueError, match="row 1: no token counts"):
        cu.mean_logps(torch.zeros(2, 3, 4), torch.tensor([[0, 1, 2], [0, -100, -100]]))


def test_even_odds_have_log_zero_and_nine_to_one_have_log_nine():
    odds = cu.log_odds(torch.tensor([0.5, 0.9, 0.1]).log())
    torch.testing.assert_close(odds, torch.tensor([0.0, math.log(9), -math.log(9)]))


def test_log_odds_keep_their_digits_near_one_and_near_zero():
    logps = torch.tensor([-1e-9, -1e-6, -0.693, -50.0])
    exact = logps.double() - torch.log(-torch.expm1(logps.double()))
    torch.testing.assert_close(cu.log_odds(logps).double(), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("chosen", [0.0, -1e-12, -1e-9, -1e-4, -0.5, -50.0])
@pytest.mark.parametrize("rejected", [0.0, -1e-9, -50.0])
def test_orpo_gradients_are_finite(chosen, rejected):
    one, other = (torch.tensor([value], requires_grad=True) for value in (chosen, rejected))
    loss = cu.orpo_loss(-one, one, other, lam=0.1)
    loss.sum().backward()
    assert loss.isfinite().all() and one.grad.isfinite().all() and other.grad.isfinite().all()


def test_equal_answers_have_odds_ratio_one_and_cost_lambda_ln_2():
    assert cu.log_odds_ratio(MEANS[0], MEANS[0]).abs().max() == 0
    loss = cu.orpo_loss(-MEANS[0], MEANS[0], MEANS[0], lam=0.1)
    torch.testing.assert_close(loss, -MEANS[0] + 0.1 * math.log(2))


def test_lambda_zero_is_sft():
    assert torch.equal(cu.orpo_loss(-MEANS[0], *MEANS, lam=0.0), -MEANS[0])


def test_orpo_gradient_is_delta_times_h():
    """Eqs. 8 to 10: δ = 1 / (1 + odds ratio), and 1 / (1 - P) on each side's gradient."""
    chosen, rejected = (values.clone().requires_grad_() for values in MEANS)
    cu.orpo_loss(torch.zeros(3), chosen, rejected, lam=1.0).sum().backward()
    delta = 1 / (1 + cu.log_odds_ratio(*MEANS).exp())
    torch.testing.assert_close(chosen.grad, -delta / (1 - MEANS[0].exp()))
    torch.testing.assert_close(rejected.grad, delta / (1 - MEANS[1].exp()))


@pytest.fixture(scope="module")
def orpo_trainer(small, pairs, setup):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        orpo = pytest.importorskip("trl.experimental.orpo", exc_type=ImportError)
    args = orpo.ORPOConfig(beta=0.3, per_device_train_batch_size=8, **in_order(setup))
    return orpo.ORPOTrainer(copy.deepcopy(small[0]), args=args, train_dataset=pairs, processing_class=small[1])


@pytest.fixture(scope="module")
def orpo_batch(orpo_trainer):
    """A batch, the model's logits for its two halves, and TRL's loss with all that TRL logs."""
    batch = next(iter(orpo_trainer.get_train_dataloader()))
    with torch.no_grad():
        loss, metrics = orpo_trainer.get_batch_loss_metrics(orpo_trainer.model, batch)
        logits = {
            side: orpo_trainer.model(
                input_ids=batch[f"{side}_input_ids"], attention_mask=batch[f"{side}_attention_mask"]
            ).logits
            for side in ("chosen", "rejected")
        }
    return batch, logits, loss.item(), metrics


def test_trl_orpo_log_odds_ratio_is_ours_on_random_pairs(orpo_trainer):
    torch.manual_seed(0)
    chosen, rejected = -torch.rand(2, 1000) * torch.tensor([[0.2], [9.0]])
    losses, *_rewards, mean_log_sigmoid, mean_log_odds_ratio = orpo_trainer.odds_ratio_loss(chosen, rejected)
    ours = cu.log_odds_ratio(chosen, rejected)
    torch.testing.assert_close(cu.orpo_loss(torch.zeros(1000), chosen, rejected, lam=0.3), -losses, atol=1e-5, rtol=0)
    assert ours.mean().item() == pytest.approx(mean_log_odds_ratio.item(), abs=1e-5)
    assert torch.nn.functional.logsigmoid(ours).mean().item() == pytest.approx(mean_log_sigmoid.item(), abs=1e-5)


def test_trl_orpo_logps_are_means_over_the_answers_tokens(orpo_batch):
    batch, logits, _, metrics = orpo_batch
    for side in logits:
        ours = cu.mean_logps(logits[side], batch[f"{side}_labels"]).mean().item()
        assert ours == pytest.approx(metrics[f"logps/{side}"], abs=1e-5)


def test_trl_orpo_nll_is_a_token_mean_over_prompt_and_chosen_answer_of_the_batch(orpo_batch):
    batch, logits, _, metrics = orpo_batch
    tokens = batch["chosen_input_ids"].masked_fill(batch["chosen_attention_mask"] == 0, -100)
    counts = (tokens[:, 1:] != -100).sum(dim=1)
    nll = -(cu.mean_logps(logits["chosen"], tokens) * counts).sum() / counts.sum()
    assert nll.item() == pytest.approx(metrics["nll_loss"], abs=1e-5)
    papers = -cu.mean_logps(logits["chosen"], batch["chosen_labels"]).mean().item()
    assert abs(papers - metrics["nll_loss"]) > 0.01  # the answer alone is another number


def test_orpo_loss_matches_trl(orpo_batch):
    """Total loss, with TRL's `beta` as λ."""
    batch, logits, theirs, metrics = orpo_batch
    means = [cu.mean_logps(logits[side], batch[f"{side}_labels"]) for side in ("chosen", "rejected")]
    ours = cu.orpo_loss(torch.tensor(metrics["nll_loss"]), *means, lam=0.3).mean().item()
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_trl_orpo_margin_is_lambda_times_the_difference_of_means(orpo_batch):
    batch, logits, _, metrics = orpo_batch
    chosen, rejected = (cu.mean_logps(logits[side], batch[f"{side}_labels"]) for side in ("chosen", "rejected"))
    assert 0.3 * (chosen - rejected).mean().item() == pytest.approx(metrics["rewards/margins"], abs=1e-5)
