"""The exercises of the labs: a right answer, examples, and a row for each slip that people make."""

import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from .. import world as cu  # in the solutions, as learners call it
from ..i18n import N_
from ..losses import dpo_loss
from .core import AVERAGED, DataExercise, FunctionExercise, Mistake, is_stub, todo
from .orpo import ENOUGH_JUDGED, compared
from .runner import failed

# ---------------------------------------------------------------- labs.ipo and labs.robust


def ipo(
    policy_chosen_logps,
    policy_rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    beta,
    chosen_tokens,
    rejected_tokens,
):
    chosen = (policy_chosen_logps - ref_chosen_logps) / chosen_tokens
    rejected = (policy_rejected_logps - ref_rejected_logps) / rejected_tokens
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def robust(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta, flipped=0.1):
    import torch.nn.functional as F

    margin = beta * (policy_chosen_logps - ref_chosen_logps - policy_rejected_logps + ref_rejected_logps)
    as_labelled, turned = -F.logsigmoid(margin), -F.logsigmoid(-margin)
    return ((1 - flipped) * as_labelled - flipped * turned) / (1 - 2 * flipped)


def four_logps() -> list[tuple]:
    return [
        ([-20.0], [-25.0], [-21.0], [-24.0], 0.3),
        ([-12.0, -40.5, -30.0], [-30.0, -22.0, -30.0], [-15.0, -38.0, -30.0], [-25.0, -31.0, -30.0], 0.1),
        ([-60.0, -3.0, -9.5], [-20.0, -44.0, -8.0], [-10.0, -2.5, -9.0], [-70.0, -9.0, -8.25], 0.5),
    ]  # fmt: skip


def tensors(case) -> tuple:
    return tuple(torch.tensor(one) if isinstance(one, list) else one for one in case)


def with_tokens() -> list[tuple]:
    lengths = [([14.0], [27.0]), ([6.0, 30.0, 11.0], [19.0, 8.0, 11.0]), ([40.0, 3.0, 7.0], [25.0, 21.0, 2.0])]
    return [tensors((*case, *length)) for case, length in zip(four_logps(), lengths)]


def with_flipped() -> list[tuple]:
    far = ([-600.0, -10.0], [-10.0, -600.0], [-10.0, -600.0], [-600.0, -10.0], 1.0)
    return [tensors((*case, flipped)) for case, flipped in zip([*four_logps(), far], (0.1, 0.25, 0.0, 0.2))]


def sums(pc, pr, rc, rr, beta, chosen_tokens, rejected_tokens):
    return ipo(pc, pr, rc, rr, beta, torch.ones_like(pc), torch.ones_like(pr))


def difference(pc, pr, rc, rr, chosen_tokens, rejected_tokens):
    return (pc - rc) / chosen_tokens - (pr - rr) / rejected_tokens


NO_REFERENCE = N_("The reference is missing: you compare log-probabilities, not how far they have moved. A pair that the reference ranks well would count as learned before the first step.")  # fmt: skip
TURNED = N_("Chosen and rejected have changed places: the model would learn to prefer what was rejected.")
IPO = FunctionExercise(
    "labs.ipo",
    N_("A squared distance has a minimum at a finite margin, 1 / (2β) nats a token; beyond it the loss pulls back."),
    (N_("First the log-ratio of each answer, policy less reference, and divide it by the answer's number of tokens."),
     N_("The difference of the two is to become 1 / (2β), no more and no less. How do you measure a miss on either side alike?"),
     N_("(chosen log-ratio / its tokens - rejected log-ratio / its tokens - 1 / (2β)) ** 2.")),
    [
        Mistake("sums", N_("You take sums over the tokens, as eq. 17 of the paper reads. Its authors and TRL divide each log-ratio by the answer's number of tokens; else one target would fit all lengths."), sums),
        Mistake("beta_inside", N_("You multiply the log-ratios by β, as in DPO. In IPO β stands in the target alone."), lambda pc, pr, rc, rr, b, *t: (b * difference(pc, pr, rc, rr, *t) - 1 / (2 * b)) ** 2),
        Mistake("half_missing", N_("The target is 1 / (2β), half of yours."), lambda pc, pr, rc, rr, b, *t: (difference(pc, pr, rc, rr, *t) - 1 / b) ** 2),
        Mistake("target_upside_down", N_("Your target grows with β. A higher β is to stay closer to the reference: is 2β above the line or below it?"), lambda pc, pr, rc, rr, b, *t: (difference(pc, pr, rc, rr, *t) - 2 * b) ** 2),
        Mistake("half_beta", N_("You read 1 / (2β) as β / 2."), lambda pc, pr, rc, rr, b, *t: (difference(pc, pr, rc, rr, *t) - b / 2) ** 2),
        Mistake("not_squared", N_("The distance from the target is not squared: below the target your loss would be negative, and lowest far away from it."), lambda pc, pr, rc, rr, b, *t: difference(pc, pr, rc, rr, *t) - 1 / (2 * b)),
        Mistake("absolute", N_("You take the absolute distance. IPO squares it: far misses count more, near ones less."), lambda pc, pr, rc, rr, b, *t: (difference(pc, pr, rc, rr, *t) - 1 / (2 * b)).abs()),
        Mistake("joint_length", N_("You divide the difference by the tokens of both answers. Each log-ratio has its own length."), lambda pc, pr, rc, rr, b, tc, tr: ((pc - rc - pr + rr) / (tc + tr) - 1 / (2 * b)) ** 2),
        Mistake("beta_on_log_ratios", N_("β multiplies the log-ratios. In IPO it stands in the target alone: a difference of β times h and one half is another loss."), lambda pc, pr, rc, rr, b, *t: (b * difference(pc, pr, rc, rr, *t) - 1 / 2) ** 2),
        Mistake("mean_length", N_("You divide the difference by the mean length. Each log-ratio has its own length."), lambda pc, pr, rc, rr, b, tc, tr: (2 * (pc - rc - pr + rr) / (tc + tr) - 1 / (2 * b)) ** 2),
        Mistake("policy_only", N_("Only the policy's log-probabilities are divided by the tokens. Brackets: the whole log-ratio is, the reference's part too."), lambda pc, pr, rc, rr, b, tc, tr: (pc / tc - rc - pr / tr + rr - 1 / (2 * b)) ** 2),
        Mistake("reference_only", N_("Only the reference's log-probabilities are divided by the tokens. Brackets: the whole log-ratio is."), lambda pc, pr, rc, rr, b, tc, tr: (pc - rc / tc - pr + rr / tr - 1 / (2 * b)) ** 2),
        Mistake("added", N_("You add the two log-ratios. How far the chosen answer is ahead is a difference."), lambda pc, pr, rc, rr, b, tc, tr: ((pc - rc) / tc + (pr - rr) / tr - 1 / (2 * b)) ** 2),
        Mistake("fixed_beta", N_("β is fixed at 0.3 inside your function. It is an argument."), before=lambda *a: (*a[:4], 0.3, *a[5:])),
        Mistake("square_first", N_("You square the difference and then subtract the target. Subtract first: what is squared is the miss."), lambda pc, pr, rc, rr, b, *t: difference(pc, pr, rc, rr, *t) ** 2 - 1 / (2 * b)),
        Mistake("lengths_swapped", N_("Each log-ratio is divided by the length of the other answer."), before=lambda *a: (*a[:5], a[6], a[5])),
        Mistake("no_reference", NO_REFERENCE, before=lambda pc, pr, rc, rr, *more: (pc, pr, 0 * rc, 0 * rr, *more)),
        Mistake("swapped", N_("Chosen and rejected have changed places, or policy and reference, or the target has the wrong sign: training would stop where the rejected answer leads."), before=lambda pc, pr, rc, rr, b, tc, tr: (pr, pc, rr, rc, b, tr, tc)),
        *AVERAGED,
    ],
    right=ipo, cases=with_tokens, gradient_of=(0, 1),
)  # fmt: skip

ROBUST = FunctionExercise(
    "labs.robust",
    N_("Over labels of which this share is turned round, the mean of this loss is the DPO loss of the true labels; that is what the minus and the divisor do."),
    (N_("You need DPO's loss twice: as the pair is labelled, and with the label turned round, which is the loss of minus the margin."),
     N_("Weigh the first with 1 - flipped, and take flipped times the second away from it."),
     N_("((1 - flipped) × loss - flipped × turned loss) / (1 - 2 × flipped).")),
    [
        Mistake("conservative", N_("You add the loss of the turned label: that is the conservative DPO (cDPO), which smooths labels. The robust one takes it away, and divides by 1 - 2 × flipped."), lambda pc, pr, rc, rr, b, e: (1 - e) * dpo_loss(pc, pr, rc, rr, b) + e * dpo_loss(pr, pc, rr, rc, b)),
        Mistake("conservative_divided", N_("The loss of the turned label has a plus: you smooth the label where its share is to be taken out."), lambda pc, pr, rc, rr, b, e: ((1 - e) * dpo_loss(pc, pr, rc, rr, b) + e * dpo_loss(pr, pc, rr, rc, b)) / (1 - 2 * e)),
        Mistake("not_divided", N_("The divisor 1 - 2 × flipped is missing. Without it the mean is only a part of the clean loss, smaller the more labels are wrong."), lambda pc, pr, rc, rr, b, e: (1 - e) * dpo_loss(pc, pr, rc, rr, b) - e * dpo_loss(pr, pc, rr, rc, b)),
        Mistake("divided_by_one_share", N_("You divide by 1 - flipped. Put the mean over right and wrong labels in: what is left in front of the clean loss is 1 - 2 × flipped."), lambda pc, pr, rc, rr, b, e: ((1 - e) * dpo_loss(pc, pr, rc, rr, b) - e * dpo_loss(pr, pc, rr, rc, b)) / (1 - e)),
        Mistake("weights_swapped", N_("The two weights have changed places: with few wrong labels the turned loss should hardly count."), lambda pc, pr, rc, rr, b, e: (e * dpo_loss(pc, pr, rc, rr, b) - (1 - e) * dpo_loss(pr, pc, rr, rc, b)) / (1 - 2 * e)),
        Mistake("brackets", N_("Only the second term is divided. Set brackets around the numerator."), lambda pc, pr, rc, rr, b, e: (1 - e) * dpo_loss(pc, pr, rc, rr, b) - e * dpo_loss(pr, pc, rr, rc, b) / (1 - 2 * e)),
        Mistake("divisor_brackets", N_("You divide by 1 and then take 2 × flipped away. Set brackets around the divisor."), lambda pc, pr, rc, rr, b, e: (1 - e) * dpo_loss(pc, pr, rc, rr, b) - e * dpo_loss(pr, pc, rr, rc, b) - 2 * e),
        Mistake("multiplied", N_("You multiply by 1 - 2 × flipped. Divide."), lambda pc, pr, rc, rr, b, e: ((1 - e) * dpo_loss(pc, pr, rc, rr, b) - e * dpo_loss(pr, pc, rr, rc, b)) * (1 - 2 * e)),
        Mistake("loss_turned", N_("You take the loss of the turned label as minus the loss. Turn the sign of the margin, inside the log-sigmoid."), lambda pc, pr, rc, rr, b, e: dpo_loss(pc, pr, rc, rr, b) / (1 - 2 * e)),
        Mistake("first_weight", N_("The first term lacks its weight, 1 - flipped."), lambda pc, pr, rc, rr, b, e: (dpo_loss(pc, pr, rc, rr, b) - e * dpo_loss(pr, pc, rr, rc, b)) / (1 - 2 * e)),
        Mistake("second_missing", N_("The turned label is missing: flipped times its loss is to be taken away."), lambda pc, pr, rc, rr, b, e: (1 - e) * dpo_loss(pc, pr, rc, rr, b) / (1 - 2 * e)),
        Mistake("mixture", N_("You take the log of a mixture of two probabilities. The robust loss mixes losses."), lambda pc, pr, rc, rr, b, e: -torch.log((1 - e) * (-dpo_loss(pc, pr, rc, rr, b)).exp() + e * (-dpo_loss(pr, pc, rr, rc, b)).exp())),
        Mistake("fixed_share", N_("The share is fixed at 0.1 inside your function; it is an argument."), before=lambda *a: (*a[:5], 0.1)),
        Mistake("plain", N_("That is the plain DPO loss: the share of wrong labels does not enter, or both terms have the same margin and it cancels."), before=lambda *a: (*a[:5], 0.0)),
        Mistake("no_beta", N_("β is missing from the margin."), before=lambda pc, pr, rc, rr, b, e: (pc, pr, rc, rr, 1.0, e)),
        Mistake("sign", N_("The sign is turned: a loss falls as the margin grows."), after=lambda losses: -losses),
        Mistake("no_reference", NO_REFERENCE, before=lambda pc, pr, rc, rr, *more: (pc, pr, 0 * rc, 0 * rr, *more)),
        Mistake("swapped", TURNED, before=lambda pc, pr, rc, rr, *more: (pr, pc, rr, rc, *more)),
        *AVERAGED,
    ],
    right=robust, cases=with_flipped, gradient_of=(0, 1), extreme=1,
)  # fmt: skip

# ---------------------------------------------------------------- labs.own_loss


def read_own(answer) -> SimpleNamespace:
    """Both sides' verdicts, and which conclusion the paired comparison over the prompts allows."""
    ours, theirs = list(answer["ours"]), list(answer["theirs"])
    follows, words = compared([ours], [theirs], "better", "worse")
    judged = all(one.judged for one in (*ours, *theirs))
    alike, said = len(ours) == len(theirs), answer["conclusion"]
    same = [one.broken for one in ours] == [one.broken for one in theirs]
    return SimpleNamespace(alike=alike, judged=judged, said=said, follows=follows, same=same, **words)


#: What a comparison that is won or lost must keep to.
COMPARED = [
    Mistake("other_prompts", N_("The two sides have a different number of verdicts. Both must answer the same prompts."), holds=lambda a: a.alike),
    *ENOUGH_JUDGED,
    Mistake("same_run", N_("Every verdict of the two sides is the same. Are they two runs? If they are, train both for more steps, until they part."), holds=lambda a: not a.same),
    Mistake("no_conclusion", N_("The conclusion is one of three words: better, worse, undecided."), holds=lambda a: isinstance(a.said, str) and a.said in ("better", "worse", "undecided")),
    Mistake("interval_holds_half", N_("You say better or worse, but the interval of the paired comparison, {low} – {high}, contains one half: chance alone could explain what you saw."), holds=lambda a: a.said == a.follows or a.follows != "undecided"),
    Mistake("undecided_though_clear", N_("The interval of the paired comparison, {low} – {high}, leaves one half out. Then your data do decide; say how."), holds=lambda a: a.said == a.follows or a.said != "undecided"),
    Mistake("wrong_side", N_("The interval, {low} – {high}, is on the other side of one half. Whose points did you count?"), holds=lambda a: a.said == a.follows),
]  # fmt: skip
OWN_LOSS = DataExercise(
    "labs.own_loss",
    N_("That your loss is not better is a result too, if you say so; most published losses differ from DPO by less than their intervals."),
    (N_("A loss gets four log-probabilities and β, and returns one number a pair. What should happen at a margin of 0, of 10, of -10?"),
     N_("Train it and DPO on the same pairs in the same order, and let both answer the same 100 prompts or more."),
     N_("cu.win_rate gives rate, low and high. Better: low above one half. Worse: high below. Else undecided.")),
    [
        Mistake("not_three", N_("Give a dict with the verdicts of your loss under “ours”, those of DPO under “theirs”, and your “conclusion”.")),
        *COMPARED,
    ],
    model_answer='''from dataclasses import replace

def my_loss(pc, pr, rc, rr, beta):
    margin = beta * (pc - rc - pr + rr)
    return torch.exp(-margin).clamp(max=5)  # the exponential loss of boosting, cut off

my_args = replace(args, max_steps=40)  # after 20 steps the two still answer alike
mine = cu.train_dpo(base, tokenizer, few, my_args, beta=beta, loss=my_loss)
usual = cu.train_dpo(base, tokenizer, few, my_args, beta=beta)
my_verdicts, usual_verdicts = (judged(run.model) for run in (mine, usual))
my_rate, my_low, my_high = cu.win_rate(my_verdicts, usual_verdicts)
my_conclusion = "better" if my_low > 0.5 else "worse" if my_high < 0.5 else "undecided"
my_answer = {"ours": my_verdicts, "theirs": usual_verdicts, "conclusion": my_conclusion}
''',
    read=read_own,
    done=N_("{count} prompts, win rate {rate} ({low} – {high}): the conclusion follows."),
)  # fmt: skip

# ---------------------------------------------------------------- labs.rank_pair


def rank_pair(prompt, one, other):
    grades = [cu.judge(prompt[-1]["content"], answer).grade for answer in (one, other)]
    if grades[0] == grades[1]:
        return None
    best, worst = (one, other) if grades[0] > grades[1] else (other, one)
    chosen, rejected = ([{"role": "assistant", "content": answer}] for answer in (best, worst))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def some_answers() -> list[tuple]:
    """Questions of the world, with answers of every grade."""
    topic = next(one for one in cu.topics().values() if one.kind == "answer")
    prompt = [{"role": "user", "content": cu.fill(topic.ask["en"][0], topic.things["en"][0])}]
    good = cu.fill(topic.lead["en"][0], topic.things["en"][0])
    rude = f"{good} {cu.shared()['rude']['closer']['en'][0]}"
    worse, gibberish = f"{rude} {cu.shared()['filler']['en'][0]}", "Basil basil the"
    other = cu.fill(topic.lead["en"][0], topic.things["en"][1])
    pairs = [(good, rude), (gibberish, good), (gibberish, rude), (rude, gibberish), (gibberish, worse), (rude, other)]
    first = [{"role": "user", "content": cu.fill(topic.ask["en"][0], topic.things["en"][1])}]
    turns = [*first, {"role": "assistant", "content": other}, *prompt]
    more = [(turns, other, good), (turns, good, rude)]
    return [(prompt, *pair) for pair in [*pairs, (good, good), (gibberish, "No no")]] + more


def paired(prompt, best, worst):
    chosen, rejected = ([{"role": "assistant", "content": answer}] for answer in (best, worst))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def ranked_by(value, tie=None, message=-1):
    """A wrong function: one that ranks by another value of the verdict, pairs ties, or judges another message."""

    def rank(prompt, one, other):
        first, second = (value(cu.judge(prompt[message]["content"], answer)) for answer in (one, other))
        if first == second:
            return tie and tie(prompt, one, other)
        return paired(prompt, one, other) if first > second else paired(prompt, other, one)

    return rank


def by_verdict(prompt, one, other):
    verdicts = [cu.judge(prompt[-1]["content"], answer) for answer in (one, other)]
    if verdicts[0] == verdicts[1]:
        return None
    return paired(prompt, one, other) if verdicts[0].grade > verdicts[1].grade else paired(prompt, other, one)


def first_wins(prompt, one, other):
    return rank_pair(prompt, one, other) and paired(prompt, one, other)


def only_first(prompt, one, other):
    pair = rank_pair(prompt, one, other)
    return pair if pair and pair["chosen"][0]["content"] == one else None


def turned(pair):
    return pair and pair | {"chosen": pair["rejected"], "rejected": pair["chosen"]}


RANK_PAIR = FunctionExercise(
    "labs.rank_pair",
    N_("A tie says nothing about which answer is better; whatever label it gets would be noise."),
    (N_("cu.judge(question, answer).grade is 2, 1 or 0. The question is the content of the prompt's last message."),
     N_("Three cases: the first is better, the second is better, neither. What should become of the third?"),
     N_("Return None for equal grades; else a dict with prompt, chosen and rejected, the latter two lists of one message of the role assistant.")),
    [
        Mistake("other_faults", N_("Two answers with different faults, but equal grades, are a tie. Compare the grades, not the verdicts."), by_verdict),
        Mistake("keeps_ties", N_("A tie becomes a pair too: a label where the judge sees no difference is noise. Return None."), ranked_by(lambda v: v.grade, tie=paired)),
        Mistake("keeps_ties_turned", N_("A tie becomes a pair too: a label where the judge sees no difference is noise. Return None."), ranked_by(lambda v: v.grade, tie=lambda prompt, one, other: paired(prompt, other, one))),
        Mistake("first_message", N_("You judge by the first message of the prompt. After several turns the question is the last one."), ranked_by(lambda v: v.grade, message=0)),
        Mistake("first_wins", N_("The first answer is always the chosen one. Which of the two has the higher grade?"), first_wins),
        Mistake("only_first", N_("Where the second answer is the better one you return None. It is chosen then."), only_first),
        Mistake("lost_turns", N_("The prompt has lost its earlier turns. Give it back as it came."), after=lambda pair: pair and pair | {"prompt": pair["prompt"][-1:]}),
        Mistake("preferred_only", N_("You only ask whether an answer is preferred. Two answers with faults can differ as well: fluent text beats gibberish. Compare grades."), ranked_by(lambda v: v.preferred)),
        Mistake("fluent_only", N_("You only ask whether an answer is fluent. Among fluent ones the judge prefers those without a fault. Compare grades."), ranked_by(lambda v: v.fluent)),
        Mistake("fewest_faults", N_("You count the broken rules. Gibberish breaks a single one, since nothing else can be said of it. Compare grades."), ranked_by(lambda v: -len(v.broken))),
        Mistake("turned", N_("The worse answer is the chosen one."), after=turned),
        Mistake("texts", N_("Chosen and rejected are texts. The trainer takes lists of messages: [{\"role\": \"assistant\", \"content\": …}]."), after=lambda pair: pair and pair | {side: pair[side][0]["content"] for side in ("chosen", "rejected")}),
        Mistake("question_only", N_("The prompt is a text. Give it back as it came, a list of messages."), after=lambda pair: pair and pair | {"prompt": pair["prompt"][-1]["content"]}),
        Mistake("no_list", N_("Chosen and rejected are single messages; they must be lists of messages."), after=lambda pair: pair and pair | {side: pair[side][0] for side in ("chosen", "rejected")}),
        Mistake("user_role", N_("The answers have the role user. They are the assistant's."), after=lambda pair: pair and pair | {side: [{"role": "user", "content": pair[side][0]["content"]}] for side in ("chosen", "rejected")}),
        Mistake("with_prompt", N_("Chosen and rejected begin with the prompt, which has a column of its own."), after=lambda pair: pair and pair | {side: pair["prompt"] + pair[side] for side in ("chosen", "rejected")}),
    ],
    right=rank_pair, cases=some_answers,
)  # fmt: skip

# ---------------------------------------------------------------- labs.flip_labels


def flip_labels(pairs, share, seed):
    import random

    turned = set(random.Random(seed).sample(range(len(pairs)), round(share * len(pairs))))

    def flip(row, i):
        return {"chosen": row["rejected"], "rejected": row["chosen"]} if i in turned else row

    return pairs.map(flip, with_indices=True)


def some_pairs() -> Dataset:
    sides = {
        side: [[{"role": "assistant", "content": f"{side} {i}"}] for i in range(47)] for side in ("chosen", "rejected")
    }
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": f"prompt {i}"}] for i in range(47)]} | sides)


ASKED = ((0.2, 0), (0.2, 0), (0.2, 1), (0.4, 0), (0.0, 0), (1.0, 0))  # share and seed


@dataclass(repr=False)
class FlipLabels(DataExercise):
    """The answer is the learner's function, which is run on a small table, without progress bars."""

    right: Callable = field(kw_only=True)

    def __post_init__(self):
        self.model_answer = inspect.getsource(self.right)

    def diagnose(self, answer) -> str:
        if answer is None or answer is Ellipsis or is_stub(answer):
            raise todo()
        shows_bars = not are_progress_bars_disabled()
        disable_progress_bars()
        try:
            runs = [answer(some_pairs(), *how) for how in ASKED]
        finally:
            if shows_bars:
                enable_progress_bars()
        if any(one is None for one in runs):
            raise failed("no_return", N_("It returns nothing. Is there a `return`?"))
        return super().diagnose(runs)


def read_flips(runs) -> SimpleNamespace:
    """In which rows the labels were turned, and each side changed, in each of the runs."""
    if not all(isinstance(one, Dataset) for one in runs):
        raise TypeError
    pairs, rows = list(some_pairs()), [list(one) for one in runs]
    kept = all([row["prompt"] for row in one] == [pair["prompt"] for pair in pairs] for one in rows)

    def where(test) -> list[list[int]]:
        return [[i for i, (row, pair) in enumerate(zip(one, pairs)) if test(row, pair)] for one in rows]

    both = where(lambda row, pair: row["chosen"] == pair["rejected"] and row["rejected"] == pair["chosen"])
    any_side = where(lambda row, pair: row["chosen"] != pair["chosen"] or row["rejected"] != pair["rejected"])
    counts, wanted = [*map(len, both)], [round(share * len(pairs)) for share, _seed in ASKED]
    wrong = next((i for i, (one, other) in enumerate(zip(counts, wanted)) if one != other), 0)
    words = dict(share=ASKED[wrong][0], count=counts[wrong], wanted=wanted[wrong])
    return SimpleNamespace(kept=kept, both=both, any_side=any_side, counts=counts, right=counts == wanted, **words)


FLIP_LABELS = FlipLabels(
    "labs.flip_labels",
    N_("A fixed number of rows, drawn without replacement from a seed: the noise is known, and comes out the same tomorrow."),
    (N_("First choose which rows: share × number of rows, rounded, each at most once. random.Random(seed).sample does it."),
     N_("pairs.map(function, with_indices=True) gives your function each row and its number."),
     N_("In a chosen row return {\"chosen\": row[\"rejected\"], \"rejected\": row[\"chosen\"]}, in all others the row.")),
    [
        Mistake("not_a_dataset", N_("Give a function of pairs, share and seed that returns a dataset with the columns prompt, chosen and rejected; of a list, Dataset.from_list makes one.")),
        Mistake("rows_changed", N_("Rows were lost, added or moved to another place. Only the labels are to change."), holds=lambda a: a.kept),
        Mistake("one_side", N_("In some rows only one side changed, so that both answers are the same. Exchange the two."), holds=lambda a: a.any_side == a.both),
        Mistake("complement", N_("You turn the others: with a share of 0 nothing is to change, with 1 every row."), holds=lambda a: a.counts[4:] != [47, 0]),
        Mistake("nothing", N_("Nothing is turned round. pairs.map returns a new dataset, and a row that you read is a copy: changing it changes nothing."), holds=lambda a: any(a.counts)),
        Mistake("coin", N_("With the same share another seed turns another number of labels: is there a coin for each row, or are some rows drawn twice? Draw a fixed number of rows, each at most once."), holds=lambda a: a.counts[0] == a.counts[1] == a.counts[2]),
        Mistake("not_the_share", N_("With a share of {share}, {count} of 47 labels are turned round; expected {wanted}, round(share × rows)."), holds=lambda a: a.right),
        Mistake("first_rows", N_("The rows at one end are turned round. Draw them: a file may be sorted."), holds=lambda a: a.both[0] not in ([*range(9)], [*range(38, 47)])),
        Mistake("not_repeatable", N_("The same seed turned other rows the second time. Draw with random.Random(seed), not with the common generator."), holds=lambda a: a.both[0] == a.both[1]),
        Mistake("seed_unused", N_("Another seed turned the same rows: the seed does not enter."), holds=lambda a: a.both[0] != a.both[2]),
    ],
    right=flip_labels,
    read=read_flips,
    done=N_("Of 47 labels, {count} are turned round with a share of {share}, the same ones whenever the seed is the same."),
)  # fmt: skip

# ---------------------------------------------------------------- labs.shorter


def read_shorter(answer) -> SimpleNamespace:
    """The comparison of `read_own`, and the mean number of words of both sides."""
    words = [[len(text.split()) for text in answer[name]] for name in ("our answers", "their answers")]
    ours, theirs = (sum(one) / len(one) for one in words)
    found = read_own({"conclusion": "undecided"} | answer)
    fits = [*map(len, words)] == [found.count, found.count]
    length = dict(ours=f"{ours:.1f}", theirs=f"{theirs:.1f}", fits=fits, shorter=ours <= 0.9 * theirs)
    return SimpleNamespace(**vars(found), **length)


SHORTER = DataExercise(
    "labs.shorter",
    N_("Length alone is easy to train, and so is quality that comes with length; the exercise is to move one without the other, and to show both numbers."),
    (N_("Which of the mends changes the data, and which the loss? You may ask the true judge, too."),
     N_("Among pairs of similar lengths the biased judge tells the truth. To get shorter answers, prefer, of two that are both good, the shorter one."),
     N_("Make pairs as in lab 2, from two answers of your own model: the higher grade wins, and between equal grades the shorter answer.")),
    [
        Mistake("not_four", N_("Give a dict: “our answers” and “their answers” (texts), “ours” and “theirs” (their verdicts); theirs are those of the model that learned from the length-loving judge.")),
        *COMPARED[:4],
        Mistake("other_answers", N_("There are not as many answers as verdicts on each side."), holds=lambda a: a.fits),
        Mistake("not_shorter", N_("Your answers have {ours} words on average, theirs {theirs}; expected at least a tenth fewer."), holds=lambda a: a.shorter),
        Mistake("worse", N_("They are shorter, but worse: win rate {rate} ({low} – {high}), all of it below one half. To be short is easy; to stay good is the task."), holds=lambda a: a.follows != "worse"),
    ],
    model_answer='''my_pairs, my_prompts = [], list(pairs.shuffle(1).select(range(400))["prompt"])
for prompt, *two in zip(my_prompts, *(cu.generate(biased.model, tokenizer, my_prompts, seed=i) for i in (1, 2))):
    grades = [cu.judge(prompt[-1]["content"], text).grade for text in two]
    best, worst = sorted(two, key=lambda text: (-cu.judge(prompt[-1]["content"], text).grade, len(text)))
    if grades[0] != grades[1] or longer(worst, best):
        sides = {side: [{"role": "assistant", "content": text}] for side, text in (("chosen", best), ("rejected", worst))}
        my_pairs.append({"prompt": prompt} | sides)
my_args = replace(args, learning_rate=4e-4, max_steps=30)  # as high a rate as that of `biased`, and longer
mine = cu.train_dpo(biased.model, tokenizer, Dataset.from_list(my_pairs), my_args, beta=beta)
texts = {"our answers": cu.generate(mine.model, tokenizer, prompts, seed=seed), "their answers": said_biased}
found = {name: cu.judge_all(prompts, texts[f"{key} answers"]) for name, key in (("ours", "our"), ("theirs", "their"))}
my_answer = texts | found
''',
    read=read_shorter,
    done=N_("{ours} words instead of {theirs}, and not worse: win rate {rate} ({low} – {high}) on {count} prompts."),
)  # fmt: skip

# ---------------------------------------------------------------- labs.stop_at


def stop_at(values, patience):
    best = 0
    for i, value in enumerate(values):
        if value > values[best]:
            best = i
        elif i - best >= patience:
            break
    return best


def curves() -> list[tuple]:
    return [
        ([0.5, 0.7, 0.9, 0.6, 0.3, 0.1], 2),
        ([0.5, 0.8, 0.7, 0.6, 0.95, 0.9], 2),
        ([0.5, 0.8, 0.7, 0.85, 0.6, 0.5, 0.4, 0.9], 3),
        ([0.1, 0.2, 0.3], 2),
        ([0.6, 0.6, 0.6, 0.6, 0.7], 3),
        ([-3.0, -2.0, -2.5, -2.2, -1.0], 1),
        ([0.5, 0.8, 0.7, 0.6, 0.9, 0.1, 0.2, 0.3, 0.95], 2),
        ([0.6, 0.6, 0.6, 0.5, 0.5, 0.9], 2),
        ([0.1, 0.1, 0.2], 2),
        ([0.1, 0.1, 0.2], 1),
        ([0.2, 0.1, 0.2, 0.3], 2),
        ([0.1, 0.1], 2),
        ([0.1, 0.1, 0.2, 0.1, 0.3], 2),
        ([0.2, 0.1, 0.2, 0.3], 3),
    ]


def stopping(patience_off=0, at_best=True, later=lambda value, best: value > best):
    """A wrong function: one that waits longer or shorter, returns where it stops, or takes another value for better."""

    def stop(values, patience):
        best = i = 0
        for i, value in enumerate(values):
            if i and later(value, values[best]):
                best = i
            elif i - best >= patience + patience_off:
                break
        return best if at_best else i

    return stop


def never_reset(values, patience):
    best = waited = 0
    for i, value in enumerate(values[1:], 1):
        if value > values[best]:
            best = i
        elif (waited := waited + 1) == patience:
            break
    return best


def previous_value(values, patience):
    waited = 0
    for i, (last, value) in enumerate(itertools.pairwise(values), 1):
        waited = 0 if value > last else waited + 1
        if waited == patience:
            return values.index(max(values[: i + 1]))
    return values.index(max(values))


def last_if_never(values, patience):
    best = stop_at(values, patience)
    return best if len(values) - 1 - best >= patience else len(values) - 1


@dataclass(repr=False)
class StopAt(FunctionExercise):
    """A position may be any whole number, of NumPy's or PyTorch's too."""

    def read(self, result):
        return int(result) if hasattr(result, "__index__") and not isinstance(result, bool) else result


STOP_AT = StopAt(
    "labs.stop_at",
    N_("Patience decides when you stop, but the model that you keep is the best one so far; and nobody sees the points that come after."),
    (N_("Keep the position of the best value so far, and go through the values once."),
     N_("When is your patience at its end? When so many values in a row have brought nothing better."),
     N_("Stop as soon as i - best reaches patience, and return best, not i. Only a value that is higher is better.")),
    [
        Mistake("never_reset", N_("You never set the counter back. Patience ends when so many values *in a row* bring nothing better."), never_reset),
        Mistake("previous_value", N_("You compare with the value before. Compare with the best so far."), previous_value),
        Mistake("last_if_never", N_("Where patience never runs out you return the last position. The best one is asked for there too."), last_if_never),
        Mistake("fixed_patience", N_("Patience is fixed at 2 inside your function. It is an argument."), before=lambda values, patience: (values, 2)),
        Mistake("where_it_stops", N_("You return where the run stops. Kept is the best point before: the checkpoint that you go back to."), stopping(at_best=False)),
        Mistake("sees_the_future", N_("You take the best of all values. But once your patience is at its end, training has stopped: later values do not exist."), lambda values, patience: values.index(max(values))),
        Mistake("one_late", N_("You wait for one value more than patience says."), stopping(1)),
        Mistake("one_early", N_("You stop one value too early."), stopping(-1)),
        Mistake("ties_count", N_("You take an equal value for a better one. Then a plateau never ends."), stopping(later=lambda value, best: value >= best)),
        Mistake("lower_is_better", N_("You look for the lowest value. Here higher is better; for a loss one gives its negative."), stopping(later=lambda value, best: value < best)),
        Mistake("first_fall", N_("You stop at the first value that is lower than the one before it. Single points are noisy; that is what patience is for."), lambda values, patience: next((i for i, (a, b) in enumerate(itertools.pairwise(values)) if b < a), len(values) - 1)),
        Mistake("from_one", N_("Positions begin at 0."), after=lambda best: best + 1),
        Mistake("last", N_("You return the last point."), lambda values, patience: len(values) - 1),
        Mistake("value", N_("You return the value; asked for is its position."), lambda values, patience: values[stop_at(values, patience)]),
    ],
    right=stop_at, cases=curves,
)  # fmt: skip

# ---------------------------------------------------------------- labs.first_loss

WAYS = ("adapter off", "merged", "copy")


def read_first(answer) -> SimpleNamespace:
    """The predictions by way."""
    return SimpleNamespace(said={way: answer[way] for way in WAYS})


FIRST_LOSS = DataExercise(
    "labs.first_loss",
    N_("ln 2 at the first step says that policy and reference are one model. Look at it before every long run: no later number shows so surely that the reference is the right one."),
    (N_("The first loss is ln 2 exactly when policy and reference give the same log-probabilities."),
     N_("The policy is the model after SFT: the base and the adapter that SFT has trained. Which of the three references lacks something?"),
     N_("With the adapter off, what is left is the model before SFT.")),
    [
        Mistake("not_three", N_("Give a dict with a word for each of “adapter off”, “merged” and “copy”: “ln 2” or “other”.")),
        Mistake("other_words", N_("Each prediction is one of two words: “ln 2” or “other”."), holds=lambda a: all(word in ("ln 2", "other") for word in a.said.values())),
        Mistake("adapter_off", N_("With the adapter off the reference is the base model, before SFT. The policy has the SFT in it: do the two agree before the first step?"), holds=lambda a: a.said["adapter off"] == "other"),
        Mistake("merged", N_("Merging adds the adapter's product to the weights: the sum is the same, up to rounding. Is it another model?"), holds=lambda a: a.said["merged"] == "ln 2"),
        Mistake("copy", N_("A copy with its adapter on is the same model. What could differ before the first step?"), holds=lambda a: a.said["copy"] == "ln 2"),
    ],
    model_answer='''my_prediction = {"adapter off": "other", "merged": "ln 2", "copy": "ln 2"}''',
    read=read_first,
    done=N_("Two references are the model after SFT; with the adapter off it is another one."),
)  # fmt: skip

EXERCISES = [IPO, ROBUST, OWN_LOSS, RANK_PAIR, FLIP_LABELS, SHORTER, STOP_AT, FIRST_LOSS]
