# ruff: noqa
"""WRONG: (exercise, slip in words, plausible, function)."""
import copy
import random

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset, concatenate_datasets

import course_utils as cu

WRONG = []


def add(exercise, slip, plausible=True):
    def deco(f):
        WRONG.append((exercise, slip, plausible, f))
        return f
    return deco


# ---------------------------------------------------------------- ipo
I = "labs.ipo"
for slip, plausible, f in [
    ("log-ratios not divided by tokens", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) - (pr - rr) - 1 / (2 * b)) ** 2),
    ("1/2*b: target beta/2 instead of 1/(2 beta)", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) / ct - (pr - rr) / rt - 1 / 2 * b) ** 2),
    ("target 1/beta", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) / ct - (pr - rr) / rt - 1 / b) ** 2),
    ("not squared", True, lambda pc, pr, rc, rr, b, ct, rt: (pc - rc) / ct - (pr - rr) / rt - 1 / (2 * b)),
    ("absolute value instead of square", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) / ct - (pr - rr) / rt - 1 / (2 * b)).abs()),
    ("plus the target", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) / ct - (pr - rr) / rt + 1 / (2 * b)) ** 2),
    ("rejected less chosen", True, lambda pc, pr, rc, rr, b, ct, rt: ((pr - rr) / rt - (pc - rc) / ct - 1 / (2 * b)) ** 2),
    ("beta multiplies h, as in DPO", True, lambda pc, pr, rc, rr, b, ct, rt: (b * ((pc - rc) / ct - (pr - rr) / rt) - 1 / (2 * b)) ** 2),
    ("beta multiplies h, target one half", True, lambda pc, pr, rc, rr, b, ct, rt: (b * ((pc - rc) / ct - (pr - rr) / rt) - 1 / 2) ** 2),
    ("token counts exchanged", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) / rt - (pr - rr) / ct - 1 / (2 * b)) ** 2),
    ("both divided by the chosen tokens", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc - pr + rr) / ct - 1 / (2 * b)) ** 2),
    ("h divided by both lengths together", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc - pr + rr) / (ct + rt) - 1 / (2 * b)) ** 2),
    ("h divided by the mean length", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc - pr + rr) / ((ct + rt) / 2) - 1 / (2 * b)) ** 2),
    ("precedence: only the reference is divided", True, lambda pc, pr, rc, rr, b, ct, rt: (pc - rc / ct - (pr - rr / rt) - 1 / (2 * b)) ** 2),
    ("only the policy is divided", True, lambda pc, pr, rc, rr, b, ct, rt: (pc / ct - rc - pr / rt + rr - 1 / (2 * b)) ** 2),
    ("no reference", True, lambda pc, pr, rc, rr, b, ct, rt: (pc / ct - pr / rt - 1 / (2 * b)) ** 2),
    ("log-ratios added", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) / ct + (pr - rr) / rt - 1 / (2 * b)) ** 2),
    ("policy and reference exchanged", True, lambda pc, pr, rc, rr, b, ct, rt: ((rc - pc) / ct - (rr - pr) / rt - 1 / (2 * b)) ** 2),
    ("the mean of the batch", True, lambda pc, pr, rc, rr, b, ct, rt: (((pc - rc) / ct - (pr - rr) / rt - 1 / (2 * b)) ** 2).mean()),
    ("tokens averaged over the batch", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) / ct.float().mean() - (pr - rr) / rt.float().mean() - 1 / (2 * b)) ** 2),
    ("beta of the notebook (0.3) instead of the argument", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) / ct - (pr - rr) / rt - 1 / (2 * 0.3)) ** 2),
    ("multiplied by tokens", False, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) * ct - (pr - rr) * rt - 1 / (2 * b)) ** 2),
    ("floor division by tokens", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) // ct - (pr - rr) // rt - 1 / (2 * b)) ** 2),
    ("squares h only", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) / ct - (pr - rr) / rt) ** 2 - 1 / (2 * b)),
    ("**2 binds only to the target", True, lambda pc, pr, rc, rr, b, ct, rt: (pc - rc) / ct - (pr - rr) / rt - (1 / (2 * b)) ** 2),
    ("each answer has its own square", False, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc) / ct - 1 / (2 * b)) ** 2 + ((pr - rr) / rt + 1 / (2 * b)) ** 2),
    ("target inside DPO's log-sigmoid", True, lambda pc, pr, rc, rr, b, ct, rt: -F.logsigmoid((pc - rc) / ct - (pr - rr) / rt - 1 / (2 * b))),
    ("sigmoid_norm instead", False, lambda pc, pr, rc, rr, b, ct, rt: -F.logsigmoid(b * ((pc - rc) / ct - (pr - rr) / rt))),
    ("target also divided by tokens", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc - rc - pr + rr - 1 / (2 * b)) / ct) ** 2),
    ("detached", True, lambda pc, pr, rc, rr, b, ct, rt: ((((pc - rc) / ct - (pr - rr) / rt - 1 / (2 * b)) ** 2).detach())),
    ("numpy in between", True, lambda pc, pr, rc, rr, b, ct, rt: torch.tensor((((pc - rc) / ct - (pr - rr) / rt).detach().numpy() - 1 / (2 * b)) ** 2)),
    ("a list of numbers", True, lambda pc, pr, rc, rr, b, ct, rt: [float(x) for x in ((pc - rc) / ct - (pr - rr) / rt - 1 / (2 * b)) ** 2]),
    ("factor 1/2, as of a mean squared error", True, lambda pc, pr, rc, rr, b, ct, rt: 0.5 * ((pc - rc) / ct - (pr - rr) / rt - 1 / (2 * b)) ** 2),
    ("one-sided: clamped at 0 beyond the target, as hinge", True, lambda pc, pr, rc, rr, b, ct, rt: torch.relu(1 / (2 * b) - (pc - rc) / ct + (pr - rr) / rt) ** 2),
    ("ratio of the log-probabilities", True, lambda pc, pr, rc, rr, b, ct, rt: ((pc / rc) / ct - (pr / rr) / rt - 1 / (2 * b)) ** 2),
    ("log of a ratio of log-probabilities", True, lambda pc, pr, rc, rr, b, ct, rt: (torch.log(pc / rc) / ct - torch.log(pr / rr) / rt - 1 / (2 * b)) ** 2),
    ("signature without the tokens", True, lambda pc, pr, rc, rr, b: ((pc - rc) - (pr - rr) - 1 / (2 * b)) ** 2),
]:
    WRONG.append((I, slip, plausible, f))


@add(I, "no return")
def _(pc, pr, rc, rr, b, ct, rt):
    loss = ((pc - rc) / ct - (pr - rr) / rt - 1 / (2 * b)) ** 2


@add(I, "changes its inputs (/= in place)")
def _(pc, pr, rc, rr, b, ct, rt):
    rc.sub_(pc).div_(ct)
    rr.sub_(pr).div_(rt)
    return (rr - rc - 1 / (2 * b)) ** 2


# ---------------------------------------------------------------- robust
R = "labs.robust"


def H(pc, pr, rc, rr):
    return pc - rc - pr + rr


def L(x):
    return -F.logsigmoid(x)


for slip, plausible, f in [
    ("not divided by 1 - 2e", True, lambda pc, pr, rc, rr, b, flipped=0.1: (1 - flipped) * L(b * H(pc, pr, rc, rr)) - flipped * L(-b * H(pc, pr, rc, rr))),
    ("plus (label smoothing, cDPO), undivided", True, lambda pc, pr, rc, rr, b, flipped=0.1: (1 - flipped) * L(b * H(pc, pr, rc, rr)) + flipped * L(-b * H(pc, pr, rc, rr))),
    ("plus instead of minus, divided", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(b * H(pc, pr, rc, rr)) + flipped * L(-b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("weights exchanged", True, lambda pc, pr, rc, rr, b, flipped=0.1: (flipped * L(b * H(pc, pr, rc, rr)) - (1 - flipped) * L(-b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("no beta", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(H(pc, pr, rc, rr)) - flipped * L(-H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("beta outside of the log-sigmoid", True, lambda pc, pr, rc, rr, b, flipped=0.1: b * ((1 - flipped) * L(H(pc, pr, rc, rr)) - flipped * L(-H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("L(-h) taken as -L(h)", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(b * H(pc, pr, rc, rr)) + flipped * L(b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("L(h) twice", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(b * H(pc, pr, rc, rr)) - flipped * L(b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("L(-h) taken as 1 - L(h)", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(b * H(pc, pr, rc, rr)) - flipped * (1 - L(b * H(pc, pr, rc, rr)))) / (1 - 2 * flipped)),
    ("flipped fixed at 0.1", True, lambda pc, pr, rc, rr, b, flipped=0.1: (0.9 * L(b * H(pc, pr, rc, rr)) - 0.1 * L(-b * H(pc, pr, rc, rr))) / 0.8),
    ("mean of the batch", True, lambda pc, pr, rc, rr, b, flipped=0.1: (((1 - flipped) * L(b * H(pc, pr, rc, rr)) - flipped * L(-b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)).mean()),
    ("no reference", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(b * (pc - pr)) - flipped * L(-b * (pc - pr))) / (1 - 2 * flipped)),
    ("sigmoid without log", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * -torch.sigmoid(b * H(pc, pr, rc, rr)) - flipped * -torch.sigmoid(-b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("precedence: only the second term is divided", True, lambda pc, pr, rc, rr, b, flipped=0.1: (1 - flipped) * L(b * H(pc, pr, rc, rr)) - flipped * L(-b * H(pc, pr, rc, rr)) / (1 - 2 * flipped)),
    ("precedence: / 1 - 2e without brackets", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(b * H(pc, pr, rc, rr)) - flipped * L(-b * H(pc, pr, rc, rr))) / 1 - 2 * flipped),
    ("divided by 1 - e", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(b * H(pc, pr, rc, rr)) - flipped * L(-b * H(pc, pr, rc, rr))) / (1 - flipped)),
    ("multiplied by 1 - 2e", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(b * H(pc, pr, rc, rr)) - flipped * L(-b * H(pc, pr, rc, rr))) * (1 - 2 * flipped)),
    ("minus of -log sigma forgotten", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * F.logsigmoid(b * H(pc, pr, rc, rr)) - flipped * F.logsigmoid(-b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("h the wrong way: rejected less chosen", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(-b * H(pc, pr, rc, rr)) - flipped * L(b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("rejected reference with the wrong sign (brackets)", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(b * (pc - rc - pr - rr)) - flipped * L(-b * (pc - rc - pr - rr))) / (1 - 2 * flipped)),
    ("clamped at 0: a loss cannot be negative", True, lambda pc, pr, rc, rr, b, flipped=0.1: (((1 - flipped) * L(b * H(pc, pr, rc, rr)) - flipped * L(-b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)).clamp(min=0)),
    ("mixture of the probabilities", True, lambda pc, pr, rc, rr, b, flipped=0.1: -torch.log((1 - flipped) * torch.sigmoid(b * H(pc, pr, rc, rr)) + flipped * torch.sigmoid(-b * H(pc, pr, rc, rr)))),
    ("log(sigmoid): infinite far out", True, lambda pc, pr, rc, rr, b, flipped=0.1: (-(1 - flipped) * torch.log(torch.sigmoid(b * H(pc, pr, rc, rr))) + flipped * torch.log(torch.sigmoid(-b * H(pc, pr, rc, rr)))) / (1 - 2 * flipped)),
    ("plain DPO, flipped unused", True, lambda pc, pr, rc, rr, b, flipped=0.1: L(b * H(pc, pr, rc, rr))),
    ("second term missing", True, lambda pc, pr, rc, rr, b, flipped=0.1: (1 - flipped) * L(b * H(pc, pr, rc, rr)) / (1 - 2 * flipped)),
    ("weight 1 - e missing", True, lambda pc, pr, rc, rr, b, flipped=0.1: (L(b * H(pc, pr, rc, rr)) - flipped * L(-b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("2e in the numerator", False, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - 2 * flipped) * L(b * H(pc, pr, rc, rr)) - 2 * flipped * L(-b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("the argument of L weighted instead of L: L((1-e)h - e(-h))", False, lambda pc, pr, rc, rr, b, flipped=0.1: L(b * ((1 - flipped) * H(pc, pr, rc, rr) - flipped * -H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("signature without flipped", True, lambda pc, pr, rc, rr, b: (0.9 * L(b * H(pc, pr, rc, rr)) - 0.1 * L(-b * H(pc, pr, rc, rr))) / 0.8),
    ("beta missing in L(-h) only", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(b * H(pc, pr, rc, rr)) - flipped * L(-H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("flipped per cent", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped / 100) * L(b * H(pc, pr, rc, rr)) - flipped / 100 * L(-b * H(pc, pr, rc, rr))) / (1 - 2 * flipped / 100)),
    ("policy and reference exchanged", True, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(-b * H(pc, pr, rc, rr)) - flipped * L(b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("detached", True, lambda pc, pr, rc, rr, b, flipped=0.1: (((1 - flipped) * L(b * H(pc, pr, rc, rr)) - flipped * L(-b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)).detach()),
    ("division by 1 - 2e twice", False, lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * L(b * H(pc, pr, rc, rr)) - flipped * L(-b * H(pc, pr, rc, rr))) / (1 - 2 * flipped) ** 2),
    ("brackets: 1 - e*L(h)", True, lambda pc, pr, rc, rr, b, flipped=0.1: (1 - flipped * L(b * H(pc, pr, rc, rr)) - flipped * L(-b * H(pc, pr, rc, rr))) / (1 - 2 * flipped)),
    ("random flips: draws which pairs are wrong", False, lambda pc, pr, rc, rr, b, flipped=0.1: L(b * H(pc, pr, rc, rr) * torch.where(torch.rand_like(pc) < flipped, -1.0, 1.0))),
]:
    WRONG.append((R, slip, plausible, f))


# ---------------------------------------------------------------- rank_pair
K = "labs.rank_pair"


def said(text, role="assistant"):
    return [{"role": role, "content": text}]


def grades(prompt, one, other):
    q = prompt[-1]["content"]
    return cu.judge(q, one).grade, cu.judge(q, other).grade


@add(K, "a tie gives a pair too (else branch)")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a > b:
        return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}
    return {"prompt": prompt, "chosen": said(other), "rejected": said(one)}


@add(K, "a tie gives a pair too (>=)")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a >= b:
        return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}
    return {"prompt": prompt, "chosen": said(other), "rejected": said(one)}


@add(K, "the worse one is chosen")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one, other = one, other
    else:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "answers as plain texts, not messages")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": one, "rejected": other}


@add(K, "answers as one message, not a list")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one)[0], "rejected": said(other)[0]}


@add(K, "judge is given the message list")
def _(prompt, one, other):
    a, b = cu.judge(prompt, one).grade, cu.judge(prompt, other).grade
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "judge is given the first message, not the last")
def _(prompt, one, other):
    q = prompt[0]["content"]
    a, b = cu.judge(q, one).grade, cu.judge(q, other).grade
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "judge is given the first user message, not the last")
def _(prompt, one, other):
    q = next(m["content"] for m in prompt if m["role"] == "user")
    a, b = cu.judge(q, one).grade, cu.judge(q, other).grade
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "judge's arguments exchanged")
def _(prompt, one, other):
    q = prompt[-1]["content"]
    a, b = cu.judge(one, q).grade, cu.judge(other, q).grade
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "prompt returned as text of the question")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt[-1]["content"], "chosen": said(one), "rejected": said(other)}


@add(K, "prompt returned as its last message only")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt[-1:], "chosen": said(one), "rejected": said(other)}


@add(K, "returns a tuple")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return prompt, said(one), said(other)


@add(K, "only a preferred answer can be chosen: 1 against 0 gives None")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if (a == 2) == (b == 2):
        return None
    if b == 2:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "fluency only: 2 against 1 gives None")
def _(prompt, one, other):
    a, b = (min(g, 1) for g in grades(prompt, one, other))
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "compares lengths")
def _(prompt, one, other):
    if len(one) == len(other):
        return None
    if len(one) < len(other):
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "judges the same answer twice")
def _(prompt, one, other):
    q = prompt[-1]["content"]
    a, b = cu.judge(q, one).grade, cu.judge(q, one).grade
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "None where the second is better")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a > b:
        return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "first answer always chosen unless a tie")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a != b:
        return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "None only if the texts are the same")
def _(prompt, one, other):
    if one == other:
        return None
    a, b = grades(prompt, one, other)
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "role user instead of assistant")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one, "user"), "rejected": said(other, "user")}


@add(K, "prompt repeated in front of the answers")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": prompt + said(one), "rejected": prompt + said(other)}


@add(K, "appends the answer to the prompt given (mutation)")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one, other = other, one
    prompt += said(one)
    return {"prompt": prompt[:-1], "chosen": said(one), "rejected": said(other)}


@add(K, "an empty dict for a tie")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return {}
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "False for a tie")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return False
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "keys named one and other")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "one": said(one), "other": said(other)}


@add(K, "keys without prompt")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"chosen": said(one), "rejected": said(other)}


@add(K, "compares Verdict objects instead of grades")
def _(prompt, one, other):
    q = prompt[-1]["content"]
    a, b = cu.judge(q, one), cu.judge(q, other)
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "tie decided by equality of the verdicts, not the grades")
def _(prompt, one, other):
    q = prompt[-1]["content"]
    a, b = cu.judge(q, one), cu.judge(q, other)
    if a == b:
        return None
    if a.grade < b.grade:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "fewer faults win, in place of the grade")
def _(prompt, one, other):
    q = prompt[-1]["content"]
    a, b = (len(vars(cu.judge(q, x))["broken"]) if "broken" in vars(cu.judge(q, x)) else len(next(iter(vars(cu.judge(q, x)).values()))) for x in (one, other))
    if a == b:
        return None
    if a > b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "only 2 against 0 gives a pair")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if abs(a - b) < 2:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "grades in the dict instead of the answers", False)
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    return {"prompt": prompt, "chosen": max(a, b), "rejected": min(a, b)}


@add(K, "grades added to the dict (arguable)", False)
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other), "grades": (a, b)}


@add(K, "swaps one after the other without a temporary")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a == b:
        return None
    if a < b:
        one = other
        other = one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


@add(K, "prints instead of returning")
def _(prompt, one, other):
    a, b = grades(prompt, one, other)
    if a < b:
        one, other = other, one
    if a != b:
        print({"prompt": prompt, "chosen": said(one), "rejected": said(other)})


@add(K, "uses the notebook's pairs: global variable that is not there")
def _(prompt, one, other):
    a, b = cu.judge(question, one).grade, cu.judge(question, other).grade
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": said(one), "rejected": said(other)}


# ---------------------------------------------------------------- flip_labels
P = "labs.flip_labels"


def swap(pairs, which):
    which = set(int(i) for i in which)
    return pairs.map(lambda row, i: {"chosen": row["rejected"], "rejected": row["chosen"]} if i in which else row, with_indices=True, load_from_cache_file=False)


@add(P, "each row by a coin, not exactly so many")
def _(pairs, share, seed):
    rng = random.Random(seed)
    return swap(pairs, [i for i in range(len(pairs)) if rng.random() < share])


@add(P, "the first rows, not drawn")
def _(pairs, share, seed):
    return swap(pairs, range(round(share * len(pairs))))


@add(P, "the last rows, not drawn", False)
def _(pairs, share, seed):
    return swap(pairs, range(len(pairs) - round(share * len(pairs)), len(pairs)))


@add(P, "int instead of round")
def _(pairs, share, seed):
    return swap(pairs, random.Random(seed).sample(range(len(pairs)), int(share * len(pairs))))


@add(P, "rounded up")
def _(pairs, share, seed):
    return swap(pairs, random.Random(seed).sample(range(len(pairs)), int(np.ceil(share * len(pairs)))))


@add(P, "seed not used")
def _(pairs, share, seed):
    return swap(pairs, random.sample(range(len(pairs)), round(share * len(pairs))))


@add(P, "seed always 0")
def _(pairs, share, seed):
    return swap(pairs, random.Random(0).sample(range(len(pairs)), round(share * len(pairs))))


@add(P, "drawn with replacement")
def _(pairs, share, seed):
    return swap(pairs, np.random.default_rng(seed).integers(len(pairs), size=round(share * len(pairs))))


@add(P, "np choice with replacement")
def _(pairs, share, seed):
    return swap(pairs, np.random.default_rng(seed).choice(len(pairs), round(share * len(pairs))))


@add(P, "rows shuffled: not in their place")
def _(pairs, share, seed):
    return swap(pairs.shuffle(seed), range(round(share * len(pairs))))


@add(P, "flipped rows first, then the rest")
def _(pairs, share, seed):
    n = round(share * len(pairs))
    mixed = pairs.shuffle(seed)
    turned = swap(mixed.select(range(n)), range(n))
    return concatenate_datasets([turned, mixed.select(list(range(n, len(pairs))))])


@add(P, "only the flipped rows are returned")
def _(pairs, share, seed):
    n = round(share * len(pairs))
    idx = random.Random(seed).sample(range(len(pairs)), n)
    return swap(pairs.select(sorted(idx)), range(n))


@add(P, "the rest is flipped instead")
def _(pairs, share, seed):
    idx = set(random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))
    return swap(pairs, [i for i in range(len(pairs)) if i not in idx])


@add(P, "all rows flipped", False)
def _(pairs, share, seed):
    return swap(pairs, range(len(pairs)))


@add(P, "swap without a temporary: rejected on both sides")
def _(pairs, share, seed):
    idx = set(random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))

    def turn(row, i):
        if i in idx:
            row["chosen"] = row["rejected"]
            row["rejected"] = row["chosen"]
        return row
    return pairs.map(turn, with_indices=True, load_from_cache_file=False)


@add(P, "map's result thrown away: nothing flipped")
def _(pairs, share, seed):
    swap(pairs, random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))
    return pairs


@add(P, "assigns into rows of the dataset: nothing happens")
def _(pairs, share, seed):
    for i in random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))):
        pairs[i]["chosen"], pairs[i]["rejected"] = pairs[i]["rejected"], pairs[i]["chosen"]
    return pairs


@add(P, "share per cent")
def _(pairs, share, seed):
    return swap(pairs, random.Random(seed).sample(range(len(pairs)), round(share / 100 * len(pairs))))


@add(P, "one row too few")
def _(pairs, share, seed):
    return swap(pairs, random.Random(seed).sample(range(len(pairs)), max(0, round(share * len(pairs)) - 1)))


@add(P, "one row too many")
def _(pairs, share, seed):
    return swap(pairs, random.Random(seed).sample(range(len(pairs)), min(len(pairs), round(share * len(pairs)) + 1)))


@add(P, "last row never drawn (off by one)")
def _(pairs, share, seed):
    return swap(pairs, random.Random(seed).sample(range(len(pairs) - 1), min(len(pairs) - 1, round(share * len(pairs)))))


@add(P, "first row never drawn (from 1)")
def _(pairs, share, seed):
    return swap(pairs, random.Random(seed).sample(range(1, len(pairs)), min(len(pairs) - 1, round(share * len(pairs)))))


@add(P, "every k-th row")
def _(pairs, share, seed):
    n = round(share * len(pairs))
    return swap(pairs, np.linspace(0, len(pairs) - 1, n).astype(int))


@add(P, "a list of dicts instead of a dataset")
def _(pairs, share, seed):
    idx = set(random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))
    return [{**r, "chosen": r["rejected"], "rejected": r["chosen"]} if i in idx else r for i, r in enumerate(pairs)]


@add(P, "indices instead of the dataset")
def _(pairs, share, seed):
    return sorted(random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))


@add(P, "other columns dropped: no prompt")
def _(pairs, share, seed):
    return swap(pairs.select_columns(["chosen", "rejected"]), random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))


@add(P, "prompts exchanged between rows: rows swapped with rows", False)
def _(pairs, share, seed):
    idx = random.Random(seed).sample(range(len(pairs)), round(share * len(pairs)))
    order = list(range(len(pairs)))
    for i, j in zip(sorted(idx), idx):
        order[i] = j
    return pairs.select(order)


@add(P, "160 rows of the notebook instead of len(pairs)")
def _(pairs, share, seed):
    return swap(pairs, random.Random(seed).sample(range(160), round(share * 160)))


@add(P, "share fixed at 0.4")
def _(pairs, share, seed):
    return swap(pairs, random.Random(seed).sample(range(len(pairs)), round(0.4 * len(pairs))))


@add(P, "seed set inside map: every row draws the same")
def _(pairs, share, seed):
    def turn(row):
        random.seed(seed)
        return {"chosen": row["rejected"], "rejected": row["chosen"]} if random.random() < share else row
    return pairs.map(turn, load_from_cache_file=False)


@add(P, "only the chosen side exchanged")
def _(pairs, share, seed):
    idx = set(random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))
    return pairs.map(lambda r, i: {"chosen": r["rejected"]} if i in idx else r, with_indices=True, load_from_cache_file=False)


@add(P, "adds a column that says which are flipped, and flips nothing")
def _(pairs, share, seed):
    idx = set(random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))
    return pairs.add_column("flipped", [i in idx for i in range(len(pairs))])


@add(P, "no return")
def _(pairs, share, seed):
    pairs = swap(pairs, random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))


@add(P, "flipped rows are dropped")
def _(pairs, share, seed):
    idx = set(random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))
    return pairs.filter(lambda r, i: i not in idx, with_indices=True)


@add(P, "the texts only are exchanged, but of a column as str", False)
def _(pairs, share, seed):
    idx = set(random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))
    rows = [{**r, "chosen": str(r["rejected"]), "rejected": str(r["chosen"])} if i in idx else {**r, "chosen": str(r["chosen"]), "rejected": str(r["rejected"])} for i, r in enumerate(pairs)]
    return Dataset.from_list(rows)


# ---------------------------------------------------------------- stop_at
S = "labs.stop_at"


@add(S, "returns the best value, not its position")
def _(values, patience):
    best, bad = -float("inf"), 0
    for v in values:
        if v > best:
            best, bad = v, 0
        else:
            bad += 1
            if bad == patience:
                break
    return best


@add(S, "returns the position where it gave up")
def _(values, patience):
    best, bad = -float("inf"), 0
    for i, v in enumerate(values):
        if v > best:
            best, bad = v, 0
        else:
            bad += 1
            if bad == patience:
                break
    return i


@add(S, "returns the number of values read", False)
def _(values, patience):
    best, bad = -float("inf"), 0
    for i, v in enumerate(values):
        if v > best:
            best, bad = v, 0
        else:
            bad += 1
            if bad == patience:
                break
    return i + 1


@add(S, "argmax of all, patience unused")
def _(values, patience):
    return max(range(len(values)), key=lambda i: values[i])


@add(S, "one too patient (>)")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad > patience:
                break
    return where


@add(S, "one too patient: asks before counting")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        elif bad == patience:
            break
        else:
            bad += 1
    return where


@add(S, "one too impatient")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad >= patience - 1:
                break
    return where


@add(S, "counts the best itself: i - where + 1 >= patience")
def _(values, patience):
    where = 0
    for i, v in enumerate(values):
        if v > values[where]:
            where = i
        if i - where + 1 >= patience:
            break
    return where


@add(S, "counter never reset")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where = v, i
        else:
            bad += 1
            if bad == patience:
                break
    return where


@add(S, "an equal value counts as better, and takes the place (>=)")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v >= best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad == patience:
                break
    return where


@add(S, "an equal value resets the count, but keeps the place")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where = v, i
        if v == best:
            bad = 0
        else:
            bad += 1
            if bad == patience:
                break
    return where


@add(S, "compares with the previous value instead of the best")
def _(values, patience):
    bad = 0
    for i in range(1, len(values)):
        bad = 0 if values[i] > values[i - 1] else bad + 1
        if bad == patience:
            return i - patience
    return max(range(len(values)), key=lambda j: values[j])


@add(S, "previous value counts, best position kept")
def _(values, patience):
    best, where, bad, last = -float("inf"), 0, 0, -float("inf")
    for i, v in enumerate(values):
        bad = 0 if v > last else bad + 1
        last = v
        if v > best:
            best, where = v, i
        if bad == patience:
            break
    return where


@add(S, "lower is better")
def _(values, patience):
    best, where, bad = float("inf"), 0, 0
    for i, v in enumerate(values):
        if v < best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad == patience:
                break
    return where


@add(S, "best starts at 0: negative values are never better")
def _(values, patience):
    best, where, bad = 0, 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad == patience:
                break
    return where


@add(S, "best starts at the first value, which is counted too as not better")
def _(values, patience):
    best, where, bad = values[0], 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad == patience:
                break
    return where


@add(S, "no return where patience never runs out")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad == patience:
                return where


@add(S, "positions from 1")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values, 1):
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad == patience:
                break
    return where


@add(S, "the last position where patience never runs out")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad == patience:
                return where
    return len(values) - 1


@add(S, "always position reached less patience")
def _(values, patience):
    best, bad = -float("inf"), 0
    for i, v in enumerate(values):
        if v > best:
            best, bad = v, 0
        else:
            bad += 1
            if bad == patience:
                break
    return i - patience


@add(S, "best never updated: compares with the first value")
def _(values, patience):
    best, where, bad = values[0], 0, 0
    for i, v in enumerate(values[1:], 1):
        if v > best:
            where, bad = i, 0
        else:
            bad += 1
            if bad == patience:
                break
    return where


@add(S, "mutates the values (pop), otherwise right")
def _(values, patience):
    best, where, bad, i = -float("inf"), 0, 0, 0
    while values:
        v = values.pop(0)
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad == patience:
                break
        i += 1
    return where


@add(S, "only falling values count, equal ones neither reset nor count")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        elif v < best:
            bad += 1
            if bad == patience:
                break
    return where


@add(S, "returns position and value")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad == patience:
                break
    return where, best


@add(S, "stops when the next `patience` values are all lower than this one (compares each, first plateau), else last")
def _(values, patience):
    for i in range(len(values) - patience):
        if all(v <= values[i] for v in values[i + 1 : i + 1 + patience]):
            return i
    return len(values) - 1


@add(S, "stops at the first local maximum, patience unused")
def _(values, patience):
    for i in range(len(values) - 1):
        if values[i + 1] <= values[i]:
            return i
    return len(values) - 1


@add(S, "patience read as number of values in all")
def _(values, patience):
    return max(range(min(patience, len(values))), key=lambda i: values[i])


@add(S, "position counted among the reversed or sorted values", False)
def _(values, patience):
    return sorted(values).index(max(values))


@add(S, "returns the best position as text", False)
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad == patience:
                break
    return str(where)


@add(S, "break is inside if/else wrongly indented: returns after the first round")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad == patience:
                break
        return where


@add(S, "patience fixed at 2, as in the notebook")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
            if bad == 2:
                break
    return where


@add(S, "values.index on a best of all values after the stop")
def _(values, patience):
    best, bad = -float("inf"), 0
    for v in values:
        if v > best:
            best, bad = v, 0
        else:
            bad += 1
            if bad == patience:
                break
    return values.index(max(values))


@add(S, "patience spent over the run (counted down, never refilled)")
def _(values, patience):
    where = 0
    for i in range(1, len(values)):
        if values[i] > values[where]:
            where = i
        else:
            patience -= 1
        if not patience:
            break
    return where


@add(S, "skips the best value at the very end (range one short)")
def _(values, patience):
    where = bad = 0
    for i in range(1, len(values) - 1):
        if values[i] > values[where]:
            where, bad = i, 0
        else:
            bad += 1
            if bad == patience:
                break
    return where


@add(S, "no break at all: counts, but reads on")
def _(values, patience):
    best, where, bad = -float("inf"), 0, 0
    for i, v in enumerate(values):
        if v > best:
            best, where, bad = v, i, 0
        else:
            bad += 1
    return where
