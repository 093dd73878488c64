"""Write the bundled data from the world's grammar: `python data_samples/make_data.py`.

Everything follows from SEED. Held-out questions are combinations that no training row holds: for
how-to topics a thing and a topic never seen together, elsewhere a thing and a wording.
"""

import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from course_utils import world  # noqa: E402

SEED = 20
KINDS = {"answer": 6, "decline": 2, "unknown": 2}
SIZES = {"preferences_train": 3000, "preferences_test": 400, "instructions": 1000}


def split_questions() -> tuple[list, list]:
    """All questions of the world, as those for training and those held out (the same in both languages)."""
    rng = random.Random(SEED)
    held = set()
    for topic in world.topics().values():
        things, asks = range(len(topic.things["en"])), range(len(topic.ask["en"]))
        if topic.kind == "answer":
            thing = rng.choice(things)
            held.update((topic.name, thing, ask) for ask in asks)
        else:
            held.update((topic.name, thing, rng.choice(asks)) for thing in rng.sample(things, 3))
    train, test = [], []
    for question in world.questions().values():
        key = (question.topic, question.thing, question.ask)
        (test if key in held else train).append(question)
    return train, test


class Source:
    """Draws dialogues over a list of questions, kinds in the proportions of KINDS."""

    def __init__(self, asked: list, earlier: list, seed: int):
        self.rng = random.Random(seed)
        group = lambda q: (q.lang, world.topics()[q.topic].kind)  # noqa: E731
        self.asked = {key: [q for q in asked if group(q) == key] for key in map(group, asked)}
        self.earlier = [q for q in earlier if world.topics()[q.topic].kind == "answer"]

    def question(self, lang: str, kinds: dict = KINDS) -> world.Question:
        kind = self.rng.choices(list(kinds), list(kinds.values()))[0]
        return self.rng.choice(self.asked[lang, kind])

    def prompt(self, question: world.Question) -> list[dict]:
        """The turns up to and with the question; three in ten follow on an earlier question."""
        rng = self.rng
        if rng.random() >= 0.3:
            return [{"role": "user", "content": world.turn(rng, question)}]
        group = world.topics()[question.topic].group
        related = [
            q
            for q in self.earlier
            if q.lang == question.lang
            and q.topic != question.topic
            and (world.topics()[q.topic].group == group and q.thing == question.thing or "." in group)
        ]
        first = rng.choice(related)
        return [
            {"role": "user", "content": world.turn(rng, first)},
            {"role": "assistant", "content": world.answer(rng, first)},
            {"role": "user", "content": world.turn(rng, question, again=True)},
        ]


def transcript(messages: list[dict]) -> str:
    """Anthropic/hh-rlhf's layout."""
    speaker = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}
    return "".join(speaker[m["role"]] + m["content"] for m in messages)


def preference_rows(source: Source, count: int):
    """Pairs with different prompts, English and Vietnamese in turn."""
    seen = set()
    while len(seen) < count:
        question = source.question(world.LANGUAGES[len(seen) % 2])
        prompt = source.prompt(question)
        if transcript(prompt) in seen:
            continue
        seen.add(transcript(prompt))
        chosen = world.answer(source.rng, question)
        rejected = world.answer(source.rng, question, world.pick_fault(source.rng, question))
        yield {
            name: transcript(prompt + [{"role": "assistant", "content": text}])
            for name, text in [("chosen", chosen), ("rejected", rejected)]
        }


def instruction_rows(source: Source, count: int):
    """Demonstrations as a crowd writes them: to the point, but uneven in manner; how-to questions only."""
    rng = source.rng
    for i in range(count):
        question = source.question(world.LANGUAGES[i % 2], {"answer": 1})
        fault = rng.choices([None, "polite", "concise"], [7, 1, 2])[0]
        answer = world.answer(rng, question, fault)
        yield {"prompt": source.prompt(question), "completion": [{"role": "assistant", "content": answer}]}


def dialogues(count: int, seed: int):
    """Endless talk for pretraining: half of the answers good, half with a fault, as message lists."""
    train, _ = split_questions()
    source = Source(train, train, seed)
    for i in range(count):
        question = source.question(world.LANGUAGES[i % 2])
        fault = world.pick_fault(source.rng, question) if source.rng.random() < 0.5 else None
        yield source.prompt(question) + [{"role": "assistant", "content": world.answer(source.rng, question, fault)}]


def main() -> None:
    train, test = split_questions()
    files = {
        "preferences_train": preference_rows(Source(train, train, SEED + 1), SIZES["preferences_train"]),
        "preferences_test": preference_rows(Source(test, train, SEED + 2), SIZES["preferences_test"]),
        "instructions": instruction_rows(Source(train, train, SEED + 3), SIZES["instructions"]),
    }
    for name, rows in files.items():
        path = HERE / f"{name}.jsonl"
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{path.name}: {SIZES[name]} rows, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
