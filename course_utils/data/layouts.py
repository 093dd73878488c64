"""For the learner whose data look different: the layouts there are, how one is found, and the dialogues of its rows.

A dialogue is a list of `{"role", "content"}` messages that ends in an answer. Where your columns differ in their names
alone, a line in LAYOUTS is enough; else write a short function for it too. Add a row to the tests.
"""

import difflib
import re
import unicodedata
from collections import namedtuple
from collections.abc import Iterable
from functools import partial
from itertools import islice
from statistics import fmean, mode

from ..i18n import _

Dialogue = list[dict]
Dialogues = tuple[Dialogue | None, Dialogue | None]  # the chosen and the rejected one; None if a row has not both
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
#: What a message may hold beside its content that a pair cannot: reasoning, calls of tools, other media.
EXTRAS = ("thinking", "reasoning", "reasoning_content", "tool_calls", "function_call", "images", "audio", "videos")
BLANK = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200b\u200c\u200d\u2060\ufeff"  # nothing to see
nfc = partial(unicodedata.normalize, "NFC")  # in which letters that look the same are the same
MARKER = re.compile(r"\n\n(Human|Assistant):(?: |\Z)")  # a transcript may end without its last space


class InvalidRow(Exception):
    """Why a row is no preference pair: a key of `course_utils.data.report.REASONS`."""


def drop_if(wrong, reason: str) -> None:
    """InvalidRow, for this reason, if something is wrong with a row."""
    if wrong:
        raise InvalidRow(reason)


def listed(names: Iterable[str], most: int = 30) -> str:
    """Names to show: the first of many, the beginnings of long ones."""
    shown = [name if len(name) <= 60 else f"{name[:60]}…" for name in islice(names, most + 1)]
    return ", ".join(shown[:most] + ["…"] * (len(shown) > most))


def split_dialogue(text: str) -> Dialogue:
    r"""Cut an Anthropic/hh-rlhf transcript into messages; InvalidRow if it does not begin with a speaker.

    >>> split_dialogue("\n\nHuman: Hi!\n\nAssistant: Hello.")
    [{'role': 'user', 'content': 'Hi!'}, {'role': 'assistant', 'content': 'Hello.'}]
    """
    before, *pieces = MARKER.split(text)
    drop_if(before or not pieces, "malformed")
    return [{"role": SPEAKERS[s], "content": content} for s, content in zip(pieces[::2], pieces[1::2])]


def join_dialogue(messages: Dialogue) -> str:
    """Give back the transcript that `split_dialogue` cut."""
    speakers = {role: speaker for speaker, role in SPEAKERS.items()}
    return "".join(f"\n\n{speakers[m['role']]}: {m['content']}" for m in messages)


def as_messages(cell, kind: str):
    """A cell that holds a transcript, or ShareGPT's turns of {"from", "value"}, as messages; any other as it is."""
    if kind == "transcript":
        return split_dialogue(cell)
    if not kind.startswith("turn"):
        return cell
    turns = [cell] if kind == "turn or turns" and isinstance(cell, dict) else cell
    return [turn | {"role": SHAREGPT_ROLES.get(turn["from"], turn["from"]), "content": turn["value"]} for turn in turns]


def dialogue(prompt, answer, system: str | None = None) -> Dialogue:
    """A prompt and its answer, texts or messages, below the system message unless that is empty."""
    turns = [("system", system if system and system.strip() else []), ("user", prompt), ("assistant", answer)]
    pieces = [said if isinstance(said, list) else [{"role": role, "content": said}] for role, said in turns]
    return [message for piece in pieces for message in piece]


def both(prompt, chosen, rejected, system=None) -> Dialogues:
    """The dialogues of a prompt and its answers, texts or messages, in which the prompt may stand already."""
    if isinstance(prompt, list) and chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    elif isinstance(prompt, str) and isinstance(chosen, list) and chosen[0]["role"] != "assistant":
        return chosen, rejected
    return dialogue(prompt, chosen, system), dialogue(prompt, rejected, system)


def continued(messages, chosen, rejected) -> Dialogues:
    """Two answers to a transcript, which may end where they begin."""
    return both(messages[:-1] if messages[-1] == {"role": "assistant", "content": ""} else messages, chosen, rejected)


def ranked(messages, answers) -> Dialogues:
    """The best of many ranked answers, of rank 1, against the worst."""
    ranks = [float(one["rank"]) for one in answers]
    drop_if(any(rank != rank for rank in ranks), "malformed")  # NaN
    drop_if(min(ranks) == max(ranks), "rank_tie")
    best, worst = (answers[ranks.index(rank)]["answer"] for rank in (min(ranks), max(ranks)))
    return continued(messages, best, worst)


def not_tied(prompt, chosen, rejected, status, system=None) -> Dialogues:
    """As `both`, with a status that tells ties."""
    drop_if(status == "tie", "tie")
    return both(prompt, chosen, rejected, system)


def alpaca(instruction, chosen, rejected, more, system, history) -> Dialogues:
    """Alpaca with a ranking, as LLaMA-Factory reads it: `input` goes below `instruction`."""
    question = "\n\n".join(filter(None, [instruction, (more or "").strip()]))
    drop_if(any(isinstance(turn, str) for turn in history or ()), "malformed")  # two letters are no turn
    earlier = [message for asked, said in history or () for message in dialogue(asked, said)]
    return both([*earlier, {"role": "user", "content": question}], chosen, rejected, system)


def label_in(cell, allowed: range) -> int:
    """A label as a number, also from text or truth value; InvalidRow if it is none of those allowed."""
    text = str(cell).strip().lower().removesuffix(".0")
    text = {"false": "0", "true": "1"}.get(text, text)
    drop_if(text not in map(str, allowed), "label")
    return int(text)


def labelled(prompt, first, second, label, allowed=range(2), tie=None) -> Dialogues:
    """Two answers, and a label that is above zero if the second one is better."""
    label = label_in(label, allowed)
    drop_if(label == tie, "tie")
    return both(prompt, *((second, first) if label > 0 else (first, second)))


def winner(name, a, b, turn) -> Dialogues:
    """Two conversations of two turns; `turn` is the answer that was judged, the first or the second."""
    drop_if(name.startswith("tie"), "tie")
    end = 2 * label_in(turn, range(1, 3))
    drop_if(name not in ("model_a", "model_b") or len(a) < end, "label")
    return (a[:end], b[:end]) if name == "model_a" else (b[:end], a[:end])


def unpaired(prompt, completion, label, system=None) -> Dialogues:
    """One answer a row, good or not."""
    said = dialogue(prompt, completion, system)
    return (said, None) if label_in(label, range(2)) else (None, said)


#: A function of the cells of a row; the columns it needs, with what they may hold; columns that may be there.
Layout = namedtuple("Layout", "read needs optional", defaults=[()])
scale = partial(labelled, allowed=range(-3, 4), tie=0)
SYSTEM = ("system",)
LABEL = "number or text"  # a CSV knows no numbers
LAYOUTS = {
    # Anthropic/hh-rlhf: two whole transcripts; Dahoas/full-hh-rlhf: one up to "Assistant:", and two answers
    "hh": Layout(lambda *both: both, dict(chosen="transcript", rejected="transcript")),
    "hh_prompt": Layout(continued, dict(prompt="transcript", chosen="text", rejected="text")),
    # TRL's explicit prompt, which load_preferences returns; its implicit prompt: trl-lib/ultrafeedback_binarized
    "explicit_prompt": Layout(both, dict(prompt="messages", chosen="messages or text", rejected="messages or text")),
    "implicit_prompt": Layout(lambda *both: both, dict(chosen="messages", rejected="messages")),
    # HuggingFaceH4/ultrafeedback_binarized, mlabonne/orpo-dpo-mix-40k
    "messages_and_text": Layout(both, dict(prompt="text", chosen="messages", rejected="messages")),
    # your own file, jondurbin/truthy-dpo-v0.1; Intel/orca_dpo_pairs and its Vietnamese translations
    "text": Layout(both, dict(prompt="text", chosen="text", rejected="text"), SYSTEM),
    "orca": Layout(both, dict(question="text", chosen="text", rejected="text"), SYSTEM),
    "orca_vi": Layout(both, dict(question_vi="text", chosen_vi="text", rejected_vi="text"), ("system_vi",)),
    # argilla/distilabel-intel-orca-dpo-pairs, which has ties, and argilla/ultrafeedback-binarized-preferences
    "distilabel_orca": Layout(not_tied, dict(input="text", chosen="text", rejected="text", status="text"), SYSTEM),
    "argilla": Layout(both, dict(instruction="text", chosen_response="text", rejected_response="text")),
    # Alpaca and ShareGPT with a ranking, as LLaMA-Factory reads them
    "alpaca": Layout(alpaca, dict(instruction="text", chosen="text", rejected="text"), ("input", "system", "history")),
    "sharegpt": Layout(both, dict(conversations="turns", chosen="turn or turns", rejected="turn or turns"), SYSTEM),
    # PKU-Alignment/PKU-SafeRLHF by helpfulness and by harmlessness; stanfordnlp/SHP, where label 1 means A
    "pku_better": Layout(labelled, dict(prompt="text", response_0="text", response_1="text", better_response_id=LABEL)),
    "pku_safer": Layout(labelled, dict(prompt="text", response_0="text", response_1="text", safer_response_id=LABEL)),
    "shp": Layout(labelled, dict(history="text", human_ref_B="text", human_ref_A="text", labels=LABEL)),
    # nvidia/HelpSteer3, berkeley-nest/Nectar, lmsys/mt_bench_human_judgments
    "helpsteer3": Layout(scale, dict(context="messages", response1="text", response2="text", overall_preference=LABEL)),
    "nectar": Layout(ranked, dict(prompt="transcript", answers="ranking")),
    "mt_bench": Layout(winner, dict(winner="text", conversation_a="messages", conversation_b="messages", turn=LABEL)),
    # TRL's unpaired preferences, with a prompt or as whole dialogues
    "kto": Layout(unpaired, dict(prompt="messages or text", completion="messages or text", label=LABEL), SYSTEM),
    "kto_messages": Layout(partial(unpaired, []), dict(messages="messages", label=LABEL)),
}
#: What a cell that is a list holds, by the names in its first object.
SHAPES = {"messages": {"role", "content"}, "turns": {"from", "value"}, "ranking": {"answer", "rank"}}
#: Columns that may hold the scores of the chosen and of the rejected answer.
SCORES = dict(score_chosen="score_rejected", chosen_score="rejected_score", chosen_avg_rating="rejected_avg_rating")


def kind_of(cell) -> str | None:
    """What a cell holds; None if it holds nothing."""
    if isinstance(cell, str):
        if cell.startswith("\n\nHuman:"):
            return "transcript"
        if cell[:1] in "[ \n" and re.match(r"\s*\[\s*\{.*['\"](content|value)['\"]\s*:", cell, re.DOTALL):
            return "messages written as text"
        return "text" if cell.strip() else None
    if isinstance(cell, list) and cell:
        names = cell[0].keys() if isinstance(cell[0], dict) else set()
        return next((kind for kind, needed in SHAPES.items() if needed <= names), "list")
    if isinstance(cell, dict):
        return "turn" if SHAPES["turns"] <= cell.keys() else "object"
    return None if cell in (None, []) else "number" if isinstance(cell, (int, float)) else type(cell).__name__


def describe(layout: str) -> str:
    """A layout with the columns it reads."""
    return f"{layout} ({', '.join(f'{column}: {kinds}' for column, kinds in LAYOUTS[layout].needs.items())})"


def detect_layout(name: str, kinds: dict[str, str]) -> str:
    """The layout that columns of such kinds fit, that which reads the most if one holds the others; else ValueError."""
    misfit = {
        layout: fmean(kinds.get(column) not in kind.split(" or ") for column, kind in LAYOUTS[layout].needs.items())
        for layout in LAYOUTS
    }
    fits = [one for one in LAYOUTS if not misfit[one]]
    fits = [a for a in fits if not any(LAYOUTS[a].needs.keys() < LAYOUTS[b].needs.keys() for b in fits)]
    if len(fits) == 1:
        return fits[0]
    words = _("the columns {seen} fit more than one layout; choose one with layout=: {fits}") if fits else _(
        "the columns {seen} fit no layout; the nearest are {nearest}. Map your own names with columns=, "
        'such as columns={{"prompt": "my column"}}, or name a layout with layout=: {known}. '
        "In a table, the names stand in the first line"
    )  # fmt: skip
    seen = listed(f"{column[:60]} ({kind})" for column, kind in kinds.items())
    fitting, nearest = (" · ".join(map(describe, some)) for some in (fits, sorted(misfit, key=misfit.__getitem__)[:3]))
    raise ValueError(f"{name}: " + words.format(seen=seen, fits=fitting, nearest=nearest, known=", ".join(LAYOUTS)))


def choose_layout(name: str, rows: list[dict], layout: str, columns: dict[str, str]) -> tuple[str, list[str]]:
    """The layout of some rows, and the columns that it does not read; ValueError if these or `columns` do not fit."""
    if not rows:
        raise ValueError(_("{name}: got no rows; expected one preference pair a row; check the file").format(name=name))
    names = dict.fromkeys(column for row in rows for column in row if column is not None)
    kinds = {column: mode([*filter(None, (kind_of(row.get(column)) for row in rows))] or ["empty"]) for column in names}
    known = {column for one in LAYOUTS.values() for column in (*one.needs, *one.optional)}
    for ours, theirs in columns.items():
        if ours not in known or ours not in kinds:
            wrong, choices = (ours, known) if ours not in known else (theirs, kinds.keys() - columns.keys())
            near = difflib.get_close_matches(wrong, choices, n=1, cutoff=0.5)
            hint = _("; did you mean “{near}”?").format(near=near[0]) if near else ""
            words = _("{name}: columns= names “{wrong}”, which is none of {choices}{hint}")
            raise ValueError(
                words.format(name=name, wrong=listed([wrong]), choices=listed(sorted(choices), 60), hint=hint)
            )
    layout = detect_layout(name, kinds) if layout == "auto" else layout
    needs, optional = LAYOUTS[layout].needs, LAYOUTS[layout].optional
    if absent := ", ".join(column for column in needs if column not in kinds):
        words = _("{name}: layout {layout} lacks {missing}; the file has {seen}; map your own names with columns=")
        raise ValueError(words.format(name=name, layout=describe(layout), missing=absent, seen=listed(kinds)))
    scores = {score for both in SCORES.items() if {*both} <= kinds.keys() for score in both}
    return layout, [column for column in kinds if column not in {*needs, *optional, *scores}]


def clean(message: dict) -> dict:
    """A message of role and content alone, in Unicode NFC; InvalidRow if it holds more, or half an emoji."""
    if len(message) > 2:
        drop_if(any(map(message.get, EXTRAS)), "extras")
    content = nfc(message["content"])
    try:
        content.encode()
    except UnicodeEncodeError:
        raise InvalidRow("surrogate") from None
    return {"role": message["role"], "content": content}


def checked(dialogue: Dialogue | None) -> Dialogue | None:
    """A dialogue of clean messages; InvalidRow if it is no prompt with an answer."""
    if dialogue is None:
        return None
    dialogue = [m if len(m) == 2 and str.isascii(m["content"]) else clean(m) for m in dialogue]
    roles = [m["role"] for m in dialogue]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    drop_if(turns != ["user", "assistant"] * (len(turns) // 2) or not turns, "roles")
    drop_if(not dialogue[-2]["content"].strip(BLANK), "empty_prompt")
    drop_if(not dialogue[-1]["content"].strip(BLANK), "empty_answer")
    return dialogue


def read_row(row: dict, layout: Layout) -> Dialogues:
    """The dialogues of a row; InvalidRow if it has none, or its scores forbid its preference."""
    if None in row:
        raise InvalidRow("header" if row[None] == "header" else "cells")
    cells = [row.get(column) for column in layout.needs]
    drop_if(None in cells, "missing")
    try:
        for cell, kinds in zip(cells, layout.needs.values()):
            if kinds != "transcript" and (kind := kind_of(cell)):
                drop_if(kind != kinds and kind not in kinds.split(" or "), "malformed")
        for good, bad in SCORES.items():
            if good in row and bad in row and {row[good], row[bad]}.isdisjoint({None, ""}):
                better, worse = float(row[good]), float(row[bad])
                drop_if(better < worse, "scores_disagree")
                drop_if(better == worse, "tie")
                drop_if(not better > worse, "malformed")  # NaN
        read = map(as_messages, cells, layout.needs.values())
        chosen, rejected = layout.read(*read, *map(row.get, layout.optional))
        return checked(chosen), checked(rejected)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError):
        raise InvalidRow("malformed") from None
