import copy
import math
from dataclasses import replace

import pytest
import torch
from transformers import TrainingArguments

import course_utils as cu
from course_utils import generation
from course_utils.evaluation import answer_logps
from course_utils.world import Verdict

GOOD, FAULTY, GIBBERISH = Verdict(), Verdict(("polite",)), Verdict(("fluent",))


def test_win_rate_of_all_wins_is_one_and_of_ties_one_half():
    assert cu.win_rate([GOOD] * 9, [FAULTY] * 9)[0] == 1
    assert cu.win_rate([FAULTY] * 9, [GIBBERISH] * 9)[0] == 1
    assert cu.win_rate([FAULTY] * 9, [FAULTY] * 9)[0] == 0.5


def test_win_rates_of_two_sides_sum_to_one():
    ours, theirs = [GOOD, GOOD, FAULTY, GIBBERISH], [FAULTY, GOOD, GIBBERISH, GOOD]
    rate, low, high = cu.win_rate(ours, theirs)
    other, other_low, other_high = cu.win_rate(theirs, ours)
    assert rate + other == pytest.approx(1)
    assert low + other_high == pytest.approx(1) and high + other_low == pytest.approx(1)
    assert 0 <= low < rate < high <= 1


def test_interval_narrows_with_more_prompts_and_ties_do_not_widen_it():
    rate, low, high = cu.win_rate([GOOD] * 8 + [FAULTY] * 2, [FAULTY] * 8 + [GOOD] * 2)
    assert rate == pytest.approx(0.8)
    _, low_more, high_more = cu.win_rate(([GOOD] * 8 + [FAULTY] * 2) * 10, ([FAULTY] * 8 + [GOOD] * 2) * 10)
    assert low < low_more < rate < high_more < high
    rate, low, high = cu.win_rate([GOOD] * 400, [FAULTY] * 31 + [GOOD] * 369)  # no defeat, and nearly all of it ties
    assert 0.5 < low < rate < high < 0.56


def test_prompts_that_ask_the_same_question_count_as_one(held_out):
    prompts = list(held_out["prompt"])[:40]
    ours, theirs = [GOOD] * 25 + [FAULTY] * 15, [FAULTY] * 10 + [GOOD] * 30
    once = cu.win_rate(ours, theirs, prompts)
    assert cu.win_rate(ours * 3, theirs * 3, prompts * 3) == pytest.approx(once)  # three seeds that agree
    _rate, low, high = cu.win_rate(ours * 3, theirs * 3)
    assert once[1] < low < high < once[2]
    assert once[0] == cu.win_rate(ours, theirs)[0]  # the rate is of the answers, whatever they answer
    strange = [[{"role": "user", "content": text}] for text in ("Who wrote Faust?", "Who?", "Who?")]
    rate, low, high = cu.win_rate([GOOD, FAULTY, FAULTY], [FAULTY, GOOD, GOOD], strange)
    assert (rate, low, high) == (pytest.approx(1 / 3), 0, 1)  # two questions: with both the same, all or nothing
    for too_few in (prompts[1:], []):
        with pytest.raises(ValueError, match="on the same prompts"):
            cu.win_rate(ours, theirs, too_few)


def test_unequal_numbers_of_verdicts_are_refused():
    with pytest.raises(ValueError, match="2 and 1 verdicts"):
        cu.win_rate([GOOD] * 2, [GOOD])


def test_same_seed_same_answers_and_the_outer_randomness_is_left_alone(small, held_out):
    prompts = list(held_out["prompt"])[:6]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = cu.generate(*small, prompts, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert one == cu.generate(*small, prompts, seed=1) != cu.generate(*small, prompts, seed=2)


def test_answers_come_in_the_order_of_the_prompts(small, held_out):
    """Padding and batching change nothing: greedy answers are those of each prompt alone."""
    prompts = list(held_out["prompt"])[:5]
    together = cu.generate(*small, prompts, temperature=0, batch_size=3)
    assert together == [cu.generate(*small, [prompt], temperature=0)[0] for prompt in prompts]


def test_a_cpu_reads_long_prompts_few_at_a_time(small, monkeypatch):
    model, tokenizer = small
    generate, read = model.generate, []
    monkeypatch.setattr(model, "generate", lambda **batch: read.append(batch["input_ids"].shape) or generate(**batch))
    prompts = [[{"role": "user", "content": "tea " * length}] for length in (1, 40, 20, 60, 2)]
    whole = cu.generate(model, tokenizer, prompts, temperature=0, max_new_tokens=4)
    monkeypatch.setattr(generation, "CHARACTERS", 250)
    assert cu.generate(model, tokenizer, prompts, temperature=0, max_new_tokens=4) == whole
    assert [rows for rows, _length in read] == [5, 2, 1, 1, 1]  # all; then the short ones, and each of the rest


def test_score_table_counts_every_answer(held_out):
    prompts = list(held_out["prompt"])[:4]
    table = cu.score_table(prompts, {"a": [GOOD, GOOD, FAULTY, GIBBERISH]})["a"]
    assert table["preferred"] == 50 and table["fluent"] == 75 and table["rude"] == 25


def test_what_the_judge_does_not_know_is_said_to_be_unjudged(held_out):
    strange = [{"role": "user", "content": "Who wrote Faust?"}]
    with pytest.warns(UserWarning, match="2 of 3 prompts are not of the bundled world"):
        found = cu.judge_all(
            [strange, strange, held_out[0]["prompt"]], ["Goethe wrote it.", "it is it is it is it is", ""]
        )
    assert [v.judged for v in found] == [False, False, True]
    assert [v.fluent for v in found] == [True, False, False]
    assert not any(v.preferred for v in found) and cu.share(found) == 0
    assert math.isnan(cu.share(found[:2]))
    table = cu.score_table([strange, strange], {"a": found[:2]})["a"]
    assert table["not judged"] == 100 and table["fluent"] == 50 and math.isnan(table["preferred"])
    assert "not judged" in cu.plot_verdicts({"a": found}).alt_text


def test_reward_accuracy_is_of_the_pairs_that_moved_the_right_way(small, pairs, setup):
    model, tokenizer = small
    few = pairs.select(range(8))
    args = TrainingArguments(learning_rate=1e-3, max_steps=8, per_device_train_batch_size=8, **setup.training_args)
    moved = cu.train_dpo(model, tokenizer, few, args).model
    swapped = few.rename_columns({"chosen": "rejected", "rejected": "chosen"})
    assert cu.reward_accuracy(model, model, tokenizer, few)[0] == 0
    right, low, high = cu.reward_accuracy(moved, model, tokenizer, few)
    assert (right, cu.reward_accuracy(moved, model, tokenizer, swapped)[0]) == (1, 0)
    assert 0.5 < low < high == pytest.approx(1)  # Wilson's interval of 8 of 8 begins at 0.68
    assert low == pytest.approx(8 / (8 + 1.96**2))
    known = cu.precompute_ref_logps(model, tokenizer, few, args)
    margins = cu.reward_margins(moved, None, tokenizer, known)  # the reference is not read
    assert torch.allclose(margins, cu.reward_margins(moved, model, tokenizer, few), atol=1e-3)


def test_margins_over_beta_are_those_that_a_training_logs(small, pairs, setup):
    model, tokenizer = small
    few = pairs.select(range(8))
    settings = {"learning_rate": 1e-4, "lr_scheduler_type": "constant", "per_device_train_batch_size": 8}
    args = TrainingArguments(**settings, max_steps=2, **setup.training_args)
    one = cu.train_dpo(model, tokenizer, few, replace(args, max_steps=1), beta=0.5).model
    logged = cu.train_dpo(model, tokenizer, few, args, beta=0.5).log[1]["rewards/margins"]  # before the second step
    assert 0.5 * cu.reward_margins(one, model, tokenizer, few).mean().item() == pytest.approx(logged, rel=1e-3)


def test_the_kl_of_a_model_from_itself_is_zero_and_of_a_trained_one_what_its_samples_say(small, pairs, setup):
    model, tokenizer = small
    prompts = list(pairs["prompt"][:40])
    assert cu.policy_kl(model, model, tokenizer, prompts[:3]) == (0, 0, 0)
    args = TrainingArguments(learning_rate=2e-4, max_steps=10, per_device_train_batch_size=8, **setup.training_args)
    moved = cu.train_dpo(model, tokenizer, pairs, args).model
    kl, low, high = cu.policy_kl(moved, model, tokenizer, prompts, max_new_tokens=200)
    assert 0 < low < kl < high
    said = [
        [{"role": "assistant", "content": text}] for text in cu.generate(moved, tokenizer, prompts, max_new_tokens=200)
    ]
    ratios = cu.answer_logps(moved, tokenizer, prompts, said) - cu.answer_logps(model, tokenizer, prompts, said)
    assert abs(ratios.mean().item() - kl) < 4 * ratios.std().item() / len(prompts) ** 0.5  # its expectation is the KL


def test_an_interval_holds_its_mean_and_narrows_with_the_square_root_of_questions():
    values = [0.0, 1.0, 0.5, 1.0] * 25
    mean, low, high = cu.mean_interval(values)
    assert mean == 0.625 and low < mean < high
    half = 1.96 * torch.tensor(values).std().item() / len(values) ** 0.5
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)
    assert cu.mean_interval([3.0] * 9) == (3, 3, 3)
    _, low_more, high_more = cu.mean_interval(values * 16)
    assert (high - low) / (high_more - low_more) == pytest.approx(4, rel=0.2)


def test_log_probabilities_of_answers_are_those_that_a_training_logs(small, pairs, setup):
    model, tokenizer = small
    few = pairs.select(range(8))
    args = TrainingArguments(learning_rate=0.0, max_steps=1, per_device_train_batch_size=8, **setup.training_args)
    logged = cu.train_dpo(model, tokenizer, few, args).log[0]
    for side in ("chosen", "rejected"):
        ours = answer_logps(model, tokenizer, few["prompt"], few[side]).mean().item()
        assert ours == pytest.approx(logged[f"logps/{side}"], rel=1e-4)


def test_prompts_that_a_gpus_memory_does_not_hold_are_answered_in_smaller_batches(small, held_out, monkeypatch):
    model, tokenizer = small
    prompts, generate, sizes = list(held_out["prompt"][:7]), model.generate, []

    def with_little_memory(input_ids, **settings):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.cuda.OutOfMemoryError
        return generate(input_ids=input_ids, **settings)

    expected = cu.generate(model, tokenizer, prompts, temperature=0, max_new_tokens=8)
    monkeypatch.setattr(model, "generate", with_little_memory)
    assert cu.generate(model, tokenizer, prompts, temperature=0, max_new_tokens=8) == expected
    assert sizes == [7, 4, 2, 2, 2, 1]


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_model_answers_by_its_probabilities_whatever_its_own_settings(small, held_out, temperature):
    prompts = list(held_out["prompt"][:4])
    plain, opinionated = small[0], copy.deepcopy(small[0])
    opinionated.generation_config.update(top_p=0.1, top_k=1, repetition_penalty=2.0, do_sample=True)
    answers = [cu.generate(m, small[1], prompts, temperature, 12) for m in (plain, opinionated)]
    assert answers[0] == answers[1]
