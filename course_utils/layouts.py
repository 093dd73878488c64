"""How preference data is laid out in the wild: one small function a layout.

Each turns a row into two whole dialogues, the chosen and the rejected one, as lists of
`{"role", "content"}` messages. What is wrong with a row's form raises ValueError.
"""

import re

SPEAKERS = {"Human": "user", "Assistant": "assistant"}
MARKER = re.compile(r"\n\n(Human|Assistant):(?: |$)")


def split_dialogue(text: str) -> list[dict]:
    r"""Cut an Anthropic/hh-rlhf transcript into messages.

    >>> split_dialogue("\n\nHuman: Hi!\n\nAssistant: Hello.")
    [{'role': 'user', 'content': 'Hi!'}, {'role': 'assistant', 'content': 'Hello.'}]
    """
    before, *pieces = MARKER.split(text)
    if before or not pieces:
        raise ValueError(
            f'got a text that begins {text[:40]!r}; expected a transcript that begins "\\n\\nHuman: "; '
            "mend the row, or name another layout"
        )
    if "Assistant" not in pieces[::2]:
        raise ValueError(
            f'got a transcript with no "\\n\\nAssistant: " turn ({text[:40]!r}); expected at least one; '
            "add the answer or drop the row"
        )
    return [{"role": SPEAKERS[s], "content": content} for s, content in zip(pieces[::2], pieces[1::2])]


def join_dialogue(messages: list[dict]) -> str:
    """Give back the transcript that `split_dialogue` cut."""
    speakers = {role: speaker for speaker, role in SPEAKERS.items()}
    return "".join(f"\n\n{speakers[m['role']]}: {m['content']}" for m in messages)


def hh(row: dict) -> tuple[list[dict], list[dict]]:
    """Anthropic/hh-rlhf: `chosen` and `rejected` are whole transcripts."""
    return split_dialogue(row["chosen"]), split_dialogue(row["rejected"])


def explicit_prompt(row: dict) -> tuple[list[dict], list[dict]]:
    """TRL: `prompt`, `chosen`, `rejected` as lists of messages."""
    return row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]


def implicit_prompt(row: dict) -> tuple[list[dict], list[dict]]:
    """TRL: `chosen` and `rejected` as whole dialogues, lists of messages."""
    return row["chosen"], row["rejected"]


#: Each layout: the type of each column it reads, and its function.
LAYOUTS = {
    "hh": ({"chosen": str, "rejected": str}, hh),
    "explicit_prompt": ({"prompt": list, "chosen": list, "rejected": list}, explicit_prompt),
    "implicit_prompt": ({"chosen": list, "rejected": list}, implicit_prompt),
}


def recognise(row: dict) -> str:
    """The layout whose columns a row has; the one that reads most of them, if several fit."""
    fits = [
        name
        for name, (columns, _) in LAYOUTS.items()
        if all(isinstance(row.get(column), kind) for column, kind in columns.items())
    ]
    if not fits:
        seen = ", ".join(f"{name} ({type(value).__name__})" for name, value in row.items())
        known = "; ".join(f"{name}: {', '.join(columns)}" for name, (columns, _) in LAYOUTS.items())
        raise ValueError(f"got the columns {seen}; expected one of these layouts: {known}; rename the columns")
    return max(fits, key=lambda name: len(LAYOUTS[name][0]))
