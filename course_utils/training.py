"""Train with TRL. The only module that knows its trainers.

Every function takes a model, leaves it as it was, and returns a `Run` with a trained copy. So the model
before training is always at hand: to compare with, and as DPO's reference.

Long runs: the first interrupt of the kernel (■ in Jupyter, Ctrl-C) ends the training after the step at hand, and
the run so far comes back. With `save_strategy="steps"` TRL keeps checkpoints in `output_dir`, and with
`resume_from_checkpoint=True` the same cell goes on from the last one, or begins if there is none.
"""

import copy
import math
import os
import random
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from datasets import Dataset
from peft import LoraConfig
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from .i18n import _
from .live import LiveFigure


@dataclass
class Run:
    """What a training leaves: the trained `model`, TRL's `log_history` as `log`, untouched, and what it came from.

    tokens: how many the trained model read since it was last started, forward and backward, prompts and both
    answers, padding not counted. finished: False when it was interrupted. args: its settings.
    """

    model: PreTrainedModel
    log: list[dict]
    tokens: int
    finished: bool
    tokenizer: PreTrainedTokenizerBase
    args: SFTConfig | DPOConfig | ORPOConfig


@contextmanager
def first_interrupt() -> Iterator[threading.Event]:
    """An event that the first interrupt sets, instead of breaking off; the second one breaks off as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # where no interrupt arrives
        yield asked
        return

    def ask(_number, _frame):
        asked.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


class Complete(Exception):
    """The checkpoint to go on from was made after the last step."""


class Watch(TrainerCallback):
    """Show progress with the loss and the reward margin; stop when asked to, and at the first number that is none."""

    def __init__(self, interrupt: threading.Event):
        self.interrupt, self.figure = interrupt, LiveFigure()

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step >= state.max_steps:
            raise Complete  # the Trainer would take one more step
        hidden = not state.is_world_process_zero
        self.bar = tqdm(initial=state.global_step, total=state.max_steps, mininterval=1, ncols=88, disable=hidden)

    def on_log(self, args, state, control, logs, **kwargs):
        for name, value in logs.items():
            skipped = args.fp16 and name == "grad_norm"  # fp16's loss scaler leaves such a step out, and scales less
            if not math.isfinite(value) and not skipped:
                self.on_train_end(args, state, control)
                raise FloatingPointError(
                    _("step {step}: {name} is {value}; lower the learning rate or look at the last rows").format(
                        step=state.global_step, name=name, value=value
                    )
                )
        if "loss" in logs and state.is_world_process_zero:
            shown = {"loss": logs["loss"], "margin": logs.get("rewards/margins")}
            self.bar.set_postfix({k: f"{v:.3f}" for k, v in shown.items() if v is not None})
            done = self.bar.format_dict
            left = done["elapsed"] / (done["n"] - done["initial"] or 1) * (done["total"] - done["n"])
            self.figure.update(state.log_history, state.global_step, state.max_steps, left)

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(1)
        if self.interrupt.is_set():
            control.should_training_stop = True
            control.should_save = args.save_strategy != "no"

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()
        self.figure.close()


def released(model: PreTrainedModel) -> PreTrainedModel:
    """The model without what a trainer has set on it.

    TRL and accelerate give it another `forward`, which a copy would carry along, old weights and all; and accelerate
    leaves a model alone, mixed precision included, that it takes for prepared.
    """
    for module in model.modules():  # with an adapter, that is the model in it
        for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
            module.__dict__.pop(name, None)
    return model


def fresh_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy that answers with its own weights."""
    return released(copy.deepcopy(model))


def fitting_rows(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> Dataset:
    """Leave out rows whose prompt alone fills `max_length` tokens, and say how many and which.

    One more place is kept free for the start token that ORPOTrainer may add.
    """
    limit = (max_length or math.inf) - 1
    prompts = tokenizer.apply_chat_template(list(dataset["prompt"]), add_generation_prompt=True, return_dict=False)
    kept = [i for i, ids in enumerate(prompts) if len(ids) < limit]
    if not kept:
        raise ValueError(_("no row fits max_length={max_length} tokens; raise it").format(max_length=max_length))
    if len(kept) < len(dataset):
        first = next(i for i, ids in enumerate(prompts) if len(ids) >= limit)
        warnings.warn(
            _(
                "{left_out} of {total} rows left out, the first is row {first}: their prompts fill "
                "max_length={max_length} tokens; raise max_length to keep them"
            ).format(left_out=len(dataset) - len(kept), total=len(dataset), first=first, max_length=max_length),
            stacklevel=4,
        )
    return dataset.select(kept)


def length_order(dataset: Dataset, batch_size: int, seed: int) -> list[int]:
    """A random order of tokenized rows in which each batch holds rows of like length: less padding, a third faster.

    TRL's own "group_by_length" goes from long to short every 50 batches, and the curves with it.
    """
    rng = random.Random(seed)
    ids = [column for column in dataset.column_names if column.endswith("_ids")]
    lengths = [sum(map(len, row)) for row in zip(*(dataset[column] for column in ids))]
    order = rng.sample(range(len(lengths)), len(lengths))
    chunk = 50 * batch_size
    order = [
        i
        for start in range(0, len(order), chunk)
        for i in sorted(order[start : start + chunk], key=lengths.__getitem__)
    ]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [i for batch in rng.sample(batches, len(batches)) for i in batch]


def one_end_token(dataset: Dataset, end_token: int) -> Dataset:
    """Take away the end token that ORPOTrainer appends to an answer whose chat template wrote one already.

    It looks at the last token alone, and many templates write a line break after the end token.
    """

    def mend(row):
        for side in ("chosen", "rejected"):
            answer = [token for token in row[f"{side}_labels"] if token != -100]
            if answer[-1:] == [end_token] and end_token in answer[:-1]:
                for column in ("input_ids", "attention_mask", "labels"):
                    row[f"{side}_{column}"] = row[f"{side}_{column}"][:-1]
        return row

    return dataset.map(mend)


def count_tokens(model: PreTrainedModel):
    """Count the tokens that a model reads with gradients on; returns the counter and what ends the counting."""
    counter = {"tokens": 0}

    def count(_module, _args, inputs):
        if torch.is_grad_enabled():
            mask = inputs.get("attention_mask")
            counter["tokens"] += inputs["input_ids"].numel() if mask is None else int(mask.sum())

    return counter, model.register_forward_pre_hook(count, with_kwargs=True)


def make_trainer(trainer_class, model, tokenizer, dataset, args, peft_config, interrupt) -> tuple[Trainer, Dataset]:
    """A TRL trainer of a copy of `model`, and the rows in the order in which it reads them."""
    if peft_config is None and model.dtype != torch.float32:
        raise ValueError(
            _(
                "the weights are in {dtype}, where small steps round away; load the model in float32, as "
                "cu.load_model does, and leave the precision of the computation to bf16 or fp16 in the settings"
            ).format(dtype=str(model.dtype).removeprefix("torch."))
        )
    args = copy.copy(args)
    args.logging_nan_inf_filter = False  # a NaN is an error, never a 0.0
    args.disable_tqdm = True  # Watch draws the progress
    args._n_gpu = min(1, args.n_gpu)  # on several, the Trainer would split batches; `write_run` is for these
    if trainer_class is ORPOTrainer:
        args.max_length = args.max_length or min(512, tokenizer.model_max_length)  # what TRL would take for None
        args.remove_unused_columns = False  # TRL would do the same, with a warning
    in_order = args.train_sampling_strategy == "sequential"
    args.train_sampling_strategy = "sequential"  # length_order shuffles
    reference = {"ref_model": model} if trainer_class is DPOTrainer and peft_config is None else {}
    rows = fitting_rows(dataset, tokenizer, args.max_length)
    trainer = trainer_class(
        model=fresh_copy(model),
        args=args,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=copy.deepcopy(peft_config),  # PEFT fills it in
        callbacks=[Watch(interrupt)],
        **reference,
    )
    trainer.remove_callback(PrinterCallback)
    if trainer_class is ORPOTrainer:
        trainer.train_dataset = one_end_token(trainer.train_dataset, tokenizer.eos_token_id)
    if not in_order:
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        order = length_order(trainer.train_dataset, batch_size, args.seed)
        rows, trainer.train_dataset = rows.select(order), trainer.train_dataset.select(order)
    return trainer, rows


def checkpoint_of(args) -> str | None:
    """Where to go on: the checkpoint that the settings name, with True the last one in `output_dir`, if any."""
    if str(args.resume_from_checkpoint).lower() != "true":  # a word, when it comes from a command line
        return args.resume_from_checkpoint
    return get_last_checkpoint(args.output_dir) if os.path.isdir(args.output_dir) else None


def run_trainer(trainer_class, model, tokenizer, dataset, args, peft_config) -> Run:
    """Train a copy of `model` with a TRL trainer."""
    with first_interrupt() as interrupt:
        trainer, _rows = make_trainer(trainer_class, model, tokenizer, dataset, args, peft_config, interrupt)
        counter, counting = count_tokens(trainer.model)
        try:
            trainer.train(resume_from_checkpoint=checkpoint_of(args))
        except Complete:
            pass
        finally:
            counting.remove()
            trained = released(trainer.accelerator.unwrap_model(trainer.model))
            released(model)
    tokens = trainer.accelerator.gather(torch.tensor(counter["tokens"], device=trainer.accelerator.device))
    if not all(parameter.isfinite().all() for parameter in trained.parameters()):
        raise FloatingPointError(_("the weights are no longer numbers; lower the learning rate"))
    finished = not interrupt.is_set()
    if not finished:
        message = _("interrupted after step {step} of {steps}: the model so far and its log are kept")
        if args.save_strategy != "no":
            message += _("; run the cell again with resume_from_checkpoint=True in the settings to go on")
        steps = {"step": trainer.state.global_step, "steps": trainer.state.max_steps}
        warnings.warn(message.format(**steps), stacklevel=3)
    return Run(trained.eval(), trainer.state.log_history, int(tokens.sum()), finished, tokenizer, args)


def train_sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    args: SFTConfig,
    peft_config: LoraConfig | None = None,
) -> Run:
    """Supervised fine-tuning: raise the log-probability of the demonstrated answers.

    dataset: columns `prompt` and `completion`, lists of messages; only the completion's tokens count. An adapter is
    merged into its model in the end, so that the next stage can start from it with another.
    """
    run = run_trainer(SFTTrainer, model, tokenizer, dataset, args, peft_config)
    if peft_config:
        run.model = run.model.merge_and_unload()
    return run


def train_dpo(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    args: DPOConfig,
    peft_config: LoraConfig | None = None,
) -> Run:
    """Direct Preference Optimization (arXiv:2305.18290) from `model`, which is also the reference.

    dataset: columns `prompt`, `chosen`, `rejected`, lists of messages, from `load_preferences`.
    The first loss is ln 2 and the first margin 0, since policy and reference start as one model. With a
    `peft_config` the reference is the copy with its adapter switched off.
    """
    return run_trainer(DPOTrainer, model, tokenizer, dataset, args, peft_config)


def train_orpo(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    args: ORPOConfig,
    peft_config: LoraConfig | None = None,
) -> Run:
    """Odds Ratio Preference Optimization (arXiv:2403.07691) from `model`, a base model; there is no reference.

    dataset: columns `prompt`, `chosen`, `rejected`, lists of messages, from `load_preferences`.
    args: `args.beta` is what the paper calls λ. TRL's NLL differs from the paper's: it is the mean over the tokens
    of prompt and chosen answer of a whole batch, where eq. 2 takes the answer alone, pair by pair. With
    gradient accumulation that mean is taken per micro-batch, so the gradient is not that of one large batch.
    The log: `nll_loss`; `log_odds_ratio`, which is log σ of `log_odds_chosen`, the log odds ratio itself;
    `rewards/*` and `logps/*` from *mean* log-probabilities, so margins are far smaller than DPO's.
    """
    return run_trainer(ORPOTrainer, model, tokenizer, dataset, args, peft_config)
