"""For learners: change one setting, say first what will come of it, and be told what came true, and why."""

from types import SimpleNamespace
from typing import Any

from ..i18n import N_, _
from .compare import real
from .core import DataExercise, Mistake

WORDS = ("up", "same", "down")
#: Changes that count as none: of shares in percent, and of all other numbers relative to the larger one.
POINTS, PART = 3.0, 0.1
#: What a setting does, so far as it can be said beforehand.
WHY = {
    "beta": N_("With a higher β the same move away from the reference earns a larger margin, so a run stays closer to it: compare margins divided by β."),
    "lam": N_("λ weighs the odds-ratio term against the NLL: with more of it the odds part further, and the NLL gives way."),
    "learning_rate": N_("A higher learning rate goes further in the same steps: margins grow, and beyond some point the text pays for it."),
    "max_steps": N_("More steps go further along the same way. Margins go on growing; what the judge says need not."),
}  # fmt: skip


def outcome(before: float, after: float, is_share: bool) -> str:
    """Whether a number went up, down, or stayed the same so far as one run can tell."""
    room = POINTS if is_share else PART * max(abs(before), abs(after))
    return "same" if abs(after - before) <= room else "up" if after > before else "down"


def read(answer: Any) -> SimpleNamespace:
    """What was changed and predicted, and what each number did."""
    changed, prediction, before, after = answer
    came = {name: outcome(before[name], after[name], name in ("preferred", "fluent")) for name in before}
    said = [(name, prediction.get(name), came[name], before[name], after[name]) for name in came]
    told = "; ".join(
        _("{name}: you said {said}, it went {came} ({before:.3g} → {after:.3g}) {sign}").format(
            name=name, said=one, came=other, before=a, after=b, sign="✓" if one == other else "✗"
        )
        for name, one, other, a, b in said
    )
    why = " ".join(_(WHY[setting]) for setting in changed if setting in WHY)
    numbers = [*before.values(), *after.values()]
    return SimpleNamespace(
        changed=changed, prediction=prediction, names=", ".join(came), told=told, reasons=why, numbers=numbers
    )


def change_one(name: str, model_answer: str, why: str) -> DataExercise:
    """The exercise of a lesson. Answer: (changed settings, prediction, numbers before, numbers after)."""
    return DataExercise(
        name,
        why,
        (N_("First the prediction: for each number one of the words up, same, down. Then the change, then the run."),
         N_("One thing at a time: with two settings changed nobody could say which of them did it."),
         N_("A wrong prediction passes too. What counts is that you made one, and read what came of it.")),
        [
            Mistake("not_four", N_("Give the changed settings, your prediction, and the numbers before and after, in this order.")),
            Mistake("two_changes", N_("Change one setting at a time; with two nobody could say which of them did it."), holds=lambda a: len(a.changed) == 1),
            Mistake("no_prediction", N_("Predict each of {names} with one of the words up, same, down."), holds=lambda a: all(a.prediction.get(key) in WORDS for key in a.names.split(", "))),
            Mistake("not_a_number", N_("A number of one of the runs is missing or infinite. Did the training break? Try a smaller change."), holds=lambda a: all(map(real, a.numbers))),
        ],
        model_answer=model_answer,
        read=read,
        done=N_("{told}. {reasons}"),
    )  # fmt: skip
