import pytest
import torch

import course_utils as cu
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


def test_interval_is_wilson_s_and_narrows_with_more_prompts():
    """8 of 10: the 95% Wilson interval is 0.490 to 0.943 (Newcombe 1998, method 3, gives the same)."""
    rate, low, high = cu.win_rate([GOOD] * 8 + [FAULTY] * 2, [FAULTY] * 8 + [GOOD] * 2)
    assert (rate, round(low, 3), round(high, 3)) == (0.8, 0.490, 0.943)
    _, low_more, high_more = cu.win_rate(([GOOD] * 8 + [FAULTY] * 2) * 10, ([FAULTY] * 8 + [GOOD] * 2) * 10)
    assert low < low_more < rate < high_more < high


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


def test_score_table_counts_every_answer(held_out):
    prompts = list(held_out["prompt"])[:4]
    table = cu.score_table(prompts, {"a": [GOOD, GOOD, FAULTY, GIBBERISH]})["a"]
    assert table["preferred"] == 50 and table["fluent"] == 75 and table["rude"] == 25
