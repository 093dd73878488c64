"""For the learner whose data look different: the layouts there are, and the dialogues that a row of each becomes.

A dialogue is a list of `{"role", "content"}` messages that ends in an answer. Most layouts differ from another in the
names of their columns, and are one line of LAYOUTS; for any other write a short function. Add a row to the tests.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

Dialogue = list[dict]
Dialogues = tuple[Dialogue | None, Dialogue | None]  # the chosen and the rejected one; None if a row has not both
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
MARKER = re.compile(r"\n\n(Human|Assistant):(?: |\Z)")  # a transcript may end without its last space


class InvalidRow(ValueError):
    """Why a row is no preference pair: a key of `course_utils.data.report.reason`."""


@dataclass(frozen=True)
class Layout:
    """needs: the columns it reads, and the kinds of cell each may hold. optional: columns it reads if they are there."""

    needs: dict[str, str]
    optional: tuple[str, ...]
    read: Callable[[dict], Dialogues]


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


def as_messages(cell, role: str, kinds: str = "text") -> Dialogue:
    """The messages of a cell of such kinds; a text is one message, said by `role`."""
    if kinds == "transcript":
        messages = split_dialogue(cell)  # a prompt's may end where the answer would begin
        return messages[:-1] if role == "user" and messages[-1] == {"role": "assistant", "content": ""} else messages
    if "turn" in kinds:
        turns = [cell] if isinstance(cell, dict) else cell
        return [{"role": SHAREGPT_ROLES.get(t["from"], t["from"]), "content": t["value"]} for t in turns]
    return cell if isinstance(cell, list) else [{"role": role, "content": cell}]


def dialogue(prompt: str | Dialogue, answer: str | Dialogue, system: str | None = None) -> Dialogue:
    """A prompt and its answer, texts or messages, below the system message unless that is empty."""
    before = as_messages(system, "system") if system and system.strip() else []
    return before + as_messages(prompt, "user") + as_messages(answer, "assistant")


def both(prompt, chosen, rejected, system: str | None = None) -> Dialogues:
    """The two dialogues of a prompt and its answers."""
    return dialogue(prompt, chosen, system), dialogue(prompt, rejected, system)


def number(label) -> float:
    """A label as a number, also from text or truth value; InvalidRow for any other."""
    text = str(label).strip().lower()
    try:
        return float({"false": "0", "true": "1"}.get(text, text))
    except ValueError:
        raise InvalidRow("label") from None


def pick(label, if_0: Dialogues, if_1: Dialogues) -> Dialogues:
    """One of two for a label 0 or 1; InvalidRow for any other."""
    if (value := number(label)) not in (0, 1):
        raise InvalidRow("label")
    return if_1 if value else if_0


def by_columns(*optional: str, **needs: str) -> Layout:
    """A layout with a column each for prompt (unless it stands in the answers), chosen, rejected, maybe system."""
    *asked, good, bad = needs

    def read(row: dict) -> Dialogues:
        chosen, rejected = (as_messages(row[column], "assistant", needs[column]) for column in (good, bad))
        prompt = [m for column in asked for m in as_messages(row[column], "user", needs[column])]
        if chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
            return chosen, rejected  # the prompt stands in the answers too; once is enough
        return both(prompt, chosen, rejected, *map(row.get, optional))

    return Layout(needs, optional, read)


def by_label(first_if: int, **needs: str) -> Layout:
    """A layout with a column each for prompt, first answer, second answer, and a label, 0 or 1, of the better one."""
    prompt, first, second, label = needs

    def read(row: dict) -> Dialogues:
        pair = both(row[prompt], row[first], row[second])
        return pick(row[label], *((pair[::-1], pair) if first_if else (pair, pair[::-1])))

    return Layout(needs, (), read)


#: Columns that may hold the scores of the chosen and of the rejected answer.
SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)
LABEL = "number or text"  # a CSV knows no numbers
LAYOUTS: dict[str, Layout] = {
    # Anthropic/hh-rlhf: two whole transcripts. Dahoas/full-hh-rlhf: one up to "Assistant:", and two answers.
    "hh": by_columns(chosen="transcript", rejected="transcript"),
    "hh_prompt": by_columns(prompt="transcript", chosen="text", rejected="text"),
    # TRL's explicit prompt, which `load_preferences` returns; its implicit one (trl-lib/ultrafeedback_binarized).
    "explicit_prompt": by_columns(prompt="messages", chosen="messages or text", rejected="messages or text"),
    "implicit_prompt": by_columns(chosen="messages", rejected="messages"),
    # Your own file, jondurbin/truthy-dpo-v0.1; Intel/orca_dpo_pairs and its Vietnamese translations.
    "text": by_columns("system", prompt="text", chosen="text", rejected="text"),
    "orca": by_columns("system", question="text", chosen="text", rejected="text"),
    "orca_vi": by_columns("system_vi", question_vi="text", chosen_vi="text", rejected_vi="text"),
    # argilla/ultrafeedback-binarized-preferences
    "argilla": by_columns(instruction="text", chosen_response="text", rejected_response="text"),
    # ShareGPT with a ranking: turns of {"from", "value"}.
    "sharegpt": by_columns("system", conversations="turns", chosen="turn or turns", rejected="turn or turns"),
    # PKU-Alignment/PKU-SafeRLHF by helpfulness and by harmlessness; stanfordnlp/SHP, where 1 means the first.
    "pku_better": by_label(0, prompt="text", response_0="text", response_1="text", better_response_id=LABEL),
    "pku_safer": by_label(0, prompt="text", response_0="text", response_1="text", safer_response_id=LABEL),
    "shp": by_label(1, history="text", human_ref_A="text", human_ref_B="text", labels=LABEL),
}


def layout(*optional: str, **needs: str) -> Callable:
    """Enter the function below into LAYOUTS under its own name."""

    def enter(read: Callable[[dict], Dialogues]):
        LAYOUTS[read.__name__] = Layout(needs, optional, read)
        return read

    return enter


@layout(prompt="text", chosen="messages", rejected="messages")
def messages_and_text(row):
    """HuggingFaceH4/ultrafeedback_binarized, mlabonne/orpo-dpo-mix-40k: the prompt as text beside whole dialogues."""
    return both(row["prompt"] if row["chosen"][0]["role"] == "assistant" else [], row["chosen"], row["rejected"])


@layout("system", input="text", chosen="text", rejected="text", status="text")
def distilabel_orca(row):
    """argilla/distilabel-intel-orca-dpo-pairs: `status` tells ties."""
    if row["status"] == "tie":
        raise InvalidRow("tie")
    return both(row["input"], row["chosen"], row["rejected"], row.get("system"))


@layout("input", "system", "history", instruction="text", chosen="text", rejected="text")
def alpaca(row):
    """Alpaca with a ranking, as LLaMA-Factory reads it: `input` goes below `instruction`."""
    question = "\n\n".join(filter(None, [row["instruction"], (row.get("input") or "").strip()]))
    earlier = [m for q, a in row.get("history") or () for m in dialogue(q, a)]
    return both(earlier + as_messages(question, "user"), row["chosen"], row["rejected"], row.get("system"))


@layout(context="messages", response1="text", response2="text", overall_preference=LABEL)
def helpsteer3(row):
    """nvidia/HelpSteer3: a preference from -3 to 3, below zero for response1."""
    preference = number(row["overall_preference"])
    if preference == 0 or not -3 <= preference <= 3:
        raise InvalidRow("label" if preference else "tie")
    pair = both(row["context"], row["response1"], row["response2"])
    return pair if preference < 0 else pair[::-1]


@layout(prompt="transcript", answers="ranking")
def nectar(row):
    """berkeley-nest/Nectar: ranked answers, 1 the best; the best against the worst."""
    ranked = sorted(row["answers"], key=lambda one: float(one["rank"]))
    if ranked[0]["rank"] == ranked[-1]["rank"]:
        raise InvalidRow("rank_tie")
    return both(as_messages(row["prompt"], "user", "transcript"), ranked[0]["answer"], ranked[-1]["answer"])


@layout(winner="text", conversation_a="messages", conversation_b="messages", turn=LABEL)
def mt_bench(row):
    """lmsys/mt_bench_human_judgments: `turn` is the answer that was judged, the first or the second."""
    if row["winner"].startswith("tie"):
        raise InvalidRow("tie")
    upto = 2 * int(row["turn"])
    pair = row["conversation_a"][:upto], row["conversation_b"][:upto]
    if row["winner"] not in ("model_a", "model_b") or not upto or len(pair[0]) < upto:
        raise InvalidRow("label")
    return pair if row["winner"] == "model_a" else pair[::-1]


@layout("system", prompt="messages or text", completion="messages or text", label=LABEL)
def kto(row):
    """TRL's unpaired preferences: one answer a row, good or not."""
    said = dialogue(row["prompt"], row["completion"], row.get("system"))
    return pick(row["label"], (None, said), (said, None))


@layout(messages="messages", label=LABEL)
def kto_messages(row):
    """Unpaired preferences as whole dialogues."""
    return pick(row["label"], (None, row["messages"]), (row["messages"], None))
