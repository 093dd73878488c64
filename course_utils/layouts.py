"""How preference data is laid out in the wild: one small function a layout.

Each turns a row into two whole dialogues, the chosen and the rejected one, as lists of `{"role", "content"}`
messages. For data with one answer a row, the other dialogue is None, and `load_preferences` finds its partner.
A row that prefers nothing raises `Fault`. To add a layout, write one function here and one test.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .i18n import _

Dialogue = list[dict]
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
MARKER = re.compile(r"\n\n(Human|Assistant):(?: |\Z)")  # a transcript may end without its last blank


class Fault(ValueError):
    """Why one row is no preference pair: a key of `course_utils.report.reason`."""


def split_dialogue(text: str) -> Dialogue:
    r"""Cut an Anthropic/hh-rlhf transcript into messages.

    >>> split_dialogue("\n\nHuman: Hi!\n\nAssistant: Hello.")
    [{'role': 'user', 'content': 'Hi!'}, {'role': 'assistant', 'content': 'Hello.'}]
    """
    before, *pieces = MARKER.split(text)
    if before or not pieces:
        raise ValueError(
            _(
                "got a text that begins “{text}”; expected a transcript, which begins with two line breaks and "
                "“Human: ”; mend the row, or name another layout"
            ).format(text=text[:40])
        )
    return [{"role": SPEAKERS[s], "content": content} for s, content in zip(pieces[::2], pieces[1::2])]


def join_dialogue(messages: Dialogue) -> str:
    """Give back the transcript that `split_dialogue` cut."""
    speakers = {role: speaker for speaker, role in SPEAKERS.items()}
    return "".join(f"\n\n{speakers[m['role']]}: {m['content']}" for m in messages)


# What a cell can hold, as `kind_of` tells it.
TEXT, TRANSCRIPT, NUMBER = {"text"}, {"transcript"}, {"number"}
MESSAGES, TURNS, TURN, RANKING = {"messages"}, {"turns"}, {"turn"}, {"ranking"}
LABEL = TEXT | NUMBER  # a CSV knows no numbers


def kind_of(value) -> str | None:
    """What a cell holds; None if it holds nothing."""
    if isinstance(value, str):
        if value.startswith("\n\nHuman:"):
            return "transcript"
        if value.startswith("[{") and re.search("['\"](content|value)['\"]:", value):
            return "messages written as text"
        return "text" if value.strip() else None
    if isinstance(value, list):
        first = value[0] if value else None
        if not isinstance(first, dict):
            return "list" if value else None
        shapes = {"messages": {"role", "content"}, "turns": {"from", "value"}, "ranking": {"answer", "rank"}}
        return next((kind for kind, keys in shapes.items() if keys <= first.keys()), "list of objects")
    if isinstance(value, dict):
        return "turn" if {"from", "value"} <= value.keys() else "object"
    if isinstance(value, (int, float)):
        return "number"
    return None if value is None else type(value).__name__


@dataclass(frozen=True)
class Layout:
    """needs: the columns it reads, and the kinds each may hold. may: columns it reads if they are there."""

    needs: dict[str, set[str]]
    may: tuple[str, ...]
    to_dialogues: Callable[[dict], tuple[Dialogue | None, Dialogue | None]]

    def missing(self, kinds: dict[str, str]) -> list[str]:
        """The columns that a file with columns of such kinds lacks, or has of another kind."""
        return [column for column, allowed in self.needs.items() if kinds.get(column) not in allowed]


#: Every layout by its name.
LAYOUTS: dict[str, Layout] = {}


def layout(*may: str, **needs: set[str]):
    """Enter the function below into LAYOUTS under its own name."""

    def enter(function):
        LAYOUTS[function.__name__] = Layout(needs, may, function)
        return function

    return enter


def ask(question: str, system: str | None = None, history: Sequence = ()) -> Dialogue:
    """A prompt: a system message unless it is empty, earlier (question, answer) pairs, the question."""
    messages = [{"role": "system", "content": system}] if system and system.strip() else []
    for earlier, answer in history or ():
        messages += [{"role": "user", "content": earlier}, {"role": "assistant", "content": answer}]
    return [*messages, {"role": "user", "content": question}]


def answer(text: str | Dialogue) -> Dialogue:
    """One assistant message, unless it is a list of messages already."""
    return text if isinstance(text, list) else [{"role": "assistant", "content": text}]


def both(prompt: Dialogue, chosen, rejected) -> tuple[Dialogue, Dialogue]:
    """The two dialogues of a prompt and its answers."""
    return prompt + answer(chosen), prompt + answer(rejected)


def pick(label, choices: Sequence):
    """`choices[label]` for a label 0 or 1, also as text or truth value."""
    names = {"0": 0, "1": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1}
    try:
        return choices[names[str(label).strip().lower()]]
    except KeyError:
        raise Fault("label") from None


def transcript_prompt(text: str) -> Dialogue:
    """A transcript that ends where the answer would begin."""
    messages = split_dialogue(text)
    return messages[:-1] if messages[-1] == {"role": "assistant", "content": ""} else messages


@layout(chosen=TRANSCRIPT, rejected=TRANSCRIPT)
def hh(row):
    """Anthropic/hh-rlhf: two whole transcripts."""
    return split_dialogue(row["chosen"]), split_dialogue(row["rejected"])


@layout(prompt=TRANSCRIPT, chosen=TEXT, rejected=TEXT)
def hh_prompt(row):
    """Dahoas/full-hh-rlhf: a transcript up to "Assistant:", and two answers."""
    return both(transcript_prompt(row["prompt"]), row["chosen"], row["rejected"])


@layout(prompt=MESSAGES, chosen=MESSAGES | TEXT, rejected=MESSAGES | TEXT)
def explicit_prompt(row):
    """TRL's explicit prompt, the layout that `load_preferences` returns."""
    prompt, chosen, rejected = row["prompt"], answer(row["chosen"]), answer(row["rejected"])
    if chosen[: len(prompt)] == prompt and rejected[: len(prompt)] == prompt:
        return chosen, rejected  # the prompt stands in the answers too; once is enough
    return prompt + chosen, prompt + rejected


@layout(chosen=MESSAGES, rejected=MESSAGES)
def implicit_prompt(row):
    """TRL's implicit prompt: two whole dialogues. trl-lib/ultrafeedback_binarized."""
    return row["chosen"], row["rejected"]


@layout(prompt=TEXT, chosen=MESSAGES, rejected=MESSAGES)
def messages_and_text(row):
    """HuggingFaceH4/ultrafeedback_binarized, mlabonne/orpo-dpo-mix-40k: the prompt as text beside whole dialogues."""
    if row["chosen"][0]["role"] == "assistant":
        return both(ask(row["prompt"]), row["chosen"], row["rejected"])
    return implicit_prompt(row)


@layout("system", prompt=TEXT, chosen=TEXT, rejected=TEXT)
def text(row):
    """A file of one's own; jondurbin/truthy-dpo-v0.1."""
    return both(ask(row["prompt"], row.get("system")), row["chosen"], row["rejected"])


@layout("system", question=TEXT, chosen=TEXT, rejected=TEXT)
def orca(row):
    """Intel/orca_dpo_pairs."""
    return both(ask(row["question"], row.get("system")), row["chosen"], row["rejected"])


@layout("system", input=TEXT, chosen=TEXT, rejected=TEXT, status=TEXT)
def distilabel_orca(row):
    """argilla/distilabel-intel-orca-dpo-pairs: `status` tells ties."""
    if row["status"] == "tie":
        raise Fault("tie")
    return both(ask(row["input"], row.get("system")), row["chosen"], row["rejected"])


@layout("system_vi", question_vi=TEXT, chosen_vi=TEXT, rejected_vi=TEXT)
def orca_vi(row):
    """Vietnamese translations of Orca pairs."""
    return both(ask(row["question_vi"], row.get("system_vi")), row["chosen_vi"], row["rejected_vi"])


@layout(instruction=TEXT, chosen_response=TEXT, rejected_response=TEXT)
def argilla(row):
    """argilla/ultrafeedback-binarized-preferences."""
    return both(ask(row["instruction"]), row["chosen_response"], row["rejected_response"])


@layout("input", "system", "history", instruction=TEXT, chosen=TEXT, rejected=TEXT)
def alpaca(row):
    """Alpaca with a ranking, as LLaMA-Factory reads it: `input` goes below `instruction`."""
    question = "\n\n".join(filter(None, [row["instruction"], (row.get("input") or "").strip()]))
    return both(ask(question, row.get("system"), row.get("history")), row["chosen"], row["rejected"])


SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}


def sharegpt_messages(turns: dict | list[dict]) -> Dialogue:
    turns = [turns] if isinstance(turns, dict) else turns
    return [{"role": SHAREGPT_ROLES.get(t["from"], t["from"]), "content": t["value"]} for t in turns]


@layout("system", conversations=TURNS, chosen=TURN | TURNS, rejected=TURN | TURNS)
def sharegpt(row):
    """ShareGPT with a ranking: `{"from", "value"}` turns."""
    system = row.get("system") or ""
    opening = [{"from": "system", "value": system}] if system.strip() else []
    prompt = sharegpt_messages(opening + row["conversations"])
    return prompt + sharegpt_messages(row["chosen"]), prompt + sharegpt_messages(row["rejected"])


@layout(prompt=TEXT, response_0=TEXT, response_1=TEXT, better_response_id=LABEL)
def pku_better(row):
    """PKU-Alignment/PKU-SafeRLHF by helpfulness: the id of the better response."""
    pair = row["response_0"], row["response_1"]
    return both(ask(row["prompt"]), *pick(row["better_response_id"], (pair, pair[::-1])))


@layout(prompt=TEXT, response_0=TEXT, response_1=TEXT, safer_response_id=LABEL)
def pku_safer(row):
    """PKU-Alignment/PKU-SafeRLHF by harmlessness: the id of the safer response."""
    pair = row["response_0"], row["response_1"]
    return both(ask(row["prompt"]), *pick(row["safer_response_id"], (pair, pair[::-1])))


@layout(history=TEXT, human_ref_A=TEXT, human_ref_B=TEXT, labels=LABEL)
def shp(row):
    """stanfordnlp/SHP: label 1 means that A was preferred."""
    pair = row["human_ref_A"], row["human_ref_B"]
    return both(ask(row["history"]), *pick(row["labels"], (pair[::-1], pair)))


@layout(context=MESSAGES, response1=TEXT, response2=TEXT, overall_preference=LABEL)
def helpsteer3(row):
    """nvidia/HelpSteer3: a preference from -3 to 3, below zero for response1."""
    try:
        preference = float(row["overall_preference"])
    except (TypeError, ValueError):
        raise Fault("label") from None
    if preference == 0:
        raise Fault("tie")
    if not -3 <= preference <= 3:
        raise Fault("label")
    pair = row["response1"], row["response2"]
    return both(row["context"], *(pair if preference < 0 else pair[::-1]))


@layout(prompt=TRANSCRIPT, answers=RANKING)
def nectar(row):
    """berkeley-nest/Nectar: ranked answers, 1 the best; the best against the worst."""
    ranked = sorted(row["answers"], key=lambda one: float(one["rank"]))
    if ranked[0]["rank"] == ranked[-1]["rank"]:
        raise Fault("rank_tie")
    return both(transcript_prompt(row["prompt"]), ranked[0]["answer"], ranked[-1]["answer"])


@layout(winner=TEXT, conversation_a=MESSAGES, conversation_b=MESSAGES, turn=LABEL)
def mt_bench(row):
    """lmsys/mt_bench_human_judgments: `turn` is the answer that was judged, the first or the second."""
    if row["winner"].startswith("tie"):
        raise Fault("tie")
    upto = 2 * int(row["turn"])
    pair = row["conversation_a"][:upto], row["conversation_b"][:upto]
    if row["winner"] not in ("model_a", "model_b") or not upto or len(pair[0]) < upto:
        raise Fault("label")
    return pair if row["winner"] == "model_a" else pair[::-1]


@layout("system", prompt=TEXT | MESSAGES, completion=TEXT | MESSAGES, label=LABEL)
def kto(row):
    """TRL's unpaired preferences: one answer a row, good or not."""
    prompt = row["prompt"] if isinstance(row["prompt"], list) else ask(row["prompt"], row.get("system"))
    dialogue = prompt + answer(row["completion"])
    return pick(row["label"], ((None, dialogue), (dialogue, None)))


@layout(messages=MESSAGES, label=LABEL)
def kto_messages(row):
    """Unpaired preferences as whole dialogues."""
    return pick(row["label"], ((None, row["messages"]), (row["messages"], None)))


def column_kinds(rows: Sequence[dict]) -> dict[str, str]:
    """Each column of some rows, and the kind that most of its cells hold; "empty" if none holds anything."""
    kinds = {column: Counter() for row in rows for column in row if column is not None}
    for row in rows:
        for column, value in row.items():
            if column is not None and (kind := kind_of(value)):
                kinds[column][kind] += 1
    return {column: max(found, key=found.get, default="empty") for column, found in kinds.items()}


def recognise(kinds: dict[str, str]) -> str:
    """The one layout that columns of such kinds fit.

    Where one layout reads all that another reads and more, the fuller one is meant. ValueError if none fits,
    or two of which neither holds the other.
    """
    fits = [name for name, one in LAYOUTS.items() if not one.missing(kinds)]
    fits = [a for a in fits if not any(LAYOUTS[a].needs.keys() < LAYOUTS[b].needs.keys() for b in fits)]
    if len(fits) == 1:
        return fits[0]
    seen = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
    if fits:
        raise ValueError(
            _("the columns {seen} fit more than one layout; choose one with layout=: {fits}").format(
                seen=seen, fits=" · ".join(describe(name) for name in fits)
            )
        )
    nearest = sorted(LAYOUTS, key=lambda name: len(LAYOUTS[name].missing(kinds)) / len(LAYOUTS[name].needs))[:3]
    raise ValueError(
        _(
            "the columns {seen} fit no layout; the nearest are {nearest}. Map your own names with columns=, "
            'such as columns={{"prompt": "my column"}}, or name a layout with layout=: {known}'
        ).format(seen=seen, nearest=" · ".join(describe(name) for name in nearest), known=", ".join(LAYOUTS))
    )


def describe(name: str) -> str:
    """A layout with the columns it reads."""
    needs = (f"{column}: {' or '.join(sorted(kinds))}" for column, kinds in LAYOUTS[name].needs.items())
    return f"{name} ({', '.join(needs)})"
