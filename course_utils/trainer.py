"""For learners, after losses.py and batch.py: Hugging Face's `Trainer` for SFT, DPO, ORPO, or a loss of your own."""

import copy
import inspect
import os
import warnings
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from .batch import REF_LOGPS, Row, SimilarLengths, batch_logps, encode_rows, frozen, pack, shares_prompts
from .i18n import _, local_decimals
from .interrupt import Complete, Guard, checkpoint_of, first_interrupt, same_random_state
from .losses import dpo_loss, log_odds_ratio, orpo_loss

# oneDNN keeps a compiled kernel for each length that a batch ever had; its own limit of 1024 takes gigabytes.
for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(cache, "64")

SHOW_PROGRESS: list[Callable] = []  # each training makes its own of these callbacks, and calls their `close`
TOKENS = ("chosen_tokens", "rejected_tokens")  # what a loss may ask for besides: how long the answers are


@dataclass
class Run:
    """What a training leaves."""

    model: PreTrainedModel  # the trained one
    log: list[dict]  # for each logged step, with TRL's names
    tokens: int  # that the model read, forward and backward, since it was last started; padding does not count
    finished: bool  # or interrupted
    data: Dataset  # that it was trained on


class PairTrainer(Trainer):
    """Hugging Face's Trainer with a batch of prompts and answers, and an objective on the answers' log-probabilities.

    objective: from `logps` and `counts` of `batch_logps` and a function that gives the reference's log-probabilities,
        to `(losses, shown)`: one loss a prompt, and what to log, by name, one number a prompt each.
    reference: the model that the policy starts from. per_token: losses are divided by the number of tokens (SFT).
    """

    collate = staticmethod(pack)

    def __init__(self, rows: list[Row], objective: Callable, reference: PreTrainedModel, per_token: bool, **settings):
        self.objective: Callable = objective
        self.reference, self.answers, self.tokens = reference, len(rows[0].answers), 0
        self.shown: dict[str, list[float]] = defaultdict(list)
        pad = settings["processing_class"].pad_token_id or 0
        shared = self.answers == 1 or shares_prompts(reference, rows, pad)
        super().__init__(train_dataset=rows, data_collator=lambda some: self.collate(some, pad, shared), **settings)
        self.model_accepts_loss_kwargs = per_token  # then the Trainer counts the labels of a step

    def _get_train_sampler(self, train_dataset=None):
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        lengths = [len(row) for row in self.train_dataset]
        return SimilarLengths(lengths, step, self.args.seed, lambda: self.state.epoch)

    def reference_logps(self, batch: dict[str, torch.Tensor], logps: torch.Tensor) -> torch.Tensor:
        """Those of the reference, (prompts, 2). ValueError if the policy does not start from it."""
        if (ref := batch.get("ref_logps")) is None:
            with frozen(self.reference):
                ref, _counts = batch_logps(self.reference, batch)
        gap, rounding = (logps - ref).abs(), 1e-4 if self.accelerator.mixed_precision == "no" else 2e-2
        if self.state.global_step == 0 and (gap > rounding * (1 + ref.abs())).any():
            words = _("before the first step policy and reference differ by up to {gap:.3g} nats, and must be one "
                      "model: leave out the columns {columns} of another reference, or an adapter that does not start "
                      "at zero")  # fmt: skip
            raise ValueError(local_decimals(words.format(gap=gap.max().item(), columns=", ".join(REF_LOGPS))))
        return ref

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.tokens += int((inputs["segments"] >= 0).sum())
        with self.accelerator.autocast():
            logps, counts = batch_logps(model, inputs, self.answers)
            losses, shown = self.objective(logps, counts, lambda: self.reference_logps(inputs, logps.detach()))
        for name, values in shown.items():
            self.shown[name].append(self.accelerator.gather(values.detach().float()).mean().item())
        if num_items_in_batch is None:
            return losses.mean()
        return losses.sum() / num_items_in_batch * self.accelerator.num_processes

    def log(self, logs, *args, **kwargs):
        if "loss" in logs:
            logs |= {name: sum(values) / len(values) for name, values in self.shown.items()}
            self.shown.clear()
        super().log(logs, *args, **kwargs)


def check_args(args: TrainingArguments, **at_the_call: float) -> None:
    """ValueError for settings of a TRL config that this trainer would have to ignore."""
    plain = {field.name: getattr(args, field.name) for field in fields(TrainingArguments) if field.init}
    usual = type(args)(**plain)  # this also lets accelerate take another precision than the training before
    for name in {field.name for field in fields(args) if field.init} - {*plain, "max_length", "dataset_num_proc"}:
        said, meant = getattr(args, name), at_the_call.get(name, getattr(usual, name))
        if said not in (meant, getattr(usual, name)):
            words = _("{config} has {name}={said}, where this trainer has {meant}; give β and λ at the call alone, and "
                      "for other settings of TRL's take TRL's own trainer")  # fmt: skip
            raise ValueError(words.format(config=type(args).__name__, name=name, said=said, meant=meant))


def released(model: PreTrainedModel) -> PreTrainedModel:
    """A copy without what TRL or accelerate may have set on the model, which ties a copy to the model's own weights."""
    fresh = copy.deepcopy(model)
    for module in fresh.modules():  # with an adapter, it is on the model in it
        for mark in ("forward", "_original_forward", "_is_accelerate_prepared"):
            vars(module).pop(mark, None)
    return fresh


@same_random_state()
def train(
    model, tokenizer, data: Dataset, rows: list[Row | None], args, peft_config, objective, per_token=False
) -> Run:
    """Train a copy of `model`, which is also the reference, and leave `model` as it was."""
    if peft_config is None and model.dtype != torch.float32:
        why = _("the weights are in {dtype}, where small steps round away; load the model in float32, as cu.load_model "
                "does, and leave the precision of the computation to bf16 or fp16 in the settings")  # fmt: skip
        raise ValueError(why.format(dtype=str(model.dtype).removeprefix("torch.")))
    args = copy.copy(args)
    args.logging_nan_inf_filter = False  # a NaN is an error, never a 0.0
    args.disable_tqdm = True  # SHOW_PROGRESS draws
    args._n_gpu = min(1, args.n_gpu)  # on several, the Trainer would split batches; tools/train.py is for these
    marked = any("forward" in vars(module) for module in model.modules())
    reference = released(model).to(args.device) if marked or model.device != args.device else model

    def policy() -> PreTrainedModel:
        set_seed(args.seed)
        fresh = released(model)
        return get_peft_model(fresh, copy.deepcopy(peft_config)) if peft_config else fresh  # PEFT fills a config in

    trained = policy()
    for module in trained.modules() if not per_token else ():  # as TRL: policy and reference must agree at first
        for name in ("p", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    with first_interrupt() as interrupt, ExitStack() as progress:
        shown = [progress.enter_context(closing(callback())) for callback in SHOW_PROGRESS]
        settings = {"args": args, "processing_class": tokenizer, "callbacks": [Guard(interrupt), *shown]}
        trainer = PairTrainer([row for row in rows if row], objective, reference, per_token, model=trained, **settings)
        trainer.remove_callback(PrinterCallback)
        with suppress(Complete):
            trainer.train(resume_from_checkpoint=checkpoint_of(args))
    tokens = int(trainer.accelerator.reduce(torch.tensor(trainer.tokens, device=args.device)))
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not all(values.isfinite().all() for values in state.values()):
        raise FloatingPointError(_("the weights are no longer finite; lower the learning rate"))
    if interrupt.is_set():
        message = _("interrupted after step {step} of {steps}: the model so far and its log are kept")
        if args.save_strategy != "no":
            message += _("; run the cell again with resume_from_checkpoint=True in the settings to go on")
        warnings.warn(message.format(step=trainer.state.global_step, steps=trainer.state.max_steps), stacklevel=4)
    clean = policy()  # the Trainer and accelerate leave marks on the one they trained, which a copy would carry along
    clean.load_state_dict(state)
    return Run(clean.to(args.device).eval(), trainer.state.log_history, tokens, not interrupt.is_set(), data)


def checked(loss: Callable, *arguments, **tokens) -> torch.Tensor:
    """`loss(*arguments, **tokens)`, if that is one finite number a pair with a gradient; else one clear error."""
    losses, expected = loss(*arguments, **tokens), tuple(arguments[0].shape)
    got = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
    name = getattr(loss, "__name__", "loss")
    if got != expected:
        words = _("{name} returned {got}; expected a tensor of shape {expected}, one loss a pair, of which the "
                  "trainer takes the mean")  # fmt: skip
        raise ValueError(words.format(name=name, got=got, expected=expected))
    if arguments[0].requires_grad and not losses.requires_grad:
        words = _("{name} returned numbers without a gradient; compute them from its arguments with torch alone, "
                  "without .detach(), .item(), .tolist() or NumPy")  # fmt: skip
        raise ValueError(words.format(name=name))
    if not losses.isfinite().all():
        pair = int(losses.isfinite().logical_not().nonzero()[0])
        given = ", ".join(f"{one[pair].item() if isinstance(one, torch.Tensor) else one:.4g}" for one in arguments)
        words = _("{name} returned {value} for the pair ({given}); where these are finite, fix the formula, and "
                  "where they are not, lower the learning rate")  # fmt: skip
        raise FloatingPointError(words.format(name=name, value=losses[pair].item(), given=given))
    return losses


def rewards(values: torch.Tensor, logps: torch.Tensor) -> dict[str, torch.Tensor]:
    """What TRL logs of the rewards and log-probabilities of both answers, (pairs, 2) each."""
    (chosen, rejected), (chosen_logps, rejected_logps) = values.T, logps.T
    return {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/accuracies": chosen > rejected,  # equal ones do not count: 0 before the first step
        "rewards/margins": chosen - rejected,
        "logps/chosen": chosen_logps,
        "logps/rejected": rejected_logps,
    }


def train_sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Dataset,
    args: TrainingArguments,
    peft_config: LoraConfig | None = None,
) -> Run:
    """Supervised fine-tuning: raise the log-probability of the demonstrated answers.

    demonstrations: columns `prompt` and `completion`, lists of messages. args, peft_config: as for `train_dpo`, but the
    adapter is merged in the end, so that the next stage can start from the model with another. The loss is the mean
    NLL of the completions' tokens, in nats.
    """
    check_args(args)
    rows = encode_rows(tokenizer, demonstrations, ("completion",), args)
    run = train(model, tokenizer, demonstrations, rows, args, peft_config, lambda logps, *_: (-logps[:, 0], {}), True)
    if peft_config:
        run.model = run.model.merge_and_unload().requires_grad_(True)  # type: ignore[operator]  # PEFT leaves it frozen
    return run


def train_dpo(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Dataset,
    args: TrainingArguments,
    beta: float = 0.1,
    loss: Callable = dpo_loss,
    peft_config: LoraConfig | None = None,
) -> Run:
    """Direct Preference Optimization (arXiv:2305.18290) from `model`, which is also the reference.

    pairs: columns `prompt`, `chosen`, `rejected`, lists of messages, from `load_preferences`. With the columns that
        `precompute_ref_logps` adds, the reference is not read again.
    args: any `TrainingArguments`. Prompt and answer are cut at `tokenizer.model_max_length` tokens, or the `max_length`
        of a TRL config; rows whose prompt alone is as long are left out, with a warning.
    loss: called with `(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta)`, the
        first four (pairs,), summed over tokens, in nats; returns (pairs,). `dpo_loss`, or your own. If it also has
        arguments named `chosen_tokens` and `rejected_tokens`, it is given the answers' numbers of tokens, (pairs,).
    peft_config: an adapter to train in place of all weights; the reference is then the model without it.
    The log has TRL's names. At the first step every margin is 0, so the loss is ln 2 with `dpo_loss`.
    """
    check_args(args, beta=beta)
    rows = encode_rows(tokenizer, pairs, ("chosen", "rejected"), args)
    asked = [name in inspect.signature(loss).parameters for name in TOKENS]

    def objective(logps, counts, reference):
        ref = reference()
        tokens = {name: number for name, number, wanted in zip(TOKENS, counts.T, asked) if wanted}
        return checked(loss, *logps.T, *ref.T, beta, **tokens), rewards(beta * (logps.detach() - ref), logps)

    return train(model, tokenizer, pairs, rows, args, peft_config, objective)


def train_orpo(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Dataset,
    args: TrainingArguments,
    lam: float = 0.1,
    loss: Callable = orpo_loss,
    peft_config: LoraConfig | None = None,
) -> Run:
    """Odds Ratio Preference Optimization (arXiv:2403.07691) from `model`, a base model; there is no reference.

    pairs, args, peft_config: as for `train_dpo`. lam: the weight λ of the paper, which TRL calls `beta`.
    loss: called with `(nll, chosen_mean_logps, rejected_mean_logps, lam)`, the first three (pairs,), in nats a token;
        returns (pairs,). `orpo_loss`, or your own.
    The log has TRL's names: `log_odds_chosen` is the log odds ratio, `log_odds_ratio` the log σ of it; `rewards/*` and
    `logps/*` are from *mean* log-probabilities, so that margins are far smaller than DPO's.
    """
    check_args(args, beta=lam)
    rows = encode_rows(tokenizer, pairs, ("chosen", "rejected"), args)

    def objective(logps, counts, _reference):
        means = logps / counts
        nll, odds = -means[:, 0], log_odds_ratio(*means.detach().T)
        terms = {"nll_loss": nll, "log_odds_chosen": odds, "log_odds_ratio": F.logsigmoid(odds)}
        return checked(loss, nll, *means.T, lam), rewards(lam * means.detach(), means) | terms

    return train(model, tokenizer, pairs, rows, args, peft_config, objective)
