"""For authors: write the bundled data from the world's grammar, `python data_samples/make_data.py`.

Everything follows from SEED. A held-out question is a thing, a topic and a wording that stand together
in no training row, nor in what the models were pretrained on.
"""

import csv
import json
import random
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import grammar  # noqa: E402

from course_utils import world  # noqa: E402
from course_utils.data.layouts import join_dialogue, split_dialogue  # noqa: E402

SEED = 20
# How often each kind of question is asked, in what the models read first and in the preference pairs.
READING = {"answer": 6, "decline": 2, "unknown": 2}
PREFERENCES = {"answer": 2, "decline": 3, "unknown": 3}
# Of how many of its things a topic's questions are held out, each in one wording.
HELD = {"answer": 3, "decline": 6, "unknown": 6}
OWN_COLUMNS = {
    "en": ["question", "better_answer", "worse_answer"],
    "vi": ["câu_hỏi", "câu_trả_lời_hay", "câu_trả_lời_dở"],
}
SIZES = {"preferences/train": 3000, "preferences/test": 400, "instructions/train": 1000}


def split_questions() -> tuple[list, list]:
    """All questions of the world, as those for training and those held out (the same in both languages)."""
    rng = random.Random(SEED)
    held = {
        (topic.name, thing, rng.randrange(len(topic.ask["en"])))
        for topic in world.topics().values()
        for thing in rng.sample(range(len(topic.things["en"])), HELD[topic.kind])
    }
    train, test = [], []
    for question in world.questions().values():
        (test if (question.topic, question.thing, question.ask) in held else train).append(question)
    return train, test


class Source:
    """Draws dialogues over a list of questions, none twice before all of its kind were asked."""

    def __init__(self, asked: list, earlier: list, seed: int):
        self.rng = random.Random(seed)
        self.asked, self.left, self.earlier = defaultdict(list), defaultdict(list), defaultdict(list)
        for q in asked:
            self.asked[q.lang, world.topics()[q.topic].kind].append(q)
        for q in earlier:
            if world.topics()[q.topic].kind == "answer":
                self.earlier[q.lang].append(q)
                self.earlier[q.lang, world.topics()[q.topic].group, q.thing].append(q)

    def question(self, lang: str, kinds: dict) -> world.Question:
        kind = self.rng.choices(list(kinds), list(kinds.values()))[0]
        left = self.left[lang, kind]
        if not left:
            left += self.rng.sample(self.asked[lang, kind], len(self.asked[lang, kind]))
        return left.pop()

    def prompt(self, question: world.Question) -> list[dict]:
        """The turns up to and with the question; one in four follows on an earlier question."""
        rng = self.rng
        if rng.random() >= 0.25:
            return [{"role": "user", "content": grammar.turn(rng, question)}]
        group = world.topics()[question.topic].group
        related = self.earlier.get((question.lang, group, question.thing)) or self.earlier[question.lang]
        first = rng.choice([q for q in related if q.topic != question.topic])
        return [
            {"role": "user", "content": grammar.turn(rng, first)},
            {"role": "assistant", "content": grammar.answer(rng, first)},
            {"role": "user", "content": grammar.turn(rng, question, again=True)},
        ]


def preference_rows(source: Source, count: int):
    """Pairs with different prompts, English and Vietnamese in turn."""
    seen = set()
    while len(seen) < count:
        question = source.question(world.LANGUAGES[len(seen) % 2], PREFERENCES)
        prompt = source.prompt(question)
        if join_dialogue(prompt) in seen:
            continue
        seen.add(join_dialogue(prompt))
        chosen = grammar.answer(source.rng, question)
        rejected = grammar.answer(source.rng, question, grammar.pick_fault(source.rng, question))
        yield {
            name: join_dialogue(prompt + [{"role": "assistant", "content": text}])
            for name, text in [("chosen", chosen), ("rejected", rejected)]
        }


def instruction_rows(source: Source, count: int):
    """Demonstrations as a crowd writes them: to the point, but uneven in manner; how-to questions only."""
    rng = source.rng
    for i in range(count):
        question = source.question(world.LANGUAGES[i % 2], {"answer": 1})
        fault = rng.choices([None, "polite", "concise"], [18, 1, 1])[0]
        answer = grammar.answer(rng, question, fault)
        yield {"prompt": source.prompt(question), "completion": [{"role": "assistant", "content": answer}]}


def own_rows(lang: str, train: list, held_out: dict) -> list[list[str]]:
    """A learner's own table, in one language, with the slips that people make: the 🐕 exercise is to find them."""
    source = Source([q for q in train if q.lang == lang], [], SEED + 4)
    rows = []
    for question in [source.question(lang, PREFERENCES) for _ in range(40)]:
        fault = grammar.pick_fault(source.rng, question)
        answers = [grammar.answer(source.rng, question), grammar.answer(source.rng, question, fault)]
        rows.append([grammar.turn(source.rng, question), *answers])
    rows[4][2] = ""  # the rejected answer was never written
    rows[9][2] = rows[9][1]  # the same answer twice
    rows[17][0] = " "  # the question was lost
    rows[23] = list(rows[2])  # a pair entered twice
    rows[30] = [rows[7][0], rows[7][2], rows[7][1]]  # and one the wrong way round
    rows[35] = [
        split_dialogue(held_out[side])[i]["content"] for side, i in [("chosen", 0), ("chosen", 1), ("rejected", 1)]
    ]
    return rows


def dialogues(count: int, seed: int):
    """Talk for pretraining, as message lists: two answers in five are good, the others have a fault."""
    train, _ = split_questions()
    source = Source(train, train, seed)
    for i in range(count):
        question = source.question(world.LANGUAGES[i % 2], READING)
        fault = grammar.pick_fault(source.rng, question) if source.rng.random() < 0.6 else None
        yield source.prompt(question) + [{"role": "assistant", "content": grammar.answer(source.rng, question, fault)}]


def write_lines(name: str, rows) -> None:
    """Write rows as JSON, one a line, below this folder."""
    path = HERE / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="\n")
    print(f"{name}: {path.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    """Write all of the bundled data."""
    train, test = split_questions()
    held_out = list(preference_rows(Source(test, train, SEED + 2), SIZES["preferences/test"]))
    write_lines("preferences/train", preference_rows(Source(train, train, SEED + 1), SIZES["preferences/train"]))
    write_lines("preferences/test", held_out)
    write_lines("instructions/train", instruction_rows(Source(train, train, SEED + 3), SIZES["instructions/train"]))
    for lang, names in OWN_COLUMNS.items():
        rows = (row for row in held_out if world.language_of(split_dialogue(row["chosen"])[0]["content"]) == lang)
        one = next(row for row in rows if row["chosen"].count("\n\nHuman: ") == 1)
        with (HERE / f"own_preferences_{lang}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(names)
            table.writerows(own_rows(lang, train, one))


if __name__ == "__main__":
    main()
