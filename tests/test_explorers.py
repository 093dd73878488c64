import html
import re

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import course_utils as cu
from course_utils.figures.figure import Figure
from course_utils.world import questions

REF = torch.tensor([0.1, 0.35, 0.3, 0.15, 0.1], dtype=torch.float64)
REWARDS = torch.tensor([1.5, 0.8, 0.2, -0.5, -1.5], dtype=torch.float64)
BETAS = (0.01, 0.1, 0.3, 1.0, 5.0)


def words(explorer):
    """What a reader of the explorer's HTML reads, its picture's alternative text first."""
    alt = re.findall(r'<img alt="([^"]*)"', explorer.view.value)
    return html.unescape(" ".join([*alt, *re.findall(r">([^<>]+)<", explorer.view.value)]))


@pytest.fixture
def output():
    """Runs a cell's last expression as a notebook would, and gives its output."""
    shell = InteractiveShell.instance()

    def show(thing):
        with capture_output() as captured:
            shell.display_formatter.ipython_display_formatter(thing)
        return captured.outputs

    yield show
    InteractiveShell.clear_instance()


@pytest.mark.parametrize("explore", [cu.explore_dpo_loss, cu.explore_orpo_loss, cu.explore_kl])
def test_an_explorer_leaves_one_output_with_a_still_picture_for_those_without_a_kernel(explore, output):
    explorer = explore()
    (out,) = output(explorer)
    assert out.data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    assert re.search(r'<img alt="[^"]{20,}" src="data:image/png;base64,', out.data["text/html"])
    assert out.data["text/html"] == explorer.view.value and out.data["text/plain"]


def test_words_are_looked_up_when_they_are_shown(monkeypatch):
    explorer = cu.explore_dpo_loss()
    monkeypatch.setattr("course_utils.figures.explorers._", lambda message: "»" + message)
    explorer.controls["chosen"].value = 2.0
    assert "»Ranked right" in words(explorer) and "»margin, »nats" in words(explorer)


def test_the_dpo_explorer_tells_the_numbers_of_the_lesson():
    text = words(cu.explore_dpo_loss())
    assert "+0.600" in text and "0.4375" in text and "σ(-margin)" in text
    assert "Ranked right: the gradient weight is 0.35 of at most 1; times β = 0.3 that is 0.106" in text


def test_a_pair_without_a_margin_is_undecided_and_costs_ln_2():
    explorer = cu.explore_dpo_loss()
    explorer.controls["chosen"].value = -1.0
    text = words(explorer)
    assert "Undecided" in text and "0.6931" in text and "weight is 0.50" in text


def test_a_pair_ranked_wrongly_pulls_with_beta_at_most():
    explorer = cu.explore_dpo_loss()
    for name, value in {"chosen": -10.0, "rejected": 10.0, "beta": 5.0}.items():
        explorer.controls[name].value = value
    text = words(explorer)
    assert "Ranked wrongly" in text and "weight is 1.00 of at most 1" in text and "-100.000" in text
    assert "that is 5.000 on each log-probability, and with twice the β it would be 10.000" in text


def test_a_higher_beta_lets_go_of_a_pair_that_is_ranked_right():
    explorer = cu.explore_dpo_loss()
    explorer.controls["chosen"].value = 9.0
    pulls = []
    for beta in (0.3, 1.0):
        explorer.controls["beta"].value = beta
        pulls.append(float(re.search(r"that is (\d\.\d+) on", words(explorer))[1]))
    assert pulls[1] < pulls[0]


def test_the_orpo_explorer_tells_what_the_losses_say():
    explorer = cu.explore_orpo_loss()
    explorer.controls["lam"].value = 0.5
    explorer.controls["chosen"].value, explorer.controls["rejected"].value = 0.2, 0.7
    chosen, rejected = (torch.tensor([p], dtype=torch.float64).log() for p in (0.2, 0.7))
    text = words(explorer)
    assert f"{cu.orpo_loss(-chosen, chosen, rejected, 0.5).item():.4f}" in text
    ratio = cu.log_odds_ratio(chosen, rejected).item()
    assert f"{ratio:+.3f}" in text and "Ranked wrongly" in text
    assert f"{torch.tensor(-ratio).sigmoid():.4f}" in text  # the weight: eq. 8's δ(d)


def test_the_weights_are_those_of_the_losses_gradients():
    """With respect to each log-probability: β σ(-margin) of DPO's, and of ORPO's odds-ratio term for the chosen one."""
    dpo, orpo = cu.explore_dpo_loss(), cu.explore_orpo_loss()
    logps = torch.tensor([1.0, -1.0], requires_grad=True)
    cu.dpo_loss(logps[:1], logps[1:], torch.zeros(1), torch.zeros(1), 0.3).sum().backward()
    assert f"that is {-logps.grad[0]:.3f} on each" in words(dpo)
    logps = torch.tensor([0.9, 0.8]).log().requires_grad_()
    (cu.orpo_loss(-logps[:1], logps[:1], logps[1:], 0.3) + logps[0]).sum().backward()
    assert f"up with {-logps.grad[0]:.3f}, beside" in words(orpo)


def test_the_curves_go_through_the_pair_and_the_loss_axis_starts_at_zero(monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "png", lambda figure: drawn.append(figure) or b"")
    for explorer in (cu.explore_dpo_loss(), cu.explore_orpo_loss()):
        explorer.controls["chosen"].value = 0.9
        for axes in drawn[-1].axes:
            curve, (point,) = axes.lines[0], [line for line in axes.lines if line.get_label() == "your pair"]
            y = np.interp(point.get_xdata(), *curve.get_data())
            assert point.get_ydata() == pytest.approx(y, abs=1e-3) and axes.get_ylim()[0] == 0
            styles = [(line.get_linestyle(), line.get_marker()) for line in axes.lines if line.get_linewidth() == 2]
            assert len(set(styles)) == len(styles)
    cu.explore_kl()
    assert len({bar[0].get_hatch() for bar in drawn[-1].axes[0].containers}) == 3


def test_with_a_higher_beta_the_pull_starts_stronger_and_ends_sooner(monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "png", lambda figure: drawn.append(figure) or b"")
    cu.explore_dpo_loss()
    once, twice = (dict(zip(*line.get_data())) for line in drawn[-1].axes[1].lines[:2])
    assert [*once] == [*twice] and min(once) < -10 and max(once) > 10
    assert once[min(once)] == pytest.approx(0.3, abs=0.01) and twice[min(twice)] == pytest.approx(0.6, abs=0.01)
    assert twice[max(twice)] < once[max(once)] < 0.01


def test_without_lambda_only_the_nll_is_left():
    explorer = cu.explore_orpo_loss()
    explorer.controls["lam"].value = 0
    assert "up with 0.000, beside the NLL, which always pulls with 1" in words(explorer)


@pytest.mark.parametrize("corner", [(0.01, 0.999), (0.999, 0.01), (0.999, 0.999)])
def test_the_sliders_ends_give_numbers_too(corner):
    explorer = cu.explore_orpo_loss()
    explorer.controls["chosen"].value, explorer.controls["rejected"].value = corner
    assert "nan" not in words(explorer) and "inf" not in words(explorer)


def kl(beta):
    return cu.kl_divergence(cu.optimal_policy(REF, REWARDS, beta), REF).item()


def test_higher_beta_stays_closer_in_the_lab():
    distances = [kl(beta) for beta in BETAS]
    assert distances == sorted(distances, reverse=True)
    lab, told = cu.explore_kl(), []
    for beta in BETAS:
        lab.controls["beta"].value = beta
        assert "a higher β stays closer" in words(lab)
        told.append([float(number) for number in re.findall(r"goes (\d+\.\d+) nats", words(lab))])
    for (now, twice), beta in zip(told, BETAS):
        assert now == pytest.approx(kl(beta), abs=1e-3) and twice <= now
    assert [now for now, _twice in told] == sorted((now for now, _twice in told), reverse=True)


@pytest.mark.parametrize("beta", BETAS)
def test_gradient_descent_on_the_dpo_loss_finds_the_optimum(beta):
    best = cu.optimal_policy(REF, REWARDS, beta)
    torch.testing.assert_close(cu.fit_dpo(REF, REWARDS, beta), best, atol=1e-6, rtol=0)
    assert best.sum() == pytest.approx(1)


def test_beta_without_end_is_the_reference_and_beta_towards_zero_the_best_answer():
    torch.testing.assert_close(cu.optimal_policy(REF, REWARDS, 1e9), REF)
    assert cu.optimal_policy(REF, REWARDS, 1e-4).tolist() == [1, 0, 0, 0, 0]
    assert kl(1e9) == pytest.approx(0) and kl(1e-4) == pytest.approx(-REF[0].log().item())
    with pytest.raises(ValueError, match=r"got beta 0; expected a number above 0, such as 0\.3"):
        cu.optimal_policy(REF, REWARDS, 0)


def test_the_optimum_earns_more_than_any_policy_nearby_minus_beta_times_its_kl():
    def worth(policy, beta=0.3):
        return (policy @ REWARDS - beta * cu.kl_divergence(policy, REF)).item()

    best = cu.optimal_policy(REF, REWARDS, 0.3)
    generator = torch.Generator().manual_seed(0)
    for _again in range(50):
        noise = 0.1 * torch.randn(5, generator=generator, dtype=torch.float64)
        assert worth(best) > worth((best.log() + noise).softmax(dim=0))


@pytest.fixture
def browser(small, held_out):
    model, tokenizer = small
    return cu.browse_answers({"one": model, "two <b>": model}, tokenizer, list(held_out["prompt"][:3]))


def test_every_model_answers_the_question_and_is_judged_in_words(browser, held_out, output):
    first = words(browser)
    assert held_out["prompt"][0][-1]["content"] in first and "two <b>" in first
    assert "✓ preferred" in first or "✗" in first
    assert output(browser)[0].data["text/html"] == browser.view.value
    browser.controls["prompt"].value = 1
    assert held_out["prompt"][1][-1]["content"] in words(browser)


def test_a_typed_question_is_asked_and_one_of_another_world_is_not_judged(browser):
    typed, button = browser.children[2:4]
    typed.value = known = next(iter(questions()))
    button.click()
    assert known in words(browser) and ("✓" in words(browser) or "✗" in words(browser))
    typed.value = "What is 2 + 2?"
    button.click()
    assert "The judge does not know this question" in words(browser)
    browser.controls["prompt"].value = 2
    assert typed.value == "" and "2 + 2" not in words(browser)


def test_at_temperature_zero_asking_again_changes_nothing(browser):
    browser.controls["temperature"].value = 0
    before = browser.view.value
    browser.children[3].click()
    assert browser.view.value == before


def test_a_browser_without_models_or_with_bare_texts_is_refused(small):
    model, tokenizer = small
    for models, prompts in (({}, [[]]), ({"one": model}, []), ({"one": model}, ["How?"])):
        with pytest.raises(
            ValueError, match=r"browse_answers: got \d models and \d prompts; expected .* lists of mess"
        ):
            cu.browse_answers(models, tokenizer, prompts)
