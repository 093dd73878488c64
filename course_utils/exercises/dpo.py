"""The exercises of the DPO lesson: a right answer, examples, and a row for each slip that people make."""

import csv
import json
import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
import torch.nn.functional as F

from ..data import load_preferences
from ..data.report import LOOKS, REASONS
from ..i18n import N_, _, shown
from .compare import marked, plain, real
from .core import AVERAGED, CheckFailed, DataExercise, FunctionExercise, Mistake, todo
from .predict import change_one
from .runner import failed

SAMPLES = Path(__file__).parents[2] / "data_samples"

# ---------------------------------------------------------------- dpo.split_dialogue


def split_dialogue(text):
    import re

    _nothing, *pieces = re.split(r"\n\n(Human|Assistant): ", text)
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said} for who, said in zip(pieces[::2], pieces[1::2])]


def dialogues() -> list[tuple]:
    return [
        ("\n\nHuman: Hi!\n\nAssistant: Hello.",),
        ("\n\nHuman: One\n\nAssistant: two\n\nHuman: three\n\nAssistant: four",),
        ("\n\nHuman: Cake?\n\nAssistant: Sure.\n\nIngredients:\neggs & <sugar>",),
        ("\n\nHuman: What does Human: mean?\n\nIt stands here.\n\nAssistant: A turn by a\nHuman: you.",),
        ("\n\nHuman:  Xin chào \n\nAssistant: Chào bạn!\n",),
        ("\n\nHuman: Tea?\n\nAssistant: Yes,  two:\tgreen\r\nand black.\n\nhuman: no\n\nHuman:no\n \nHuman: no",),
        (
            "\n\nHuman: Is an Assistant: or\n\nHumanity: a\n\nSystem: one?\n\nAssistant: A Human: no.\n\nNote: ask\n\nNonHuman: ass",
        ),
        ("\n\nHuman: What is a\n\nAuman: ?\n\nAssistant: Nothing.",),
        ("\n\nHuman: One\n\nHuman: two\n\nAssistant: \nthree\n\nAssistant: \n\nHuman: four",),
    ]


def split_at(pattern):
    """A wrong function: one that takes this for the mark between turns."""

    def split(text):
        pieces = re.split(pattern, text)[1:]
        roles = {"Human": "user", "Assistant": "assistant"}
        return [{"role": roles[who], "content": said} for who, said in zip(pieces[::2], pieces[1::2])]

    return split


def contents(change):
    """A slip that changes the content of each message."""
    return lambda messages: [m | {"content": change(m["content"])} for m in messages]


def roles(user, assistant):
    """A slip that names the two sides in another way."""
    return lambda messages: [m | {"role": {"user": user, "assistant": assistant}[m["role"]]} for m in messages]


def with_marker(messages):
    names = {"user": "Human", "assistant": "Assistant"}
    return [m | {"content": f"{names[m['role']]}: {m['content']}"} for m in messages]


@dataclass(repr=False)
class SplitDialogue(FunctionExercise):
    """Says where two lists of messages part, if no slip explains it."""

    def explain(self, cases, results, wanted, gradients=()) -> CheckFailed:
        found = super().explain(cases, results, wanted)
        got, want = next((got, want) for got, want in zip(results, wanted) if got != want)
        if found.key or not isinstance(got, list):
            return found
        if len(got) != len(want):
            words = N_("In one example it gives {got} messages; expected {want}.")
            code = "\n".join(shown(repr(one), 300) for one in (want, got))
            return failed("count", words, code, got=len(got), want=len(want))
        number, one, other = next((i, a, b) for i, (a, b) in enumerate(zip(want, got), 1) if a != b)
        if not isinstance(other, dict) or {*other} != {"role", "content"}:
            words = N_("Message {number} is {got}; expected a dict with the keys role and content.")
            return failed("keys", words, number=number, got=plain(other))
        part = "role" if one["role"] != other["role"] else "content"
        words = N_("Message {number} of an example has another {part}. Expected, and below it yours:")
        return failed(part, words, marked(str(one[part]), str(other[part])), number=number, part=part)


STRIPPED = N_("You strip spaces or line breaks off the contents. Whoever joins the messages again should get back the text to the letter, and the tokens of a space are tokens too.")  # fmt: skip
SPLITS_INSIDE = N_("You cut at the word “Human:” wherever it stands. People also write it inside a sentence or at the start of a line. What makes a turn is more than the word.")  # fmt: skip
SPEAKER_NAMES = N_("The roles are named as in the file. Chat templates know other names for the two sides; look at one row of the formatted data.")  # fmt: skip
SPLIT_DIALOGUE = SplitDialogue(
    "dpo.split_dialogue",
    N_("A capturing group in re.split keeps the speakers, and the two line breaks make a marker of a mere word."),
    (N_("What exactly stands before each turn, line breaks and the space after the colon included?"),
     N_("re.split with a group in round brackets gives back the separators too: speaker, text, speaker, text …"),
     N_("Split at \\n\\n(Human|Assistant): and a space; leave out the first piece; take the rest two by two.")),
    [
        Mistake("splits_inside", SPLITS_INSIDE, split_at(r"\s*(Human|Assistant): ?")),
        Mistake("splits_at_lines", SPLITS_INSIDE, split_at(r"\n+(Human|Assistant): ")),
        Mistake("stripped", STRIPPED, after=contents(str.strip)),
        Mistake("stripped_left", STRIPPED, after=contents(str.lstrip)),
        Mistake("stripped_right", STRIPPED, after=contents(str.rstrip)),
        Mistake("lost_paragraphs", N_("An answer of several paragraphs keeps only its first: you cut at every blank line. Cut only where a speaker's name follows."), after=contents(lambda text: text.split("\n\n")[0])),
        Mistake("lost_lines", N_("A turn of several lines keeps only its first. In a pattern the dot does not match a line break; and a turn ends where the next speaker begins, not with the line."), after=contents(lambda text: text.split("\n")[0])),
        Mistake("joined_lines", N_("Line breaks or repeated spaces are gone from the contents. Whoever joins the messages again should get back the text to the letter."), after=contents(lambda text: " ".join(text.split()))),
        Mistake("last_turn_only", N_("Only the last question and answer are left. The earlier turns are part of the prompt: without them the model cannot know what “it” refers to."), after=lambda messages: messages[-2:]),
        Mistake("first_turn_only", N_("Only the first question and answer are left. A dialogue can have many turns; go on until its end."), after=lambda messages: messages[:2]),
        Mistake("last_lost", N_("The last message is missing, and it is the answer that the preference is about. Does your loop end one step early?"), after=lambda messages: messages[:-1]),
        Mistake("keeps_marker", N_("The speaker's name is still in the content. The role says it already, and the chat template will write it again."), after=with_marker),
        Mistake("speaker_names", SPEAKER_NAMES, after=roles("Human", "Assistant")),
        Mistake("lower_names", SPEAKER_NAMES, after=roles("human", "assistant")),
        Mistake("roles_swapped", N_("The two sides have changed places: the model would learn to ask. Who speaks first in a transcript?"), after=roles("assistant", "user")),
        Mistake("contents_only", N_("You return the texts alone. TRL needs to know who said what: each message is a dict with two keys."), after=lambda messages: [m["content"] for m in messages]),
        Mistake("pairs", N_("You return pairs. TRL asks for dicts, each with the two keys role and content."), after=lambda messages: [(m["role"], m["content"]) for m in messages]),
        Mistake("one_message", N_("The whole text came back as one message. Split it into turns, each with its speaker."), lambda text: [{"role": "user", "content": text}]),
    ],
    right=split_dialogue, cases=dialogues,
)  # fmt: skip

# ---------------------------------------------------------------- dpo.sequence_logps


def sequence_logps(logits, labels):
    logits, labels = logits[:, :-1], labels[:, 1:]
    counts = labels != -100
    logps = logits.log_softmax(dim=-1)
    chosen = logps.gather(2, labels.masked_fill(~counts, 0).unsqueeze(2)).squeeze(2)
    return (chosen * counts).sum(dim=1)


def logits_and_labels() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    labels = [
        [[-100, 0, -100, 4, 2]],
        [[-100, -100, 3, 1, 4, -100], [-100, 2, 2, 6, 0, 5], [-100, -100, -100, -100, 1, 3]],
        [[5, 1, 0, -100], [2, 6, 3, 3], [-100, -100, -100, -100], [0, 1, 2, 3], [6, 5, -100, 4]],
    ]
    cases = [(2 * torch.randn(len(rows), len(rows[0]), 7, generator=generator), torch.tensor(rows)) for rows in labels]
    long = torch.randint(0, 11, (2, 9), generator=generator)
    return [*cases, (90 * torch.randn(2, 9, 11, generator=generator), long)]


def gathered(logps, labels):
    """The log-probability of each label in its own column, 0 where it does not count."""
    counts = labels != -100
    return logps.gather(2, labels.masked_fill(~counts, 0).unsqueeze(2)).squeeze(2) * counts


def same_place(logits, labels):
    more = torch.zeros_like(logits[:, :1])
    return torch.cat((logits, more), 1), torch.cat((torch.full_like(labels[:, :1], -100), labels), 1)


def other_way(logits, labels):
    more = torch.zeros_like(logits[:, :1])
    return torch.cat((logits[:, 1:], more), 1), torch.cat((torch.full_like(labels[:, :1], -100), labels[:, :-1]), 1)


def only(part):
    """A slip: of each answer's tokens only this slice is left."""

    def before(logits, labels):
        kept = torch.full_like(labels, -100)
        for row, new in zip(labels, kept):
            places = (row[1:] != -100).nonzero()[part] + 1
            new[places] = row[places]
        return logits, kept

    return before


SEQUENCE_LOGPS = FunctionExercise(
    "dpo.sequence_logps",
    N_("Position t predicts token t + 1; the log-probability of an answer is the sum over its tokens, and of them only."),
    (N_("Three steps: turn scores into log-probabilities, pick those of the labels, add them up for each row."),
     N_("Which position of the logits speaks of which label? Drop the last logits and the first label."),
     N_("log_softmax over the vocabulary, gather at the labels (with 0 in place of -100), times the mask, sum over dim 1.")),
    [
        Mistake("not_shifted", N_("Logits and labels are paired at the same position. But what stands at position t is the model's guess for the token that comes next."), before=same_place),
        Mistake("shifted_backwards", N_("You shifted the wrong way: each token is scored by a position that comes after it, where the model has already read it."), before=other_way),
        Mistake("not_masked", N_("Tokens labelled -100 are counted. They mark prompt and padding, which are no part of the answer."), before=lambda logits, labels: (logits, labels.clamp(min=0))),
        Mistake("padding_counted", N_("Only the prompt is masked: what is labelled -100 behind the answer is counted. Every -100 is left out, wherever it stands."), before=lambda logits, labels: (logits, labels.masked_fill((labels == -100) & (labels != -100).cummax(1)[0], 0))),
        Mistake("first_lost", N_("The first token of each answer is left out. It is predicted by the last position of the prompt: mask by the labels, after shifting."), before=only(slice(1, None))),
        Mistake("last_lost", N_("The last token of each answer is left out. It often ends the answer, and the model must learn that too."), before=only(slice(None, -1))),
        Mistake("mask_inverted", N_("You count the tokens labelled -100 and leave out the others. The mark says: not part of the answer."), before=lambda logits, labels: (logits, torch.where(labels == -100, 0, -100))),
        Mistake("shifted_by_two", N_("You shift twice: position t predicts token t + 1, not t + 2."), before=lambda logits, labels: (torch.cat((0 * logits[:, :1], logits[:, :-1]), 1), labels.index_fill(1, torch.tensor([1]), -100))),
        Mistake("last_only", N_("Only the last token of each answer counts. An answer's log-probability is the sum over all of its tokens."), before=only(slice(-1, None))),
        Mistake("first_only", N_("Only the first token of each answer counts. An answer's log-probability is the sum over all of its tokens."), before=only(slice(1))),
        Mistake("over_batch", N_("The softmax runs over the rows of the batch. At each position it is the words of the vocabulary that compete."), lambda logits, labels: gathered(logits[:, :-1].log_softmax(0), labels[:, 1:]).sum(1)),
        Mistake("epsilon", N_("A small number inside the log hides unlikely tokens. log_softmax does both steps at once, and keeps them."), lambda logits, labels: gathered((logits[:, :-1].softmax(-1) + 1e-8).log(), labels[:, 1:]).sum(1)),
        Mistake("mean", N_("You take the mean over the tokens. DPO compares probabilities of whole answers, and the probability of a whole is a product, in logs a sum. (A mean would be ORPO's measure.)"), lambda logits, labels: sequence_logps(logits, labels) / (labels[:, 1:] != -100).sum(1)),
        Mistake("mean_of_all", N_("You divide by the length of the row, prompt and padding included: the same answer would count less in a longer batch. And it is a sum that is asked for, since DPO compares whole answers."), lambda logits, labels: sequence_logps(logits, labels) / (labels.shape[1] - 1)),
        Mistake("raw_logits", N_("You add raw scores. They are no probabilities: adding 5 to all of them would change nothing in what the model says, but would change your sum."), lambda logits, labels: gathered(logits[:, :-1], labels[:, 1:]).sum(1)),
        Mistake("probabilities", N_("You add probabilities. Those of successive tokens multiply; what adds up is something else."), lambda logits, labels: gathered(logits[:, :-1].softmax(-1), labels[:, 1:]).sum(1)),
        Mistake("likeliest", N_("You take the likeliest token at each position. You were asked for the probability of the token that stands there, likely or not."), lambda logits, labels: (logits[:, :-1].log_softmax(-1).amax(-1) * (labels[:, 1:] != -100)).sum(1)),
        Mistake("wrong_axis", N_("The softmax runs over the positions. At each position it is the words of the vocabulary that compete."), lambda logits, labels: gathered(logits[:, :-1].log_softmax(1), labels[:, 1:]).sum(1)),
        Mistake("per_token", N_("You return one number a token. An answer's log-probability is what they add up to."), lambda logits, labels: gathered(logits[:, :-1].log_softmax(-1), labels[:, 1:])),
        Mistake("negative", N_("Your numbers are positive: that is the negative log-likelihood, a loss. You were asked for the log-probability itself."), after=lambda sums: -sums),
        Mistake("base_two", N_("You count in bits. The papers, PyTorch and TRL use the natural logarithm; the unit is the nat."), after=lambda sums: sums / math.log(2)),
        Mistake("summed_over_batch", N_("One number for the whole batch. Each answer needs its own, because each has its own partner to be compared with."), after=lambda sums: sums.sum()),
        Mistake("averaged_over_batch", N_("The rows of the batch are averaged. Keep one number a row; averaging comes last, after the loss."), after=lambda sums: sums.mean()),
    ],
    right=sequence_logps, cases=logits_and_labels, gradient_of=(0,),
)  # fmt: skip

# ---------------------------------------------------------------- dpo.reward_margin and dpo.loss


def reward_margin(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta):
    chosen_reward = beta * (policy_chosen_logps - ref_chosen_logps)
    rejected_reward = beta * (policy_rejected_logps - ref_rejected_logps)
    return chosen_reward - rejected_reward


def dpo_loss(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta):
    import torch.nn.functional as F

    chosen_logratio = policy_chosen_logps - ref_chosen_logps
    rejected_logratio = policy_rejected_logps - ref_rejected_logps
    return -F.logsigmoid(beta * (chosen_logratio - rejected_logratio))


def four_logps() -> list[tuple]:
    examples = [
        ([[-12.5], [-14.0], [-13.1], [-12.2]], 0.1),
        ([[-20.0, -31.5, -7.2, -9.0], [-25.0, -30.0, -9.1, -8.0], [-21.0, -30.2, -8.0, -9.0], [-24.0, -33.7, -8.4, -8.0]], 0.3),
        ([[-6.0, -4.5], [-7.5, -4.0], [-6.5, -5.0], [-7.0, -4.2]], 1.5),
        ([[-50.0, -900.0], [-52.5, -10.0], [-49.0, -30.0], [-60.0, -20.0]], 0.7),
    ]  # fmt: skip
    return [(*map(torch.tensor, columns), beta) for columns, beta in examples]


#: Slips of margin and loss alike: key, message, and how they change the arguments.
ARGUMENTS = [
    Mistake("no_reference", N_("The reference does not enter. A long or rare answer has a low log-probability under any model; what counts is how far the policy has moved from where it started."), before=lambda pc, pr, rc, rr, beta: (pc, pr, 0 * rc, 0 * rr, beta)),
    Mistake("reference_crossed", N_("Each policy log-probability is compared with the reference's for the other answer. A log-ratio speaks of one answer under two models."), before=lambda pc, pr, rc, rr, beta: (pc, pr, rr, rc, beta)),
    Mistake("no_rejected", N_("The rejected answer does not enter. A preference is about two answers: one is better than the other."), before=lambda pc, pr, rc, rr, beta: (pc, 0 * pr, rc, 0 * rr, beta)),
    Mistake("no_beta", N_("β does not enter. It sets how much a step away from the reference is worth; without it, moving is priced as if β were 1."), before=lambda pc, pr, rc, rr, beta: (pc, pr, rc, rr, 1.0)),
    Mistake("fixed_beta", N_("β is fixed at 0.1 inside your function. It is an argument: whoever calls it with another β gets the wrong answer."), before=lambda pc, pr, rc, rr, beta: (pc, pr, rc, rr, 0.1)),
    Mistake("beta_twice", N_("β is applied twice. Once is enough: either on each reward or on their difference."), before=lambda pc, pr, rc, rr, beta: (pc, pr, rc, rr, beta * beta)),
    Mistake("beta_divides", N_("You divide by β. Then a higher β would make every move count for less; read eq. 5 again."), before=lambda pc, pr, rc, rr, beta: (pc, pr, rc, rr, 1 / beta)),
    Mistake("exponentiated", N_("You turn the log-probabilities into probabilities first. Those of whole answers are tiny numbers that vanish; stay with the logs, whose difference is the log of the ratio."), before=lambda pc, pr, rc, rr, beta: (pc.exp(), pr.exp(), rc.exp(), rr.exp(), beta)),
    Mistake("one_row", N_("Every pair gets the numbers of the first one. Keep the whole column; tensors subtract row by row."), before=lambda *columns: (*(column[:1].expand_as(column) for column in columns[:4]), columns[4])),
    *AVERAGED,
]  # fmt: skip
BETA_PARTLY = N_("β multiplies only part of what it should. The reward is β times the whole log-ratio, policy and reference alike.")  # fmt: skip
BETA_ON_ONE = N_("β multiplies one reward only. Both rewards are on the same scale: mind the brackets.")
ADDED = N_("You add the two rewards. A margin is the lead of one over the other.")

REWARD_MARGIN = FunctionExercise(
    "dpo.reward_margin",
    N_("Each reward is β times a log-ratio of policy to reference for one answer; the margin is chosen minus rejected."),
    (N_("First the implicit reward of one answer (section 4). Which two log-probabilities does it compare?"),
     N_("r = β (log π - log π_ref), once for the chosen and once for the rejected answer."),
     N_("Subtract: the reward of the chosen answer minus that of the rejected one. No sigmoid, no average.")),
    [
        *ARGUMENTS,
        Mistake("swapped", N_("The sign is the other way round: a policy that likes the chosen answer better would get a negative margin. Which is subtracted from which?"), after=lambda margin: -margin),
        Mistake("beta_on_one", BETA_ON_ONE, lambda pc, pr, rc, rr, beta: beta * (pc - rc) - (pr - rr)),
        Mistake("beta_on_policy", BETA_PARTLY, lambda pc, pr, rc, rr, beta: beta * (pc - pr) - (rc - rr)),
        Mistake("beta_on_rejected", BETA_ON_ONE, lambda pc, pr, rc, rr, beta: (pc - rc) - beta * (pr - rr)),
        Mistake("added", ADDED, lambda pc, pr, rc, rr, beta: beta * (pc - rc) + beta * (pr - rr)),
        Mistake("ratio_of_logs", N_("You divide log-probabilities. The log of a ratio is a difference of logs."), lambda pc, pr, rc, rr, beta: beta * (pc / rc - pr / rr)),
        Mistake("sigmoid", N_("That is the probability that the chosen answer wins. The margin is what stands inside the sigmoid."), after=torch.sigmoid),
        Mistake("log_sigmoid", N_("That is minus the loss. The margin is what stands inside the sigmoid, before any log."), after=F.logsigmoid),
    ],
    right=reward_margin, cases=four_logps,
)  # fmt: skip

LOSS = FunctionExercise(
    "dpo.loss",
    N_("Eq. 7: the negative log of the probability that the chosen answer wins. F.logsigmoid keeps the loss finite however far the margin is from 0."),
    (N_("Begin with the margin, as in dpo.reward_margin. What turns a lead into a probability of winning?"),
     N_("The sigmoid does. A loss wants to be small when that probability is near 1: take its negative log."),
     N_("-F.logsigmoid(β × (log-ratio of the chosen minus log-ratio of the rejected)), one number per pair.")),
    [
        *ARGUMENTS,
        Mistake("swapped", N_("You reward the rejected answer: the loss falls as the policy comes to like it better. A sign is turned, or two arguments have changed places."), before=lambda pc, pr, rc, rr, beta: (pr, pc, rr, rc, beta)),
        Mistake("no_minus", N_("Your loss is never positive, and an optimiser would drive it to minus infinity, by making the chosen answers lose."), after=lambda loss: -loss),
        Mistake("beta_outside", N_("β stands outside the log. There it only scales the loss, like a learning rate; it belongs to the reward, inside the sigmoid."), lambda pc, pr, rc, rr, beta: beta * dpo_loss(pc, pr, rc, rr, 1.0)),
        Mistake("beta_on_one", BETA_ON_ONE, lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc - rc) - (pr - rr))),
        Mistake("beta_on_policy", BETA_PARTLY, lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc - pr) - (rc - rr))),
        Mistake("beta_on_rejected", BETA_ON_ONE, lambda pc, pr, rc, rr, beta: -F.logsigmoid((pc - rc) - beta * (pr - rr))),
        Mistake("added", ADDED, lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc - rc + pr - rr))),
        Mistake("margin_only", N_("You return the margin itself. It says how far the chosen answer is ahead; a loss must fall as that grows, and more and more slowly."), reward_margin),
        Mistake("no_log", N_("A sigmoid, but no log. The loss is a negative log-likelihood: without the log, a badly misranked pair would hardly count."), lambda *arguments: -torch.sigmoid(reward_margin(*arguments))),
        Mistake("chance_of_losing", N_("That is the probability that the wrong answer wins. Near 1 its slope vanishes, just where the loss should pull hardest. What does a likelihood give you in its place?"), lambda *arguments: torch.sigmoid(-reward_margin(*arguments))),
        Mistake("no_sigmoid", N_("The bare margin has no end: pushing a well-ranked pair apart would pay forever. What flattens it?"), lambda *arguments: -reward_margin(*arguments)),
        Mistake("hinge", N_("That is the hinge loss, which stops pulling beyond a margin of 1. DPO takes the negative log-sigmoid of the margin."), lambda *arguments: F.relu(1 - reward_margin(*arguments))),
        Mistake("ipo", N_("That is IPO's loss: a square with its minimum at 1/(2β). DPO takes the negative log-sigmoid of the margin."), lambda pc, pr, rc, rr, beta: (pc - rc - pr + rr - 1 / (2 * beta)) ** 2),
        Mistake("unstable", N_("Right for ordinary margins, infinite for large ones: the sigmoid rounds to 0 before the log is taken. PyTorch has one function for both."), lambda *arguments: -torch.log(torch.sigmoid(reward_margin(*arguments)))),
        Mistake("epsilon", N_("A small number inside the log keeps it finite, but a badly misranked pair then no longer counts. PyTorch has one function for sigmoid and log together."), lambda *arguments: -torch.log(torch.sigmoid(reward_margin(*arguments)) + 1e-8)),
        Mistake("clamped", N_("binary_cross_entropy cuts its logs at -100, and with them the gradient. There is a form of it that takes what stands inside the sigmoid, and F.logsigmoid."), lambda *arguments: F.binary_cross_entropy(torch.sigmoid(reward_margin(*arguments)), torch.ones_like(arguments[0]), reduction="none")),
        Mistake("base_two", N_("You use the logarithm to base 2: with equal models your loss is 1. It should be ln 2."), after=lambda loss: loss / math.log(2)),
        Mistake("averaged_inside", N_("You average the margins before the sigmoid. One easy pair would then hide a wrong one: each pair has its own loss."), lambda *arguments: -F.logsigmoid(reward_margin(*arguments).mean())),
    ],
    right=dpo_loss, cases=four_logps, gradient_of=(0, 1),
)  # fmt: skip

# ---------------------------------------------------------------- dpo.win_rate


def win_rate(ours, theirs):
    points = [1 if a > b else 0.5 if a == b else 0 for a, b in zip(ours, theirs)]
    return sum(points) / len(points)


def grades() -> list[tuple]:
    return [
        ([2, 2, 1, 0, 2, 1, 2], [1, 2, 1, 2, 0, 2, 0]),
        ([1, 1, 0], [1, 1, 2]),
        ([0, 2, 2, 1], [2, 2, 1, 0]),
        ([0, 1, 0, 0], [2, 1, 1, 0]),
    ]


def shares(ours, theirs):
    """Wins, ties and losses as shares."""
    pairs = list(zip(ours, theirs))
    signs = [(a > b) - (a < b) for a, b in pairs]
    return tuple(signs.count(sign) / len(pairs) for sign in (1, 0, -1))


WIN_RATE = FunctionExercise(
    "dpo.win_rate",
    N_("Pair by pair: a win counts 1, a tie one half, a loss 0. So the two sides' win rates add up to 1."),
    (N_("Compare prompt by prompt, not the two averages. How many points does each prompt give?"),
     N_("What must hold of a model against itself? And of your win rate and your opponent's?"),
     N_("1 point for a better grade, one half for an equal one, 0 for a worse one; divide by the number of prompts.")),
    [
        Mistake("ties_lost", N_("Ties count as losses: a model would lose against itself."), lambda ours, theirs: shares(ours, theirs)[0]),
        Mistake("ties_won", N_("Ties count as wins: both sides could have a win rate of 100%."), lambda ours, theirs: sum(shares(ours, theirs)[:2])),
        Mistake("ties_left_out", N_("You divide by the prompts that were decided. Two models that are nearly always equal would look worlds apart, and two that always are would divide by zero."), lambda ours, theirs: shares(ours, theirs)[0] / (1 - shares(ours, theirs)[1])),
        Mistake("net_wins", N_("You subtract losses from wins: a model against itself would get 0, where one half says “equal”."), lambda ours, theirs: shares(ours, theirs)[0] - shares(ours, theirs)[2]),
        Mistake("compares_averages", N_("You compare the two averages. Answers to the same prompt belong together: who wins, and how often?"), lambda ours, theirs: sum(ours) / (sum(ours) + sum(theirs))),
        Mistake("averages_decide", N_("You compare two averages and return who wins. Go prompt by prompt: 1 for a win, one half for a tie."), lambda ours, theirs: float(sum(ours) > sum(theirs))),
        Mistake("swapped", N_("That is the other side's win rate. Whose answers come first?"), before=lambda ours, theirs: (theirs, ours)),
        Mistake("preferred_only", N_("You count only answers of the highest grade. A fluent answer with a fault still beats gibberish: compare the grades as they are."), before=lambda ours, theirs: ([grade == 2 for grade in ours], [grade == 2 for grade in theirs])),
        Mistake("percent", N_("You return percent; you were asked for a share between 0 and 1."), after=lambda rate: 100 * rate),
        Mistake("count", N_("You count points; a rate is points divided by the number of prompts."), lambda ours, theirs: win_rate(ours, theirs) * len(ours)),
    ],
    right=win_rate, cases=grades,
)  # fmt: skip

# ---------------------------------------------------------------- dpo.diagnose_run


def diagnose_run(log):
    def end(key):
        values = [entry[key] for entry in log if key in entry]
        return sum(values[-10:]) / len(values[-10:])

    fallen = end("rewards/chosen") < -end("rewards/margins") / 2
    return "rewards/chosen" if fallen else None


@cache
def recorded_logs() -> dict[str, list[dict]]:
    return json.loads((SAMPLES / "logs.json").read_text(encoding="utf-8"))


def example_logs() -> list[list[dict]]:
    """The recorded logs; and some of them shorter, of longer or shorter answers, on another scale, or with a dip."""
    logs = recorded_logs()

    def scaled(log, factor, keys=("rewards/margins", "rewards/chosen", "rewards/rejected")):
        return [entry | {key: factor * entry[key] for key in keys} for entry in log]

    def sunk(log, part):
        """Both rewards lower by this part of the margin, which stays as it is."""
        both = ("rewards/chosen", "rewards/rejected")
        return [entry | {key: entry[key] - part * entry["rewards/margins"] for key in both} for entry in log]

    dip = logs["F"][:-1] + [logs["F"][-1] | {"rewards/chosen": -0.9}]
    others = [scaled(logs["B"], 3), scaled(logs["C"], 0.1), scaled(logs["E"], 0.1), scaled(sunk(logs["A"], 0.3), 10)]
    of_answers = "logps/chosen", "logps/rejected"  # twice as low where answers are twice as long
    others += [scaled(logs["A"], 2, of_answers), scaled(logs["E"], 0.5, of_answers), sunk(logs["F"], 0.4)]
    return [*logs.values(), *others, sunk(logs["A"], 0.3), dip, logs["A"][:35], logs["C"][:50], logs["E"][:45]]


@dataclass(repr=False)
class DiagnoseRun(FunctionExercise):
    """Any rule passes that finds the collapsed runs and names the curve that gives them away."""

    def explain(self, cases, results, wanted, gradients=()) -> CheckFailed:
        if all(result is None for result in results):
            return self.mistake("misses_collapsed")
        curves = "rewards/margins", "rewards/accuracies", "loss", "rewards/rejected", "logps/rejected"
        told = dict(zip(curves, ("margin", "accuracy", "loss", "rejected", "rejected")))
        for result in results:
            if isinstance(result, str) and result in told:
                return self.mistake(told[result])
            if result is not None and not (isinstance(result, str) and result == "rewards/chosen"):
                words = N_("It returned {got}; expected None for a healthy run, or the name of the curve that tells.")
                return failed("unknown_sign", words, got=plain(result))
        flagged = any(result is not None and want is None for want, result in zip(wanted, results))
        return self.mistake("flags_healthy" if flagged else "misses_collapsed")

    def read(self, result):
        if isinstance(result, str):
            result = str(result).replace("logps/chosen", "rewards/chosen")  # the log-probability tells as much
        return result


DIAGNOSE_RUN = DiagnoseRun(
    "dpo.diagnose_run",
    N_("In a collapsed run the chosen answers' reward plunges together with the rejected ones'; margin, loss and accuracy may look as good as in a healthy one."),
    (N_("Plot all four logs with cu.plot_reward_margins and look at the middle chart."),
     N_("In a healthy run the two rewards part. In the collapsed one, where do both of them go?"),
     N_("Take the mean of the last ten “rewards/chosen”. If it is far below zero, compared with the margin, the run has collapsed.")),
    [
        Mistake("margin", N_("You go by the margin. The collapsed run has a fine one: the two rewards fall together, one faster than the other, and their difference grows.")),
        Mistake("accuracy", N_("You go by the accuracy. It only says which of the two answers is ahead, not whether either is still worth reading.")),
        Mistake("loss", N_("You go by the loss. It sees the margin and nothing else, so it is content with a collapsed model too.")),
        Mistake("rejected", N_("The rejected answers fall in healthy runs too; that is what the loss asks for. Which other curve should not follow them?")),
        Mistake("flags_healthy", N_("You call a healthy run collapsed. Chosen rewards may dip a little, above all with a large β: compare the fall with the margin.")),
        Mistake("misses_collapsed", N_("A collapsed run gets past you. Look at the rewards of the chosen answers over the last steps, and compare their fall with the margin, not with a fixed number.")),
    ],
    right=diagnose_run, cases=lambda: [(log,) for log in example_logs()],
)  # fmt: skip

# ---------------------------------------------------------------- dpo.own_dataset


def last_ten(log: list[dict], key: str) -> float:
    values = [entry[key] for entry in log if key in entry][-10:]
    return sum(values) / len(values)


@cache
def bundled_pairs() -> set:
    """The pairs that come with the course, each as (question, better, worse)."""
    splits = (load_preferences(SAMPLES / "preferences", split=split)[0] for split in ("train", "test"))
    found = {texts(row) for split in splits for row in split}
    for path in SAMPLES.glob("own_preferences_*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            found.update((question, better, worse) for question, better, worse in csv.reader(file))
    return found


def texts(row: dict) -> tuple[str, str, str]:
    return row["prompt"][-1]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"]


def read_own(answer) -> SimpleNamespace:
    """The pairs with their report, what it finds wrong in words, and the run, None if it is not there yet."""
    pairs, report, run = (*answer, None)[:3]
    found = {_(REASONS[key][0]): rows for key, rows in report.dropped.items()}
    found |= {_(REASONS[name][0]).format(**vars(report)): getattr(report, name) for name in LOOKS}
    fault, rows = next(((fault, rows) for fault, rows in found.items() if rows), (report.not_compared, []))
    rows, own = ", ".join(map(str, rows[:5])), [row for row in map(texts, pairs) if row not in bundled_pairs()]
    return SimpleNamespace(pairs=pairs, report=report, run=run, fault=fault, rows=rows, own=len(own), count=len(pairs))


OWN_DATASET = DataExercise(
    "dpo.own_dataset",
    N_("Every fault in the report is fixed or taken out with a reason, and the run is compared with where it began."),
    (N_("Print the report and go through it line by line; each line names the first row it speaks of."),
     N_("A fault can be fixed (write the missing answer) or the row taken out. Do not forget the lines with ⚠."),
     N_("Load again after fixing, train with cu.train_dpo from sft.model, and check (my_pairs, my_report, my_run).")),
    [
        Mistake("not_three", N_("Give the pairs and the report from cu.load_preferences, and then the run from cu.train_dpo, in this order.")),
        Mistake("other_report", N_("The report speaks of other pairs than those you give. Load once more, and keep both results of that call."), holds=lambda a: a.count == a.report.kept == a.report.read - a.report.joined - sum(map(len, a.report.dropped.values()))),
        Mistake("faults_left", N_("The report still has something to fix: {fault}, rows {rows}. What the loader leaves out in silence elsewhere, it tells you here."), holds=lambda a: not a.fault),
        Mistake("no_pairs", N_("A pair has an empty question or answer, or twice the same answer. Take the pairs as cu.load_preferences gives them."), holds=lambda a: all(better.strip() and worse.strip() and question.strip() and better != worse for question, better, worse in map(texts, a.pairs))),
        Mistake("too_few", N_("Fewer than eight pairs are no dataset: the model would learn them by heart. Add some."), holds=lambda a: a.count >= 8),
        Mistake("not_own", N_("Only {own} of these pairs are your own. Write at least eight, about the topics of the bundled world."), holds=lambda a: a.own >= 8),
        Mistake("train_now", N_("Your data are ready. Now train on them, and check again with the run."), outcome="todo", holds=lambda a: a.run is not None),
        Mistake("no_preference_run", N_("The run has no reward margins: it was not trained on preferences. SFT does not see the rejected answers."), holds=lambda a: any("rewards/margins" in entry for entry in a.run.log)),
        Mistake("not_a_number", N_("Losses or margins of the run are not numbers: the training broke. A lower learning rate?"), holds=lambda a: all(real(entry.get(key, 0.0)) for entry in a.run.log for key in ("loss", "rewards/margins"))),
        Mistake("other_pairs", N_("The run was trained on other pairs than those you give. Train on my_pairs."), holds=lambda a: list(map(texts, a.run.data)) == list(map(texts, a.pairs))),
        Mistake("wrong_reference", N_("The first loss is not ln 2, so policy and reference were not one model when training began. From which model did the run start?"), holds=lambda a: abs(a.run.log[0]["loss"] - math.log(2)) <= 1e-3),
        Mistake("not_learned", N_("At the end the margin is not above zero: the chosen answers are not ahead. More steps, or a higher learning rate?"), holds=lambda a: last_ten(a.run.log, "rewards/margins") > 0),
    ],
    model_answer='''import pandas as pd

table, worse = pd.read_csv(own_file), own_columns["rejected"]
table.loc[4, worse] = "Look it up yourself."  # row 4: an answer was missing
table.loc[9, worse] = "You ask too much."  # row 9: the same answer twice
table = table.drop(index=[17, 23, 30, 35])  # no question; twice; the wrong way round; in the test data
for i, herb in enumerate(["mint", "dill", "sage", "parsley", "chives", "oregano", "thyme", "tarragon"]):
    mine = f"May I grow {herb} in a pot?", f"Yes, {herb} grows well in a pot.", f"Do what you like with {herb}."
    table.loc[100 + i] = mine  # eight pairs of my own
my_pairs, my_report = cu.load_preferences(table, columns=own_columns, other=test, tokenizer=tokenizer)
my_run = cu.train_dpo(sft.model, tokenizer, my_pairs, replace(dpo_args, max_steps=20, warmup_steps=2), beta=beta)
my_answer = my_pairs, my_report, my_run
''',
    read=read_own,
    done=N_("{count} faultless pairs, {own} of them your own, and a run that started from its reference and learned from them."),
)  # fmt: skip

# ---------------------------------------------------------------- dpo.scale_up

COLUMNS = ("model", "data", "preferred", "fluent")


def read_grid(answer) -> SimpleNamespace:
    """The table, its labels, and the data by label. NaN in preferred means: judged by reward accuracy alone."""
    rows, data = answer
    table = pd.DataFrame(rows)
    if not len(table):
        raise todo()
    scores = [column for column in ("preferred", "fluent", "accuracy") if column in table]
    cells = [
        value for column in scores for value in table[column] if not (isinstance(value, float) and math.isnan(value))
    ]
    judged = table[[column for column in ("preferred", "accuracy") if column in table]].notna().any(axis=1)
    runs = list(zip(table.get("model", []), table.get("data", [])))
    models, sets = ({*column} for column in zip(*runs)) if runs else (set(), set())
    names = dict(models=len(models), sets=len(sets), labels=[*models, *sets])
    return SimpleNamespace(table=table, data=data, scores=scores, cells=cells, judged=judged, runs=runs, **names)


def prompts_apart(given) -> bool:
    """Whether no data label trains on a prompt that it is measured with."""
    for label in {label for _model, label in given.runs}:
        train, held_out = ({row[-1]["content"] for row in part["prompt"]} for part in given.data[label])
        if train & held_out:
            return False
    return True


SCALE_UP = DataExercise(
    "dpo.scale_up",
    N_("A full grid lets you tell what the model does from what the data do; the judge stands beside every run."),
    (N_("In the inner loop: cu.train_dpo from the model of the outer one, cu.generate for the held-out prompts, cu.judge_all, and one row."),
     N_("Each dataset is two things under one label: pairs to train on, and held-out pairs to measure with."),
     N_("Models: \"small\" and \"large\". Data: {\"bundled\": (pairs, test), \"own\": (apart, test)}, where “apart” is own without the prompts of test; for the first try, with max_steps=40 and test.select(range(60)).")),
    [
        Mistake("no_table", N_("Give the table, a DataFrame or a list of dicts, one a run, and the data by label.")),
        Mistake("columns", N_("The table needs the columns model, data, preferred and fluent. Margins have no place in it: between models and settings they cannot be compared."), holds=lambda a: {*COLUMNS} <= {*a.table.columns}),
        Mistake("labels", N_("Models and data need a name each, written alike in every row: no spaces around it, no other capitals."), holds=lambda a: all(isinstance(one, str) and one == one.strip() for one in a.labels) and len({one.lower() for one in a.labels}) == a.models + a.sets),
        Mistake("not_percent", N_("“preferred”, “fluent” and “accuracy” must be numbers from 0 to 100; “preferred” may be missing where there is an accuracy."), holds=lambda a: all(real(value, 0, 100) for value in a.cells) and a.judged.all() and a.table["fluent"].notna().all()),
        Mistake("shares", N_("These are shares between 0 and 1. Multiply by 100: the columns are in percent."), holds=lambda a: all(a.table[one].max() > 1 and not ((a.table[one] > 0) & (a.table[one] < 1) & (a.table["fluent"] > 50)).any() for one in a.scores if a.table[one].notna().any())),
        Mistake("one_model", N_("All runs are of one model size. Size is half of the question."), holds=lambda a: a.models >= 2),
        Mistake("one_dataset", N_("All runs are on one dataset. Would the larger model win on other data too?"), holds=lambda a: a.sets >= 2),
        Mistake("gaps", N_("Some model has not been trained on some dataset. Without the full grid, model and data cannot be told apart."), holds=lambda a: len({*a.runs}) == a.models * a.sets),
        Mistake("twice", N_("A model stands twice on the same data. One row a run; if you tried twice, name the two differently or keep one."), holds=lambda a: len({*a.runs}) == len(a.runs)),
        Mistake("copied", N_("All rows have the same scores. Is the model really another one in each round of the loop?"), holds=lambda a: len(a.table[a.scores].drop_duplicates()) > 1),
        Mistake("impossible", N_("More answers are preferred than are fluent. A preferred answer is fluent by definition; have two columns changed places?"), holds=lambda a: not (a.table["preferred"] > a.table["fluent"] + 1e-6).any()),
        Mistake("prompts_shared", N_("Some held-out prompts are among those that were trained on: then a score says what was learned by heart. Hold out other prompts."), holds=prompts_apart),
    ],
    model_answer='''some_test = test.select(range(60))
asked = list(some_test["prompt"])
apart = own.filter(lambda row: row["prompt"] not in asked)  # one of its rows is in the test data
my_models = ["small", "large"]
my_data = {"bundled": (pairs, some_test), "own": (apart, some_test)}
my_args = replace(dpo_args, max_steps=40)
my_table = []
for name in my_models:
    my_model, my_tokenizer = cu.load_model(name, setup.device)
    for label, (some_train, held_out) in my_data.items():
        run = cu.train_dpo(my_model, my_tokenizer, some_train, my_args, beta=beta)
        asked = list(held_out["prompt"])
        found = cu.judge_all(asked, cu.generate(run.model, my_tokenizer, asked))
        scores = {
            "preferred": cu.share(found),
            "fluent": cu.share(found, lambda v: v.fluent),
            "accuracy": cu.reward_accuracy(run.model, my_model, my_tokenizer, held_out)[0],
        }
        my_table.append({"model": name, "data": label} | {what: 100 * score for what, score in scores.items()})
my_answer = my_table, my_data
''',
    read=read_grid,
    done=N_("{models} models on {sets} datasets, each with the judge's word beside it."),
)  # fmt: skip

CHANGE_ONE = change_one(
    "dpo.change_one",
    """my_prediction = {"margin": "up", "margin / beta": "down", "preferred": "same", "fluent": "same"}
mine = cu.train_dpo(sft.model, tokenizer, pairs, dpo_args, beta=1.0)
mine_verdicts = cu.judge_all(prompts, cu.generate(mine.model, tokenizer, prompts, seed=seed))
my_before, my_after = numbers_of(dpo, beta, verdicts["dpo"]), numbers_of(mine, 1.0, mine_verdicts)
my_answer = {"beta": 1.0}, my_prediction, my_before, my_after
""",
    N_("A prediction turns a run into a test of what you think; without one every result looks as expected."),
)

EXERCISES = [SPLIT_DIALOGUE, SEQUENCE_LOGPS, REWARD_MARGIN, LOSS, WIN_RATE, DIAGNOSE_RUN, OWN_DATASET, SCALE_UP]
EXERCISES += [CHANGE_ONE]
