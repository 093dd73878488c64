"""For the learner whose rows were dropped: what makes a row, or two of them, a preference pair."""

from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ..batch import encode, leaves_room
from .detect import SCORES
from .layouts import Dialogue, Dialogues, InvalidRow, Layout
from .sources import nfc


@dataclass(slots=True)
class Pair:
    """Two dialogues that differ in their last message alone, an answer, and the numbers of the rows they are from."""

    rows: list[int]
    chosen: Dialogue
    rejected: Dialogue

    def __post_init__(self) -> None:
        if self.chosen[:-1] != self.rejected[:-1]:
            raise InvalidRow("histories_differ")
        if self.chosen[-1] == self.rejected[-1]:
            raise InvalidRow("same_answers")


def checked(dialogue: Dialogue) -> Dialogue:
    """A dialogue, role and content alone, in Unicode NFC; InvalidRow if it is no prompt with an answer."""
    dialogue = [{"role": m["role"], "content": nfc(m["content"])} for m in dialogue]
    roles = [m["role"] for m in dialogue]
    roles = roles[1:] if roles[:1] == ["system"] else roles
    if roles != ["user", "assistant"] * (len(roles) // 2) or not roles:
        raise InvalidRow("roles")
    for message, reason in zip(dialogue[-2:], ("empty_prompt", "empty_answer")):
        if not message["content"].strip():
            raise InvalidRow(reason)
    return dialogue


def read_row(row: dict, layout: Layout) -> Dialogues:
    """The dialogues of a row; InvalidRow if it has none, or its scores forbid its preference."""
    if None in row:
        raise InvalidRow("cells")
    if any(row.get(column) is None for column in layout.needs):
        raise InvalidRow("missing")
    try:
        for good, bad in SCORES.items():
            if (
                row.get(good) is not None
                and row.get(bad) is not None
                and (gap := float(row[good]) - float(row[bad])) <= 0
            ):
                raise InvalidRow("scores_disagree" if gap else "tie")
        chosen, rejected = layout.read(*map(row.get, layout.needs), *map(row.get, layout.optional))
        return None if chosen is None else checked(chosen), None if rejected is None else checked(rejected)
    except InvalidRow:
        raise
    except (TypeError, ValueError, LookupError, AttributeError):
        raise InvalidRow("malformed") from None


def answer_is_cut(pair: Pair, tokenizer: PreTrainedTokenizerBase, max_length: int) -> bool:
    """Whether an answer does not fit `max_length` tokens whole; InvalidRow if not a token of it would."""
    try:
        row = encode(tokenizer, pair.chosen[:-1], pair.chosen[-1:], pair.rejected[-1:])
    except (TemplateError, ValueError):
        raise InvalidRow("template") from None
    if not leaves_room(len(row.prompt), max_length):
        raise InvalidRow("prompt_too_long")
    return len(row.prompt) + max(map(len, row.answers)) > max_length
