# ruff: noqa
"""WRONG: (exercise, the slip, plausible, function). Each differs from the right answer on a reasonable input.

Where a slip shows only there, the description says (numerics), (edge), (changes input), (no gradient), (second call).
"""
import math, random, re
import numpy as np
import torch
import torch.nn.functional as F

WRONG = []

def add(name, plausible=True, **_):
    def put(slip, fn, p=None):
        WRONG.append((name, slip, plausible if p is None else p, fn))
    return put

# ---------------------------------------------------------------- dpo.split_dialogue
w = add("dpo.split_dialogue")
R = {"Human": "user", "Assistant": "assistant"}

def cut(text, pattern=r"\n\n(Human|Assistant): ", roles=R, f=lambda c: c, keys=("role", "content"), flags=0, post=lambda m: m):
    _, *p = re.split(pattern, text, flags=flags)
    return post([{keys[0]: roles.get(a, a), keys[1]: f(b)} for a, b in zip(p[::2], p[1::2])])

def C(**k): return lambda text: cut(text, **k)

w("content is stripped", C(f=str.strip))
w("content is left-stripped", C(f=str.lstrip))
w("content is right-stripped", C(f=str.rstrip))
w("trailing newlines stripped", C(f=lambda c: c.rstrip("\n")))
w("strips the whole text before cutting", lambda text: cut("\n\n" + text.strip()))
w("rstrips the whole text before cutting", lambda text: cut(text.rstrip() + ("" if re.search(": *$", text.rstrip()) is None else " ")))
w("only the first paragraph of each turn", C(f=lambda c: c.split("\n\n")[0]))
w("only the last paragraph of each turn", C(f=lambda c: c.split("\n\n")[-1]))
w("only the first line of each turn", C(f=lambda c: c.split("\n")[0]))
w("paragraph breaks become single newlines", C(f=lambda c: c.replace("\n\n", "\n")))
w("newlines become blanks", C(f=lambda c: c.replace("\n", " ")))
w("newlines are removed", C(f=lambda c: c.replace("\n", "")))
w("whitespace collapsed by split and join", C(f=lambda c: " ".join(c.split())))
w("one newline is enough for a marker", C(pattern=r"\n(Human|Assistant): "))
w("one or more newlines, (edge) eats extra ones", C(pattern=r"\n+(Human|Assistant): "))
w("any whitespace before a marker", C(pattern=r"\s+(Human|Assistant): "))
w("no newlines needed before a marker", C(pattern=r"(Human|Assistant): "))
w("no blank needed and it stays in the content", C(pattern=r"\n\n(Human|Assistant):"))
w("no blank needed: optional blank after the colon", C(pattern=r"\n\n(Human|Assistant): ?"))
w("all whitespace after the colon eaten", C(pattern=r"\n\n(Human|Assistant):\s*"))
w("all blanks after the colon eaten", C(pattern=r"\n\n(Human|Assistant): +"))
w("some whitespace after the colon needed and eaten", C(pattern=r"\n\n(Human|Assistant):\s+"))
w("colon stays in the content", lambda text: cut(text, r"\n\n(Human|Assistant)(?=: )"))
w("marker is case-insensitive", C(flags=re.I, roles={"human": "user", "Human": "user", "Assistant": "assistant", "assistant": "assistant"}))
w("any capitalised word is a speaker", C(pattern=r"\n\n([A-Z]\w+): "))
w("any word is a speaker, unknown ones are the assistant", lambda text: [dict(role="user" if a == "Human" else "assistant", content=b) for a, b in zip(*[iter(re.split(r"\n\n(\w+): ", text)[1:])] * 2)])
w("System is taken as a speaker too", C(pattern=r"\n\n(Human|Assistant|System): ", roles=R | {"System": "system"}))
w("Human only: assistant turns stay in the content", C(pattern=r"\n\n(Human): "))
w("roles swapped", C(roles={"Human": "assistant", "Assistant": "user"}))
w("roles kept as Human and Assistant", C(roles={}))
w("roles only lower-cased: human", C(roles={"Human": "human", "Assistant": "assistant"}))
w("roles capitalised: User", C(roles={"Human": "User", "Assistant": "Assistant"}))
w("role is bot", C(roles={"Human": "user", "Assistant": "bot"}))
w("role is human and gpt (ShareGPT)", C(roles={"Human": "human", "Assistant": "gpt"}))
w("everything is user", C(roles={"Human": "user", "Assistant": "user"}))
w("everything is assistant", C(roles={"Human": "assistant", "Assistant": "assistant"}))
w("colon in the role", lambda text: cut(text, r"\n\n((?:Human|Assistant):) ", {"Human:": "user:", "Assistant:": "assistant:"}))
w("keys are from and value", C(keys=("from", "value")))
w("key is text", C(keys=("role", "text")))
w("key is speaker", C(keys=("speaker", "content")))
w("keys capitalised", C(keys=("Role", "Content")))
w("first turn lost", C(post=lambda m: m[1:]))
w("last turn lost", C(post=lambda m: m[:-1]))
w("only the first turn", C(post=lambda m: m[:1]))
w("only the last turn", C(post=lambda m: m[-1:]))
w("only the first two turns", C(post=lambda m: m[:2]))
w("only the last two turns", C(post=lambda m: m[-2:]))
w("turns in reverse order", C(post=lambda m: m[::-1]))
w("empty turns left out", C(post=lambda m: [x for x in m if x["content"]]))
w("blank turns get a placeholder", C(f=lambda c: c or " "))
w("roles alternate whatever the marker says", C(post=lambda m: [x | {"role": ["user", "assistant"][i % 2]} for i, x in enumerate(m)]))
w("turns of one speaker in a row are merged", C(post=lambda m: [y for i, x in enumerate(m) if i == 0 or m[i - 1]["role"] != x["role"] for y in [x]]))
w("turns of one speaker in a row are joined", lambda text: (lambda m: [m.__setitem__(-1, m[-1] | {"content": m[-1]["content"] + "\n\n" + x["content"]}) if m and m[-1]["role"] == x["role"] else m.append(x) for x in cut(text)] and m)([]))
w("pairs (role, content) as tuples", C(post=lambda m: [(x["role"], x["content"]) for x in m]))
w("messages as lists", C(post=lambda m: [[x["role"], x["content"]] for x in m]))
w("one dict by role", C(post=lambda m: {x["role"]: x["content"] for x in m}))
w("dicts of one key, by role", C(post=lambda m: [{x["role"]: x["content"]} for x in m]))
w("prompt and answer apart", C(post=lambda m: (m[:-1], m[-1:])))
w("a nested list", C(post=lambda m: [m]))
w("list of contents alone", C(post=lambda m: [x["content"] for x in m]))
w("list of roles alone", C(post=lambda m: [x["role"] for x in m]))
w("content is a list of paragraphs", C(f=lambda c: c.split("\n\n")))
w("content in parts, {'type': 'text'}", C(f=lambda c: [{"type": "text", "text": c}]))
w("an extra key", C(post=lambda m: [x | {"turn": i} for i, x in enumerate(m)]))
w("marker repeated in the content", C(post=lambda m: [x | {"content": {"user": "Human: ", "assistant": "Assistant: "}[x["role"]] + x["content"]} for x in m]))
w("an empty first message kept", lambda text: [{"role": "user", "content": ""}] + cut(text))
w("a system message put before", C(post=lambda m: [{"role": "system", "content": "You are a helpful assistant."}] + m))
w("JSON text", C(post=lambda m: __import__("json").dumps(m)))
w("prints and returns None", lambda text: None)

def by_lines(text):
    out = []
    for line in text.split("\n"):
        for name, role in R.items():
            if line.startswith(name + ": "):
                out.append({"role": role, "content": line[len(name) + 2:]}); break
    return out
w("line by line, lines without a marker are lost", by_lines)

def by_lines_kept(text, sep="\n"):
    out = []
    for line in text.split(sep):
        for name, role in R.items():
            if line.startswith(name + ": "):
                out.append({"role": role, "content": line[len(name) + 2:]}); break
        else:
            if out: out[-1]["content"] += sep + line
    return out
w("line by line, kept: a single newline starts a turn", by_lines_kept)
w("paragraph by paragraph, others are lost", lambda text: [{"role": R[p.split(": ")[0]], "content": p.partition(": ")[2]} for p in text.split("\n\n") if p.partition(": ")[0] in R and ": " in p])
w("paragraph by paragraph, joined by one newline", lambda text: (lambda o: [o.append({"role": R[p.partition(": ")[0]], "content": p.partition(": ")[2]}) if p.partition(": ")[0] in R and ": " in p else (o and o[-1].update(content=o[-1]["content"] + "\n" + p)) for p in text.split("\n\n")] and o)([]))
w("split at ': ' and content cut at the second colon", C(f=lambda c: c.split(": ")[0]))
w("content cut at any colon", C(f=lambda c: c.split(":")[0]))
w("content after the last colon", C(f=lambda c: c.split(": ")[-1]))
w("paragraphs with startswith('Human'), not 'Human: '", C(pattern=r"\n\n(Human|Assistant)[a-z]*: "))
w("marker anywhere at the end of a word", C(pattern=r"\n\n.*?(Human|Assistant): "))
w("[Human|Assistant]+ in brackets", C(pattern=r"\n\n([Human|Assistant]+): "))
w("findall with a dot that stops at newlines", lambda text: [{"role": R[a], "content": b} for a, b in re.findall(r"\n\n(Human|Assistant): (.*)", text)])
w("findall needs one character", lambda text: [{"role": R[a], "content": b} for a, b in re.findall(r"\n\n(Human|Assistant): (.+?)(?=\n\n(?:Human|Assistant): |\Z)", text, re.S)])
w("findall greedy: all in the first turn", lambda text: [{"role": R[a], "content": b} for a, b in re.findall(r"\n\n(Human|Assistant): (.*)", text, re.S)])
w("findall up to the next two newlines", lambda text: [{"role": R[a], "content": b} for a, b in re.findall(r"\n\n(Human|Assistant): (.*?)(?=\n\n|\Z)", text, re.S)])
w("findall lookahead needs another marker: last turn lost", lambda text: [{"role": R[a], "content": b} for a, b in re.findall(r"\n\n(Human|Assistant): (.*?)(?=\n\n(?:Human|Assistant): )", text, re.S)])
w("findall with $ instead of \\Z (edge: last newline)", lambda text: [{"role": R[a], "content": b} for a, b in re.findall(r"\n\n(Human|Assistant): (.*?)(?=\n\n(?:Human|Assistant): |$)", text, re.S)])
w("findall with a consuming end: every second turn lost", lambda text: [{"role": R[a], "content": b} for a, b in re.findall(r"\n\n(Human|Assistant): (.*?)(?:\n\n(?:Human|Assistant): |\Z)", text, re.S)])
w("findall with re.M: turn ends with its line", lambda text: [{"role": R[a], "content": b} for a, b in re.findall(r"\n\n(Human|Assistant): (.*?)$", text, re.S | re.M)])
w("findall forbids newlines in a turn", lambda text: [{"role": R[a], "content": b} for a, b in re.findall(r"\n\n(Human|Assistant): ([^\n]*)", text)][:2])
w("splits at Human, then partitions once at Assistant; a lone user gets an empty answer", lambda text: [m for p in text.split("\n\nHuman: ")[1:] for m in ({"role": "user", "content": p.partition("\n\nAssistant: ")[0]}, {"role": "assistant", "content": p.partition("\n\nAssistant: ")[2]})])
w("one question, one answer: rpartition at the last answer", lambda text: [{"role": "user", "content": text.rpartition("\n\nAssistant: ")[0].removeprefix("\n\nHuman: ")}, {"role": "assistant", "content": text.rpartition("\n\nAssistant: ")[2]}])
w("one question, one answer: partition at the first answer", lambda text: [{"role": "user", "content": text.partition("\n\nAssistant: ")[0].removeprefix("\n\nHuman: ")}, {"role": "assistant", "content": text.partition("\n\nAssistant: ")[2]}])
w("lstrip('\\n\\nHuman: ') eats letters of the content", C(f=lambda c: c.lstrip("\n\nHuman: ")))
w("strip of marker letters at the end", C(f=lambda c: c.rstrip("Assistant: ")))
w("removes every 'Human: ' within the content too", C(f=lambda c: c.replace("Human: ", "")))
w("removes every 'Assistant: ' within the content too", C(f=lambda c: c.replace("Assistant: ", "")))
w("replaces Human by user everywhere first", lambda text: cut(text.replace("Human", "user").replace("Assistant", "assistant"), r"\n\n(user|assistant): "))
w("role by 'Human' in piece", lambda text: [{"role": "user" if "Human" in p else "assistant", "content": p.partition(": ")[2]} for p in re.split(r"\n\n(?=(?:Human|Assistant): )", text)[1:]])
w("role by 'Assistant' in piece", lambda text: [{"role": "assistant" if "Assistant" in p else "user", "content": p.partition(": ")[2]} for p in re.split(r"\n\n(?=(?:Human|Assistant): )", text)[1:]])
w("content with the marker cut by a fixed length of 7", lambda text: [{"role": "user" if p.startswith("Human") else "assistant", "content": p[7:]} for p in re.split(r"\n\n(?=(?:Human|Assistant): )", text)[1:]])
w("off by one: first letter lost", C(f=lambda c: c[1:]))
w("off by one: last letter lost", C(f=lambda c: c[:-1]))
w("content lower-cased", C(f=str.lower), False)
w("content title-cased at its first letter", C(f=str.capitalize), False)
w("non-ASCII letters lost", C(f=lambda c: c.encode("ascii", "ignore").decode()))
w("content as bytes", C(f=str.encode), False)
w("tabs expanded", C(f=str.expandtabs), False)
w("unknown example returned whatever the text", lambda text: [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}], False)
w("two slips: strip and roles swapped", C(f=str.strip, roles={"Human": "assistant", "Assistant": "user"}))
w("two slips: one newline and first line only", C(pattern=r"\n(Human|Assistant): ", f=lambda c: c.split("\n")[0]))
w("two slips: last turn lost and stripped", C(f=str.strip, post=lambda m: m[:-1]))
w("two slips: no newlines needed, roles kept", C(pattern=r"(Human|Assistant): ", roles={}))
w("two slips: optional blank, stripped", C(pattern=r"\n\n(Human|Assistant): ?", f=str.strip))
w("two slips: reverse order, roles alternate", C(post=lambda m: [x | {"role": ["user", "assistant"][i % 2]} for i, x in enumerate(m[::-1])]))
w("two slips: dot stops at newlines, keys text", lambda text: [{"role": R[a], "text": b} for a, b in re.findall(r"\n\n(Human|Assistant): (.*)", text)])
w("two slips: empty turns left out and stripped", C(f=str.strip, post=lambda m: [x for x in m if x["content"]]))
w("two slips: case-insensitive, optional blank", C(pattern=r"\n\n(human|assistant): ?", flags=re.I, roles=R | {"human": "user"}))
w("two slips: capitalised word speaker, first paragraph only", C(pattern=r"\n\n([A-Z]\w+): ", f=lambda c: c.split("\n\n")[0]))

class _Acc:
    def __init__(self): self.out = []
    def __call__(self, text):
        self.out += cut(text); return self.out
w("a list outside the function keeps growing (second call)", _Acc())

# ---------------------------------------------------------------- dpo.sequence_logps
w = add("dpo.sequence_logps")

def seq(logits, labels, shift="right", norm=lambda z: z.log_softmax(-1), mask="yes", red="sum", sign=1.0, pick="gather", post=lambda x: x, ignore=-100):
    if shift == "right": z, y = logits[:, :-1], labels[:, 1:]
    elif shift == "none": z, y = logits, labels
    elif shift == "back": z, y = logits[:, 1:], labels[:, :-1]
    elif shift == "both-first": z, y = logits[:, 1:], labels[:, 1:]
    elif shift == "both-last": z, y = logits[:, :-1], labels[:, :-1]
    elif shift == "two": z, y = logits[:, :-2], labels[:, 2:]
    elif shift == "roll": z, y = logits, labels.roll(-1, 1)
    elif shift == "roll-back": z, y = logits, labels.roll(1, 1)
    elif shift == "roll-logits": z, y = logits.roll(1, 1), labels
    elif shift == "lose-last": z, y = logits[:, :-2], labels[:, 1:-1]
    elif shift == "lose-first": z, y = logits[:, 1:-1], labels[:, 2:]
    keep = y != ignore
    at = y.masked_fill(y == -100, 0) if mask != "clamp" else y.clamp(min=0)
    lp = norm(z)
    if pick == "gather": lp = lp.gather(2, at.unsqueeze(2)).squeeze(2)
    elif pick == "max": lp = lp.max(-1).values
    elif pick == "mean": lp = lp.mean(-1)
    elif pick == "first": lp = lp[..., 0]
    elif pick == "min": lp = lp.min(-1).values
    if mask == "yes": m = keep
    elif mask in ("no", "clamp"): m = torch.ones_like(keep)
    elif mask == "invert": m = ~keep
    elif mask == "not0": m = keep & (y != 0)
    elif mask == "gt0": m = y > 0
    elif mask == "prefix": m = torch.cummax(keep.int(), 1).values.bool()
    elif mask == "first": m = keep & (keep.cumsum(1) > 1)
    elif mask == "last": m = keep & (keep.flip(1).cumsum(1).flip(1) > 1)
    elif mask == "stop": m = keep & (torch.cumprod((keep | (keep.cumsum(1) == 0)).int(), 1) > 0)
    elif mask == "unshifted": m = labels[:, :-1] != -100
    elif mask == "onlylast": m = keep & (keep.flip(1).cumsum(1).flip(1) == 1)
    elif mask == "onlyfirst": m = keep & (keep.cumsum(1) == 1)
    lp = lp * m
    if red == "sum": out = lp.sum(1)
    elif red == "mean": out = lp.sum(1) / m.sum(1).clamp(min=1)
    elif red == "meanlen": out = lp.mean(1)
    elif red == "meanall": out = lp.sum(1) / labels.shape[1]
    elif red == "sqrt": out = lp.sum(1) / m.sum(1).clamp(min=1).sqrt()
    elif red == "total": out = lp.sum()
    elif red == "batch": out = lp.sum(0)
    elif red == "batchmean": out = lp.sum(1).mean()
    elif red == "keep": out = lp.sum(1, keepdim=True)
    elif red == "none": out = lp
    elif red == "min": out = lp.min(1).values
    elif red == "prod": out = lp.prod(1)
    elif red == "max": out = lp.max(1).values
    elif red == "cumsum": out = lp.cumsum(1)
    elif red == "micro": out = lp.sum(1) / m.sum().clamp(min=1)
    elif red == "perbatch": out = lp.sum(1) / labels.shape[0]
    return post(sign * out)

def S(**k): return lambda logits, labels: seq(logits, labels, **k)

for s, d in dict(none="no shift", back="shifted the wrong way", **{"both-first": "first position cut off both", "both-last": "last position cut off both", "two": "shifted by two", "roll": "labels rolled, so the last position predicts the first token (edge)", "roll-back": "labels rolled the wrong way", "roll-logits": "logits rolled, position 0 gets the last (edge)", "lose-last": "shift right, but the last token lost", "lose-first": "shift right, but the first target lost"}).items():
    w(d, S(shift=s))
for m, d in dict(no="mask forgotten, -100 taken as token 0", clamp="mask forgotten, labels clamped at 0", invert="mask inverted: prompt tokens count", not0="token 0 taken as padding", gt0="mask labels > 0, token 0 lost", prefix="only leading -100 masked, padding counts", first="first token of the answer lost", last="last token of the answer lost", stop="stops at the first gap of -100 (edge)", unshifted="mask from the labels before the shift", onlylast="only the last token", onlyfirst="only the first token").items():
    w(d, S(mask=m))
for r, d in dict(mean="mean over the answer's tokens", meanlen="mean over all positions", meanall="divided by the length", sqrt="divided by the root of the count", total="summed over the batch too", batch="summed over the wrong axis", batchmean="mean over the batch", keep="keepdim: shape (batch, 1)", none="no sum: one number a token", min="the least token", prod="product of the log-probabilities", max="the largest, masked zeros included", cumsum="running sums", micro="divided by all tokens of the batch", perbatch="divided by the batch size").items():
    w(d, S(red=r))
for n, d in {"raw logits, no normalisation": lambda z: z, "softmax without the log": lambda z: z.softmax(-1), "sigmoid instead of softmax": lambda z: F.logsigmoid(z), "log_softmax over the positions": lambda z: z.log_softmax(1), "log_softmax over the batch": lambda z: z.log_softmax(0), "log(softmax) underflows (numerics)": lambda z: z.softmax(-1).log(), "log(softmax + 1e-8) (numerics)": lambda z: (z.softmax(-1) + 1e-8).log(), "logsumexp by hand overflows (numerics)": lambda z: z - z.exp().sum(-1, keepdim=True).log(), "logsumexp added, not subtracted": lambda z: z + z.logsumexp(-1, keepdim=True), "minus the maximum only": lambda z: z - z.max(-1, keepdim=True).values, "log_softmax in base 2": lambda z: z.log_softmax(-1) / math.log(2), "log_softmax in base 10": lambda z: z.log_softmax(-1) / math.log(10), "log_softmax twice of the softmax": lambda z: z.softmax(-1).log_softmax(-1), "logits in half precision (numerics)": lambda z: z.bfloat16().log_softmax(-1).float(), "temperature 2": lambda z: (z / 2).log_softmax(-1), "temperature 0.5": lambda z: (2 * z).log_softmax(-1), "softmin": lambda z: (-z).log_softmax(-1), "logits clamped to ±10 (numerics)": lambda z: z.clamp(-10, 10).log_softmax(-1), "log-probabilities clamped at -10": lambda z: z.log_softmax(-1).clamp(min=-10), "sum over the vocabulary as partition": lambda z: z - z.sum(-1, keepdim=True)}.items():
    w(n, S(norm=d))
for p, d in dict(max="the likeliest token instead of the label", mean="mean over the vocabulary", first="always token 0", min="the unlikeliest token").items():
    w(d, S(pick=p))
w("sign: NLL instead of log-probability", S(sign=-1.0))
w("perplexity", S(red="mean", sign=-1.0, post=torch.exp))
w("probability instead of log-probability", S(post=torch.exp))
w("absolute value", S(post=torch.abs))
w("ignores 100 instead of -100", lambda z, y: seq(z, y, ignore=100))
w("ignores -1 instead of -100", lambda z, y: seq(z, y, ignore=-1))
w("gathers before cloning: sets labels to 0 in place (changes input)", lambda z, y: (lambda m: (y.masked_fill_(~m, 0), seq(z, torch.where(m, y, -100)))[1])(y != -100))
w("only the first row", lambda z, y: seq(z, y)[:1])
w("row 0 for every row", lambda z, y: seq(z, y)[:1].expand(len(z)))
w("a list of floats (no gradient)", lambda z, y: seq(z, y).tolist())
w("detached (no gradient)", lambda z, y: seq(z, y).detach())
w("under no_grad (no gradient)", lambda z, y: torch.no_grad()(seq)(z, y))
w("numpy (no gradient)", lambda z, y: seq(z, y).detach().numpy())
w("cross_entropy mean over everything", lambda z, y: -F.cross_entropy(z[:, :-1].reshape(-1, z.shape[-1]), y[:, 1:].reshape(-1)).expand(len(z)))
w("cross_entropy summed over everything", lambda z, y: -F.cross_entropy(z[:, :-1].reshape(-1, z.shape[-1]), y[:, 1:].reshape(-1), reduction="sum"))
w("cross_entropy without the minus", lambda z, y: F.cross_entropy(z[:, :-1].transpose(1, 2), y[:, 1:], reduction="none").sum(1))
w("cross_entropy without shift", lambda z, y: -F.cross_entropy(z.transpose(1, 2), y, reduction="none").sum(1))
w("cross_entropy with ignore_index 0 and labels clamped", lambda z, y: -F.cross_entropy(z[:, :-1].transpose(1, 2), y[:, 1:].clamp(min=0), ignore_index=0, reduction="none").sum(1))
w("cross_entropy with label smoothing", lambda z, y: -F.cross_entropy(z[:, :-1].transpose(1, 2), y[:, 1:], label_smoothing=0.1, reduction="none").sum(1))
w("reshape instead of transpose before cross_entropy", lambda z, y: -F.cross_entropy(z[:, :-1].reshape(len(z), z.shape[-1], -1), y[:, 1:], reduction="none").sum(1))
w("gather with -100 as index: IndexError or last token", lambda z, y: z[:, :-1].log_softmax(-1).gather(2, y[:, 1:].unsqueeze(2)).squeeze(2).sum(1))
w("-100 as a Python index from the end", lambda z, y: torch.stack([sum(z[b, t].log_softmax(-1)[int(y[b, t + 1]) % z.shape[-1]] for t in range(z.shape[1] - 1)) for b in range(len(z))]))
w("boolean mask flattens the batch", lambda z, y: z[:, :-1].log_softmax(-1).gather(2, y[:, 1:].clamp(min=0).unsqueeze(2)).squeeze(2)[y[:, 1:] != -100].sum())
w("squeeze() without axis then sum over the last", lambda z, y: (z[:, :-1].log_softmax(-1).gather(2, y[:, 1:].clamp(min=0).unsqueeze(2)) * (y[:, 1:] != -100).unsqueeze(2)).squeeze().sum(0))
w("log of the summed probabilities", lambda z, y: seq(z, y, norm=lambda a: a.softmax(-1), post=lambda s: s.clamp(min=1e-9).log()))
w("masked tokens count log(1e-9)", lambda z, y: (lambda m: torch.where(m, z[:, :-1].log_softmax(-1).gather(2, y[:, 1:].clamp(min=0).unsqueeze(2)).squeeze(2), math.log(1e-9)).sum(1))(y[:, 1:] != -100))
w("entropy of the predictions", lambda z, y: ((z[:, :-1].softmax(-1) * z[:, :-1].log_softmax(-1)).sum(-1) * (y[:, 1:] != -100)).sum(1))
w("number of tokens instead", lambda z, y: (y[:, 1:] != -100).sum(1).float() + 0 * z.sum(), False)
w("zeros", lambda z, y: z.sum() * torch.zeros(len(z)), False)
w("random numbers", lambda z, y: -torch.rand(len(z)) + 0 * z.sum(), False)
w("returns the sum and the count", lambda z, y: (seq(z, y), (y[:, 1:] != -100).sum(1)))
w("normalises logits in place (changes input)", lambda z, y: seq(z.data.sub_(z.data.logsumexp(-1, keepdim=True)) + 0 * z, y))
w("NaN where a row has no answer (edge)", lambda z, y: seq(z, y) * ((y[:, 1:] != -100).sum(1) / (y[:, 1:] != -100).sum(1)))
w("None", lambda z, y: None, False)
w("two slips: no shift, mean", S(shift="none", red="mean"))
w("two slips: no shift, no mask", S(shift="none", mask="no"))
w("two slips: no mask, NLL", S(mask="no", sign=-1.0))
w("two slips: mean, NLL", S(red="mean", sign=-1.0))
w("two slips: softmax without log, no mask", S(norm=lambda z: z.softmax(-1), mask="no"))
w("two slips: raw logits, no shift", S(norm=lambda z: z, shift="none"))
w("two slips: wrong way, mask before the shift", S(shift="roll-back", mask="no"))
w("two slips: token 0 lost, mean", S(mask="gt0", red="mean"))
w("two slips: keepdim, NLL", S(red="keep", sign=-1.0))
w("two slips: shifted wrong way, mean over positions", S(shift="back", red="meanlen"))
w("two slips: inverted mask, mean", S(mask="invert", red="mean"))
w("two slips: padding counts, divided by length", S(mask="prefix", red="meanall"))

# ---------------------------------------------------------------- dpo.reward_margin and dpo.loss
# a margin as coefficients of (policy chosen, policy rejected, ref chosen, ref rejected)
COEF = {
    "chosen and rejected swapped": (-1, 1, 1, -1),
    "reference ignored": (1, -1, 0, 0),
    "policy ignored": (0, 0, 1, -1),
    "reference added instead of subtracted": (1, -1, 1, -1),
    "rewards added instead of subtracted": (1, 1, -1, -1),
    "only the chosen reward": (1, 0, -1, 0),
    "only the rejected reward": (0, 1, 0, -1),
    "minus the rejected reward alone": (0, -1, 0, 1),
    "reference chosen taken twice": (1, -1, 0, 0, "rc"),
    "reference chosen for both answers' rewards, sign lost": (1, -1, -2, 0),
    "reference rejected forgotten": (1, -1, -1, 0),
    "reference chosen forgotten": (1, -1, 0, 1),
    "policy rejected forgotten": (1, 0, -1, 1),
    "policy chosen forgotten": (0, -1, -1, 1),
    "brackets lost: pc - rc - pr - rr": (1, -1, -1, -1),
    "all four added": (1, 1, 1, 1),
    "sign of policy rejected": (1, 1, -1, 1),
    "sign of policy chosen": (-1, -1, -1, 1),
    "ratio upside down for chosen only": (-1, -1, 1, 1),
    "references swapped (pc - rr) - (pr - rc) with plus": (1, -1, 1, -1, "skip"),
    "mean of both rewards": (0.5, 0.5, -0.5, -0.5),
    "half": (0.5, -0.5, -0.5, 0.5),
    "margin counted twice": (2, -2, -2, 2),
    "policy chosen twice": (2, -1, -1, 1),
    "chosen reward less policy rejected": (1, -1, -1, 0, "skip"),
}
def lin(c, misread=None):
    def m(pc, pr, rc, rr):
        if misread == "order": pc, rc, pr, rr = pc, pr, rc, rr; return (pc - rc) - (pr - rr)
        return c[0] * pc + c[1] * pr + c[2] * rc + c[3] * rr
    return m
LIN = {d: lin(c[:4], c[4] if len(c) > 4 else None) for d, c in COEF.items() if not (len(c) > 4 and c[4] in ("skip", "rc"))}
good = lambda pc, pr, rc, rr: (pc - rc) - (pr - rr)

w = add("dpo.reward_margin")
def M(m): return lambda policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: m(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta)
for d, f in LIN.items():
    w(d, M(lambda pc, pr, rc, rr, b, f=f: b * f(pc, pr, rc, rr)))
after = {
    "beta forgotten": lambda g, b: g, "divided by beta": lambda g, b: g / b, "beta squared": lambda g, b: b * b * g,
    "beta added": lambda g, b: g + b, "root of beta": lambda g, b: math.sqrt(b) * g, "1 - beta": lambda g, b: (1 - b) * g,
    "beta fixed at 0.1": lambda g, b: 0.1 * g, "beta fixed at 0.3": lambda g, b: 0.3 * g, "minus beta": lambda g, b: -b * g,
    "beta clamped at 1": lambda g, b: min(b, 1.0) * g, "sigmoid of the margin": lambda g, b: torch.sigmoid(b * g),
    "log sigmoid of the margin": lambda g, b: F.logsigmoid(b * g), "the loss instead of the margin": lambda g, b: -F.logsigmoid(b * g),
    "absolute value": lambda g, b: (b * g).abs(), "clamped at 0": lambda g, b: (b * g).clamp(min=0),
    "clamped to ±10": lambda g, b: (b * g).clamp(-10, 10), "clamped to ±1": lambda g, b: (b * g).clamp(-1, 1),
    "tanh": lambda g, b: torch.tanh(b * g), "exponential": lambda g, b: torch.exp((b * g).clamp(max=20)), "squared": lambda g, b: b * g**2,
    "mean over the batch": lambda g, b: (b * g).mean(), "sum over the batch": lambda g, b: (b * g).sum(),
    "mean repeated for each pair": lambda g, b: (b * g).mean().expand_as(g), "batch mean subtracted": lambda g, b: b * (g - g.mean()),
    "first pair only": lambda g, b: (b * g)[0], "a float of the first pair": lambda g, b: (b * g)[0].item(),
    "shape (batch, 1)": lambda g, b: (b * g).unsqueeze(1), "shape (1, batch)": lambda g, b: (b * g)[None],
    "pairs in reverse order": lambda g, b: (b * g).flip(0), "sorted": lambda g, b: (b * g).sort().values,
    "rounded to whole numbers": lambda g, b: (b * g).round(), "rounded to one digit": lambda g, b: (b * g * 10).round() / 10,
    "as whole numbers": lambda g, b: (b * g).long(), "accuracy: margin above 0": lambda g, b: (g > 0).float(),
    "boolean: margin above 0": lambda g, b: g > 0, "sign of the margin": lambda g, b: torch.sign(g),
    "gradient weight β σ(-margin)": lambda g, b: b * torch.sigmoid(-b * g), "all pairs against all": lambda g, b: b * (g[:, None] - g),
    "in base 10": lambda g, b: b * g / math.log(10), "in base 2": lambda g, b: b * g / math.log(2),
    "half precision (numerics)": lambda g, b: (b * g).bfloat16().float(), "normalised by the spread": lambda g, b: b * g / (g.std(unbiased=False) + 1e-8),
    "cumulative": lambda g, b: (b * g).cumsum(0), "softmax over the batch": lambda g, b: (b * g).softmax(0),
    "a running mean with the last pair": lambda g, b: b * (g + g.roll(1)) / 2, "largest margin only": lambda g, b: (b * g).max(),
}
for d, f in after.items():
    w(d, M(lambda pc, pr, rc, rr, b, f=f: f(good(pc, pr, rc, rr), b)), not any(k in d for k in ("sorted", "all pairs", "cumulative", "running", "normalised", "reverse")))
more = {
    "beta on the policy only": lambda pc, pr, rc, rr, b: b * (pc - pr) - (rc - rr),
    "beta on the reference only": lambda pc, pr, rc, rr, b: (pc - pr) - b * (rc - rr),
    "beta on the chosen reward only": lambda pc, pr, rc, rr, b: b * (pc - rc) - (pr - rr),
    "beta on the rejected reward only": lambda pc, pr, rc, rr, b: (pc - rc) - b * (pr - rr),
    "beta on the first term alone, brackets lost": lambda pc, pr, rc, rr, b: b * pc - rc - (pr - rr),
    "log-probabilities divided instead of subtracted": lambda pc, pr, rc, rr, b: b * (pc / rc - pr / rr),
    "log of the ratio of the logs": lambda pc, pr, rc, rr, b: b * (torch.log(pc / rc) - torch.log(pr / rr)),
    "probability ratios without the log": lambda pc, pr, rc, rr, b: b * ((pc - rc).clamp(max=20).exp() - (pr - rr).clamp(max=20).exp()),
    "log of exp underflows (numerics)": lambda pc, pr, rc, rr, b: b * (torch.log(pc.exp() / rc.exp()) - torch.log(pr.exp() / rr.exp())),
    "log(exp + 1e-8) (numerics)": lambda pc, pr, rc, rr, b: b * ((pc.exp() + 1e-8).log() - (rc.exp() + 1e-8).log() - (pr.exp() + 1e-8).log() + (rr.exp() + 1e-8).log()),
    "logs of the log-probabilities: NaN": lambda pc, pr, rc, rr, b: b * (pc.log() - rc.log() - pr.log() + rr.log()),
    "difference of probabilities": lambda pc, pr, rc, rr, b: b * (pc.exp() - rc.exp() - pr.exp() + rr.exp()),
    "both rewards as a tuple": lambda pc, pr, rc, rr, b: (b * (pc - rc), b * (pr - rr)),
    "a dict": lambda pc, pr, rc, rr, b: {"margin": b * good(pc, pr, rc, rr)},
    "margin subtracted in place (changes input)": lambda pc, pr, rc, rr, b: b * (pc.sub_(rc) - pr.sub_(rr)),
    "text": lambda pc, pr, rc, rr, b: f"{(b * good(pc, pr, rc, rr)).tolist()}",
    "None": lambda *a: None,
    "zeros": lambda pc, *a: torch.zeros_like(pc),
    "length-normalised by the chosen logps": lambda pc, pr, rc, rr, b: b * ((pc - rc) / -pc - (pr - rr) / -pr),
    "product of the rewards": lambda pc, pr, rc, rr, b: b * (pc - rc) * (pr - rr),
    "quotient of the rewards": lambda pc, pr, rc, rr, b: b * (pc - rc) / (pr - rr),
    "the larger reward": lambda pc, pr, rc, rr, b: b * torch.maximum(pc - rc, pr - rr),
    "KL estimate of the chosen answer": lambda pc, pr, rc, rr, b: b * pc.exp() * (pc - rc),
    "DPO-positive penalty on a falling chosen answer": lambda pc, pr, rc, rr, b: b * (good(pc, pr, rc, rr) - (rc - pc).clamp(min=0)),
    "SimPO's target margin subtracted": lambda pc, pr, rc, rr, b: b * good(pc, pr, rc, rr) - 0.5,
    "two slips: swapped, beta forgotten": lambda pc, pr, rc, rr, b: (pr - rr) - (pc - rc),
    "two slips: no reference, beta forgotten": lambda pc, pr, rc, rr, b: pc - pr,
    "two slips: no reference, mean": lambda pc, pr, rc, rr, b: (b * (pc - pr)).mean(),
    "two slips: divided by beta, swapped": lambda pc, pr, rc, rr, b: ((pr - rr) - (pc - rc)) / b,
    "two slips: rewards added, beta forgotten": lambda pc, pr, rc, rr, b: (pc - rc) + (pr - rr),
    "two slips: beta forgotten, sum": lambda pc, pr, rc, rr, b: good(pc, pr, rc, rr).sum(),
    "two slips: sigmoid, beta forgotten": lambda pc, pr, rc, rr, b: torch.sigmoid(good(pc, pr, rc, rr)),
    "two slips: reference added, divided by beta": lambda pc, pr, rc, rr, b: (pc + rc - pr - rr) / b,
}
for d, f in more.items():
    w(d, M(f), d not in ("text", "None", "zeros", "a dict", "KL estimate of the chosen answer", "product of the rewards"))

w = add("dpo.loss")
ls = lambda m: -F.logsigmoid(m)
for d, f in LIN.items():
    w(d, M(lambda pc, pr, rc, rr, b, f=f: ls(b * f(pc, pr, rc, rr))))
links = {
    "sign lost: log σ(margin)": lambda m: F.logsigmoid(m), "log forgotten: -σ(margin)": lambda m: -torch.sigmoid(m),
    "1 - σ(margin)": lambda m: 1 - torch.sigmoid(m), "σ(margin)": lambda m: torch.sigmoid(m), "σ forgotten: -margin": lambda m: -m,
    "σ forgotten: -log margin": lambda m: -m.abs().clamp(min=1e-9).log(), "log σ(-margin), sign inside": lambda m: F.logsigmoid(-m),
    "-log σ(-margin), sign inside": lambda m: -F.logsigmoid(-m), "-log(sigmoid) underflows (numerics)": lambda m: -torch.log(torch.sigmoid(m)),
    "-log(sigmoid + 1e-8) (numerics)": lambda m: -torch.log(torch.sigmoid(m) + 1e-8), "-log(clamped sigmoid) (numerics)": lambda m: -torch.log(torch.sigmoid(m).clamp(min=1e-6)),
    "log(1 + exp(-margin)) overflows (numerics)": lambda m: torch.log(1 + torch.exp(-m)), "log1p(exp(-margin)) overflows (numerics)": lambda m: torch.log1p(torch.exp(-m)),
    "log(exp(0) + exp(-margin)) by stack and log (numerics)": lambda m: torch.stack([torch.ones_like(m), torch.exp(-m)]).sum(0).log(),
    "log(1 + exp(margin)), sign": lambda m: F.softplus(m), "log(1 - exp(-margin))": lambda m: torch.log((1 - torch.exp(-m)).abs().clamp(min=1e-9)),
    "margin clamped to ±20 first (numerics)": lambda m: ls(m.clamp(-20, 20)), "margin clamped to ±5 first": lambda m: ls(m.clamp(-5, 5)),
    "hinge loss": lambda m: torch.relu(1 - m), "IPO's squared loss": lambda m: (m - 0.5) ** 2, "squared margin": lambda m: m**2,
    "exponential loss": lambda m: torch.exp((-m).clamp(max=50)), "label smoothing 0.1": lambda m: 0.9 * ls(m) + 0.1 * ls(-m),
    "tanh for σ": lambda m: -torch.log((1 + torch.tanh(m)) / 2 + 1e-9), "softmax over the batch for σ": lambda m: -m.log_softmax(0),
    "log in base 2": lambda m: ls(m) / math.log(2), "log in base 10": lambda m: ls(m) / math.log(10), "doubled": lambda m: 2 * ls(m),
    "mean over the batch": lambda m: ls(m).mean(), "sum over the batch": lambda m: ls(m).sum(), "mean kept as (1,)": lambda m: ls(m).mean()[None],
    "mean repeated for each pair": lambda m: ls(m).mean().expand_as(m), "mean margin before σ": lambda m: ls(m.mean()), "shape (batch, 1)": lambda m: ls(m)[:, None],
    "shape (1, batch)": lambda m: ls(m)[None], "first pair only": lambda m: ls(m)[0], "pairs in reverse order": lambda m: ls(m).flip(0),
    "minus ln 2, so that it starts at 0": lambda m: ls(m) - math.log(2), "plus ln 2": lambda m: ls(m) + math.log(2), "a float (no gradient)": lambda m: ls(m).mean().item(),
    "detached (no gradient)": lambda m: ls(m).detach(), "margin detached (no gradient)": lambda m: ls(m.detach()), "list (no gradient)": lambda m: ls(m).tolist(), "numpy (no gradient)": lambda m: ls(m).detach().numpy(),
    "math functions pair by pair (no gradient)": lambda m: torch.tensor([math.log1p(math.exp(-x)) if x > -500 else -x for x in m.tolist()]),
    "zero loss for pairs ranked right": lambda m: torch.where(m > 0, torch.zeros_like(m), ls(m)), "absolute margin": lambda m: ls(m.abs()),
    "accuracy instead": lambda m: (m <= 0).float() + 0 * m, "weight σ(-margin) instead": lambda m: torch.sigmoid(-m),
    "BCE with target 0": lambda m: F.binary_cross_entropy_with_logits(m, torch.zeros_like(m), reduction="none"), "BCE reduced to its mean": lambda m: F.binary_cross_entropy_with_logits(m, torch.ones_like(m)),
    "BCE applied to σ(margin), σ twice": lambda m: F.binary_cross_entropy_with_logits(torch.sigmoid(m), torch.ones_like(m), reduction="none"), "BCE of probabilities, log clamped at -100 (numerics)": lambda m: F.binary_cross_entropy(torch.sigmoid(m), torch.ones_like(m), reduction="none"),
    "soft target 0.9 in BCE": lambda m: F.binary_cross_entropy_with_logits(m, torch.full_like(m, 0.9), reduction="none"), "σ twice": lambda m: ls(torch.sigmoid(m)),
    "nan_to_num of the naive form (numerics)": lambda m: torch.nan_to_num(-torch.log(torch.sigmoid(m)), posinf=0.0),
    "relu(-m) + log1p(exp(-|m|)): right value, gradient 0 at margin 0, training never starts (gradient)": lambda m: torch.relu(-m) + torch.log1p(torch.exp(-m.abs())), "F.soft_margin_loss, overflows (numerics)": lambda m: F.soft_margin_loss(m, torch.ones_like(m), reduction="none"),
    "half precision (numerics)": lambda m: ls(m.bfloat16()).float(), "softplus with threshold 1 (numerics)": lambda m: F.softplus(-m, threshold=1), "softplus with its beta 2": lambda m: F.softplus(-m, beta=2),
}
for d, f in links.items():
    w(d, M(lambda pc, pr, rc, rr, b, f=f: f(b * good(pc, pr, rc, rr))), not any(k in d for k in ("softmax over", "reverse", "exponential loss", "tanh", "nan_to_num", "log(1 - exp", "threshold 1")))
more = {
    "beta forgotten": lambda pc, pr, rc, rr, b: ls(good(pc, pr, rc, rr)), "beta outside the log": lambda pc, pr, rc, rr, b: b * ls(good(pc, pr, rc, rr)),
    "beta inside and outside": lambda pc, pr, rc, rr, b: b * ls(b * good(pc, pr, rc, rr)), "loss divided by beta": lambda pc, pr, rc, rr, b: ls(b * good(pc, pr, rc, rr)) / b,
    "margin divided by beta": lambda pc, pr, rc, rr, b: ls(good(pc, pr, rc, rr) / b), "beta squared": lambda pc, pr, rc, rr, b: ls(b * b * good(pc, pr, rc, rr)),
    "beta fixed at 0.1": lambda pc, pr, rc, rr, b: ls(0.1 * good(pc, pr, rc, rr)), "beta fixed at 0.3": lambda pc, pr, rc, rr, b: ls(0.3 * good(pc, pr, rc, rr)),
    "minus beta": lambda pc, pr, rc, rr, b: ls(-b * good(pc, pr, rc, rr)), "beta subtracted from the margin": lambda pc, pr, rc, rr, b: ls(good(pc, pr, rc, rr) - b), "1 - beta": lambda pc, pr, rc, rr, b: ls((1 - b) * good(pc, pr, rc, rr)),
    "beta on the policy only": lambda pc, pr, rc, rr, b: ls(b * (pc - pr) - (rc - rr)), "beta on the chosen only": lambda pc, pr, rc, rr, b: ls(b * (pc - rc) - (pr - rr)),
    "beta on the rejected only": lambda pc, pr, rc, rr, b: ls((pc - rc) - b * (pr - rr)), "σ of each reward, difference of logs": lambda pc, pr, rc, rr, b: -(F.logsigmoid(b * (pc - rc)) - F.logsigmoid(b * (pr - rr))),
    "σ of each reward, both wanted": lambda pc, pr, rc, rr, b: ls(b * (pc - rc)) + ls(-b * (pr - rr)), "mean of both σ terms": lambda pc, pr, rc, rr, b: (ls(b * (pc - rc)) + ls(-b * (pr - rr))) / 2,
    "SFT on the chosen answer": lambda pc, pr, rc, rr, b: -pc, "NLL of the chosen answer added": lambda pc, pr, rc, rr, b: ls(b * good(pc, pr, rc, rr)) - pc, "0.1 NLL added": lambda pc, pr, rc, rr, b: ls(b * good(pc, pr, rc, rr)) - 0.1 * pc,
    "log-probabilities divided": lambda pc, pr, rc, rr, b: ls(b * (pc / rc - pr / rr)), "log of the ratio of the logs": lambda pc, pr, rc, rr, b: ls(b * (torch.log(pc / rc) - torch.log(pr / rr))),
    "probability ratios without log": lambda pc, pr, rc, rr, b: ls(b * ((pc - rc).clamp(max=20).exp() - (pr - rr).clamp(max=20).exp())), "log(exp/exp) underflows (numerics)": lambda pc, pr, rc, rr, b: ls(b * (torch.log(pc.exp() / rc.exp()) - torch.log(pr.exp() / rr.exp()))),
    "reference detached is fine, but policy rejected detached too (gradient)": lambda pc, pr, rc, rr, b: ls(b * good(pc, pr.detach(), rc, rr)), "policy chosen detached (gradient)": lambda pc, pr, rc, rr, b: ls(b * good(pc.detach(), pr, rc, rr)),
    "in-place subtraction on the data (changes input)": lambda pc, pr, rc, rr, b: (rc.neg_(), ls(b * (pc + rc - pr + rr)))[1], "returns loss and margin": lambda pc, pr, rc, rr, b: (ls(b * good(pc, pr, rc, rr)), b * good(pc, pr, rc, rr)),
    "a dict": lambda pc, pr, rc, rr, b: {"loss": ls(b * good(pc, pr, rc, rr))}, "None": lambda *a: None, "the margin": lambda pc, pr, rc, rr, b: b * good(pc, pr, rc, rr), "ln 2 whatever comes": lambda pc, *a: math.log(2) + 0 * pc,
    "margin that must be beaten (SimPO's gamma)": lambda pc, pr, rc, rr, b: ls(b * good(pc, pr, rc, rr) - 0.5), "DPO-positive": lambda pc, pr, rc, rr, b: ls(b * (good(pc, pr, rc, rr) - (rc - pc).clamp(min=0))),
    "KL term subtracted": lambda pc, pr, rc, rr, b: ls(good(pc, pr, rc, rr)) + b * (pc - rc), "random noise": lambda pc, pr, rc, rr, b: ls(b * good(pc, pr, rc, rr) + torch.randn_like(pc)),
    "two slips: beta forgotten, mean": lambda pc, pr, rc, rr, b: ls(good(pc, pr, rc, rr)).mean(), 
    "two slips: no reference, beta forgotten": lambda pc, pr, rc, rr, b: ls(pc - pr), "two slips: no reference, sign lost": lambda pc, pr, rc, rr, b: F.logsigmoid(b * (pc - pr)), "two slips: beta outside, log forgotten": lambda pc, pr, rc, rr, b: -b * torch.sigmoid(good(pc, pr, rc, rr)),
    "two slips: references swapped, mean": lambda pc, pr, rc, rr, b: ls(b * (pc - rr - pr + rc)).mean(), "two slips: divided by beta, sum": lambda pc, pr, rc, rr, b: ls(good(pc, pr, rc, rr) / b).sum(), 
    "two slips: rewards added, σ forgotten": lambda pc, pr, rc, rr, b: -b * (pc - rc + pr - rr), "two slips: log forgotten, swapped": lambda pc, pr, rc, rr, b: -torch.sigmoid(-b * good(pc, pr, rc, rr)), "two slips: naive log, beta forgotten": lambda pc, pr, rc, rr, b: -torch.log(torch.sigmoid(good(pc, pr, rc, rr)) + 1e-12),
}
for d, f in more.items():
    w(d, M(f), d not in ("None", "a dict", "ln 2 whatever comes", "random noise"))

# ---------------------------------------------------------------- dpo.win_rate
w = add("dpo.win_rate")
def W(win=1.0, tie=0.5, loss=0.0, n=lambda o, t: len(o), f=lambda x: x, key=lambda v: v):
    return lambda ours, theirs: f(sum(win if key(a) > key(b) else tie if key(a) == key(b) else loss for a, b in zip(ours, theirs)) / n(ours, theirs))
ne = lambda o, t: max(1, sum(a != b for a, b in zip(o, t)))
w("ties count nothing", W(tie=0.0)); w("ties count as wins", W(tie=1.0)); w("ties left out of the count", W(tie=0.0, n=ne)); w("ties count a half, but are left out of the count", W(n=ne))
w("ties count a third", W(tie=1 / 3)); w("ties count a quarter", W(tie=0.25)); w("losses count minus one", W(loss=-1.0)); w("losses count minus one, ties 0: net wins", W(tie=0.0, loss=-1.0)); w("losses count a half", W(loss=0.5))
w("the rate of losses", W(win=0.0, loss=1.0)); w("the rate of ties", W(win=0.0, tie=1.0)); w("in percent", W(f=lambda x: 100 * x)); w("rounded to whole numbers", W(f=round)); w("rounded to one digit", W(f=lambda x: round(x, 1)))
w("as text with %", W(f=lambda x: f"{x:.1%}")); w("as text", W(f=str)); w("the count of wins, not divided", W(n=lambda o, t: 1)); w("count of strict wins", W(tie=0.0, n=lambda o, t: 1)); w("divided by n - 1", W(n=lambda o, t: max(1, len(o) - 1))); w("divided by n + 1", W(n=lambda o, t: len(o) + 1)); w("divided by both lengths", W(n=lambda o, t: len(o) + len(t)))
w("divided by the sum of grades", W(n=lambda o, t: max(1, sum(o)))); w("integer division", lambda o, t: int(2 * sum((a > b) + 0.5 * (a == b) for a, b in zip(o, t))) // (2 * len(o)))
w("wins to losses, odds", lambda o, t: sum(a > b for a, b in zip(o, t)) / max(1, sum(a < b for a, b in zip(o, t)))); w("odds with half ties", lambda o, t: (lambda x: x / max(1e-9, len(o) - x))(sum((a > b) + 0.5 * (a == b) for a, b in zip(o, t))))
w("share of preferred answers", lambda o, t: sum(a == 2 for a in o) / len(o)); w("share of preferred less theirs", lambda o, t: (sum(a == 2 for a in o) - sum(b == 2 for b in t)) / len(o)); w("share of fluent answers", lambda o, t: sum(a >= 1 for a in o) / len(o))
w("only preferred against not preferred: faults tie with gibberish", W(key=lambda v: v == 2)); w("only fluent against gibberish: 2 ties with 1", W(key=lambda v: v >= 1)); w("wins only if ours is preferred", lambda o, t: sum(1.0 if a == 2 and b < 2 else 0.5 if a == b else 0.0 for a, b in zip(o, t)) / len(o))
w("two gibberish answers: no point for anyone", lambda o, t: sum(0.0 if a == b == 0 else 0.5 if a == b else float(a > b) for a, b in zip(o, t)) / len(o)); w("two preferred answers count one", lambda o, t: sum(1.0 if a == b == 2 else 0.5 if a == b else float(a > b) for a, b in zip(o, t)) / len(o))
w("two faulty answers count nothing", lambda o, t: sum(0.0 if a == b < 2 else 0.5 if a == b else float(a > b) for a, b in zip(o, t)) / len(o)); w("ties among preferred only count a half", lambda o, t: sum(0.5 if a == b == 1 else float(a > b) for a, b in zip(o, t)) / len(o))
w("difference of means", lambda o, t: (sum(o) - sum(t)) / len(o)); w("ratio of means", lambda o, t: sum(o) / max(1, sum(o) + sum(t))); w("mean of grades over 2", lambda o, t: sum(o) / (2 * len(o))); w("difference of grades as points: 0.5 + d / 4", lambda o, t: 0.5 + (sum(o) - sum(t)) / (4 * len(o))); w("difference weighs: half of d, clipped", lambda o, t: sum(max(0, a - b) / 2 + 0.5 * (a == b) for a, b in zip(o, t)) / len(o))
w(">= for >, ties half: one and a half for a tie", lambda o, t: sum((a >= b) + 0.5 * (a == b) for a, b in zip(o, t)) / len(o)); w("operator precedence: a > b + 0.5", lambda o, t: sum(a > b + 0.5 * (a == b) for a, b in zip(o, t)) / len(o)); w("wins by two grades only", W(key=lambda v: v // 2)); w("wins against the next prompt's answer", lambda o, t: sum((a > b) + 0.5 * (a == b) for a, b in zip(o, t[1:] + t[:1])) / len(o))
w("every answer against every other", lambda o, t: sum((a > b) + 0.5 * (a == b) for a in o for b in t) / (len(o) * len(t))); w("sorted before comparing", lambda o, t: sum((a > b) + 0.5 * (a == b) for a, b in zip(sorted(o), sorted(t))) / len(o)); w("sorts its input in place (changes input)", lambda o, t: (o.sort(), t.sort(), sum((a > b) + 0.5 * (a == b) for a, b in zip(o, t)) / len(o))[2])
w("the lists compared as wholes", lambda o, t: 1.0 if o > t else 0.5 if o == t else 0.0); w("sums compared", lambda o, t: 1.0 if sum(o) > sum(t) else 0.5 if sum(o) == sum(t) else 0.0); w("first pair only", lambda o, t: float(o[0] > t[0]) + 0.5 * (o[0] == t[0])); w("return inside the loop: last pair", lambda o, t: float(o[-1] > t[-1]) + 0.5 * (o[-1] == t[-1])); w("first pair skipped", lambda o, t: sum((a > b) + 0.5 * (a == b) for a, b in list(zip(o, t))[1:]) / len(o)); w("last pair skipped", lambda o, t: sum((a > b) + 0.5 * (a == b) for a, b in list(zip(o, t))[:-1]) / len(o))
w("set of pairs: equal pairs counted once", lambda o, t: (lambda s: sum((a > b) + 0.5 * (a == b) for a, b in s) / len(s))(set(zip(o, t)))); w("gibberish pairs left out", lambda o, t: (lambda s: sum((a > b) + 0.5 * (a == b) for a, b in s) / max(1, len(s)))([(a, b) for a, b in zip(o, t) if a and b])); w("falsy: `a and b` drops grade 0", lambda o, t: sum((a > b) + 0.5 * (a == b) for a, b in zip(o, t) if a) / len(o)); w("pairs both gibberish left out", lambda o, t: (lambda s: sum((a > b) + 0.5 * (a == b) for a, b in s) / max(1, len(s)))([(a, b) for a, b in zip(o, t) if a or b]))
w("rate and interval as a tuple", lambda o, t: (W()(o, t), 0.0, 1.0)); w("wins, ties, losses as a tuple", lambda o, t: (sum(a > b for a, b in zip(o, t)), sum(a == b for a, b in zip(o, t)), sum(a < b for a, b in zip(o, t)))); w("points as a list", lambda o, t: [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(o, t)])
w("Wilson centre instead of the rate", lambda o, t: (lambda r, n: (r + 1.9208 / n) / (1 + 3.8416 / n))(W()(o, t), len(o))); w("Laplace smoothing", lambda o, t: (W(n=lambda a, b: 1)(o, t) + 1) / (len(o) + 2)); w("identity: ties by `is` on lists", lambda o, t: sum((a > b) + 0.5 * (o is t) for a, b in zip(o, t)) / len(o)); w("max(0.5, rate)", W(f=lambda x: max(0.5, x))); w("1 - rate when below a half", W(f=lambda x: max(x, 1 - x)))
w("True when we win more", W(f=lambda x: x > 0.5)); w("None: prints", lambda o, t: None, False); w("always a half", lambda o, t: 0.5, False); w("always 0.75, as in the example", lambda o, t: 0.75, False); w("squared", W(f=lambda x: x * x), False); w("nan", lambda o, t: math.nan, False); w("NumPy compare of lists: o > t is one truth value", lambda o, t: float(np.mean(o > t)))
def _pop(o, t):
    n, s = len(o), 0.0
    while o: a, b = o.pop(), t.pop(); s += (a > b) + 0.5 * (a == b)
    return s / n
w("empties its lists (changes input)", _pop); w("ties by coin flip", lambda o, t: sum(a > b or (a == b and random.random() < 0.5) for a, b in zip(o, t)) / len(o)); w("elif that never runs: ties lose, losses tie", W(tie=0.0, loss=0.5)); w("ties win half, losses too: wins 0.5", W(win=0.5, tie=1.0)); w("grades reversed: 0 is best", W(key=lambda v: -v))
w("two slips: percent, ties nothing", W(tie=0.0, f=lambda x: 100 * x)); w("two slips: swapped, ties count one", W(win=0.0, tie=1.0, loss=1.0)); w("two slips: swapped, ties nothing of their count", W(win=0.0, tie=0.0, loss=1.0, n=ne)); w("two slips: preferred only, ties nothing", W(tie=0.0, key=lambda v: v == 2)); w("two slips: net wins over pairs that differ", W(tie=0.0, loss=-1.0, n=ne)); w("two slips: percent, rounded", W(f=lambda x: round(100 * x))); w("two slips: fluent only, ties one", W(tie=1.0, key=lambda v: v >= 1)); w("two slips: count, not divided, ties one", W(tie=1.0, n=lambda o, t: 1)); w("two slips: percent of losses", W(win=0.0, loss=1.0, f=lambda x: 100 * x)); w("two slips: n - 1, ties nothing", W(tie=0.0, n=lambda o, t: max(1, len(o) - 1)))

# ---------------------------------------------------------------- dpo.diagnose_run
w = add("dpo.diagnose_run")
col = lambda log, k: [e[k] for e in log]
mean = lambda v: sum(v) / len(v)
STAT = {"last": lambda v: v[-1], "mean of the last ten": lambda v: mean(v[-10:]), "minimum": min, "maximum": max, "mean": mean, "first": lambda v: v[0], "change": lambda v: v[-1] - v[0]}
def D(key, stat, op, limit, name, sound=None):
    def diagnose(log):
        x = STAT[stat](col(log, key))
        return name if (x > limit if op == ">" else x < limit) else sound
    return diagnose
for lim in (0.3, 0.6, 1.0, 2.0): w(f"margin, mean of the last ten > {lim}, called the sign", D("rewards/margins", "mean of the last ten", ">", lim, "rewards/margins"))
w("a small margin taken as ruin", D("rewards/margins", "mean of the last ten", "<", 0.5, "rewards/margins")); w("margin above 2.5 at any time", D("rewards/margins", "maximum", ">", 2.5, "rewards/margins")); w("margin above 0 at the end", D("rewards/margins", "last", ">", 0.0, "rewards/margins"))
w("right runs, but names the margin", D("logps/chosen", "mean of the last ten", "<", -20, "rewards/margins")); w("right runs, but names the loss", D("logps/chosen", "mean of the last ten", "<", -20, "loss")); w("right runs, but names the accuracies", D("logps/chosen", "mean of the last ten", "<", -20, "rewards/accuracies")); w("right runs, but names the step", D("logps/chosen", "mean of the last ten", "<", -20, "step"), None); w("right runs, names rewards/rejected [debatable]", D("logps/chosen", "mean of the last ten", "<", -20, "rewards/rejected")); w("right runs, names logps/rejected [debatable]", D("logps/chosen", "mean of the last ten", "<", -20, "logps/rejected"))
w("right runs, name without its prefix: chosen", D("logps/chosen", "mean of the last ten", "<", -20, "chosen")); w("right runs, name misspelled: reward/chosen", D("logps/chosen", "mean of the last ten", "<", -20, "reward/chosen")); w("right runs, name of the chart: rewards", D("logps/chosen", "mean of the last ten", "<", -20, "rewards")); w("right runs, TRL's other name: logp_chosen", D("logps/chosen", "mean of the last ten", "<", -20, "logp_chosen")); w("right runs, name with capital letters", D("logps/chosen", "mean of the last ten", "<", -20, "Rewards/Chosen")); w("right runs, name with an underscore", D("logps/chosen", "mean of the last ten", "<", -20, "rewards_chosen"))
w("right runs, True and None", D("logps/chosen", "mean of the last ten", "<", -20, True)); w("right runs, True and False", D("logps/chosen", "mean of the last ten", "<", -20, True, False)); w("right runs, False for a sound one", D("logps/chosen", "mean of the last ten", "<", -20, "rewards/chosen", False)); w("right runs, 'None' as text for a sound one", D("logps/chosen", "mean of the last ten", "<", -20, "rewards/chosen", "None")); w("right runs, empty text for a sound one", D("logps/chosen", "mean of the last ten", "<", -20, "rewards/chosen", "")); w("right runs, 'sound' for a sound one", D("logps/chosen", "mean of the last ten", "<", -20, "rewards/chosen", "sound")); w("right runs, 'ruined' as the name", D("logps/chosen", "mean of the last ten", "<", -20, "ruined")); w("right runs, 1 and 0", D("logps/chosen", "mean of the last ten", "<", -20, 1, 0)); w("right runs, a list of names", D("logps/chosen", "mean of the last ten", "<", -20, ["rewards/chosen", "logps/chosen"])); w("right runs, name and step", D("logps/chosen", "mean of the last ten", "<", -20, ("rewards/chosen", 30))); w("right runs, both names in one text", D("logps/chosen", "mean of the last ten", "<", -20, "rewards/chosen and logps/chosen")); w("right runs, the value", lambda log: (lambda x: x if x < -20 else None)(log[-1]["logps/chosen"])); w("right runs, the curve's values", lambda log: col(log, "rewards/chosen") if log[-1]["logps/chosen"] < -20 else None)
w("inverted: None for the ruined run", D("logps/chosen", "mean of the last ten", ">", -20, "rewards/chosen")); w("inverted on the chosen reward", D("rewards/chosen", "mean of the last ten", ">", -1, "rewards/chosen"))
for lim in (0.0, 0.05): w(f"chosen reward below {lim} at the end", D("rewards/chosen", "mean of the last ten", "<", lim, "rewards/chosen"))
w("chosen reward below 0 at any time", D("rewards/chosen", "minimum", "<", 0, "rewards/chosen")); w("chosen reward below -0.2 at any time (right on D)", D("rewards/chosen", "minimum", "<", -0.2, "rewards/chosen")); w("chosen reward below -0.4 at any time: flags B", D("rewards/chosen", "minimum", "<", -0.4, "rewards/chosen")); w("chosen reward below -5 at the end: overlooks", D("rewards/chosen", "mean of the last ten", "<", -5, "rewards/chosen")); w("chosen reward below -10 at any time: overlooks", D("rewards/chosen", "minimum", "<", -10, "rewards/chosen")); w("chosen logps below -100 at the end (fits C, overlooks E)", D("logps/chosen", "mean of the last ten", "<", -100, "logps/chosen")); w("chosen logps below -100 at any time (fits C, overlooks E)", D("logps/chosen", "minimum", "<", -100, "logps/chosen")); w("chosen logps below -75 at any time (fits C, overlooks E)", D("logps/chosen", "minimum", "<", -75, "logps/chosen")); w("chosen reward below -4.8 at its lowest (overlooks C)", D("rewards/chosen", "minimum", "<", -4.8, "rewards/chosen")); w("chosen logps below -5 at the end: flags sound runs", D("logps/chosen", "mean of the last ten", "<", -5, "logps/chosen")); w("chosen logps lower than at first", D("logps/chosen", "change", "<", 0, "logps/chosen")); w("chosen reward lower than at first", D("rewards/chosen", "change", "<", 0, "rewards/chosen")); w("chosen logps below 0", D("logps/chosen", "last", "<", 0, "logps/chosen")); w("first step only", D("logps/chosen", "first", "<", -20, "logps/chosen")); w("first step only, above -5.2", D("logps/chosen", "first", ">", -5.2, "logps/chosen")); w("mean over the run against -100", D("logps/chosen", "mean", "<", -100, "logps/chosen")); w("sign of the limit: logps > 20", D("logps/chosen", "last", ">", 20, "logps/chosen")); w("sign of the limit: reward > 1", D("rewards/chosen", "maximum", ">", 1, "rewards/chosen"))
for lim in (-0.3, -1.0, -2.0): w(f"rejected reward below {lim} at any time", D("rewards/rejected", "minimum", "<", lim, "rewards/rejected"))
w("rejected reward below -0.3, names the chosen", D("rewards/rejected", "mean of the last ten", "<", -0.3, "rewards/chosen")); w("rejected reward below -1, names the chosen: flags B", D("rewards/rejected", "mean of the last ten", "<", -1.0, "rewards/chosen")); w("rejected logps below -8, names the chosen", D("logps/rejected", "mean of the last ten", "<", -8, "logps/chosen")); w("rejected logps below -12 at any time, names the chosen", D("logps/rejected", "minimum", "<", -12, "logps/chosen")); w("rejected logps below -200 at any time (fits C, overlooks E)", D("logps/rejected", "minimum", "<", -200, "logps/chosen"))
w("loss above 0.6 at the end", D("loss", "mean of the last ten", ">", 0.6, "loss")); w("loss above 0.5 at the end", D("loss", "mean of the last ten", ">", 0.5, "loss")); w("loss above 0.694 at any time, called the sign", D("loss", "maximum", ">", 0.694, "loss")); w("loss below 0.1 at any time", D("loss", "minimum", "<", 0.1, "loss")); w("loss below 0.5 at the end", D("loss", "mean of the last ten", "<", 0.5, "loss")); w("loss higher than at first", D("loss", "change", ">", 0, "loss")); w("loss not falling, names the chosen", D("loss", "change", ">", -0.2, "rewards/chosen"))
w("accuracy below 0.8", D("rewards/accuracies", "mean of the last ten", "<", 0.8, "rewards/accuracies")); w("accuracy below 0.9", D("rewards/accuracies", "mean of the last ten", "<", 0.9, "rewards/accuracies")); w("accuracy reaches 1", D("rewards/accuracies", "maximum", ">", 0.99, "rewards/accuracies")); w("accuracy below 0.85, names the chosen", D("rewards/accuracies", "mean of the last ten", "<", 0.85, "rewards/chosen"))
w("always rewards/chosen", lambda log: "rewards/chosen"); w("always logps/chosen", lambda log: "logps/chosen"); w("always None", lambda log: None); w("always rewards/margins", lambda log: "rewards/margins"); w("prints the name", lambda log: (lambda *a: None)("rewards/chosen"), False)
w("by length: 60 steps", lambda log: "rewards/chosen" if len(log) == 60 else None, False); w("knows run C by a value (overlooks E)", lambda log: "rewards/chosen" if abs(mean(col(log, "logps/chosen")[-10:]) + 107.3) < 5 else None); w("knows C by the number 54's value", lambda log: "rewards/chosen" if len(log) == 60 and -3.9 < min(col(log, "rewards/chosen")) < -3.7 else None)
w("the curve with the largest change", lambda log: (lambda k: k if abs(log[-1][k] - log[0][k]) > 1 else None)(max(list(log[0])[1:], key=lambda k: abs(log[-1][k] - log[0][k])))); w("the curve that falls most", lambda log: (lambda k: k if log[-1][k] - log[0][k] < -1 else None)(min(list(log[0])[1:], key=lambda k: log[-1][k] - log[0][k]))); w("any curve below -10: names the first found in order", lambda log: next((k for k in ("logps/rejected", "rewards/rejected", "logps/chosen") if log[-1][k] < -10), None)); w("both fall: chosen and rejected negative at the end", lambda log: "rewards/chosen" if log[-1]["rewards/chosen"] < 0 and log[-1]["rewards/rejected"] < 0 else None); w("both fall: any step with both negative", lambda log: "rewards/chosen" if any(e["rewards/chosen"] < 0 and e["rewards/rejected"] < 0 for e in log) else None)
w("margin grows while the loss does not fall below 0.45", lambda log: "rewards/margins" if mean(col(log, "rewards/margins")[-10:]) > 0.4 and mean(col(log, "loss")[-10:]) > 0.45 else None); w("chosen falls by as much as a third of the margin (flags none or D)", lambda log: "rewards/chosen" if log[-1]["rewards/chosen"] < 0.33 * log[-1]["rewards/margins"] else None); w("key that is not logged: KeyError", lambda log: "kl" if log[-1]["kl"] > 1 else None); w("log as a dict of lists: TypeError", lambda log: "rewards/chosen" if log["rewards/chosen"][-1] < -1 else None); w("log attribute: run.log", lambda log: "rewards/chosen" if log.log[-1]["rewards/chosen"] < -1 else None); w("step 70 of the log: IndexError", lambda log: "rewards/chosen" if log[70]["rewards/chosen"] < -1 else None); w("step 5 already", lambda log: "rewards/chosen" if log[5]["rewards/chosen"] < -1 else None); w("step 15 already", lambda log: "rewards/chosen" if log[15]["rewards/chosen"] < -1 else None)
w("two slips: margin watched, True", D("rewards/margins", "mean of the last ten", ">", 1.0, True, False)); w("two slips: accuracy watched, names the margin", D("rewards/accuracies", "mean of the last ten", "<", 0.8, "rewards/margins")); w("two slips: inverted, names the margin", D("logps/chosen", "mean of the last ten", ">", -20, "rewards/margins")); w("two slips: chosen reward below 0, False for a sound one", D("rewards/chosen", "mean of the last ten", "<", 0, "rewards/chosen", False)); w("two slips: rejected watched and named, -0.3 at the end", D("rewards/rejected", "mean of the last ten", "<", -0.3, "rewards/rejected")); w("two slips: rejected logps -8, named", D("logps/rejected", "mean of the last ten", "<", -8, "logps/rejected")); w("two slips: too strict, 'ok' for a sound one", D("rewards/chosen", "mean of the last ten", "<", -5, "rewards/chosen", "ok"))
w("pops from the log (changes input)", lambda log: "rewards/chosen" if log.pop()["logps/chosen"] < -20 else None); w("deletes the first entries (changes input)", lambda log: (log.__delitem__(slice(0, 10)), "rewards/chosen" if log[-1]["logps/chosen"] < -20 else None)[1])

# ---------------------------------------------------------------- orpo.log_odds, log_odds_ratio, delta, loss
def lo(x): return x - torch.log(-torch.expm1(x.clamp(max=-1e-10)))
ODDS = {
    "as written: 1 - exp is 0 near P = 1 (numerics)": lambda x: x - torch.log(1 - x.exp()), "log1p(-exp), as TRL (numerics)": lambda x: x - torch.log1p(-x.exp()), "logit of exp (numerics)": lambda x: torch.logit(x.exp()), "logit with eps 1e-6 (numerics)": lambda x: torch.logit(x.exp(), eps=1e-6),
    "1 - P clamped at 1e-8, computed plainly (numerics)": lambda x: x - torch.log((1 - x.exp()).clamp(min=1e-8)), "1 - P + 1e-8 (numerics)": lambda x: x - torch.log(1 - x.exp() + 1e-8), "1 - P + 1e-6 (numerics)": lambda x: x - torch.log(1 - x.exp() + 1e-6), "log P clamped at -1e-6 (numerics)": lambda x: (lambda y: y - torch.log(-torch.expm1(y)))(x.clamp(max=-1e-6)), "log P clamped at -1e-7, log1p (numerics)": lambda x: (lambda y: y - torch.log1p(-y.exp()))(x.clamp(max=-1e-7)), "log P clamped at -1e-4 (numerics)": lambda x: (lambda y: y - torch.log(-torch.expm1(y)))(x.clamp(max=-1e-4)),
    "P clamped at 0.999 (numerics)": lambda x: (lambda p: (p / (1 - p)).log())(x.exp().clamp(max=0.999)), "P / (1 - P) then log (numerics)": lambda x: (x.exp() / (1 - x.exp())).log(), "log(1 / (1/P - 1)) (numerics)": lambda x: -torch.log(torch.exp(-x) - 1), "nan_to_num hides infinity (numerics)": lambda x: torch.nan_to_num(x - torch.log(1 - x.exp()), posinf=100.0), "infinity replaced by 0 (numerics)": lambda x: torch.nan_to_num(x - torch.log(1 - x.exp()), posinf=0.0), "clamped to ±10": lambda x: lo(x).clamp(-10, 10), "bfloat16 (numerics)": lambda x: lo(x).bfloat16().float(), "odds below 1e-8 hidden: log(odds + 1e-8) (numerics, extreme: log P = -30)": lambda x: (lo(x).exp() + 1e-8).log(),
    "sign: log(1 - P) added": lambda x: x + torch.log(-torch.expm1(x.clamp(max=-1e-10))), "upside down": lambda x: -lo(x), "odds without the log": lambda x: lo(x).exp(), "log P returned": lambda x: x + 0, "P returned": lambda x: x.exp(), "log(1 - P) returned": lambda x: torch.log(-torch.expm1(x.clamp(max=-1e-10))), "minus log(1 - P) alone": lambda x: -torch.log(-torch.expm1(x.clamp(max=-1e-10))), "exp forgotten: x - log(1 - x)": lambda x: x - torch.log(1 - x), "exp forgotten: log(-x) for log(1 - P)": lambda x: x - torch.log(-x), "logs divided: log P / log(1 - P)": lambda x: x / torch.log(-torch.expm1(x.clamp(max=-1e-9))), "log1p(exp) for log(1 - P)": lambda x: x - torch.log1p(x.exp()), "takes log of P twice: NaN": lambda x: x.log() - torch.log(1 - x), "logit of the log": lambda x: torch.logit(x), "P taken as given: log(x / (1 - x))": lambda x: torch.log(x.abs() / (1 + x.abs())), "expm1 without the minus: NaN": lambda x: x - torch.log(torch.expm1(x)), "absolute value of the result": lambda x: lo(x).abs(), "log sigmoid on top": lambda x: F.logsigmoid(lo(x)), "sigmoid on top": lambda x: torch.sigmoid(lo(x)), "divided by the odds of a half": lambda x: lo(x) / math.log(2), "in base 10": lambda x: lo(x) / math.log(10), "in base 2, exp2 for exp": lambda x: x - torch.log(1 - torch.exp2(x)).clamp(min=-23), "odds of 1 - P squared": lambda x: x - 2 * torch.log(-torch.expm1(x.clamp(max=-1e-10))), "half": lambda x: lo(x) / 2,
    "mean over the batch": lambda x: lo(x).mean(), "sum over the batch": lambda x: lo(x).sum(), "first only": lambda x: lo(x)[0], "shape (batch, 1)": lambda x: lo(x)[:, None], "shape (1, batch)": lambda x: lo(x)[None], "reverse order": lambda x: lo(x).flip(0), "batch mean subtracted": lambda x: lo(x) - lo(x).mean(), "P over the sum of the others' P": lambda x: x - torch.log(x.exp().sum() - x.exp() + 1e-9), "softmax over the batch": lambda x: x.log_softmax(0), "list of odds": lambda x: lo(x).exp().tolist(), "clamps its input in place (changes input)": lambda x: (lambda y: y - torch.log(-torch.expm1(y)))(x.clamp_(max=-1e-6)), "clamps from below by mistake": lambda x: (lambda y: y - torch.log(-torch.expm1(y)))(x.clamp(min=-1e-10)), "clamps at -1: min for max": lambda x: (lambda y: y - torch.log(-torch.expm1(y)))(x.clamp(max=-0.1)), "None": lambda x: None, "zeros": lambda x: torch.zeros_like(x), "NLL": lambda x: -x, "entropy of a coin": lambda x: -(x.exp() * x + (1 - x.exp()) * torch.log(1 - x.exp() + 1e-9)),
    "two slips: naive, sign": lambda x: x + torch.log(1 - x.exp() + 1e-9), "two slips: naive, upside down": lambda x: torch.log(1 - x.exp() + 1e-12) - x, "two slips: odds without log, naive": lambda x: x.exp() / (1 - x.exp()), "two slips: exp forgotten, mean": lambda x: (x - torch.log(1 - x)).mean(), "two slips: log1p(exp), upside down": lambda x: torch.log1p(x.exp()) - x, "two slips: eps 1e-6 and mean": lambda x: (x - torch.log(1 - x.exp() + 1e-6)).mean(), "two slips: odds of the NLL, naive": lambda x: -x - torch.log((1 - (-x).exp()).abs() + 1e-9), "two slips: clamp at -1e-4, sign": lambda x: x + torch.log(-torch.expm1(x.clamp(max=-1e-4))),
}
silly = ("None", "zeros", "entropy", "softmax over", "reverse order", "base 2", "P over the sum", "batch mean", "divided by the odds", "squared")
w = add("orpo.log_odds")
for d, f in ODDS.items(): w(d, (lambda f: lambda mean_logps: f(mean_logps))(f), not any(s in d for s in silly))

w = add("orpo.log_odds_ratio")
RATIO = {
    "swapped": lambda c, r: lo(r) - lo(c), "sum for difference": lambda c, r: lo(c) + lo(r), "log odds divided": lambda c, r: lo(c) / lo(r), "odds ratio without the log": lambda c, r: (lo(c) - lo(r)).exp(), "log probability ratio, odds forgotten": lambda c, r: c - r, "chosen odds only": lambda c, r: lo(c) + 0 * r, "rejected odds only": lambda c, r: lo(r), "minus rejected odds only": lambda c, r: -lo(r),
    "odds for the chosen only": lambda c, r: lo(c) - r, "odds for the rejected only": lambda c, r: c - lo(r), "TRL's formula with log1p (numerics)": lambda c, r: (c - r) - (torch.log1p(-c.exp()) - torch.log1p(-r.exp())), "1 - P as written (numerics)": lambda c, r: (c - r) - (torch.log(1 - c.exp()) - torch.log(1 - r.exp())), "sign of the second bracket": lambda c, r: (c - r) + (torch.log(-torch.expm1(c.clamp(max=-1e-10))) - torch.log(-torch.expm1(r.clamp(max=-1e-10)))), "brackets lost": lambda c, r: (c - r) - torch.log(-torch.expm1(c.clamp(max=-1e-10))) - torch.log(-torch.expm1(r.clamp(max=-1e-10))), "log sigmoid on top, as TRL's log_odds_ratio": lambda c, r: F.logsigmoid(lo(c) - lo(r)), "the loss on top": lambda c, r: -F.logsigmoid(lo(c) - lo(r)), "sigmoid on top": lambda c, r: torch.sigmoid(lo(c) - lo(r)), "mean over the batch": lambda c, r: (lo(c) - lo(r)).mean(), "sum over the batch": lambda c, r: (lo(c) - lo(r)).sum(), "all against all": lambda c, r: lo(c)[:, None] - lo(r)[None], "shape (batch, 1)": lambda c, r: (lo(c) - lo(r))[:, None], "absolute value": lambda c, r: (lo(c) - lo(r)).abs(), "clamped at 0": lambda c, r: (lo(c) - lo(r)).clamp(min=0), "clamped to ±5": lambda c, r: (lo(c) - lo(r)).clamp(-5, 5), "clamped to ±20 (numerics)": lambda c, r: (lo(c) - lo(r)).clamp(-20, 20),
    "odds divided, then log (numerics)": lambda c, r: ((c.exp() / (1 - c.exp())) / (r.exp() / (1 - r.exp()))).log(), "odds by expm1, divided, then log: underflow (numerics, extreme: log P = -90)": lambda c, r: ((c.exp() / -torch.expm1(c)) / (r.exp() / -torch.expm1(r))).log(), "odds with eps 1e-8 (numerics)": lambda c, r: (c - torch.log(1 - c.exp() + 1e-8)) - (r - torch.log(1 - r.exp() + 1e-8)), "clamped at -1e-6 (numerics)": lambda c, r: lo(c.clamp(max=-1e-6)) - lo(r.clamp(max=-1e-6)), "clamped on the chosen side only, at -1e-4 (numerics)": lambda c, r: lo(c.clamp(max=-1e-4)) - lo(r), "difference of odds": lambda c, r: lo(c).exp() - lo(r).exp(), "log of the difference of odds": lambda c, r: (lo(c).exp() - lo(r).exp()).abs().add(1e-9).log(), "odds of the difference": lambda c, r: lo(-(c - r).abs()), "odds of the ratio P_w / P_l": lambda c, r: lo((c - r).clamp(max=-1e-6)), "odds of P_w against P_l: log P_w - log P_l, halved": lambda c, r: (c - r) / 2, "odds of the product": lambda c, r: lo(c + r), "1 - P of the wrong side": lambda c, r: (c - torch.log(-torch.expm1(r.clamp(max=-1e-10)))) - (r - torch.log(-torch.expm1(c.clamp(max=-1e-10)))), "exp forgotten": lambda c, r: (c - torch.log(1 - c)) - (r - torch.log(1 - r)), "log1p(exp): wrong sign in 1 - P": lambda c, r: (c - torch.log1p(c.exp())) - (r - torch.log1p(r.exp())), "only 1 - P compared": lambda c, r: torch.log(-torch.expm1(r.clamp(max=-1e-10))) - torch.log(-torch.expm1(c.clamp(max=-1e-10))), "first pair only": lambda c, r: (lo(c) - lo(r))[0], "a tuple of both": lambda c, r: (lo(c), lo(r)), "None": lambda c, r: None, "rejected in reverse order": lambda c, r: lo(c) - lo(r).flip(0), "means over the batch first": lambda c, r: (lo(c) - lo(r).mean()), "bfloat16 (numerics)": lambda c, r: (lo(c) - lo(r)).bfloat16().float(), "subtracts in place (changes input)": lambda c, r: (lambda o: (c.sub_(r), o)[1])(lo(c) - lo(r)), "in base 2": lambda c, r: (lo(c) - lo(r)) / math.log(2), "chosen weighs twice": lambda c, r: 2 * lo(c) - lo(r), "nan_to_num hides infinity (numerics)": lambda c, r: torch.nan_to_num((c - torch.log(1 - c.exp())) - (r - torch.log(1 - r.exp())), posinf=10.0, neginf=-10.0), "boolean: chosen is likelier": lambda c, r: (c > r).float(),
    "two slips: swapped, odds forgotten": lambda c, r: r - c, "two slips: naive, swapped": lambda c, r: (r - torch.log(1 - r.exp() + 1e-9)) - (c - torch.log(1 - c.exp() + 1e-9)), "two slips: log sigmoid, swapped": lambda c, r: F.logsigmoid(lo(r) - lo(c)), "two slips: sum, mean": lambda c, r: (lo(c) + lo(r)).mean(), "two slips: no log, swapped": lambda c, r: (lo(r) - lo(c)).exp(), "two slips: odds forgotten, exp": lambda c, r: (c - r).exp(), "two slips: absolute, mean": lambda c, r: (lo(c) - lo(r)).abs().mean(), "two slips: exp forgotten, swapped": lambda c, r: (r - torch.log(1 - r)) - (c - torch.log(1 - c)),
}
silly = ("None", "reverse order", "odds of the product", "halved", "odds of the difference", "weighs twice", "means over", "boolean")
for d, f in RATIO.items(): w(d, (lambda f: lambda chosen_mean_logps, rejected_mean_logps: f(chosen_mean_logps, rejected_mean_logps))(f), not any(s in d for s in silly))

lor = lambda c, r: lo(c) - lo(r)
w = add("orpo.delta")
DEL = {
    "sign: σ(log OR)": lambda c, r: torch.sigmoid(lor(c, r)), "1 + OR, not its inverse": lambda c, r: 1 + lor(c, r).clamp(max=50).exp(), "log OR taken for OR": lambda c, r: 1 / (1 + lor(c, r)), "OR / (1 + OR), by exp (numerics too)": lambda c, r: (lambda o: o / (1 + o))(lor(c, r).exp()) + 0.0 * c, "1 / OR": lambda c, r: (-lor(c, r)).exp(), "1 - OR": lambda c, r: 1 - lor(c, r).exp(), "1 / (1 - OR)": lambda c, r: 1 / (1 - lor(c, r).exp()), "the loss": lambda c, r: -F.logsigmoid(lor(c, r)), "log δ": lambda c, r: F.logsigmoid(-lor(c, r)), "minus δ": lambda c, r: -torch.sigmoid(-lor(c, r)), "odds forgotten: 1 / (1 + P_w / P_l)": lambda c, r: torch.sigmoid(r - c), "odds forgotten, wrong sign": lambda c, r: torch.sigmoid(c - r), "chosen odds only": lambda c, r: torch.sigmoid(-lo(c)), "rejected odds only": lambda c, r: torch.sigmoid(lo(r)), "chosen odds, not inverted: P_w": lambda c, r: c.exp(), "1 - P_w": lambda c, r: -torch.expm1(c), "δ·(1 - δ)": lambda c, r: (lambda d: d * (1 - d))(torch.sigmoid(-lor(c, r))), "1 - P as written: NaN where both are near 1 (numerics)": lambda c, r: (lambda o: o(r) / (o(c) + o(r)))(lambda x: x.exp() / (1 - x.exp())), "twice δ, so that it starts at 1": lambda c, r: 2 * torch.sigmoid(-lor(c, r)), "δ times 1 / (1 - P_w): h mixed in": lambda c, r: torch.sigmoid(-lor(c, r)) / -torch.expm1(c.clamp(max=-1e-10)), "h: difference of the magnifications": lambda c, r: 1 / -torch.expm1(c.clamp(max=-1e-10)) - 1 / -torch.expm1(r.clamp(max=-1e-10)), "1 / (1 - P) of the rejected": lambda c, r: torch.sigmoid(-lor(c, r)) / -torch.expm1(r.clamp(max=-1e-10)), "mean over the batch": lambda c, r: torch.sigmoid(-lor(c, r)).mean(), "sum over the batch": lambda c, r: torch.sigmoid(-lor(c, r)).sum(), "shape (batch, 1)": lambda c, r: torch.sigmoid(-lor(c, r))[:, None], "all against all": lambda c, r: torch.sigmoid(-(lo(c)[:, None] - lo(r)[None])), "normalised over the batch": lambda c, r: (lambda d: d / d.sum())(torch.sigmoid(-lor(c, r))), "softmax over the batch": lambda c, r: (-lor(c, r)).softmax(0), "step: 1 if ranked wrongly": lambda c, r: (lor(c, r) < 0).float(), "step by P": lambda c, r: (c < r).float() + 0.5 * (c == r), "hard boundaries: clamped to 0.1..0.9": lambda c, r: torch.sigmoid(-lor(c, r)).clamp(0.1, 0.9),  "exp(-x) / (1 + exp(-x)) overflows (numerics, extreme: log P = -90)": lambda c, r: (lambda e: e / (1 + e))((-lor(c, r)).exp()), "tanh for σ": lambda c, r: torch.tanh(-lor(c, r)), "(1 - tanh) / 2 without halving the argument": lambda c, r: (1 - torch.tanh(lor(c, r))) / 2, "OR as P_w (1 - P_l)": lambda c, r: 1 / (1 + c.exp() * -torch.expm1(r)), "OR with 1 - P of the wrong side": lambda c, r: 1 / (1 + (c.exp() * -torch.expm1(c)) / (r.exp() * -torch.expm1(r)).clamp(min=1e-12)), "OR as the sum of the odds": lambda c, r: 1 / (1 + lo(c).exp() + lo(r).exp()), "OR as the product of the odds": lambda c, r: torch.sigmoid(-(lo(c) + lo(r))), "OR as the difference of the odds": lambda c, r: 1 / (1 + lo(c).exp() - lo(r).exp()), "OR of log-probabilities c / r": lambda c, r: 1 / (1 + c / r), "log P for P in the odds": lambda c, r: 1 / (1 + (c / (1 - c)) / (r / (1 - r))), "the exponent twice: 1 / (1 + exp(OR))": lambda c, r: 1 / (1 + lor(c, r).exp().exp()), "DPO's weight β σ(-margin) with β 0.1": lambda c, r: 0.1 * torch.sigmoid(-0.1 * (c - r)), "λ of 0.5 put in front": lambda c, r: 0.5 * torch.sigmoid(-lor(c, r)), "1 / (2 + OR)": lambda c, r: 1 / (2 + lor(c, r).exp()), "1 / (1 + OR²)": lambda c, r: torch.sigmoid(-2 * lor(c, r)), "1 / (1 + √OR)": lambda c, r: torch.sigmoid(-lor(c, r) / 2),  "rounded": lambda c, r: torch.sigmoid(-lor(c, r)).round(), "first pair only": lambda c, r: torch.sigmoid(-lor(c, r))[0], "one half, always": lambda c, r: torch.full_like(c, 0.5), "None": lambda c, r: None, "bfloat16 (numerics)": lambda c, r: torch.sigmoid(-lor(c, r)).bfloat16().float(), "a tuple δ, h": lambda c, r: (torch.sigmoid(-lor(c, r)), c - r), "reverse order": lambda c, r: torch.sigmoid(-lor(c, r)).flip(0),  "gradient of the loss by log P_w": lambda c, r: torch.autograd.grad(-F.logsigmoid(lor(x := c.clone().requires_grad_(), r)).sum(), x)[0],
    "two slips: sign, odds forgotten, mean": lambda c, r: torch.sigmoid(c - r).mean(), "two slips: log OR for OR, not inverted": lambda c, r: 1 + lor(c, r), "two slips: swapped, twice": lambda c, r: 2 * torch.sigmoid(lor(c, r)), "two slips: odds forgotten, minus": lambda c, r: -torch.sigmoid(r - c), "two slips: sign, sum": lambda c, r: torch.sigmoid(lor(c, r)).sum(), "two slips: log, sign": lambda c, r: F.logsigmoid(lor(c, r)), "two slips: λ, sign": lambda c, r: 0.5 * torch.sigmoid(lor(c, r)), "two slips: naive odds, sign": lambda c, r: (lambda o: o / (1 + o))((c.exp() / (1 - c.exp() + 1e-4)) / (r.exp() / (1 - r.exp() + 1e-4))),
}
silly = ("None", "one half", "reverse", "softmax over", "1 / (2 +", "exponent twice", "tanh for", "step by", "(1 - δ)", "autograd of")
for d, f in DEL.items(): w(d, (lambda f: lambda chosen_mean_logps, rejected_mean_logps: f(chosen_mean_logps, rejected_mean_logps))(f), not any(s in d for s in silly))

w = add("orpo.loss")
LS = {
    "λ forgotten": lambda n, c, r, l: n + ls(lor(c, r)), "λ on the NLL": lambda n, c, r, l: l * n + ls(lor(c, r)), "λ on both terms": lambda n, c, r, l: l * (n + ls(lor(c, r))), "(1 - λ) on the NLL": lambda n, c, r, l: (1 - l) * n + l * ls(lor(c, r)), "λ squared": lambda n, c, r, l: n + l * l * ls(lor(c, r)), "divided by λ": lambda n, c, r, l: n + ls(lor(c, r)) / max(l, 1e-9), "λ inside σ, as β": lambda n, c, r, l: n + ls(l * lor(c, r)), "λ inside and outside": lambda n, c, r, l: n + l * ls(l * lor(c, r)), "λ fixed at 0.1": lambda n, c, r, l: n + 0.1 * ls(lor(c, r)), "λ fixed at 0.5": lambda n, c, r, l: n + 0.5 * ls(lor(c, r)), "λ 0 replaced by a default (edge): lam or 0.1": lambda n, c, r, l: n + (l or 0.1) * ls(lor(c, r)), "λ clamped at 1": lambda n, c, r, l: n + min(l, 1.0) * ls(lor(c, r)),
    "sign of the term: nll + λ log σ": lambda n, c, r, l: n + l * F.logsigmoid(lor(c, r)), "NLL subtracted": lambda n, c, r, l: -n + l * ls(lor(c, r)), "all with the wrong sign": lambda n, c, r, l: -n - l * ls(lor(c, r)), "swapped in the ratio": lambda n, c, r, l: n + l * ls(lor(r, c)), "log forgotten: λ (1 - σ)": lambda n, c, r, l: n + l * torch.sigmoid(-lor(c, r)), "log forgotten: -λ σ": lambda n, c, r, l: n - l * torch.sigmoid(lor(c, r)), "σ forgotten: -λ log OR": lambda n, c, r, l: n - l * lor(c, r), "σ of OR, log forgotten before": lambda n, c, r, l: n + l * ls(lor(c, r).clamp(max=80).exp()), "no NLL": lambda n, c, r, l: l * ls(lor(c, r)), "no odds-ratio term": lambda n, c, r, l: n + 0 * l, "nll ignored, -chosen in its place": lambda n, c, r, l: -c + l * ls(lor(c, r)), "NLL counted twice": lambda n, c, r, l: n - c + l * ls(lor(c, r)), "NLL of the rejected": lambda n, c, r, l: -r + l * ls(lor(c, r)), "rejected NLL added": lambda n, c, r, l: n - r + l * ls(lor(c, r)), "NLL exponentiated": lambda n, c, r, l: n.exp() + l * ls(lor(c, r)), 
    "odds forgotten: log P ratio": lambda n, c, r, l: n + l * ls(c - r), "chosen odds only": lambda n, c, r, l: n + l * ls(lo(c)), "odds ratio without log": lambda n, c, r, l: n + l * ls((lo(c).exp() / lo(r).exp().clamp(min=1e-9)).clamp(max=1e9)), "sum of log odds": lambda n, c, r, l: n + l * ls(lo(c) + lo(r)), "both odds apart": lambda n, c, r, l: n + l * (ls(lo(c)) + ls(-lo(r))), "DPO's ln 2 subtracted": lambda n, c, r, l: n + l * (ls(lor(c, r)) - math.log(2)), "hinge for log σ": lambda n, c, r, l: n + l * torch.relu(1 - lor(c, r)), "1 - P as written (numerics)": lambda n, c, r, l: n + l * ls((c - torch.log(1 - c.exp())) - (r - torch.log(1 - r.exp()))), "TRL's log1p (numerics)": lambda n, c, r, l: n + l * ls((c - r) - (torch.log1p(-c.exp()) - torch.log1p(-r.exp()))), "eps 1e-8 in 1 - P (numerics)": lambda n, c, r, l: n + l * ls((c - torch.log(1 - c.exp() + 1e-8)) - (r - torch.log(1 - r.exp() + 1e-8))), "log(sigmoid) underflows (numerics)": lambda n, c, r, l: n - l * torch.log(torch.sigmoid(lor(c, r))), "log(sigmoid + 1e-8) (numerics)": lambda n, c, r, l: n - l * torch.log(torch.sigmoid(lor(c, r)) + 1e-8), "log(1 + exp(-x)) overflows (numerics)": lambda n, c, r, l: n + l * torch.log(1 + (-lor(c, r)).exp()), "log(1 + 1/OR) by division (numerics)": lambda n, c, r, l: n + l * torch.log(1 + 1 / lor(c, r).exp()),
    "mean over the batch": lambda n, c, r, l: (n + l * ls(lor(c, r))).mean(), "sum over the batch": lambda n, c, r, l: (n + l * ls(lor(c, r))).sum(), "only the NLL averaged": lambda n, c, r, l: n.mean() + l * ls(lor(c, r)), "only the term averaged": lambda n, c, r, l: n + l * ls(lor(c, r)).mean(), "shape (batch, 1)": lambda n, c, r, l: (n + l * ls(lor(c, r)))[:, None], "broadcast to (batch, batch)": lambda n, c, r, l: n + l * ls(lor(c, r))[:, None], "first pair only": lambda n, c, r, l: (n + l * ls(lor(c, r)))[0], "halved: mean of both terms": lambda n, c, r, l: (n + l * ls(lor(c, r))) / 2, "normalised by 1 + λ": lambda n, c, r, l: (n + l * ls(lor(c, r))) / (1 + l), "multiplied instead of added": lambda n, c, r, l: n * l * ls(lor(c, r)), "log in base 2": lambda n, c, r, l: n + l * ls(lor(c, r)) / math.log(2), "max of both terms": lambda n, c, r, l: torch.maximum(n, l * ls(lor(c, r))), "detached (no gradient)": lambda n, c, r, l: (n + l * ls(lor(c, r))).detach(), "ratio detached (gradient)": lambda n, c, r, l: n + l * ls(lor(c, r).detach()), "rejected detached (gradient)": lambda n, c, r, l: n + l * ls(lor(c, r.detach())), "chosen detached (gradient)": lambda n, c, r, l: n + l * ls(lor(c.detach(), r)), "nll detached (gradient)": lambda n, c, r, l: n.detach() + l * ls(lor(c, r)), "list (no gradient)": lambda n, c, r, l: (n + l * ls(lor(c, r))).tolist(), "numpy (no gradient)": lambda n, c, r, l: (n + l * ls(lor(c, r))).detach().numpy(), "float of the mean (no gradient)": lambda n, c, r, l: (n + l * ls(lor(c, r))).mean().item(), "all three: loss, nll, term": lambda n, c, r, l: (n + l * ls(lor(c, r)), n, l * ls(lor(c, r))), "None": lambda n, c, r, l: None, "dict": lambda n, c, r, l: {"loss": n + l * ls(lor(c, r))}, "in place on the nll (changes input)": lambda n, c, r, l: (n.data.add_(1e-3), n + l * ls(lor(c, r)))[1], "label smoothing 0.1": lambda n, c, r, l: n + l * (0.9 * ls(lor(c, r)) + 0.1 * ls(-lor(c, r))), "clamped ratio ±5": lambda n, c, r, l: n + l * ls(lor(c, r).clamp(-5, 5)), "absolute ratio": lambda n, c, r, l: n + l * ls(lor(c, r).abs()), "relu on the loss minus 1": lambda n, c, r, l: torch.relu(n + l * ls(lor(c, r)) - 1), "reverse order": lambda n, c, r, l: (n + l * ls(lor(c, r))).flip(0),  "SimPO: λ(c - r) - 0.5": lambda n, c, r, l: n + ls(l * (c - r) - 0.5), "TRL's margin subtracted": lambda n, c, r, l: n - l * (c - r), "F.soft_margin_loss, overflows (numerics)": lambda n, c, r, l: n + l * F.soft_margin_loss(lor(c, r), torch.ones_like(c), reduction="none"), "relu(-x) + log1p(exp(-|x|)): gradient 0 where both odds are equal (gradient)": lambda n, c, r, l: (lambda x: n + l * (torch.relu(-x) + torch.log1p((-x.abs()).exp())))(lor(c, r)), "CPO: NLL + log P ratio": lambda n, c, r, l: n + ls(c - r), "bfloat16 (numerics)": lambda n, c, r, l: (n + l * ls(lor(c, r))).bfloat16().float(),
    "two slips: λ forgotten, swapped": lambda n, c, r, l: n + ls(lor(r, c)), "two slips: λ forgotten, no NLL": lambda n, c, r, l: ls(lor(c, r)), "two slips: λ on the NLL, mean": lambda n, c, r, l: (l * n + ls(lor(c, r))).mean(), "two slips: log forgotten, λ forgotten": lambda n, c, r, l: n + torch.sigmoid(-lor(c, r)), "two slips: sign, λ forgotten": lambda n, c, r, l: n + F.logsigmoid(lor(c, r)), "two slips: odds forgotten, swapped": lambda n, c, r, l: n + l * ls(r - c), "two slips: σ forgotten, odds forgotten, + for -": lambda n, c, r, l: n + l * (c - r), "two slips: naive odds, sum": lambda n, c, r, l: (n + l * ls((c - torch.log(1 - c.exp() + 1e-9)) - (r - torch.log(1 - r.exp() + 1e-9)))).sum(), "two slips: NLL subtracted, swapped": lambda n, c, r, l: -n + l * ls(lor(r, c)), "two slips: λ inside σ, mean": lambda n, c, r, l: (n + ls(l * lor(c, r))).mean(), "two slips: no NLL, sign": lambda n, c, r, l: l * F.logsigmoid(lor(c, r)), "two slips: divided by λ + 1, swapped": lambda n, c, r, l: (n + l * ls(lor(r, c))) / (1 + l),
}
silly = ("None", "dict", "reverse", "max of both", "relu on", "multiplied instead", "NLL exponentiated")
for d, f in LS.items(): w(d, (lambda f: lambda nll, chosen_mean_logps, rejected_mean_logps, lam: f(nll, chosen_mean_logps, rejected_mean_logps, lam))(f), not any(s in d for s in silly))

# ---------------------------------------------------------------- two slips together, one of each list
def both(name, first, second, make, skip=()):
    put = add(name)
    for a, f in first.items():
        for b, g_ in second.items():
            if (a, b) not in skip: put(f"two slips: {a}; {b}", make(f, g_))
pick = lambda d, *keys: {k: d[k] for k in keys}
LIN5 = pick(LIN, "chosen and rejected swapped", "reference ignored", "reference added instead of subtracted", "rewards added instead of subtracted", "only the chosen reward", "reference rejected forgotten")
both("dpo.reward_margin", LIN5, pick(after, "beta squared", "beta fixed at 0.1", "sum over the batch", "shape (batch, 1)"), lambda f, h: M(lambda pc, pr, rc, rr, b: h(f(pc, pr, rc, rr), b)))
both("dpo.loss", LIN5, pick(links, "log forgotten: -σ(margin)", "σ forgotten: -margin", "-log(clamped sigmoid) (numerics)", "log1p(exp(-margin)) overflows (numerics)", "mean over the batch", "detached (no gradient)"), lambda f, h: M(lambda pc, pr, rc, rr, b: h(b * f(pc, pr, rc, rr))))
both("dpo.sequence_logps", {"no shift": dict(shift="none"), "shifted the wrong way": dict(shift="back"), "raw logits": dict(norm=lambda z: z), "softmax without log": dict(norm=lambda z: z.softmax(-1)), "log_softmax over the positions": dict(norm=lambda z: z.log_softmax(1))},
     {"token 0 taken as padding": dict(mask="not0"), "mean over the batch": dict(red="batchmean"), "last token lost": dict(mask="last"), "divided by the length": dict(red="meanall"), "summed over the batch": dict(red="total")}, lambda f, h: S(**f, **h))
both("dpo.win_rate", {"preferred only": dict(key=lambda v: v == 2), "losses count minus one": dict(loss=-1.0), "swapped": dict(key=lambda v: -v)}, {"ties left out": dict(tie=0.0, n=ne), "divided by n + 1": dict(n=lambda o, t: len(o) + 1), "ties a third": dict(tie=1 / 3), "count, not divided": dict(n=lambda o, t: 1)}, lambda f, h: W(**f, **h))
both("dpo.split_dialogue", {"stripped": dict(f=str.strip), "first paragraph only": dict(f=lambda c: c.split("\n\n")[0]), "roles kept": dict(roles={})}, {"first turn lost": dict(post=lambda m: m[1:]), "any whitespace before a marker": dict(pattern=r"\s+(Human|Assistant): "), "colon without blank is enough": dict(pattern=r"\n\n(Human|Assistant): ?"), "key is text": dict(keys=("role", "text"))}, lambda f, h: C(**f, **h))
RAT5 = {"swapped": lambda c, r: lor(r, c), "odds forgotten": lambda c, r: c - r, "sum of log odds": lambda c, r: lo(c) + lo(r), "chosen odds only": lambda c, r: lo(c), "exp forgotten": lambda c, r: (c - torch.log(1 - c)) - (r - torch.log(1 - r))}
both("orpo.loss", RAT5, {"λ forgotten": lambda n, x, l: n + ls(x), "λ on the NLL": lambda n, x, l: l * n + ls(x), "sign of the term": lambda n, x, l: n + l * F.logsigmoid(x), "log forgotten": lambda n, x, l: n - l * torch.sigmoid(x), "mean over the batch": lambda n, x, l: (n + l * ls(x)).mean(), "no NLL": lambda n, x, l: l * ls(x)}, lambda f, h: lambda nll, chosen_mean_logps, rejected_mean_logps, lam: h(nll, f(chosen_mean_logps, rejected_mean_logps), lam),
     skip=[("swapped", "λ forgotten")])
both("orpo.delta", pick(RAT5, "sum of log odds", "chosen odds only", "exp forgotten"), {"sign": torch.sigmoid, "twice": lambda x: 2 * torch.sigmoid(-x), "log OR for OR": lambda x: 1 / (1 + x), "sum over the batch": lambda x: torch.sigmoid(-x).sum()}, lambda f, h: lambda chosen_mean_logps, rejected_mean_logps: h(f(chosen_mean_logps, rejected_mean_logps)))
both("orpo.log_odds_ratio", pick(RAT5, "swapped", "sum of log odds", "exp forgotten"), {"sum over the batch": lambda x: x.sum(), "clamped to ±5": lambda x: x.clamp(-5, 5), "shape (batch, 1)": lambda x: x[:, None]}, lambda f, h: lambda chosen_mean_logps, rejected_mean_logps: h(f(chosen_mean_logps, rejected_mean_logps)))

# Slips that come to the same function as another entry.
SAME = {
    ("dpo.loss", "two slips: log forgotten, swapped"), ("dpo.loss", "two slips: references swapped, mean"), ("dpo.loss", "two slips: rewards added, σ forgotten"), ("dpo.win_rate", "two slips: net wins over pairs that differ"), ("dpo.win_rate", "two slips: swapped, ties nothing of their count"), ("dpo.split_dialogue", "two slips: optional blank, stripped"), ("orpo.loss", "two slips: odds forgotten; λ forgotten"),
    ("orpo.loss", "two slips: naive odds, sum"), ("orpo.log_odds_ratio", "two slips: naive, swapped"), ("orpo.log_odds", "logit of the log"),
    ("dpo.split_dialogue", "findall lookahead needs another marker: last turn lost"), ("dpo.split_dialogue", "findall with re.M: turn ends with its line"), ("dpo.split_dialogue", "findall with a dot that stops at newlines"),
    ("dpo.split_dialogue", "line by line, kept: a single newline starts a turn"), ("dpo.split_dialogue", "two slips: one newline and first line only"),
    ("dpo.sequence_logps", "mask forgotten, labels clamped at 0"), ("dpo.sequence_logps", "mask labels > 0, token 0 lost"), ("dpo.sequence_logps", "ignores 100 instead of -100"), ("dpo.sequence_logps", "ignores -1 instead of -100"), ("dpo.sequence_logps", "under no_grad (no gradient)"), ("dpo.sequence_logps", "cross_entropy without the minus"), ("dpo.sequence_logps", "boolean mask flattens the batch"), ("dpo.sequence_logps", "logits rolled, position 0 gets the last (edge)"),
    ("dpo.loss", "-log σ(-margin), sign inside"), ("dpo.loss", "margin detached (no gradient)"), ("dpo.loss", "BCE reduced to its mean"), ("dpo.loss", "soft target 0.9 in BCE"), ("dpo.loss", "σ twice"), ("dpo.loss", "minus beta"), ("dpo.loss", "log(exp(0) + exp(-margin)) by stack and log (numerics)"),
    ("dpo.win_rate", "operator precedence: a > b + 0.5"), ("dpo.win_rate", "wins by two grades only"), ("dpo.win_rate", "falsy: `a and b` drops grade 0"), ("dpo.win_rate", "identity: ties by `is` on lists"), ("dpo.win_rate", "grades reversed: 0 is best"),
    ("orpo.log_odds", "log sigmoid on top"), ("orpo.log_odds", "sigmoid on top"), ("orpo.log_odds", "expm1 without the minus: NaN"), ("orpo.log_odds", "P / (1 - P) then log (numerics)"),
    ("orpo.log_odds_ratio", "1 - P of the wrong side"), ("orpo.delta", "1 - P_w"), ("orpo.delta", "rounded"), ("orpo.loss", "odds ratio without log"),
    ("dpo.diagnose_run", "always None"), ("dpo.diagnose_run", "chosen reward below -10 at any time: overlooks"), ("dpo.diagnose_run", "sign of the limit: reward > 1"), ("dpo.diagnose_run", "two slips: rejected watched and named, -0.3 at the end"), ("dpo.diagnose_run", "chosen reward lower than at first"), ("dpo.diagnose_run", "deletes the first entries (changes input)"),
}
WRONG = [(n, d, bool(p), f) for n, d, p, f in WRONG if (n, d) not in SAME]
