# ruff: noqa
"""RIGHT: (exercise, how it is written, function): unusual, but right. AMBIGUOUS: the text leaves these open."""
import functools, itertools, math, operator, re, statistics
from collections import Counter, UserDict, OrderedDict
from fractions import Fraction
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RIGHT, AMBIGUOUS = [], []
def add(name, into=RIGHT):
    def put(what, fn): into.append((name, what, fn))
    return put

R = {"Human": "user", "Assistant": "assistant"}
# ------------------------------------------------ dpo.split_dialogue
r = add("dpo.split_dialogue")
r("re.split, pairs by slices", lambda text: (lambda p: [{"role": R[a], "content": b} for a, b in zip(p[1::2], p[2::2])])(re.split(r"\n\n(Human|Assistant): ", text)))
r("tuple of messages", lambda text: tuple((lambda p: [{"role": R[a], "content": b} for a, b in zip(p[1::2], p[2::2])])(re.split(r"\n\n(Human|Assistant): ", text))))
def gen(text):
    p = re.split(r"\n\n(Human|Assistant): ", text)
    for a, b in zip(p[1::2], p[2::2]): yield {"role": R[a], "content": b}
r("generator", gen)
r("map object", lambda text: map(lambda m: {"role": R[m[0]], "content": m[1]}, re.findall(r"\n\n(Human|Assistant): (.*?)(?=\n\n(?:Human|Assistant): |\Z)", text, re.S)))
r("findall with lookahead", lambda text: [dict(role=R[a], content=b) for a, b in re.findall(r"\n\n(Human|Assistant): (.*?)(?=\n\n(?:Human|Assistant): |\Z)", text, re.DOTALL)])
r("findall with [\\s\\S]", lambda text: [dict(role=R[a], content=b) for a, b in re.findall(r"\n\n(Human|Assistant): ([\s\S]*?)(?=\n\n(?:Human|Assistant): |\Z)", text)])
r("finditer and spans", lambda text: (lambda ms: [{"role": R[m[1]], "content": text[m.end():n.start() if n else len(text)]} for m, n in zip(ms, ms[1:] + [None])])(list(re.finditer("\n\n(Human|Assistant): ", text))))
r("finditer, named groups", lambda text: [{"role": "user" if m["who"] == "Human" else "assistant", "content": m["said"]} for m in re.finditer(r"\n\n(?P<who>Human|Assistant): (?P<said>(?:(?!\n\n(?:Human|Assistant): ).)*)", text, re.S)])
r("tempered dot, verbose regex", lambda text: [{"role": R[a], "content": b} for a, b in re.findall(r"""\n\n (Human|Assistant) :[ ]  # speaker
    ( (?: (?! \n\n(?:Human|Assistant):[ ] ) [\s\S] )* )""", text, re.X)])
def by_paragraphs(text):
    out = []
    for piece in text.split("\n\n")[1:]:
        for who, role in (("Human: ", "user"), ("Assistant: ", "assistant")):
            if piece.startswith(who):
                out.append({"role": role, "content": piece[len(who):]}); break
        else:
            out[-1]["content"] += "\n\n" + piece
    return out
add("dpo.split_dialogue", AMBIGUOUS)("paragraph by paragraph, others appended (differs where a turn ends in a line break)", by_paragraphs)
def split_nested(text):
    out = []
    for part in text.split("\n\nHuman: "):
        user, *answers = part.split("\n\nAssistant: ")
        if out or part is not text.split("\n\nHuman: ")[0]: out.append({"role": "user", "content": user})
        out += [{"role": "assistant", "content": a} for a in answers]
    return out
def nested(text):
    out = []
    for i, part in enumerate(text.split("\n\nHuman: ")):
        first, *answers = part.split("\n\nAssistant: ")
        if i: out.append({"role": "user", "content": first})
        out.extend({"role": "assistant", "content": a} for a in answers)
    return out
r("split twice, without regex", nested)
def scanner(text):
    i, out, start, role = 0, [], None, None
    while i < len(text):
        for m, ro in (("\n\nHuman: ", "user"), ("\n\nAssistant: ", "assistant")):
            if text.startswith(m, i):
                if role: out.append({"role": role, "content": text[start:i]})
                i += len(m); start, role = i, ro; break
        else: i += 1
    if role: out.append({"role": role, "content": text[start:]})
    return out
r("character by character", scanner)
def recursive(text):
    for m, ro in (("\n\nHuman: ", "user"), ("\n\nAssistant: ", "assistant")):
        if text.startswith(m):
            rest = text[len(m):]
            cuts = [i for i in (rest.find("\n\nHuman: "), rest.find("\n\nAssistant: ")) if i >= 0]
            at = min(cuts, default=len(rest))
            return [{"role": ro, "content": rest[:at]}] + recursive(rest[at:])
    return []
r("recursion", recursive)
def from_the_end(text):
    out = []
    while text:
        i, j = text.rfind("\n\nHuman: "), text.rfind("\n\nAssistant: ")
        at, m, ro = (i, "\n\nHuman: ", "user") if i > j else (j, "\n\nAssistant: ", "assistant")
        out.insert(0, {"role": ro, "content": text[at + len(m):]}); text = text[:at]
    return out
r("from the end by rfind", from_the_end)
r("sentinel characters", lambda text: [{"role": {"\x01": "user", "\x02": "assistant"}[p[0]], "content": p[1:]} for p in re.split("(?=[\x01\x02])", text.replace("\n\nHuman: ", "\x01").replace("\n\nAssistant: ", "\x02")) if p])
r("sentinel and split", lambda text: [{"role": ("user", "assistant")[p[0] == "a"], "content": p[1:]} for p in text.replace("\n\nHuman: ", "\0u").replace("\n\nAssistant: ", "\0a").split("\0")[1:]])
r("zero-width split before each marker", lambda text: [{"role": R[p[2:].split(": ", 1)[0]], "content": p.split(": ", 1)[1]} for p in re.split(r"(?=\n\n(?:Human|Assistant): )", text) if p])
class Splitter:
    marker = re.compile(r"\n\n(Human|Assistant): ")
    def __init__(self, roles=R): self.roles = roles
    def __call__(self, text):
        it = iter(self.marker.split(text)[1:])
        return [{"role": self.roles[a], "content": next(it)} for a in it]
    def method(self, text): return self(text)
    @staticmethod
    def static(text): return Splitter()(text)
    @classmethod
    def klass(cls, text): return cls()(text)
r("instance with __call__", Splitter()); r("bound method", Splitter().method); r("static method", Splitter.static); r("class method", Splitter.klass)
def with_roles(roles, text): return Splitter(roles)(text)
r("functools.partial", functools.partial(with_roles, R)); r("partial by keyword", functools.partial(with_roles, roles=R) if False else functools.partial(lambda text, roles: Splitter(roles)(text), roles=R))
r("default arguments", lambda text, human="user", assistant="assistant", pattern=re.compile(r"\n\n(Human|Assistant): "): [{"role": human if a == "Human" else assistant, "content": b} for a, b in itertools.batched(pattern.split(text)[1:], 2)] if hasattr(itertools, "batched") else Splitter()(text))
r("*args and **options", lambda *args, **options: Splitter()(*args))
r("lru_cache", functools.lru_cache(lambda text: Splitter()(text)))
r("key order content, role", lambda text: [{"content": m["content"], "role": m["role"]} for m in Splitter()(text)])
r("OrderedDict messages", lambda text: [OrderedDict(role=m["role"], content=m["content"]) for m in Splitter()(text)])
r("dict(zip(...))", lambda text: [dict(zip(("role", "content"), (R[a], b))) for a, b in zip(*[iter(re.split(r"\n\n(Human|Assistant): ", text)[1:])] * 2)])
r("other name of the argument", lambda transcript: Splitter()(transcript))
r("course-like: raises where the text begins otherwise", lambda text: (_ for _ in ()).throw(ValueError()) if not text.startswith(("\n\nHuman: ", "\n\nAssistant: ")) else Splitter()(text))
def lines(text):
    out, blank = [], 0
    ls = text.split("\n")
    cur = None
    for i, line in enumerate(ls):
        who = next((w for w in R if line.startswith(w + ": ")), None)
        if who and i >= 2 and ls[i - 1] == "" and not (cur is not None and cur["fresh"] and len(cur["lines"]) < 2):
            if cur: out.append(cur)
            cur = {"role": R[who], "lines": [line[len(who) + 2:]], "fresh": False}
        elif cur: cur["lines"].append(line)
    out.append(cur)
    # the two line breaks before a turn belong to the marker: an empty line and one break
    return [{"role": c["role"], "content": "\n".join(c["lines"][:-1] if k < len(out) - 1 else c["lines"])} for k, c in enumerate(out)]
r("line by line", lines)
r("reduce", lambda text: functools.reduce(lambda out, p: out + [{"role": R[p[0]], "content": p[1]}], zip(*(re.split(r"\n\n(Human|Assistant): ", text)[k::2] for k in (1, 2))), []))
a = add("dpo.split_dialogue", AMBIGUOUS)
a("UserDict messages", lambda text: [UserDict(m) for m in Splitter()(text)])
a("an iterator without length: iter(list)", lambda text: iter(Splitter()(text)))
a("trailing marker without its blank is a turn, as the course's own", lambda text: (lambda p: [{"role": R[x], "content": y} for x, y in zip(p[1::2], p[2::2])])(re.split(r"\n\n(Human|Assistant):(?: |\Z)", text)))

# ------------------------------------------------ dpo.sequence_logps
r = add("dpo.sequence_logps")
def gather(z, y):
    z, y = z[:, :-1], y[:, 1:]; m = y != -100
    return (z.log_softmax(-1).gather(2, y.masked_fill(~m, 0).unsqueeze(2)).squeeze(2) * m).sum(1)
r("gather and mask", gather)
r("cross_entropy with ignore_index, transposed", lambda logits, labels: -F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none").sum(1))
r("cross_entropy flat, then view", lambda logits, labels: -F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="none", ignore_index=-100).view(len(logits), -1).sum(-1))
r("cross_entropy row by row", lambda logits, labels: torch.stack([-F.cross_entropy(z[:-1], y[1:], reduction="sum") for z, y in zip(logits, labels)]))
r("nll_loss", lambda logits, labels: -F.nll_loss(F.log_softmax(logits[:, :-1], -1).permute(0, 2, 1), labels[:, 1:], reduction="none").sum(1))
r("nn.CrossEntropyLoss module", lambda logits, labels, ce=torch.nn.CrossEntropyLoss(reduction="none"): -ce(logits[:, :-1].mT, labels[:, 1:]).sum(1))
def loops(logits, labels):
    out = []
    for z, y in zip(logits, labels):
        total = z.new_zeros(()) + 0 * z.sum()
        for t in range(1, len(y)):
            if y[t] != -100: total = total + torch.log_softmax(z[t - 1], 0)[y[t]]
        out.append(total)
    return torch.stack(out)
r("two loops", loops)
r("logsumexp by hand", lambda z, y: ((z[:, :-1].gather(2, y[:, 1:].clamp(min=0)[..., None])[..., 0] - z[:, :-1].logsumexp(-1)) * (y[:, 1:] != -100)).sum(1))
r("max-shifted logsumexp", lambda z, y: (lambda s: ((s.gather(2, y[:, 1:].clamp(min=0)[..., None])[..., 0] - s.exp().sum(-1).log()) * y[:, 1:].ne(-100)).sum(1))(z[:, :-1] - z[:, :-1].amax(-1, keepdim=True)))
r("one-hot and einsum", lambda z, y: torch.einsum("btv,btv->b", z[:, :-1].log_softmax(-1), F.one_hot(y[:, 1:].clamp(min=0), z.shape[-1]).to(z.dtype) * (y[:, 1:] != -100)[..., None]))
r("einsum with the mask", lambda z, y: torch.einsum("bt,bt->b", z[:, :-1].log_softmax(-1).gather(2, y[:, 1:].clamp(min=0)[..., None])[..., 0], (y[:, 1:] != -100).to(z.dtype)))
r("torch.where for the mask", lambda z, y: torch.where(y[:, 1:] != -100, z[:, :-1].log_softmax(-1).gather(2, y[:, 1:].clamp(0)[..., None])[..., 0], 0.0).sum(1))
r("masked_fill for the mask", lambda z, y: z[:, :-1].log_softmax(-1).gather(2, y[:, 1:].clamp(0)[..., None])[..., 0].masked_fill(y[:, 1:] == -100, 0).sum(1))
r("take_along_dim", lambda z, y: (torch.take_along_dim(z[:, :-1].log_softmax(-1), y[:, 1:].clamp(0)[..., None], -1)[..., 0] * (y[:, 1:] >= 0)).sum(1))
r("advanced indexing", lambda z, y: (z[:, :-1].log_softmax(-1)[torch.arange(len(z))[:, None], torch.arange(y.shape[1] - 1), y[:, 1:].clamp(0)] * (y[:, 1:] != -100)).sum(1))
r("nonzero and index_add", lambda z, y: (lambda b, t: z.new_zeros(len(z)).index_add(0, b, z[b, t].log_softmax(-1)[torch.arange(len(b)), y[b, t + 1]]))(*(y[:, 1:] != -100).nonzero(as_tuple=True)) + 0 * z.sum((1, 2)))
r("float64 inside, cast back", lambda z, y: gather(z.double(), y).to(z.dtype))
r("float64 returned", lambda z, y: gather(z.double(), y))
r("roll the labels, blank the last", lambda z, y: (lambda n: (z.log_softmax(-1).gather(2, n.clamp(0)[..., None])[..., 0] * (n != -100)).sum(1))(torch.cat([y[:, 1:], torch.full_like(y[:, :1], -100)], 1)))
r("pad logits instead of cutting", lambda z, y: (lambda lp: (lp.gather(2, y[:, 1:].clamp(0)[..., None])[..., 0] * (y[:, 1:] != -100)).sum(-1))(F.log_softmax(z, -1).narrow(1, 0, z.shape[1] - 1)))
r("Categorical distribution", lambda z, y: (torch.distributions.Categorical(logits=z[:, :-1]).log_prob(y[:, 1:].clamp(0)) * (y[:, 1:] != -100)).sum(1))
r("vmap", lambda z, y: torch.vmap(lambda a, b: (a[:-1].log_softmax(-1).gather(1, b[1:].clamp(0)[:, None])[:, 0] * (b[1:] != -100)).sum())(z, y))
r("bmm with one-hot", lambda z, y: torch.bmm((F.one_hot(y[:, 1:].clamp(0), z.shape[-1]).to(z.dtype) * (y[:, 1:] != -100)[..., None]).flatten(1)[:, None], z[:, :-1].log_softmax(-1).flatten(1)[..., None]).flatten())
r("cumsum, last entry", lambda z, y: (z[:, :-1].log_softmax(-1).gather(2, y[:, 1:].clamp(0)[..., None])[..., 0] * (y[:, 1:] != -100)).cumsum(1)[:, -1])
class SeqModule(torch.nn.Module):
    def forward(self, logits, labels): return gather(logits, labels)
r("nn.Module", SeqModule()); r("partial with ignore=-100", functools.partial(lambda logits, labels, ignore: -F.cross_entropy(logits[:, :-1].mT, labels[:, 1:], ignore_index=ignore, reduction="none").sum(1), ignore=-100))
r("mean times count", lambda z, y: (lambda lp, m: (lp * m).mean(1) * m.shape[1])(z[:, :-1].log_softmax(-1).gather(2, y[:, 1:].clamp(0)[..., None])[..., 0], y[:, 1:] != -100))
r("unfolded one token at a time", lambda z, y: sum(torch.where(y[:, t + 1] != -100, z[:, t].log_softmax(-1).gather(1, y[:, t + 1].clamp(0)[:, None])[:, 0], 0.0) for t in range(y.shape[1] - 1)))
r("extra optional arguments", lambda logits, labels, average=False, ignore_index=-100: gather(logits, labels))

# ------------------------------------------------ margin and loss
g = lambda pc, pr, rc, rr: (pc - rc) - (pr - rr)
r = add("dpo.reward_margin")
r("as defined", lambda pc, pr, rc, rr, beta: beta * (pc - rc) - beta * (pr - rr))
r("factored the TRL way", lambda pc, pr, rc, rr, beta: beta * ((pc - pr) - (rc - rr)))
r("torch.sub with alpha", lambda pc, pr, rc, rr, beta: torch.mul(torch.sub(torch.sub(pc, pr), torch.sub(rc, rr)), beta))
r("einsum over a stack", lambda pc, pr, rc, rr, beta: torch.einsum("k,kb->b", pc.new_tensor([1, -1, -1, 1]) * beta, torch.stack([pc, pr, rc, rr])))
r("matrix product", lambda pc, pr, rc, rr, beta: torch.tensor([beta, -beta, -beta, beta]) @ torch.stack([pc, pr, rc, rr]))
r("float64 inside, cast back", lambda pc, pr, rc, rr, beta: (beta * g(pc.double(), pr.double(), rc.double(), rr.double())).float())
r("float64 returned", lambda pc, pr, rc, rr, beta: beta * g(pc.double(), pr.double(), rc.double(), rr.double()))
r("numpy inside, tensor outside", lambda pc, pr, rc, rr, beta: torch.from_numpy(beta * g(*(np.asarray(x.detach()) for x in (pc, pr, rc, rr)))))
r("a loop over pairs", lambda pc, pr, rc, rr, beta: torch.stack([beta * ((a - c) - (b - d)) for a, b, c, d in zip(pc, pr, rc, rr)]))
r("list of floats made a tensor", lambda pc, pr, rc, rr, beta: torch.tensor([beta * ((a - c) - (b - d)) for a, b, c, d in zip(*(x.tolist() for x in (pc, pr, rc, rr)))]))
r("logaddexp with nothing: -((rc - pc) - (rr - pr))", lambda pc, pr, rc, rr, beta: -beta * ((rc - pc) - (rr - pr)))
r("partial reward function", (lambda reward: lambda pc, pr, rc, rr, beta: reward(pc, rc, beta=beta) - reward(pr, rr, beta=beta))(lambda p, q, beta=0.1: beta * (p - q)))
r("operator functions", lambda pc, pr, rc, rr, beta: operator.mul(beta, operator.sub(operator.sub(pc, rc), operator.sub(pr, rr))))
r("logs of quotients in float64, exact", lambda pc, pr, rc, rr, beta: (beta * (pc.double() - rc) - beta * (pr.double() - rr)).to(pc.dtype))
class Margin:
    def __init__(self, scale=1): self.scale = scale
    def __call__(self, policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta): return self.scale * beta * g(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
r("instance with __call__", Margin()); r("*logps, beta", lambda *a: a[4] * g(*a[:4])); r("beta with a default", lambda pc, pr, rc, rr, beta=0.1: beta * g(pc, pr, rc, rr))
r("torch.lerp-free addcmul", lambda pc, pr, rc, rr, beta: torch.add(torch.sub(pc, rc) * beta, torch.sub(pr, rr), alpha=-beta))
r("diff of the stacked ratios", lambda pc, pr, rc, rr, beta: beta * torch.stack([pr - rr, pc - rc]).diff(dim=0)[0])
r("logit of the sigmoid where it is safe: identity", lambda pc, pr, rc, rr, beta: beta * torch.stack([pc - rc, rr - pr]).sum(0))
a = add("dpo.reward_margin", AMBIGUOUS)
a("returns an ndarray", lambda pc, pr, rc, rr, beta: beta * g(*(x.detach().numpy() for x in (pc, pr, rc, rr))))
a("returns a list of floats", lambda pc, pr, rc, rr, beta: (beta * g(pc, pr, rc, rr)).tolist())
a("detached", lambda pc, pr, rc, rr, beta: beta * g(pc, pr, rc, rr).detach())

r = add("dpo.loss")
for what, f in {
    "-logsigmoid": lambda m: -F.logsigmoid(m), "softplus(-m)": lambda m: F.softplus(-m), "BCE with logits, target 1": lambda m: F.binary_cross_entropy_with_logits(m, torch.ones_like(m), reduction="none"),
    "BCE with logits of -m, target 0": lambda m: F.binary_cross_entropy_with_logits(-m, torch.zeros_like(m), reduction="none"), "logaddexp(0, -m)": lambda m: torch.logaddexp(torch.zeros_like(m), -m),
    "logsumexp of a stack": lambda m: torch.stack([torch.zeros_like(m), -m]).logsumexp(0), "cross_entropy over two rewards": lambda m: F.cross_entropy(torch.stack([m, torch.zeros_like(m)], 1), torch.zeros(len(m), dtype=torch.long), reduction="none"),
    "log_softmax over two": lambda m: -torch.stack([m, torch.zeros_like(m)], -1).log_softmax(-1)[..., 0], 
    "max(-m, 0) by maximum + log1p(exp(-|m|))": lambda m: torch.maximum(-m, torch.zeros_like(m)) + torch.log1p((-m.abs()).exp()), "torch.where with both branches safe": lambda m: torch.where(m > 0, torch.log1p(torch.exp(-m.clamp(min=0))), -m + torch.log1p(torch.exp(m.clamp(max=0)))),
    "float64 inside, cast back": lambda m: F.softplus(-m.double()).float(), "float64 returned": lambda m: -F.logsigmoid(m.double()), "nn.LogSigmoid module": lambda m, s=torch.nn.LogSigmoid(): -s(m), "nn.Softplus module": lambda m, s=torch.nn.Softplus(): s(-m),
    "pair by pair, stacked": lambda m: torch.stack([F.softplus(-x) for x in m]), "torch.special.log_expit-free: -log1p + min": lambda m: torch.log1p(torch.exp(-m.abs())) - torch.minimum(m, torch.zeros_like(m)), "softplus(m) - m": lambda m: F.softplus(m.double()).sub(m).float() if False else F.softplus(m.double()) - m.double(), "vmap": lambda m: torch.vmap(lambda x: F.softplus(-x))(m), "multi_margin by Bernoulli": lambda m: -torch.distributions.Bernoulli(logits=m).log_prob(torch.ones_like(m)),
}.items():
    r(what, (lambda f: lambda policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: f(beta * g(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)))(f))
r("short names, TRL's order", lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * ((pc - pr) - (rc - rr))))
r("label_smoothing=0 as an extra argument", lambda pc, pr, rc, rr, beta=0.1, label_smoothing=0.0: -F.logsigmoid(beta * g(pc, pr, rc, rr)) * (1 - label_smoothing) - F.logsigmoid(-beta * g(pc, pr, rc, rr)) * label_smoothing)
class Loss(torch.nn.Module):
    def forward(self, pc, pr, rc, rr, beta): return F.softplus(-beta * g(pc, pr, rc, rr))
r("nn.Module", Loss()); r("partial over a margin function", functools.partial(lambda margin, *a: -F.logsigmoid(margin(*a)), Margin())); r("reference detached", lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * g(pc, pr, rc.detach(), rr.detach())))
r("cross entropy of chosen against rejected reward", lambda pc, pr, rc, rr, beta: F.cross_entropy(beta * torch.stack([pc - rc, pr - rr], 1), torch.zeros(len(pc), dtype=torch.long), reduction="none"))
r("logsumexp of both rewards less the chosen one", lambda pc, pr, rc, rr, beta: beta * (torch.logaddexp(torch.zeros_like(pc), g(pr, pc, rr, rc) * beta) / beta))
r("*args", lambda *a: F.softplus(-a[4] * (a[0] - a[1] - a[2] + a[3])))
a = add("dpo.loss", AMBIGUOUS)
a("clamp(-m, 0) + log1p(exp(-|m|)): gradient doubled at margin 0 exactly", lambda pc, pr, rc, rr, beta: (lambda m: (-m).clamp(min=0) + torch.log1p((-m.abs()).exp()))(beta * g(pc, pr, rc, rr)))

# ------------------------------------------------ dpo.win_rate
r = add("dpo.win_rate")
P = lambda o, t: [1.0 if x > y else 0.5 if x == y else 0.0 for x, y in zip(o, t)]
r("if and elif in a loop", lambda ours, theirs: sum(P(ours, theirs)) / len(ours)); r("numpy mean", lambda ours, theirs: float(np.mean((np.array(ours) > np.array(theirs)) + 0.5 * (np.array(ours) == np.array(theirs)))))
r("np.float64 returned", lambda ours, theirs: np.mean(0.5 + 0.5 * np.sign(np.subtract(ours, theirs)))); r("torch.sign, item", lambda o, t: (torch.sign(torch.tensor(o) - torch.tensor(t)).float().mean().item() + 1) / 2); r("heaviside", lambda o, t: float(np.heaviside(np.subtract(o, t), 0.5).mean())); r("statistics.mean", lambda o, t: statistics.mean(P(o, t))); r("statistics.fmean over a generator", lambda o, t: statistics.fmean((x > y) + (x == y) / 2 for x, y in zip(o, t)))
r("(wins + ties / 2) / n", lambda o, t: (sum(map(operator.gt, o, t)) + sum(map(operator.eq, o, t)) / 2) / len(o)); r("(1 + (wins - losses) / n) / 2", lambda o, t: (1 + (sum(map(operator.gt, o, t)) - sum(map(operator.lt, o, t))) / len(o)) / 2); r("(>) plus (>=), halved", lambda o, t: sum((x > y) + (x >= y) for x, y in zip(o, t)) / (2 * len(o))); r("1 less losses and half ties", lambda o, t: 1 - sum((x < y) + 0.5 * (x == y) for x, y in zip(o, t)) / len(o)); r("Counter of signs", lambda o, t: (lambda c: (c[1] + c[0] / 2) / sum(c.values()))(Counter((x > y) - (x < y) for x, y in zip(o, t)))); r("Fraction inside, float outside", lambda o, t: float(sum(Fraction((x > y) * 2 + (x == y), 2) for x, y in zip(o, t)) / len(o))); r("lookup table", lambda o, t: sum({(-2): 0, (-1): 0, 0: 0.5, 1: 1, 2: 1}[x - y] for x, y in zip(o, t)) / len(o)); r("3 x 3 matrix of points", lambda o, t: float(np.array([[.5, 0, 0], [1, .5, 0], [1, 1, .5]])[np.array(o), np.array(t)].mean())); r("zip strict", lambda ours, theirs: sum((x > y) + 0.5 * (x == y) for x, y in zip(ours, theirs, strict=True)) / len(ours)); r("by index", lambda ours, theirs: sum(1 if ours[i] > theirs[i] else 0.5 if ours[i] == theirs[i] else 0 for i in range(len(ours))) / len(ours)); r("pandas", lambda o, t: float((lambda p: p.gt(0).mean() + p.eq(0).mean() / 2)(__import__("pandas").Series(o) - __import__("pandas").Series(t)))); r("math.fsum", lambda o, t: math.fsum(P(o, t)) / len(o)); r("clip of the difference", lambda o, t: float((np.clip(np.subtract(o, t), -1, 1).mean() + 1) / 2)); r("running mean", lambda o, t: functools.reduce(lambda m, k: m + (k[1] - m) / (k[0] + 1), enumerate(P(o, t)), 0.0)); r("recursion", (lambda f: lambda o, t: f(f, o, t, 0.0, len(o)))(lambda f, o, t, s, n: s / n if not o else f(f, o[1:], t[1:], s + (o[0] > t[0]) + 0.5 * (o[0] == t[0]), n)))
class Rate:
    tie = 0.5
    def __call__(self, ours, theirs): return sum(1 if x > y else self.tie if x == y else 0 for x, y in zip(ours, theirs)) / len(ours)
r("instance with __call__", Rate()); r("partial with the tie", functools.partial(lambda o, t, tie: sum(1 if x > y else tie if x == y else 0 for x, y in zip(o, t)) / len(o), tie=0.5)); r("extra argument", lambda ours, theirs, ties=0.5: sum(1 if x > y else ties * (x == y) for x, y in zip(ours, theirs)) / len(ours)); r("count by grade, nested loops over three grades", lambda o, t: sum(sum(1 for x, y in zip(o, t) if (x, y) == (i, j)) * (1 if i > j else 0.5 if i == j else 0) for i in range(3) for j in range(3)) / len(o))
a = add("dpo.win_rate", AMBIGUOUS)
a("torch scalar", lambda o, t: torch.tensor(P(o, t)).mean()); a("Fraction", lambda o, t: sum(Fraction((x > y) * 2 + (x == y), 2) for x, y in zip(o, t)) / len(o)); a("Decimal", lambda o, t: __import__("decimal").Decimal(str(sum(P(o, t)) / len(o)))); a("np.float32", lambda o, t: np.float32(np.mean(P(o, t)))); a("rounded to four digits", lambda o, t: round(sum(P(o, t)) / len(o), 4))

# ------------------------------------------------ dpo.diagnose_run
r = add("dpo.diagnose_run")
col = lambda log, k: [e[k] for e in log]
mean = lambda v: sum(v) / len(v)
for lim in (-1.0, -2.0): r(f"chosen reward, last ten, below {lim}", lambda log, lim=lim: "rewards/chosen" if mean(col(log, "rewards/chosen")[-10:]) < lim else None)
for lim in (-15, -20, -30): r(f"chosen logps, last ten, below {lim}", lambda log, lim=lim: "logps/chosen" if mean(col(log, "logps/chosen")[-10:]) < lim else None)
r("chosen reward at any time below -1.5", lambda log: "rewards/chosen" if min(col(log, "rewards/chosen")) < -1.5 else None); r("chosen logps at any time below -20", lambda log: "logps/chosen" if any(e["logps/chosen"] < -20 for e in log) else None); r("last value of chosen logps", lambda log: "logps/chosen" if log[-1]["logps/chosen"] < -20 else None)
r("chosen logps three times the first", lambda log: "logps/chosen" if log[-1]["logps/chosen"] < 3 * log[0]["logps/chosen"] else None); r("drop of 15 nats from the first five to the last five", lambda log: "logps/chosen" if mean(col(log, "logps/chosen")[:5]) - mean(col(log, "logps/chosen")[-5:]) > 15 else None); r("chosen falls by more than half of the margin", lambda log: "rewards/chosen" if mean(col(log, "rewards/chosen")[-10:]) < -0.5 * abs(mean(col(log, "rewards/margins")[-10:])) else None); r("chosen and rejected fall together", lambda log: "rewards/chosen" if mean(col(log, "rewards/chosen")[-10:]) < 0.25 * mean(col(log, "rewards/rejected")[-10:]) and mean(col(log, "rewards/rejected")[-10:]) < -1 else None)
r("watches rejected logps, names the chosen", lambda log: "logps/chosen" if mean(col(log, "logps/rejected")[-10:]) < -40 else None); r("numpy median", lambda log: "rewards/chosen" if np.median([e["rewards/chosen"] for e in log[-20:]]) < -1 else None); r("pandas", lambda log: "rewards/chosen" if __import__("pandas").DataFrame(log)["rewards/chosen"].tail(10).mean() < -1 else None); r("returns nothing at the end, implicitly None", (lambda: (exec("def f(log):\n    if log[-1]['rewards/chosen'] < -1:\n        return 'rewards/chosen'", d := {}), d["f"])[1])()); r("next over candidates", lambda log: next((k for k in ("rewards/chosen", "logps/chosen") if log[-1][k] < {"rewards/chosen": -1, "logps/chosen": -20}[k]), None)); r("worst of two in a normalised score", lambda log: max([("logps/chosen", -log[-1]["logps/chosen"] / 20)], key=lambda x: x[1])[0] if log[-1]["logps/chosen"] < -20 else None); r("last quarter", lambda log: "rewards/chosen" if statistics.mean(e["rewards/chosen"] for e in log[3 * len(log) // 4:]) < -1 else None)
r("regression slope of chosen logps", lambda log: "logps/chosen" if np.polyfit(range(len(log)), col(log, "logps/chosen"), 1)[0] < -0.2 else None)
class Doctor:
    limit = -1
    def __call__(self, log): return "rewards/chosen" if log[-1]["rewards/chosen"] < self.limit else None
r("instance with __call__", Doctor()); r("partial", functools.partial(lambda log, key, limit: key if log[-1][key] < limit else None, key="logps/chosen", limit=-20)); r("extra arguments", lambda log, last=10, limit=-20: "logps/chosen" if mean(col(log, "logps/chosen")[-last:]) < limit else None); r("a str subclass", lambda log, S=type("S", (str,), {}): S("rewards/chosen") if log[-1]["rewards/chosen"] < -1 else None)
a = add("dpo.diagnose_run", AMBIGUOUS)
a("names rewards/rejected", lambda log: "rewards/rejected" if log[-1]["logps/chosen"] < -20 else None); a("names logps/rejected", lambda log: "logps/rejected" if log[-1]["logps/chosen"] < -20 else None)

# ------------------------------------------------ odds
lo = lambda x: x - torch.log(-torch.expm1(x.clamp(max=-1e-10)))
ODDS = {
    "-expm1 and clamp": lo, "log(-expm1) with torch.where": lambda x: (lambda y: y - torch.where(y > -0.693, torch.log(-torch.expm1(y)), torch.log1p(-torch.exp(y))))(x.clamp(max=-1e-10)), "-log(expm1(-x))": lambda x: (lambda y: torch.where(y < -15, y, -torch.log(torch.expm1(-y.clamp(min=-15)))))(x.clamp(max=-1e-10)), "float64 as written, cast": lambda x: (lambda y: (y - torch.log(1 - y.exp())).float())(x.double().clamp(max=-1e-10)),
    "float64 log1p(-exp)": lambda x: (lambda y: (y - torch.log1p(-y.exp())).float())(x.double().clamp(max=-1e-10)), "float64 logit": lambda x: torch.logit(x.double().clamp(max=-1e-10).exp()).float(), "float64 returned": lambda x: lo(x.double()), "numpy expm1": lambda x: torch.tensor(np.asarray(x.detach(), dtype=np.float64) - np.log(-np.expm1(np.minimum(np.asarray(x.detach(), dtype=np.float64), -1e-10))), dtype=torch.float32), "math, pair by pair": lambda x: torch.tensor([v - math.log(-math.expm1(min(v, -1e-10))) for v in x.tolist()]), "torch.special.expm1": lambda x: x - torch.special.expm1(x.clamp(max=-1e-10)).neg().log(),
    "clamp on 1 - P after expm1": lambda x: x - (-torch.expm1(x)).clamp(min=1e-10).log(), "maximum on 1 - P": lambda x: x - torch.log(torch.maximum(-torch.expm1(x), torch.tensor(1e-10))), "abs of expm1": lambda x: x - torch.log(torch.expm1(x.clamp(max=-1e-10)).abs()), "1e-12 on 1 - P after expm1": lambda x: x - (-torch.expm1(x) + 1e-13).log(), "log2 turned back": lambda x: x - torch.log2(-torch.expm1(x.clamp(max=-1e-10))) * math.log(2), "stacked loop": lambda x: torch.stack([lo(v) for v in x]), "vmap": lambda x: torch.vmap(lo)(x), "sinh form: x/2 - log(2 sinh(-x/2))": lambda x: (lambda y: torch.where(y < -20, y, y / 2 - torch.log(2 * torch.sinh(-y.clamp(min=-20) / 2))))(x.clamp(max=-1e-10)), "tanh form in float64: 2 atanh(2P - 1)": lambda x: (lambda y: torch.where(y < -15, y, 2 * torch.atanh(2 * y.clamp(min=-15).exp() - 1)).float())(x.double().clamp(max=-1e-10)), "softplus form: -softplus^-1": lambda x: (lambda y: torch.where(y < -15, y, -(torch.expm1(-y.clamp(min=-15))).log()))(x.double().clamp(max=-1e-10)).float(),
}
r = add("orpo.log_odds")
for d, f in ODDS.items(): r(d, (lambda f: lambda mean_logps: f(mean_logps))(f))
class Odds(torch.nn.Module):
    def forward(self, mean_logps): return lo(mean_logps)
r("nn.Module", Odds()); r("partial with eps", functools.partial(lambda x, eps: x - torch.log(-torch.expm1(x.clamp(max=-eps))), eps=1e-10)); r("extra argument eps", lambda mean_logps, eps=1e-12: mean_logps - torch.log(-torch.expm1(mean_logps.clamp(max=-eps)))); r("smaller eps: 1e-30", lambda x: x - torch.log(-torch.expm1(x.clamp(max=-1e-30))))
a = add("orpo.log_odds", AMBIGUOUS)
a("no clamp: infinite at log P = 0, right below", lambda x: x - torch.log(-torch.expm1(x))); a("ndarray", lambda x: np.asarray(lo(x))); a("list", lambda x: lo(x).tolist())
r = add("orpo.log_odds_ratio")
RAT = {"difference of log odds": lambda c, q: lo(c) - lo(q), "(c - q) less the logs of 1 - P": lambda c, q: (c - q) - (torch.log(-torch.expm1(c.clamp(max=-1e-10))) - torch.log(-torch.expm1(q.clamp(max=-1e-10)))), "stacked and diff": lambda c, q: lo(torch.stack([q, c])).diff(dim=0)[0], "cat and chunk": lambda c, q: torch.sub(*lo(torch.cat([c, q])).chunk(2)), "float64, cast": lambda c, q: (lo(c.double()) - lo(q.double())).float(), "float64 returned": lambda c, q: lo(c.double()) - lo(q.double()), "float64 quotient of odds, then log": lambda c, q: (lambda o: (o(c) / o(q)).log().float())(lambda x: (lambda y: y.exp() / -torch.expm1(y))(x.double().clamp(max=-1e-10))), "math, pair by pair": lambda c, q: torch.tensor([(a - b) - (math.log(-math.expm1(a)) - math.log(-math.expm1(b))) for a, b in zip(*([min(v, -1e-10) for v in x.tolist()] for x in (c, q)))]), "log of quotient of 1 - P": lambda c, q: (c - q) + torch.log(torch.expm1(q.clamp(max=-1e-10)).double() / torch.expm1(c.clamp(max=-1e-10)).double()).float(), "numpy inside": lambda c, q: torch.from_numpy((lambda f: f(c) - f(q))(lambda x: (lambda v: v - np.log(-np.expm1(v)))(np.minimum(x.detach().numpy().astype(float), -1e-10)))), "minus the swapped": lambda c, q: -(lo(q) - lo(c)), "einsum": lambda c, q: torch.einsum("kb,k->b", torch.stack([lo(c), lo(q)]), torch.tensor([1.0, -1.0])), "map": lambda c, q: functools.reduce(operator.sub, map(lo, (c, q))), "logit in float64": lambda c, q: torch.logit(c.double().clamp(max=-1e-10).exp()).sub(torch.logit(q.double().clamp(max=-1e-10).exp())).float(), "partial inside": lambda c, q, f=functools.partial(torch.clamp, max=-1e-10): (c - torch.log(-torch.expm1(f(c)))) - (q - torch.log(-torch.expm1(f(q))))}
for d, f in RAT.items(): r(d, (lambda f: lambda chosen_mean_logps, rejected_mean_logps: f(chosen_mean_logps, rejected_mean_logps))(f))
lor = lambda c, q: lo(c) - lo(q)
r = add("orpo.delta")
DEL = {"sigmoid of minus the ratio": lambda c, q: torch.sigmoid(-lor(c, q)), "1 / (1 + exp)": lambda c, q: 1 / (1 + lor(c, q).exp()), "1 - sigmoid, float64": lambda c, q: (1 - torch.sigmoid(lor(c, q).double())).float(), "sigmoid of the swapped ratio": lambda c, q: torch.sigmoid(lor(q, c)), "exp of logsigmoid": lambda c, q: F.logsigmoid(-lor(c, q)).exp(), "softmax over two": lambda c, q: torch.stack([lo(q), lo(c)], -1).softmax(-1)[..., 0], "odds of the rejected over the sum": lambda c, q: (lambda a, b: b / (a + b))(lo(c.double()).exp(), lo(q.double()).exp()).float(), "tanh": lambda c, q: (1 - torch.tanh(lor(c, q) / 2)) / 2, "torch.reciprocal": lambda c, q: torch.reciprocal(1 + torch.exp(lor(c, q))), "special.expit": lambda c, q: torch.special.expit(-lor(c, q)), "autograd of the loss by the log OR": lambda c, q: (lambda x: -torch.autograd.grad(-F.logsigmoid(x).sum(), x)[0])(lor(c, q).detach().requires_grad_()), "logaddexp": lambda c, q: torch.exp(-torch.logaddexp(torch.zeros_like(c), lor(c, q))), "float64 returned": lambda c, q: torch.sigmoid(-lor(c.double(), q.double())), "where, two branches": lambda c, q: (lambda x: torch.where(x > 0, torch.exp(-x.abs()) / (1 + torch.exp(-x.abs())), 1 / (1 + torch.exp(-x.abs()))))(lor(c, q)), "OR as a product, float64": lambda c, q: (lambda c, q: (1 / (1 + c.exp() * torch.expm1(q) / (q.exp() * torch.expm1(c)))).float())(c.double().clamp(max=-1e-10), q.double().clamp(max=-1e-10)), "P_l (1 - P_w) over the sum": lambda c, q: (lambda c, q: (lambda a, b: (b / (a + b)).float())(c.exp() * -torch.expm1(q), q.exp() * -torch.expm1(c)))(c.double(), q.double()), "math, pair by pair": lambda c, q: torch.tensor([1 / (1 + math.exp(min(x, 700))) for x in lor(c, q).tolist()]), "numpy": lambda c, q: torch.tensor(1 / (1 + np.exp(np.minimum(lor(c, q).detach().numpy(), 80))), dtype=torch.float32), "mid-way: 0.5 + (0.5 - sigmoid)": lambda c, q: 0.5 + (0.5 - torch.sigmoid(lor(c, q)))}
for d, f in DEL.items(): r(d, (lambda f: lambda chosen_mean_logps, rejected_mean_logps: f(chosen_mean_logps, rejected_mean_logps))(f))
r("nn.Sigmoid composed by partial", functools.partial(lambda s, c, q: s(-lor(c, q)), torch.nn.Sigmoid()))
r = add("orpo.loss")
LS = {"-logsigmoid": lambda n, c, q, l: n - l * F.logsigmoid(lor(c, q)), "softplus": lambda n, c, q, l: n + l * F.softplus(-lor(c, q)), "softplus of the swapped ratio": lambda n, c, q, l: torch.add(n, F.softplus(lor(q, c)), alpha=l), "BCE with logits": lambda n, c, q, l: n + l * F.binary_cross_entropy_with_logits(lor(c, q), torch.ones_like(c), reduction="none"), "cross entropy over both log odds": lambda n, c, q, l: n + l * F.cross_entropy(torch.stack([lo(c), lo(q)], 1), torch.zeros(len(c), dtype=torch.long), reduction="none"), "log_softmax over both": lambda n, c, q, l: n - l * torch.stack([lo(c), lo(q)]).log_softmax(0)[0], "logaddexp": lambda n, c, q, l: n + l * torch.logaddexp(torch.zeros_like(c), -lor(c, q)), "logaddexp of both odds less the chosen": lambda n, c, q, l: n + l * (torch.logaddexp(lo(c), lo(q)) - lo(c)), "logsumexp": lambda n, c, q, l: n + l * torch.stack([torch.zeros_like(c), lor(q, c)]).logsumexp(0), "float64, cast": lambda n, c, q, l: (n.double() + l * F.softplus(-lor(c.double(), q.double()))).float(), "float64 returned": lambda n, c, q, l: n.double() + l * F.softplus(-lor(c.double(), q.double())), "skips the term at λ = 0": lambda n, c, q, l: n + 0 if l == 0 else n + l * F.softplus(-lor(c, q)), "pair by pair": lambda n, c, q, l: torch.stack([a + l * F.softplus(-lor(b, d)) for a, b, d in zip(n, c, q)]), "einsum of both terms": lambda n, c, q, l: torch.einsum("kb,k->b", torch.stack([n, F.softplus(-lor(c, q))]), torch.tensor([1.0, l])), "Bernoulli": lambda n, c, q, l: n - l * torch.distributions.Bernoulli(logits=lor(c, q)).log_prob(torch.ones_like(c)), "torch.lerp-free: addcmul": lambda n, c, q, l: torch.addcmul(n, torch.full_like(n, l), F.softplus(-lor(c, q))), "λ as a tensor": lambda n, c, q, l: n - torch.as_tensor(l, dtype=n.dtype) * F.logsigmoid(lor(c, q)), "brackets as in TRL, with expm1": lambda n, c, q, l: n - l * F.logsigmoid((c - q) - (torch.log(-torch.expm1(c.clamp(max=-1e-10))) - torch.log(-torch.expm1(q.clamp(max=-1e-10)))))}
for d, f in LS.items(): r(d, (lambda f: lambda nll, chosen_mean_logps, rejected_mean_logps, lam: f(nll, chosen_mean_logps, rejected_mean_logps, lam))(f))
class Orpo(torch.nn.Module):
    def forward(self, nll, c, q, lam=0.1): return nll - lam * F.logsigmoid(lor(c, q))
r("nn.Module with a default", Orpo()); r("partial", functools.partial(lambda odds, n, c, q, l: n + l * F.softplus(odds(q) - odds(c)), lo))
