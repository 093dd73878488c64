"""For learners and teachers: every exercise with its size, and the short code for those that were passed.

It imports nothing of the course, so that a teacher's command need not load PyTorch.
"""

import zlib

TIERS = {"turtle": "🐢", "dog": "🐕", "lion": "🦁"}
#: By lesson, in the order of the codes' bits: a new exercise goes to the end of its lesson.
LESSONS = (
    {
        "dpo.split_dialogue": "turtle",
        "dpo.sequence_logps": "turtle",
        "dpo.reward_margin": "turtle",
        "dpo.loss": "turtle",
        "dpo.win_rate": "dog",
        "dpo.diagnose_run": "dog",
        "dpo.own_dataset": "dog",
        "dpo.scale_up": "lion",
        "dpo.change_one": "turtle",
    },
    {
        "orpo.log_odds": "turtle",
        "orpo.log_odds_ratio": "turtle",
        "orpo.delta": "turtle",
        "orpo.loss": "turtle",
        "orpo.loss_weights": "dog",
        "orpo.versus_dpo": "lion",
        "orpo.change_one": "turtle",
    },
    {
        "labs.ipo": "dog",
        "labs.robust": "dog",
        "labs.own_loss": "lion",
        "labs.rank_pair": "dog",
        "labs.flip_labels": "dog",
        "labs.shorter": "lion",
        "labs.stop_at": "dog",
        "labs.first_loss": "turtle",
    },
)
#: The bit of each exercise in a code: 16 a lesson.
BITS = {name: 1 << (16 * number + i) for number, lesson in enumerate(LESSONS) for i, name in enumerate(lesson)}
LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # 32 that are hard to mistake: no 0, 1, I, O


def tier_of(name: str) -> str:
    """The size of an exercise: turtle, dog or lion."""
    return next(lesson[name] for lesson in LESSONS if name in lesson)


def encode(passed: set[str]) -> str:
    """A short code for the exercises that were passed, with a check sum."""
    total = sum(bit for name, bit in BITS.items() if name in passed)
    number = total << 20 | zlib.crc32(str(total).encode()) & 0xFFFFF
    code = ""
    while number:
        number, digit = divmod(number, 32)
        code = LETTERS[digit] + code
    return "-".join(code[i : i + 4] for i in range(0, len(code), 4))


def decode(code: str) -> set[str] | None:
    """The exercises that a code says were passed; None for a code with a slip in it."""
    letters = code.strip().upper().replace("-", "")
    if len(letters) > 14 or not set(letters) <= set(LETTERS):
        return None
    number = 0
    for letter in letters:
        number = number * 32 + LETTERS.index(letter)
    total = number >> 20
    if number & 0xFFFFF != zlib.crc32(str(total).encode()) & 0xFFFFF or total & ~sum(BITS.values()):
        return None
    return {name for name, bit in BITS.items() if total & bit}
