# ruff: noqa
"""RIGHT: (exercise, how in words, function)."""
import functools
import itertools
import random

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset

import course_utils as cu

RIGHT = []


def add(exercise, how):
    def deco(f):
        RIGHT.append((exercise, how, f))
        return f
    return deco


I, R, K, P, S = "labs.ipo", "labs.robust", "labs.rank_pair", "labs.flip_labels", "labs.stop_at"

for how, f in [
    ("torch.square, target less h", lambda pc, pr, rc, rr, b, ct, rt: torch.square(0.5 / b - (pc - rc) / ct + (pr - rr) / rt)),
    ("F.mse_loss without reduction", lambda pc, pr, rc, rr, b, ct, rt: F.mse_loss((pc - rc) / ct - (pr - rr) / rt, torch.full_like(pc, 1 / (2 * b)), reduction="none")),
    ("binomial multiplied out", lambda pc, pr, rc, rr, b, ct, rt: (lambda h: h * h - h / b + 1 / (4 * b * b))((pc - rc) / ct - (pr - rr) / rt)),
    ("implicit_reward with beta taken out again", lambda pc, pr, rc, rr, b, ct, rt: (cu.implicit_reward(pc, rc, b) / (b * ct) - cu.implicit_reward(pr, rr, b) / (b * rt) - 1 / b / 2).pow(2)),
    ("row by row, stacked", lambda pc, pr, rc, rr, b, ct, rt: torch.stack([((pc[i] - rc[i]) / ct[i] - (pr[i] - rr[i]) / rt[i] - 1 / (2 * b)) ** 2 for i in range(len(pc))])),
    ("in double precision", lambda pc, pr, rc, rr, b, ct, rt: ((pc.double() - rc.double()) / ct - (pr.double() - rr.double()) / rt - 1 / (2 * b)) ** 2),
    ("means of policy and reference first", lambda pc, pr, rc, rr, b, ct, rt: (pc / ct - rc / ct - pr / rt + rr / rt - 1 / (2 * b)) ** 2),
    ("torch functions by name", lambda pc, pr, rc, rr, b, ct, rt: torch.pow(torch.sub(torch.div(pc - rc, ct), torch.div(pr - rr, rt)) - (2 * b) ** -1, 2)),
    ("keyword defaults and *args", lambda *a: ((a[0] - a[2]) / a[5] - (a[1] - a[3]) / a[6] - 1 / (2 * a[4])) ** 2),
    ("beta^2-scaled: (2b h - 1)^2 / 4b^2", lambda pc, pr, rc, rr, b, ct, rt: (2 * b * ((pc - rc) / ct - (pr - rr) / rt) - 1) ** 2 / (4 * b**2)),
]:
    RIGHT.append((I, how, f))


class Ipo:
    def __call__(self, policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta, chosen_tokens, rejected_tokens):
        ratios = torch.stack([policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps])
        a, b = ratios / torch.stack([chosen_tokens, rejected_tokens])
        return (a - b - 1 / (2 * beta)) ** 2


RIGHT.append((I, "an object with __call__, stacked", Ipo()))

for how, f in [
    ("softplus", lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * F.softplus(-b * (pc - rc - pr + rr)) - flipped * F.softplus(b * (pc - rc - pr + rr))) / (1 - 2 * flipped)),
    ("cu.dpo_loss, and with the answers exchanged", lambda pc, pr, rc, rr, b, flipped=0.1: ((1 - flipped) * cu.dpo_loss(pc, pr, rc, rr, b) - flipped * cu.dpo_loss(pr, pc, rr, rc, b)) / (1 - 2 * flipped)),
    ("L(-h) = L(h) + beta h", lambda pc, pr, rc, rr, b, flipped=0.1: cu.dpo_loss(pc, pr, rc, rr, b) - flipped / (1 - 2 * flipped) * b * (pc - rc - pr + rr)),
    ("BCE with a label beyond 1", lambda pc, pr, rc, rr, b, flipped=0.1: F.binary_cross_entropy_with_logits(b * (pc - rc - pr + rr), torch.full_like(pc, (1 - flipped) / (1 - 2 * flipped)), reduction="none")),
    ("logaddexp", lambda pc, pr, rc, rr, b, flipped=0.1: (lambda x, z: ((1 - flipped) * torch.logaddexp(z, -x) - flipped * torch.logaddexp(z, x)) / (1 - 2 * flipped))(b * (pc - rc - pr + rr), torch.zeros_like(pc))),
    ("denominator (1-e)-e; logsigmoid signs gathered", lambda pc, pr, rc, rr, b, flipped=0.1: (flipped * F.logsigmoid(b * (pr - rr - pc + rc)) - (1 - flipped) * F.logsigmoid(b * (pc - rc - pr + rr))) / ((1 - flipped) - flipped)),
    ("two weights, dot product", lambda pc, pr, rc, rr, b, flipped=0.1: torch.tensor([1 - flipped, -flipped]) @ -F.logsigmoid(torch.stack([b * (pc - rc - pr + rr), -b * (pc - rc - pr + rr)])) / (1 - 2 * flipped)),
    ("flipped without default", lambda pc, pr, rc, rr, beta, flipped: ((1 - flipped) * -F.logsigmoid(beta * (pc - pr - (rc - rr))) + flipped * F.logsigmoid(-beta * (pc - pr - (rc - rr)))) / (1 - flipped * 2)),
    ("log_softmax over (h, 0)", lambda pc, pr, rc, rr, b, flipped=0.1: (lambda lp: (-(1 - flipped) * lp[0] + flipped * lp[1]) / (1 - 2 * flipped))(torch.log_softmax(torch.stack([b * (pc - rc), b * (pr - rr)]), 0))),
]:
    RIGHT.append((R, how, f))


@add(R, "helper inside, early return where nothing is flipped")
def _(pc, pr, rc, rr, beta, flipped=0.1):
    def nll(x):
        return -torch.nn.LogSigmoid()(x)
    h = pc.sub(rc).sub(pr.sub(rr)).mul(beta)
    if not flipped:
        return nll(h)
    return (nll(h) * (1 - flipped) - nll(h.neg()) * flipped) / (1 - 2 * flipped)


def message(text):
    return [dict(content=text, role="assistant")]


@add(K, "sorted by grade")
def _(prompt, one, other):
    (low, worst), (high, best) = sorted(((cu.judge(prompt[-1]["content"], x).grade, x) for x in (one, other)), key=lambda p: p[0])
    return None if low == high else dict(prompt=prompt, chosen=message(best), rejected=message(worst))


@add(K, "sign of the difference, dict built in other key order")
def _(prompt, one, other):
    gap = cu.judge(prompt[-1]["content"], one).grade - cu.judge(prompt[-1]["content"], other).grade
    if gap:
        return {"rejected": message(other if gap > 0 else one), "chosen": message(one if gap > 0 else other), "prompt": prompt}


@add(K, "judge_all, early returns")
def _(prompt, one, other):
    a, b = (v.grade for v in cu.judge_all([prompt, prompt], [one, other]))
    if a > b:
        return {"prompt": prompt, "chosen": message(one), "rejected": message(other)}
    if b > a:
        return {"prompt": prompt, "chosen": message(other), "rejected": message(one)}
    return None


@add(K, "recursion with the answers exchanged, prompt copied")
def rank(prompt, one, other):
    *_, last = prompt
    a, b = cu.judge(last["content"], one).grade, cu.judge(last["content"], other).grade
    if a == b:
        return None
    if a < b:
        return rank(prompt, other, one)
    return {"prompt": [dict(m) for m in prompt], "chosen": message(one), "rejected": message(other)}


@add(K, "max and min with key, last user message searched backwards")
def _(prompt, one, other):
    q = next(m["content"] for m in reversed(prompt) if m["role"] == "user")
    grade = functools.cache(lambda x: cu.judge(q, x).grade)
    if grade(one) == grade(other):
        return
    best, worst = max(one, other, key=grade), min(one, other, key=grade)
    return {"prompt": prompt} | {"chosen": message(best), "rejected": message(worst)}


@add(K, "numpy argsort")
def _(prompt, one, other):
    said = [one, other]
    grades = np.array([cu.judge(prompt[-1]["content"], x).grade for x in said])
    if np.ptp(grades) == 0:
        return None
    worst, best = np.argsort(grades)
    return {"prompt": prompt, "chosen": message(said[best]), "rejected": message(said[worst])}


@add(K, "all messages joined: the judge takes the last question it finds")
def _(prompt, one, other):
    q = "\n".join(m["content"] for m in prompt)
    a, b = cu.judge(q, one).grade, cu.judge(q, other).grade
    if a == b:
        return None
    if a < b:
        one, other = other, one
    return {"prompt": prompt, "chosen": message(one), "rejected": message(other)}


def turned(row):
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}


@add(P, "numpy permutation, map with indices")
def _(pairs, share, seed):
    which = set(np.random.default_rng(seed).permutation(len(pairs))[: round(share * len(pairs))].tolist())
    return pairs.map(lambda r, i: turned(r) if i in which else r, with_indices=True)


@add(P, "numpy choice without replacement, map returns the two columns only")
def _(pairs, share, seed):
    which = np.random.default_rng(seed).choice(len(pairs), size=round(share * len(pairs)), replace=False)
    return pairs.map(lambda r, i: {"chosen": r["rejected"], "rejected": r["chosen"]} if i in which else {}, with_indices=True)


@add(P, "random.Random.sample, Dataset.from_list")
def _(pairs, share, seed):
    which = random.Random(seed).sample(range(len(pairs)), round(share * len(pairs)))
    return Dataset.from_list([turned(r) if i in which else r for i, r in enumerate(pairs)])


@add(P, "torch.randperm, columns as lists, Dataset.from_dict")
def _(pairs, share, seed):
    columns = {name: list(pairs[name]) for name in pairs.column_names}
    for i in torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))[: round(share * len(pairs))].tolist():
        columns["chosen"][i], columns["rejected"][i] = columns["rejected"][i], columns["chosen"][i]
    return Dataset.from_dict(columns)


@add(P, "random.seed, global shuffle of the indices")
def _(pairs, share, seed):
    random.seed(seed)
    order = list(range(len(pairs)))
    random.shuffle(order)
    which = {i: True for i in order[: round(share * len(pairs))]}
    return pairs.map(lambda r, i: turned(r) if which.get(i) else r, with_indices=True, load_from_cache_file=False)


@add(P, "np.random.seed, boolean mask")
def _(pairs, share, seed):
    np.random.seed(seed)
    mask = np.arange(len(pairs)) < round(share * len(pairs))
    np.random.shuffle(mask)
    return pairs.map(lambda r, i: turned(r) if mask[i] else r, with_indices=True)


@add(P, "Dataset.shuffle draws, sort brings back")
def _(pairs, share, seed):
    n = round(share * len(pairs))
    mixed = pairs.add_column("_at", list(range(len(pairs)))).shuffle(seed)
    mixed = mixed.map(lambda r, i: turned(r) if i < n else r, with_indices=True)
    return mixed.sort("_at").remove_columns("_at")


@add(P, "pandas")
def _(pairs, share, seed):
    frame = pairs.to_pandas()
    which = frame.sample(n=round(share * len(frame)), random_state=seed).index
    rows = pairs.to_list()
    for i in which:
        rows[i] = turned(rows[i])
    return Dataset.from_list(rows, features=pairs.features)


@add(P, "batched map")
def _(pairs, share, seed):
    which = set(random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))

    def turn(batch, at):
        out = {"chosen": [], "rejected": []}
        for c, r, i in zip(batch["chosen"], batch["rejected"], at):
            out["chosen"].append(r if i in which else c)
            out["rejected"].append(c if i in which else r)
        return out
    return pairs.map(turn, with_indices=True, batched=True)


@add(P, "early return for share 0")
def _(pairs, share, seed):
    n = round(share * len(pairs))
    if n == 0:
        return pairs
    which = frozenset(np.random.RandomState(seed).permutation(len(pairs))[:n])
    return pairs.map(lambda r, i: turned(r) if i in which else r, with_indices=True)


@add(P, "Random seeded with a text, sorted sample, generator of rows")
def _(pairs, share, seed):
    which = sorted(random.Random(f"flip {seed}").sample(range(len(pairs)), k=round(len(pairs) * share)))
    return Dataset.from_list(list(turned(r) if i in which else r for i, r in enumerate(pairs)))


@add(S, "while loop, distance from the best")
def _(values, patience):
    best = i = 0
    while i < len(values) and i - best < patience:
        i += 1
        if i < len(values) and values[i] > values[best]:
            best = i
    return best


@add(S, "for/else, early return")
def _(values, patience):
    best, where = float("-inf"), 0
    for i, v in enumerate(values):
        if v > best:
            best, where = v, i
        elif i - where >= patience:
            return where
    else:
        return where


@add(S, "numpy accumulate, returns int")
def _(values, patience):
    v = np.asarray(values, dtype=float)
    at = np.array([int(np.argmax(v[: i + 1])) for i in range(len(v))])
    given_up = np.flatnonzero(np.arange(len(v)) - at >= patience)
    return int(at[given_up[0]]) if len(given_up) else int(at[-1])


@add(S, "numpy argmax, returns np.int64")
def _(values, patience):
    v = np.asarray(values, dtype=float)
    for i in range(len(v)):
        best = np.argmax(v[: i + 1])
        if i - best >= patience:
            return best
    return np.argmax(v)


@add(S, "torch argmax, .item()")
def _(values, patience):
    v = torch.tensor(values, dtype=torch.float64)
    for i in range(len(v)):
        best = v[: i + 1].argmax().item()
        if i - best >= patience:
            break
    return best


@add(S, "iterator with next and islice")
def _(values, patience):
    stream = enumerate(values)
    where, best = next(stream)
    while True:
        window = list(itertools.islice(stream, patience))
        for i, v in window:
            if v > best:
                where, best = i, v
                stream = enumerate(itertools.islice(values, i + 1, None), i + 1)
                break
        else:
            return where


@add(S, "recursion")
def _(values, patience):
    def go(i, where, bad):
        if i == len(values) or bad == patience:
            return where
        return go(i + 1, i, 0) if values[i] > values[where] else go(i + 1, where, bad + 1)
    return go(1, 0, 0)


@add(S, "reads and cuts, then index of the maximum read")
def _(values, patience):
    read, bad = [], 0
    for v in values:
        bad = 0 if not read or v > max(read) else bad + 1
        read.append(v)
        if bad >= patience:
            break
    return read.index(max(read))


@add(S, "first position whose next values are none better")
def _(values, patience):
    return next(i for i in range(len(values)) if all(v <= values[i] for v in values[i + 1 : i + 1 + patience]) and values[i] >= max(values[: i + 1]))
