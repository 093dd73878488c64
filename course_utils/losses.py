"""For the learner at the formulas: the losses of the lessons, as in the papers; stateless, tensors in, tensors out."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .i18n import _


def token_logps(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each token that counts, 0 elsewhere; and how many count. (batch, length - 1), (batch,)."""
    if logits.shape[:2] != labels.shape:
        words = _("logits {logits} and labels {labels} do not fit; expected (batch, length, vocabulary) and "
                  "(batch, length)")  # fmt: skip
        raise ValueError(words.format(logits=tuple(logits.shape), labels=tuple(labels.shape)))
    logits, labels = logits[:, :-1], labels[:, 1:]  # position t predicts token t + 1
    counts = labels != -100
    logps = F.log_softmax(logits, dim=-1).gather(2, labels.masked_fill(~counts, 0).unsqueeze(2)).squeeze(2)
    return logps * counts, counts.sum(dim=1)


def sequence_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of each answer given its prompt, log π(y | x): one sum over its tokens. DPO's.

    logits: (batch, length, vocabulary), the model's scores; position t predicts token t + 1. labels: (batch, length),
    the token ids, with -100 wherever a token does not count (prompt, padding). Returns (batch,), in nats, at most 0.

    >>> sequence_logps(torch.zeros(1, 3, 4), torch.tensor([[-100, 2, 3]]))  # two tokens at 1/4 each
    tensor([-2.7726])
    """
    return token_logps(logits, labels)[0].sum(dim=1)


def mean_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean log-probability of an answer's tokens, log P(y | x) of eq. 3 in arXiv:2403.07691. ORPO's.

    Arguments as for `sequence_logps`. Returns (batch,), in nats per token, at most 0. ValueError for a row in
    which no token counts: its mean would be NaN, and so would every weight after one step.

    >>> mean_logps(torch.zeros(1, 3, 4), torch.tensor([[-100, 2, 3]]))  # two tokens at 1/4 each
    tensor([-1.3863])
    """
    logps, counts = token_logps(logits, labels)
    if (counts == 0).any():
        words = _("row {row}: no token counts, all labels are -100; leave out rows without an answer")
        raise ValueError(words.format(row=(counts == 0).nonzero()[0].item()))
    return logps.sum(dim=1) / counts


def implicit_reward(policy_logps: Tensor, ref_logps: Tensor, beta: float) -> Tensor:
    """What an answer earns under DPO: r(x, y) = β (log π(y|x) - log π_ref(y|x)).

    Both logps (batch,), summed over tokens; returns (batch,). Section 5.1 of arXiv:2305.18290: this is
    the reward of eq. 5 but for a term that depends on the prompt alone and cancels in every pair.
    """
    return beta * (policy_logps - ref_logps)


def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    beta: float,
) -> Tensor:
    """The DPO loss of each pair: -log σ(margin), eq. 7 of arXiv:2305.18290 before its average.

    All logps (batch,), from `sequence_logps`; beta > 0, higher stays closer to the reference. The margin is the chosen
    answer's reward less the rejected one's. Returns (batch,), in nats; ln 2 = 0.6931 when policy and reference agree.
    """
    chosen_reward = implicit_reward(policy_chosen_logps, ref_chosen_logps, beta)
    rejected_reward = implicit_reward(policy_rejected_logps, ref_rejected_logps, beta)
    return -F.logsigmoid(chosen_reward - rejected_reward)


def log_odds(mean_logps: Tensor) -> Tensor:
    """Log of the odds P / (1 - P) of an answer, eq. 4 of arXiv:2403.07691, from log P.

    mean_logps: (batch,), at most 0, from `mean_logps`. Returns (batch,): 0 where P is one half, always finite.

    >>> log_odds(torch.tensor([0.5, 0.9]).log())  # 1 to 1, 9 to 1
    tensor([0.0000, 2.1972])
    """
    below_zero = mean_logps.clamp(max=-1e-10)  # P = 1 has no odds; its gradient stays finite too
    return mean_logps - torch.log(-torch.expm1(below_zero))  # expm1 keeps the digits of 1 - P where P is near 1


def log_odds_ratio(chosen_mean_logps: Tensor, rejected_mean_logps: Tensor) -> Tensor:
    """How much better the odds of the chosen answer are, as a log; eq. 5 of arXiv:2403.07691. (batch,) each."""
    return log_odds(chosen_mean_logps) - log_odds(rejected_mean_logps)


def orpo_loss(nll: Tensor, chosen_mean_logps: Tensor, rejected_mean_logps: Tensor, lam: float) -> Tensor:
    """The ORPO loss of each pair: NLL + λ · (-log σ(log odds ratio)), eqs. 6 and 7 of arXiv:2403.07691.

    nll: (batch,), the SFT term in nats per token: -`chosen_mean_logps` for the paper's, which is the mean over
        the chosen answer; TRL (and the authors' code by default) take the mean over prompt and chosen answer.
    Both logps (batch,), from `mean_logps`; lam: the weight λ >= 0. Returns (batch,), in nats.
    """
    return nll - lam * F.logsigmoid(log_odds_ratio(chosen_mean_logps, rejected_mean_logps))


def optimal_policy(ref_probs: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """The policy that earns the most reward less β times its KL: π_ref · exp(r / β) / Z, eq. 4 of arXiv:2305.18290.

    For one prompt whose answers can all be listed: (answers,) each, probabilities above 0 and rewards in nats. Returns
    probabilities: `ref_probs` as beta grows, all on the highest reward as it goes to 0. ValueError unless beta > 0.

    >>> optimal_policy(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]), beta=1.0)  # odds of e to 1
    tensor([0.7311, 0.2689])
    """
    if not beta > 0:
        raise ValueError(_("optimal_policy: got beta {beta}; expected a number above 0, such as 0.3").format(beta=beta))
    return torch.softmax(ref_probs.log() + rewards / beta, dim=-1)


def kl_divergence(probs: Tensor, ref_probs: Tensor) -> Tensor:
    """KL[π ‖ π_ref] = Σ π log(π / π_ref), which β weighs in eq. 3 of arXiv:2305.18290; 0 log 0 is 0.

    probs, ref_probs: (..., answers), each summing to 1. Returns (...), in nats, at least 0.
    """
    return (torch.xlogy(probs, probs) - torch.xlogy(probs, ref_probs)).sum(dim=-1)


def fit_dpo(ref_probs: Tensor, rewards: Tensor, beta: float, steps: int = 100) -> Tensor:
    """The policy that gradient descent on the DPO loss finds, one logit an answer, starting from π_ref.

    It sees every ordered pair of answers, as often as Bradley and Terry say that i wins over j: σ(r_i - r_j), eq. 1
    of arXiv:2305.18290. Then the minimum of eq. 7 is eq. 4: `optimal_policy`, whose arguments and result these are.
    """
    ref_logps = ref_probs.log()
    logits, wins = ref_logps.clone().requires_grad_(), torch.sigmoid(rewards[:, None] - rewards)
    for _step in range(steps):
        logps = logits.log_softmax(dim=0)
        losses = dpo_loss(logps[:, None], logps, ref_logps[:, None], ref_logps, beta)  # row wins over column
        (gradient,) = torch.autograd.grad((wins * losses).sum(), logits)
        logits = logits - 4 / len(logits) / beta**2 * gradient  # the loss sees β · logits, hence β²
    return logits.softmax(dim=0).detach()
