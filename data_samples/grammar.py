"""For authors: the grammar that writes dialogues of the bundled world, which `course_utils.world`'s judge reads back.

Data and judge share the sentences of `world/*.toml`, so they cannot disagree.
"""

import random

from course_utils.world import DUTY, Question, fill, shared, topics

#: The rules that a badly mannered answer breaks, one at a time, with how often it does.
FAULTS = {
    "answer": {"answers": 3, "concise": 4, "polite": 3, "language": 3},
    "decline": {"declines": 6, "safe_way": 3, "polite": 1, "language": 2},
    "unknown": {"honest": 6, "concise": 2, "polite": 1, "language": 2},
}


def pick(rng: random.Random, items, count: int) -> list:
    """`count` of the items, in their own order."""
    return [items[i] for i in sorted(rng.sample(range(len(items)), count))]


def answer(rng: random.Random, question: Question, fault: str | None = None) -> str:
    """Write one answer that keeps every rule, or breaks exactly the rule `fault` of `FAULTS`."""
    topic, words = topics()[question.topic], shared()
    other = {"en": "vi", "vi": "en"}
    lang = other[question.lang] if fault == "language" else question.lang
    thing = topic.things[lang][question.thing]
    details = pick(rng, topic.detail[lang], rng.choice((1, 2)))
    opener = [rng.choice(words["opener"][lang])] if topic.kind == "answer" and rng.random() < 0.5 else []
    closer = [rng.choice(words["closer"][topic.kind][lang])] if rng.random() < 0.4 else []

    if fault == DUTY[topic.kind]:
        bad = pick(rng, topic.bad[lang], rng.choice((1, 2)))
        parts = opener + [fill(text, thing) for text in bad] + closer
    elif fault == "safe_way":
        parts = [fill(rng.choice(topic.lead[lang]), thing)] + closer
    else:
        parts = [fill(rng.choice(topic.lead[lang]), thing)] + details
        if fault == "polite":
            before, after = (rng.choice(words["rude"][place][lang]) for place in ("opener", "closer"))
            parts = rng.choice(([before] + parts[:2], parts[:2] + [after], [before] + parts[:2] + [after]))
        elif fault == "concise":
            filler = pick(rng, words["filler"][lang], rng.choice((2, 3)))
            parts = opener + filler[:1] + parts + filler[1:] + closer
        else:
            parts = opener + parts + closer
    return " ".join(parts)


def pick_fault(rng: random.Random, question: Question) -> str:
    """Choose a rule to break, as often as `FAULTS` says."""
    faults = FAULTS[topics()[question.topic].kind]
    return rng.choices(list(faults), list(faults.values()))[0]


def turn(rng: random.Random, question: Question, again: bool = False) -> str:
    """A user turn that asks `question`, with or without a few words before it."""
    topic = topics()[question.topic]
    text = fill(topic.ask[question.lang][question.ask], topic.things[question.lang][question.thing])
    before = rng.choice(shared()["again" if again else "context"][question.lang])
    return f"{before} {text}".strip()
