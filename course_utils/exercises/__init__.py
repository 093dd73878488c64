"""Exercises that say why an answer is wrong: `cu.ex("dpo.loss").check(dpo_loss)`."""

from ..i18n import _, shown
from . import dpo, labs, orpo
from .core import Exercise
from .store import progress

LESSONS: list[list[Exercise]] = [dpo.EXERCISES, orpo.EXERCISES, labs.EXERCISES]
#: Every exercise by its name.
EXERCISES: dict[str, Exercise] = {one.name: one for lesson in LESSONS for one in lesson}


def ex(name: str) -> Exercise:
    """The exercise of a name, such as "dpo.loss"; `.check(answer)`, `.hint()` and `.solution()` go on from there."""
    if name not in EXERCISES:
        raise ValueError(
            _("there is no exercise {name!r}; choose one of {known}").format(
                name=shown(name, 60), known=", ".join(EXERCISES)
            )
        )
    return EXERCISES[name]
