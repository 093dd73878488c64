"""For the learner whose data look different: the layouts there are, and the dialogues that a row of each becomes.

A dialogue is a list of `{"role", "content"}` messages that ends in an answer. Where your columns differ in their names
alone, a line in LAYOUTS is enough; else write a short function for it too. Add a row to the tests.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

Dialogue = list[dict]
Dialogues = tuple[Dialogue | None, Dialogue | None]  # the chosen and the rejected one; None if a row has not both
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
MARKER = re.compile(r"\n\n(Human|Assistant):(?: |\Z)")  # a transcript may end without its last space


class InvalidRow(ValueError):
    """Why a row is no preference pair: a key of `course_utils.data.report.REASONS`."""


def split_dialogue(text: str) -> Dialogue:
    r"""Cut an Anthropic/hh-rlhf transcript into messages; InvalidRow if it does not begin with a speaker.

    >>> split_dialogue("\n\nHuman: Hi!\n\nAssistant: Hello.")
    [{'role': 'user', 'content': 'Hi!'}, {'role': 'assistant', 'content': 'Hello.'}]
    """
    before, *pieces = MARKER.split(text)
    if before or not pieces:
        raise InvalidRow("malformed")
    return [{"role": SPEAKERS[s], "content": content} for s, content in zip(pieces[::2], pieces[1::2])]


def join_dialogue(messages: Dialogue) -> str:
    """Give back the transcript that `split_dialogue` cut."""
    speakers = {role: speaker for speaker, role in SPEAKERS.items()}
    return "".join(f"\n\n{speakers[m['role']]}: {m['content']}" for m in messages)


def dialogue(prompt, answer, system: str | None = None) -> Dialogue:
    """A prompt and its answer, texts or messages, below the system message unless that is empty."""
    turns = [("system", system if system and system.strip() else []), ("user", prompt), ("assistant", answer)]
    pieces = [said if isinstance(said, list) else [{"role": role, "content": said}] for role, said in turns]
    return [message for piece in pieces for message in piece]


def label_in(cell, allowed: range) -> int:
    """A label as a number, also from text or truth value; InvalidRow if it is none of those allowed."""
    text = str(cell).strip().lower().removesuffix(".0")
    text = {"false": "0", "true": "1"}.get(text, text)
    if text not in map(str, allowed):
        raise InvalidRow("label")
    return int(text)


def both(prompt, chosen, rejected, system=None) -> Dialogues:
    """The dialogues of a prompt and its answers, texts or messages, in which the prompt may stand already."""
    if isinstance(prompt, list) and chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
        return chosen, rejected
    if isinstance(prompt, str) and isinstance(chosen, list) and chosen[0]["role"] != "assistant":
        return chosen, rejected
    return dialogue(prompt, chosen, system), dialogue(prompt, rejected, system)


def transcripts(chosen, rejected) -> Dialogues:
    """Two whole transcripts."""
    return split_dialogue(chosen), split_dialogue(rejected)


def below_transcript(transcript, chosen, rejected) -> Dialogues:
    """Two answers to a transcript, which may end where they begin."""
    messages = split_dialogue(transcript)
    return both(messages[:-1] if messages[-1] == {"role": "assistant", "content": ""} else messages, chosen, rejected)


def ranked(transcript, answers) -> Dialogues:
    """The best of many ranked answers, of rank 1, against the worst."""
    answers = sorted(answers, key=lambda one: float(one["rank"]))
    if answers[0]["rank"] == answers[-1]["rank"]:
        raise InvalidRow("rank_tie")
    return below_transcript(transcript, answers[0]["answer"], answers[-1]["answer"])


def not_tied(prompt, chosen, rejected, status, system=None) -> Dialogues:
    """As `both`, with a status that tells ties."""
    if status == "tie":
        raise InvalidRow("tie")
    return both(prompt, chosen, rejected, system)


def alpaca(instruction, chosen, rejected, more, system, history) -> Dialogues:
    """Alpaca with a ranking, as LLaMA-Factory reads it: `input` goes below `instruction`."""
    question = "\n\n".join(filter(None, [instruction, (more or "").strip()]))
    earlier = [message for asked, said in history or () for message in dialogue(asked, said)]
    return both([*earlier, {"role": "user", "content": question}], chosen, rejected, system)


def turns(conversation, chosen, rejected, system) -> Dialogues:
    """ShareGPT's turns of {"from", "value"}."""
    prompt, chosen, rejected = (
        [{"role": SHAREGPT_ROLES.get(turn["from"], turn["from"]), "content": turn["value"]} for turn in said]
        for said in (conversation, *([one] if isinstance(one, dict) else one for one in (chosen, rejected)))
    )
    return both(prompt, chosen, rejected, system)


def labelled(prompt, first, second, label) -> Dialogues:
    """Two answers, and a label: 0 if the first one is better, 1 if the second one is."""
    return both(prompt, *((second, first) if label_in(label, range(2)) else (first, second)))


def scale(prompt, first, second, preference) -> Dialogues:
    """Two answers and a preference from -3 to 3, below zero for the first."""
    if not (preference := label_in(preference, range(-3, 4))):
        raise InvalidRow("tie")
    return both(prompt, *((first, second) if preference < 0 else (second, first)))


def winner(name, a, b, turn) -> Dialogues:
    """Two conversations of two turns; `turn` is the answer that was judged, the first or the second."""
    if name.startswith("tie"):
        raise InvalidRow("tie")
    end = 2 * label_in(turn, range(1, 3))
    if name not in ("model_a", "model_b") or len(a) < end:
        raise InvalidRow("label")
    return (a[:end], b[:end]) if name == "model_a" else (b[:end], a[:end])


def unpaired(prompt, completion, label, system=None) -> Dialogues:
    """One answer a row, good or not."""
    said = dialogue(prompt, completion, system)
    return (said, None) if label_in(label, range(2)) else (None, said)


class Layout(NamedTuple):
    """A function of the cells of a row; the columns it needs, with what they may hold; columns that may be there."""

    read: Callable[..., Dialogues]
    needs: dict[str, str]
    optional: tuple[str, ...] = ()


SYSTEM = ("system",)
LABEL = "number or text"  # a CSV knows no numbers
LAYOUTS = {
    # Anthropic/hh-rlhf: two whole transcripts; Dahoas/full-hh-rlhf: one up to "Assistant:", and two answers
    "hh": Layout(transcripts, dict(chosen="transcript", rejected="transcript")),
    "hh_prompt": Layout(below_transcript, dict(prompt="transcript", chosen="text", rejected="text")),
    # TRL's explicit prompt, which load_preferences returns; its implicit prompt: trl-lib/ultrafeedback_binarized
    "explicit_prompt": Layout(both, dict(prompt="messages", chosen="messages or text", rejected="messages or text")),
    "implicit_prompt": Layout(lambda *both: both, dict(chosen="messages", rejected="messages")),
    # HuggingFaceH4/ultrafeedback_binarized, mlabonne/orpo-dpo-mix-40k
    "messages_and_text": Layout(both, dict(prompt="text", chosen="messages", rejected="messages")),
    # your own file, jondurbin/truthy-dpo-v0.1; Intel/orca_dpo_pairs, its Vietnamese translations, and one with ties:
    # argilla/distilabel-intel-orca-dpo-pairs
    "text": Layout(both, dict(prompt="text", chosen="text", rejected="text"), SYSTEM),
    "orca": Layout(both, dict(question="text", chosen="text", rejected="text"), SYSTEM),
    "orca_vi": Layout(both, dict(question_vi="text", chosen_vi="text", rejected_vi="text"), ("system_vi",)),
    "distilabel_orca": Layout(not_tied, dict(input="text", chosen="text", rejected="text", status="text"), SYSTEM),
    # argilla/ultrafeedback-binarized-preferences
    "argilla": Layout(both, dict(instruction="text", chosen_response="text", rejected_response="text")),
    # Alpaca and ShareGPT with a ranking, as LLaMA-Factory reads them
    "alpaca": Layout(alpaca, dict(instruction="text", chosen="text", rejected="text"), ("input", "system", "history")),
    "sharegpt": Layout(turns, dict(conversations="turns", chosen="turn or turns", rejected="turn or turns"), SYSTEM),
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
