import html
import re

import pytest
import torch

import course_utils as cu
from course_utils.figures.tokens import Token, TokenView, token_css


def message(text):
    return [{"role": "assistant", "content": text}]


PROMPT = [{"role": "user", "content": "Tưới cây húng quế thế nào?"}]
HARD = {
    "prompt": PROMPT,
    "chosen": message("Ừ, tưới 🐢 字ữ!\n <script>alert(1)</script>"),
    "rejected": message("ẵm  &lt;"),
}


@pytest.fixture(scope="module")
def other(small):
    """The small model, pushed a little off."""
    model, _tokenizer = cu.load_model("small")
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights += 0.01 * torch.randn_like(weights)
    return model


@pytest.fixture(scope="module")
def view(small, other):
    model, tokenizer = small
    return cu.token_view(other, model, tokenizer, HARD, beta=0.3)


def whole_logps(model, tokenizer, pair, side):
    ids = tokenizer.apply_chat_template(pair["prompt"] + pair[side], return_dict=False)
    prompt = tokenizer.apply_chat_template(pair["prompt"], add_generation_prompt=True, return_dict=False)
    labels = torch.tensor([[-100] * len(prompt) + ids[len(prompt) :]])
    with torch.no_grad():
        return cu.sequence_logps(model(input_ids=torch.tensor([ids])).logits, labels)


def test_the_tokens_sum_to_the_implicit_reward(small, other, view, pairs):
    """As far as single precision goes: each sum of log-probabilities has 24 bits, and was taken in another order."""
    model, tokenizer = small
    for pair, shown in ((HARD, view), (pairs[0], cu.token_view(other, model, tokenizer, pairs[0], beta=0.3))):
        for side in ("chosen", "rejected"):
            logps, ref_logps = (whole_logps(one, tokenizer, pair, side) for one in (other, model))
            rounding = 0.3 * 32 * torch.finfo(torch.float32).eps * (logps.abs() + ref_logps.abs()).item()
            whole = cu.implicit_reward(logps, ref_logps, 0.3).item()
            assert shown.reward("policy", side) == pytest.approx(whole, abs=rounding)
        assert shown.margin("policy") == shown.reward("policy", "chosen") - shown.reward("policy", "rejected")


def test_policy_and_reference_alike_give_zero_everywhere(small, pairs):
    model, tokenizer = small
    shown = cu.token_view(model, model, tokenizer, pairs[0], beta=0.3)
    assert all(token.reward == 0 for tokens in shown.answers["policy"].values() for token in tokens)
    assert shown.margin("policy") == 0 and "+0.000" in repr(shown)


def test_in_words_only_tokens_with_a_reward_are_listed_and_the_others_counted(view):
    view = TokenView(
        "How?", {"policy": {"chosen": [Token("a", 0, 0, 0.5), Token("b", 0, 0, 0.004)], "rejected": []}}, 1
    )
    assert "+0.500  'a'" in repr(view) and "'b'" not in repr(view) and "and 1 more below 0.005" in repr(view)


def test_the_spans_joined_give_back_the_answer_and_no_markup_of_its_own(view):
    page = view._repr_html_()
    assert "<script>" not in page and "�" not in page
    spans = [html.unescape(text) for text in re.findall(r"<span [^>]*>(.*?)</span>", page, re.DOTALL)]
    assert "".join(spans) == HARD["chosen"][0]["content"] + HARD["rejected"][0]["content"]
    assert page.count("&lt;|end|&gt;</code>") == 2  # the end token counts, and is set apart


def test_tokens_that_share_a_letter_stand_together(small, view):
    tokenizer = small[1]
    texts = [token.text for token in view.answers["policy"]["chosen"]]
    assert len(tokenizer("字")["input_ids"]) > 1 and sum("字" in text for text in texts) == 1


def test_each_number_stands_in_a_title_and_in_the_table(view):
    page = view._repr_html_()
    for token in view.answers["policy"]["chosen"]:
        assert f'title="{token.reward:+.3f}"' in page and f">{token.logps:.3f}</td>" in page
    assert "<details>" in page and ">log π_ref</th>" in page


def test_an_earlier_policy_stands_beside(small, other, pairs):
    model, tokenizer = small
    shown = cu.token_view(other, model, tokenizer, pairs[0], beta=0.3, before=model)
    assert list(shown.answers) == ["before", "policy"] and shown.margin("before") == 0


def test_a_pair_without_its_columns_is_refused(small):
    model, tokenizer = small
    with pytest.raises(ValueError, match=r"the pair lacks chosen, rejected; give a row of load_preferences"):
        cu.token_view(model, model, tokenizer, {"prompt": PROMPT}, beta=0.3)


def luminance(rgb):
    parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("reward", [-2.0, -1.0, -0.1, 0.0, 0.1, 1.0, 2.0])
def test_black_ink_is_readable_on_every_token_css(reward):
    style = token_css(reward, most=2.0)
    rgb = [int(part) for part in re.search(r"rgb\((\d+),(\d+),(\d+)\)", style).groups()]
    assert "color:#000" in style and (luminance(rgb) + 0.05) / 0.05 >= 4.5


def test_gain_and_cost_differ_by_more_than_token_css():
    assert "solid" in token_css(1.0, 1.0) and "dotted" in token_css(-1.0, 1.0) and "border" not in token_css(0.0, 1.0)
