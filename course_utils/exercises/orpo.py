"""The exercises of the ORPO lesson: a right answer, examples, and a row for each slip that people make."""

import math
from collections.abc import Sequence
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from .. import losses as cu  # in the solutions, as learners call it
from ..i18n import N_
from .compare import real
from .core import AVERAGED, DataExercise, FunctionExercise, Mistake, todo
from .predict import change_one

# ---------------------------------------------------------------- orpo.log_odds


def log_odds(mean_logps):
    import torch

    return mean_logps - torch.log(-torch.expm1(mean_logps))


def some_means() -> list[tuple]:
    return [(torch.tensor(values),) for values in ([-0.7], [-0.1, -1.0, -3.0], [-1e-9, -1e-6, -30.0, -100.0])]


def naive(mean_logps):
    return mean_logps - torch.log(1 - mean_logps.exp())


def cushioned(mean_logps):
    return mean_logps - torch.log(1 - mean_logps.exp() + 1e-8)


def naive_ratio(chosen, rejected):
    return naive(chosen) - naive(rejected)


PROBABILITY_RATIO = N_("You compare probabilities, not odds. Near P = 1 the two part company: from 0.9 to 0.99 the probability hardly moves, the odds grow elevenfold.")  # fmt: skip
BASE_TWO = N_("You use the logarithm to base 2. The paper, PyTorch and TRL use the natural one.")
CANCELS = N_("Right on paper. But in single precision 1 - exp(log P) loses its digits when P is near 1, and is 0 for text that the model knows well: the odds become infinite, the weights NaN. (log1p does not help: it is exact where its argument is near 0, not near -1.)")  # fmt: skip
NO_EXP = N_("You use log P where P is meant: 1 - P needs the probability, not its log.")
EPSILON = N_("A small number inside the log keeps it finite, and makes it wrong: for text that the model knows well, 1 - P is smaller than your number. Compute 1 - P so that it keeps its digits.")  # fmt: skip

LOG_ODDS = FunctionExercise(
    "orpo.log_odds",
    N_("log P - log(1 - P), with 1 - P computed as -expm1(log P), which keeps its digits when P is close to 1."),
    (N_("You are given log P. Odds are P / (1 - P): what is the log of a quotient?"),
     N_("You need log(1 - P), and P is the exponential of what you are given. What happens to 1 - P when P rounds to 1?"),
     N_("torch.expm1(x) is exp(x) - 1 without loss of digits; its negative is 1 - P.")),
    [
        Mistake("cancels", CANCELS, naive),
        Mistake("epsilon", EPSILON, cushioned),
        Mistake("no_log", N_("Those are the odds themselves. They run from 0 to infinity; you were asked for their log."), after=torch.exp),
        Mistake("no_exp", NO_EXP, lambda x: x - torch.log(1 - x)),
        Mistake("one_plus", N_("You divide by 1 + P. The odds compare what happens with what does not; how likely is that it does not?"), lambda x: x - torch.log1p(x.exp())),
        Mistake("upside_down", N_("Those are the odds against. For an even chance both are 1, but which way should they go as P grows?"), after=lambda odds: -odds),
        Mistake("complement_only", N_("That is log(1 - P) alone. Odds are a quotient of two probabilities."), lambda x: torch.log(-torch.expm1(x))),
        Mistake("unchanged", N_("You return what you were given (the log-sigmoid of the log odds is log P again). Odds compare a probability with what is left of 1."), lambda x: x),
        Mistake("probability", N_("That is the probability P. The odds are P / (1 - P), and their log is asked for."), torch.exp),
        Mistake("base_two", BASE_TWO, after=lambda odds: odds / math.log(2)),
        *AVERAGED,
    ],
    right=log_odds, cases=some_means,
)  # fmt: skip

# ---------------------------------------------------------------- orpo.log_odds_ratio, orpo.delta and orpo.loss


def log_odds_ratio(chosen_mean_logps, rejected_mean_logps):
    return cu.log_odds(chosen_mean_logps) - cu.log_odds(rejected_mean_logps)


def delta(chosen_mean_logps, rejected_mean_logps):
    import torch

    return torch.sigmoid(cu.log_odds(rejected_mean_logps) - cu.log_odds(chosen_mean_logps))


def orpo_loss(nll, chosen_mean_logps, rejected_mean_logps, lam):
    import torch.nn.functional as F

    log_odds_ratio = cu.log_odds(chosen_mean_logps) - cu.log_odds(rejected_mean_logps)
    return nll - lam * F.logsigmoid(log_odds_ratio)


def two_means() -> list[tuple]:
    return [
        (torch.tensor([-0.25]), torch.tensor([-0.2])),
        (torch.tensor([-0.1, -1.0, -0.4, -0.6]), torch.tensor([-0.3, -0.6, -2.0, -0.6])),
        (torch.tensor([-1e-6, -1e-9, -100.0, -1e-10]), torch.tensor([-4.0, -1e-9, -0.02, -1e-9])),
        (torch.tensor([-0.5, -90.0]), torch.tensor([-0.3, -1e-9])),
    ]


def with_nll() -> list[tuple]:
    extra = [([2.2], 0.1), ([0.9, 1.4, 0.6, 0.7], 0.3), ([0.05, 1.7, 0.4, 0.8], 2.5), ([1.1, 0.2], 0.0)]
    return [(torch.tensor(nll), *means, lam) for (nll, lam), means in zip(extra, two_means())]


LOG_ODDS_RATIO = FunctionExercise(
    "orpo.log_odds_ratio",
    N_("The log of a quotient of odds is the difference of the two log odds, chosen minus rejected."),
    (N_("You have the log odds of one answer from the exercise before. How do you compare two?"),
     N_("The log of a ratio is a difference."),
     N_("Log odds of the chosen answer minus log odds of the rejected one; use cu.log_odds, or your own.")),
    [
        Mistake("cancels", CANCELS, naive_ratio, remark=True),
        Mistake("epsilon", EPSILON, lambda c, r: cushioned(c) - cushioned(r)),
        Mistake("swapped", N_("Turned round: it would be positive when the rejected answer has the better odds."), before=lambda c, r: (r, c)),
        Mistake("probability_ratio", PROBABILITY_RATIO, lambda c, r: c - r),
        Mistake("no_log", N_("That is the odds ratio itself. The loss wants its log, which is 0 when both are equal."), after=torch.exp),
        Mistake("no_exp", NO_EXP, lambda c, r: (c - torch.log(1 - c)) - (r - torch.log(1 - r))),
        Mistake("divided", N_("You divide one log by the other. The log of a ratio is a difference of logs."), lambda c, r: log_odds(c) / log_odds(r)),
        Mistake("difference_of_odds", N_("You subtract odds. You were asked for the log of their quotient."), lambda c, r: log_odds(c).exp() - log_odds(r).exp()),
        Mistake("complement_sign", N_("The two log(1 - P) have the wrong sign: in odds, 1 - P stands in the denominator."), lambda c, r: (c - r) + (torch.log(-torch.expm1(c)) - torch.log(-torch.expm1(r)))),
        Mistake("added", N_("You add the two log odds. The log of a quotient is a difference."), lambda c, r: log_odds(c) + log_odds(r)),
        Mistake("sigmoid_taken", N_("The log-sigmoid belongs to the loss. Here the log odds ratio alone is asked for."), after=F.logsigmoid),
        Mistake("base_two", BASE_TWO, after=lambda ratio: ratio / math.log(2)),
        *AVERAGED,
    ],
    right=log_odds_ratio, cases=two_means,
)  # fmt: skip

DELTA = FunctionExercise(
    "orpo.delta",
    N_("1 / (1 + OR) is σ(-log OR): the weight of a pair, one half at equal odds, near 1 when it is ranked wrongly."),
    (N_("Eq. 9 needs the odds ratio itself. What undoes a log?"),
     N_("δ must be one half for equal odds, and fall as the chosen answer's odds get better."),
     N_("torch.sigmoid(-log odds ratio) is 1 / (1 + odds ratio).")),
    [
        Mistake("cancels", CANCELS, lambda c, r: torch.sigmoid(-naive_ratio(c, r)), remark=True),
        Mistake("epsilon", EPSILON, lambda c, r: torch.sigmoid(cushioned(r) - cushioned(c))),
        Mistake("upside_down", N_("Your weight grows as the pair is ranked better. Then the model would work on what it knows and leave its mistakes alone."), before=lambda c, r: (r, c)),
        Mistake("no_exp", NO_EXP, lambda c, r: torch.sigmoid((r - torch.log(1 - r)) - (c - torch.log(1 - c)))),
        Mistake("no_one", N_("You left out the 1 in the denominator: the weight has no upper end, and equal odds would count fully."), lambda c, r: torch.exp(-log_odds_ratio(c, r))),
        Mistake("log_inside", N_("You put the log odds ratio where the odds ratio belongs. It can be negative; a weight should not."), lambda c, r: 1 / (1 + log_odds_ratio(c, r))),
        Mistake("probability_ratio", PROBABILITY_RATIO, lambda c, r: torch.sigmoid(r - c)),
        Mistake("log_of_it", N_("That is the log of δ, or its negative. The gradient is weighted with δ itself."), after=torch.log),
        *AVERAGED,
    ],
    right=delta, cases=two_means,
)  # fmt: skip

LOSS = FunctionExercise(
    "orpo.loss",
    N_("Eqs. 6 and 7: the NLL, plus λ times the negative log-sigmoid of the log odds ratio."),
    (N_("Two terms, added. Which of them has the weight λ?"),
     N_("The second is a negative log-likelihood too: that the chosen answer has the better odds."),
     N_("nll + lam × -F.logsigmoid(log odds ratio), one number for each pair.")),
    [
        Mistake("cancels", CANCELS, lambda nll, c, r, lam: nll - lam * F.logsigmoid(naive_ratio(c, r)), remark=True),
        Mistake("epsilon", EPSILON, lambda nll, c, r, lam: nll - lam * F.logsigmoid(cushioned(c) - cushioned(r))),
        Mistake("lambda_on_nll", N_("λ weighs the wrong term. With λ = 0 the loss should be plain SFT; with yours, SFT would vanish."), lambda nll, c, r, lam: lam * nll - F.logsigmoid(log_odds_ratio(c, r))),
        Mistake("lambda_on_both", N_("λ weighs both terms. It would only scale the loss; what it is for is the balance between the two."), lambda nll, c, r, lam: lam * (nll - F.logsigmoid(log_odds_ratio(c, r)))),
        Mistake("shared_weight", N_("You take λ from one term to give it to the other. In ORPO the NLL always counts fully; λ weighs the second term only."), lambda nll, c, r, lam: (1 - lam) * nll - lam * F.logsigmoid(log_odds_ratio(c, r))),
        Mistake("no_lambda", N_("λ does not enter. Then both terms weigh the same, whatever the learner sets."), before=lambda nll, c, r, lam: (nll, c, r, 1.0)),
        Mistake("fixed_lambda", N_("λ is fixed at 0.1 inside your function. It is an argument: whoever calls it with another λ gets the wrong answer."), before=lambda nll, c, r, lam: (nll, c, r, 0.1)),
        Mistake("lambda_inside", N_("λ stands inside the sigmoid, as β does in DPO. In ORPO it weighs the whole term, from outside."), lambda nll, c, r, lam: nll - F.logsigmoid(lam * log_odds_ratio(c, r))),
        Mistake("lambda_twice", N_("λ is applied twice. Once, on the odds-ratio term, is enough."), before=lambda nll, c, r, lam: (nll, c, r, lam * lam)),
        Mistake("swapped", N_("The penalty falls on the chosen answer: the loss gets smaller as the rejected one gains. Look at the order of the two."), before=lambda nll, c, r, lam: (nll, r, c, lam)),
        Mistake("sign", N_("The second term has the wrong sign: it lowers the loss of pairs that are ranked wrongly. A log-sigmoid is never positive; what must a penalty be?"), before=lambda nll, c, r, lam: (nll, c, r, -lam)),
        Mistake("nll_sign", N_("The NLL enters with a minus: training would unlearn the chosen answers. Is it a loss or a likelihood?"), before=lambda nll, c, r, lam: (-nll, c, r, lam)),
        Mistake("no_log", N_("A sigmoid without its log: a badly misranked pair would hardly count."), lambda nll, c, r, lam: nll - lam * torch.sigmoid(log_odds_ratio(c, r))),
        Mistake("no_sigmoid", N_("The bare log odds ratio has no end: pushing a well-ranked pair apart would pay forever."), lambda nll, c, r, lam: nll - lam * log_odds_ratio(c, r)),
        Mistake("probability_ratio", PROBABILITY_RATIO, lambda nll, c, r, lam: nll - lam * F.logsigmoid(c - r)),
        Mistake("no_exp", NO_EXP, lambda nll, c, r, lam: nll - lam * F.logsigmoid((c - torch.log(1 - c)) - (r - torch.log(1 - r)))),
        Mistake("no_nll", N_("The NLL is missing. Without it nothing holds the text together, and there is no reference to do it."), before=lambda nll, c, r, lam: (0 * nll, c, r, lam)),
        Mistake("base_two", BASE_TWO, lambda nll, c, r, lam: nll - lam * F.logsigmoid(log_odds_ratio(c, r)) / math.log(2)),
        *AVERAGED,
    ],
    right=orpo_loss, cases=with_nll, gradient_of=(0, 1, 2), extreme=2,
)  # fmt: skip

# ---------------------------------------------------------------- orpo.loss_weights


def preferred(verdicts) -> list[float]:
    return [float(verdict.preferred) for verdict in verdicts]


def interval(paired: Sequence[float]) -> tuple[float, float, float]:
    """The mean of what the prompts gave, one number each, and the ends of its 95% interval; all of a single one's."""
    numbers = torch.tensor(paired, dtype=torch.double)
    mean = numbers.mean().item()
    half = 1.96 * numbers.std().item() / len(numbers) ** 0.5 if len(numbers) > 1 else math.inf
    return mean, mean - half, mean + half


def clearly_below(ours: list[float], theirs: list[float]) -> bool:
    """Whether ours are lower by more than the 95% interval of the paired differences allows for chance."""
    return interval([b - a for a, b in zip(ours, theirs)])[1] > 0


def read_weights(answer) -> SimpleNamespace:
    """The runs by λ, the choice, and of the first half of the prompts what was preferred and fluent.

    The second half is for the report. (Not every other prompt: the bundled ones are in two languages by turns.)
    """
    runs, choice = answer
    if not runs and choice is None:
        raise todo()
    verdicts = {lam: list(run["verdicts"]) for lam, run in runs.items()}
    halves = {lam: (found[: len(found) // 2], found[len(found) // 2 :]) for lam, found in verdicts.items()}
    wins = {lam: preferred(first) for lam, (first, _second) in halves.items()}
    fluent = {lam: [float(one.fluent) for one in first] for lam, (first, _second) in halves.items()}
    good = max(fluent.values(), key=sum)
    sound = [lam for lam in runs if not clearly_below(fluent[lam], good)]
    best, nll = max(sound, key=lambda lam: sum(wins[lam])), {lam: run["nll"] for lam, run in runs.items()}
    rest = halves[choice][1] if choice in halves else []
    rate = f"{sum(preferred(rest)) / max(1, len(rest)):.0%}"
    names = dict(verdicts=verdicts, choice=choice, wins=wins, sound=sound, best=best, nll=nll)
    return SimpleNamespace(**names, rate=rate, count=len(runs))


LOSS_WEIGHTS = DataExercise(
    "orpo.loss_weights",
    N_("Among the runs whose text stays fluent, the judge's score decides; the NLL only warns."),
    (N_("Five values or more, far apart, with 0 among them: it shows what SFT alone does."),
     N_("Steps of one order of magnitude show more than many close values. Which column decides, and which may veto?"),
     N_("Leave out runs that are clearly less fluent than the best; of the others take the λ with the most preferred answers.")),
    [
        Mistake("not_two", N_("Give two things: the runs by λ, each with its verdicts and its nll, and the λ that you would choose.")),
        Mistake("not_weights", N_("A weight λ is a number from 0 upwards. With a negative one the rejected answer would be rewarded."), holds=lambda a: all(real(lam, 0) for lam in a.nll)),
        Mistake("too_few", N_("Try at least five different values; with fewer, a rise and a fall look the same."), holds=lambda a: a.count >= 5),
        Mistake("no_zero", N_("λ = 0 is missing. Without it you cannot say what the odds-ratio term adds to SFT."), holds=lambda a: 0 in a.nll),
        Mistake("not_judged", N_("Each run needs the judge's verdicts on the same prompts, at least 60 of them, and its NLL, a number above 0."), holds=lambda a: len({*map(len, a.verdicts.values())}) == 1 and all(len(found) >= 60 and all(one.judged for one in found) for found in a.verdicts.values()) and all(real(value, 0) and value > 0 for value in a.nll.values())),
        Mistake("copied", N_("All rows are alike. Does every run really get its own λ?"), holds=lambda a: len({str(found) for found in a.verdicts.values()}) > 1),
        Mistake("not_in_table", N_("Your choice is no row of your table. Choose a λ that you have tried."), holds=lambda a: a.choice in a.nll),
        Mistake("not_fluent", N_("Your choice writes clearly less fluent text than another run. A preferred answer in broken text is luck; fluency has a veto."), holds=lambda a: a.choice in a.sound),
        Mistake("lowest_nll", N_("You chose the lowest NLL. It only measures how well the chosen answers are imitated, and is lowest when nothing else is asked. Who judges the answers?"), holds=lambda a: a.choice != min(a.nll, key=a.nll.get) or not clearly_below(a.wins[a.choice], a.wins[a.best])),
        Mistake("not_best", N_("Another λ in your table is clearly better by the judge, and as fluent."), holds=lambda a: not clearly_below(a.wins[a.choice], a.wins[a.best])),
    ],
    model_answer='''my_runs = {}
for weight in (0.0, 0.1, 0.3, 1.0, 3.0):
    run = cu.train_orpo(base, tokenizer, some_pairs, short_args, lam=weight)
    found = cu.judge_all(some, cu.generate(run.model, tokenizer, some, seed=seed))
    my_runs[weight] = {"verdicts": found, "nll": ends(run, "nll_loss")[1]}
my_choice = max(my_runs, key=lambda weight: cu.share(my_runs[weight]["verdicts"][: len(some) // 2]))
my_answer = my_runs, my_choice
''',
    read=read_weights,
    done=N_("{count} values of λ. On the first half of the prompts your choice is as good as the best; on the second half, which had no part in the choice, {rate} of its answers are preferred."),
)  # fmt: skip

# ---------------------------------------------------------------- orpo.versus_dpo


def by_seed(verdicts) -> list[list]:
    """A list of verdicts for each seed, of which there may be one."""
    found = list(verdicts)
    return [list(one) for one in found] if found and not hasattr(found[0], "grade") else [found]


def compared(ours: list[list], theirs: list[list], win: str, loss: str) -> tuple[str, dict]:
    """Which word the paired comparison over the prompts allows, of `win`, `loss` and "undecided"; and words for it."""
    signs = [[(a.grade > b.grade) - (a.grade < b.grade) for a, b in zip(*seed)] for seed in zip(ours, theirs)]
    points = [(1 + sum(seeds) / len(seeds)) / 2 for seeds in zip(*signs)]
    rate, low, high = interval(points) if points else (0.5, 0.0, 1.0)
    follows = win if low > 0.5 else loss if high < 0.5 else "undecided"
    return follows, dict(rate=f"{rate:.1%}", low=f"{low:.1%}", high=f"{high:.1%}", count=len(ours[0]))


#: What holds of the verdicts of any comparison.
ENOUGH_JUDGED = [
    Mistake("too_few", N_("Fewer than 100 prompts: the interval would be so wide that hardly any difference shows."), holds=lambda a: a.count >= 100),
    Mistake("not_judged", N_("Some verdicts are not judged: the judge knows only prompts of the bundled world. Compare on those."), holds=lambda a: a.judged),
]  # fmt: skip


def read_match(answer) -> SimpleNamespace:
    """Both sides' verdicts, their compute, and which conclusion the paired comparison over the prompts allows."""
    ours, theirs = by_seed(answer["orpo"]), by_seed(answer["dpo"])
    compute = [answer["compute"][name] for name in ("orpo", "dpo")]
    said, judged = answer["conclusion"], all(one.judged for seed in (*ours, *theirs) for one in seed)
    alike = [*map(len, ours)] == [*map(len, theirs)] == [len(ours[0])] * len(ours)
    follows, words = compared(ours, theirs, "orpo", "dpo")
    return SimpleNamespace(alike=alike, compute=compute, said=said, judged=judged, follows=follows, **words)


VERSUS_DPO = DataExercise(
    "orpo.versus_dpo",
    N_("The same compute and the same prompts for both; and a winner only where the interval leaves one half out."),
    (N_("Count the compute of both sides first: 6 a token for what is trained, 2 more for DPO's reference."),
     N_("Choose ORPO's number of steps so that both sums agree, then judge both on the same prompts."),
     N_("A point for each prompt: 1, one half or 0. When does the interval of their mean leave one half out? Only then is there a winner.")),
    [
        Mistake("not_four", N_("Give a dict with the verdicts under “orpo” and “dpo”, their “compute” (a dict with the same two names) and your “conclusion”.")),
        Mistake("other_prompts", N_("The two sides have a different number of verdicts. Both must answer the same prompts."), holds=lambda a: a.alike),
        *ENOUGH_JUDGED,
        Mistake("no_compute", N_("The compute of each side is a number above 0, in one unit: 6 a token for what is trained, 2 more for DPO's reference."), holds=lambda a: all(real(value, 0) and value > 0 for value in a.compute)),
        Mistake("unequal_compute", N_("The two sides did not have the same compute (within 10%). Have you counted SFT, and the reference's forward passes? Then choose the number of steps."), holds=lambda a: max(a.compute) <= 1.1 * min(a.compute)),
        Mistake("no_conclusion", N_("The conclusion is one of three words: orpo, dpo, undecided."), holds=lambda a: isinstance(a.said, str) and a.said in ("orpo", "dpo", "undecided")),
        Mistake("interval_holds_half", N_("You name a winner, but the interval of the paired comparison, {low} – {high}, contains one half: chance alone could explain what you saw."), holds=lambda a: a.said == a.follows or a.follows != "undecided"),
        Mistake("undecided_though_clear", N_("The interval of the paired comparison, {low} – {high}, leaves one half out. Then your data do name a winner; say which."), holds=lambda a: a.said == a.follows or a.said != "undecided"),
        Mistake("wrong_winner", N_("The interval, {low} – {high}, is on the other side of one half. Are the points those of ORPO's answers?"), holds=lambda a: a.said == a.follows),
    ],
    model_answer='''from datasets import load_dataset

same = {"per_device_train_batch_size": 8, "seed": seed, **setup.training_args}
lessons = load_dataset("json", data_files=str(setup.instructions / "train.jsonl"), split="train")
my_sft = cu.train_sft(base, tokenizer, lessons, TrainingArguments(learning_rate=3e-4, max_steps=80, **same))
my_args = TrainingArguments(learning_rate=2e-4, max_steps=100, **same)
my_dpo = cu.train_dpo(my_sft.model, tokenizer, pairs, my_args, beta=0.3)
compute = {"dpo": 6 * my_sft.tokens + 8 * my_dpo.tokens}
steps = round(orpo_args.max_steps * compute["dpo"] / (6 * orpo.tokens))
my_orpo = cu.train_orpo(base, tokenizer, pairs, replace(orpo_args, max_steps=steps), lam=lam)
compute["orpo"] = 6 * my_orpo.tokens
my_answer = {"compute": compute}
for name, run in (("orpo", my_orpo), ("dpo", my_dpo)):
    my_answer[name] = cu.judge_all(prompts, cu.generate(run.model, tokenizer, prompts))
both = zip(my_answer["orpo"], my_answer["dpo"])
points = pd.Series([(ours.grade > theirs.grade) + (ours.grade == theirs.grade) / 2 for ours, theirs in both])
room = 1.96 * points.std() / len(points) ** 0.5
low, high = points.mean() - room, points.mean() + room
my_answer["conclusion"] = "orpo" if low > 0.5 else "dpo" if high < 0.5 else "undecided"
''',
    read=read_match,
    done=N_("Equal compute, {count} prompts, win rate {rate} ({low} – {high}, paired over the prompts): the conclusion follows."),
)  # fmt: skip

CHANGE_ONE = change_one(
    "orpo.change_one",
    """my_prediction = {"nll": "up", "log odds ratio": "up", "preferred": "same", "fluent": "same"}
mine = cu.train_orpo(base, tokenizer, pairs, orpo_args, lam=3.0)
mine_verdicts = cu.judge_all(prompts, cu.generate(mine.model, tokenizer, prompts, seed=seed))
my_before, my_after = numbers_of(orpo, verdicts["orpo"]), numbers_of(mine, mine_verdicts)
my_answer = {"lam": 3.0}, my_prediction, my_before, my_after
""",
    N_("A prediction turns a run into a test of what you think; without one every result looks as expected."),
)

EXERCISES = [LOG_ODDS, LOG_ODDS_RATIO, DELTA, LOSS, LOSS_WEIGHTS, VERSUS_DPO, CHANGE_ONE]
