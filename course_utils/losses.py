"""The losses of the lessons, as in the papers: stateless, tensors in, tensors out."""

import torch
import torch.nn.functional as F


def sequence_logps(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Log-probability of each answer given its prompt, log π(y | x): one sum over its tokens.

    logits: (batch, length, vocabulary), the model's scores. Position t predicts token t + 1.
    labels: (batch, length), the token ids, with -100 wherever a token does not count (prompt, padding).
    Returns (batch,), in nats, at most 0.

    >>> sequence_logps(torch.zeros(1, 3, 4), torch.tensor([[-100, 2, 3]]))  # two tokens at 1/4 each
    tensor([-2.7726])
    """
    if logits.shape[:2] != labels.shape:
        raise ValueError(
            f"sequence_logps: logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not fit; "
            "expected (batch, length, vocabulary) and (batch, length)"
        )
    logits, labels = logits[:, :-1], labels[:, 1:]
    counts = labels != -100
    logps = F.log_softmax(logits, dim=-1).gather(2, labels.masked_fill(~counts, 0).unsqueeze(2)).squeeze(2)
    return (logps * counts).sum(dim=1)


def implicit_reward(policy_logps: torch.Tensor, ref_logps: torch.Tensor, beta: float) -> torch.Tensor:
    """What an answer earns under DPO: r(x, y) = β (log π(y|x) - log π_ref(y|x)).

    Both logps (batch,), summed over tokens; returns (batch,). Section 5.1 of arXiv:2305.18290: this is
    the reward of eq. 5 but for a term that depends on the prompt alone and cancels in every pair.
    """
    return beta * (policy_logps - ref_logps)


def dpo_loss(
    policy_chosen_logps: torch.Tensor,
    policy_rejected_logps: torch.Tensor,
    ref_chosen_logps: torch.Tensor,
    ref_rejected_logps: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """The DPO loss of each pair: -log σ(margin), eq. 7 of arXiv:2305.18290 before its average.

    All logps (batch,), from `sequence_logps`; beta > 0, higher stays closer to the reference.
    The margin is the chosen answer's implicit reward less the rejected one's. Returns (batch,), in nats;
    ln 2 = 0.6931 when policy and reference agree.
    """
    margin = implicit_reward(policy_chosen_logps, ref_chosen_logps, beta) - implicit_reward(
        policy_rejected_logps, ref_rejected_logps, beta
    )
    return -F.logsigmoid(margin)
