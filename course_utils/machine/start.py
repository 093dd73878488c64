"""For learners: the first line of every lesson, your language and what suits your machine."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import psutil
import torch
import transformers
from peft import LoraConfig

from ..i18n import _, local_decimals, set_language, shown
from .clock import how_long
from .hub import HUB_ERRORS, download, explain_hub_error
from .models import BUNDLED, SAMPLES

#: Tokens of a prompt with its answer, pairs in a step, pairs to train on: on a GPU, and on a CPU; pairs to test with.
GPU, CPU, HELD_OUT = (512, 16, 2000), (256, 8, 800), 100
HH_RLHF = "Anthropic/hh-rlhf/helpful-base"
#: The table of hardware.md: a model, trained with LoRA or not, pairs at a time, and the GB that must be free for it.
PLANS = (
    ("HuggingFaceTB/SmolLM2-1.7B-Instruct", False, 8, 149),
    ("HuggingFaceTB/SmolLM2-360M-Instruct", False, 8, 42),
    ("HuggingFaceTB/SmolLM2-135M-Instruct", False, 4, 15),
    ("HuggingFaceTB/SmolLM2-135M-Instruct", False, 2, 12),
    (SMALLEST := "HuggingFaceTB/SmolLM2-135M-Instruct", True, 1, 7),
)
#: The same for a CPU, as measured there (data_samples/real).
CPU_PLANS = ((SMALLEST, False, 4, 10), (SMALLEST, False, 2, 7), (SMALLEST, True, 2, 5))
#: Learning rate and steps for real models, to begin with: usual values of papers and model cards, not tuned here; and
#: for SmolLM2-135M in a few steps on a CPU, as in the recorded runs (data_samples/real).
REAL = {"sft": (2e-5, 60), "dpo": (5e-6, 125), "orpo": (8e-6, 125)}
SHORT = {"sft": (2e-5, 30), "dpo": (2e-5, 100), "orpo": (2e-5, 100)}
#: For every training. Checkpointed gradients would cost time; answers of similar length together take a third less.
ALWAYS = {"activation_checkpointing": False, "train_sampling_strategy": "group_by_length"}
ALWAYS |= {"logging_steps": 1, "save_strategy": "no", "report_to": "none", "output_dir": "runs"}


@dataclass(frozen=True)
class Setup:
    """What suits this machine.

    training_args: for every `TrainingArguments`. sft, dpo, orpo: what a real model needs besides, empty for a bundled
    one; fit: the part of it that the memory asks for. memory: the GB that are planned for it, if that is known.
    peft_config: for the `train_` functions; None trains all weights. base_model, instruct_model, max_length: for
    `load_model`. preferences: for `load_preferences`, with `rows` and `held_out` as its limits for training and test
    data. instructions: a folder of demonstrations, or None. named: what `start` was given, and nothing replaces.
    """

    lang: str
    device: str
    precision: str
    training_args: dict
    base_model: str = "small"
    instruct_model: str = "small"
    preferences: Path | str | datasets.DatasetDict = SAMPLES / "preferences"
    instructions: Path | None = SAMPLES / "instructions"
    rows: int | None = None
    held_out: int | None = None
    max_length: int | None = None
    peft_config: LoraConfig | None = None
    memory: float | None = None
    fit: dict = field(default_factory=dict)
    sft: dict = field(default_factory=dict)
    dpo: dict = field(default_factory=dict)
    orpo: dict = field(default_factory=dict)
    named: dict = field(default_factory=dict)

    @property
    def is_bundled(self) -> bool:
        """Whether the models come with the course."""
        return {self.instruct_model, self.base_model} <= {*BUNDLED}

    def __str__(self) -> str:
        """What was chosen, in one line."""
        words = _("Ready: {0.device} in {0.precision}, bundled model “{0.instruct_model}”, bundled data. "
                  "Nothing is downloaded.")  # fmt: skip
        if not (self.is_bundled and self.instructions):
            words = _("Ready: {0.device} in {0.precision}; models {0.instruct_model} / {0.base_model}, {weights}; data "
                      "{0.preferences}, {rows} pairs; {pairs} at a time, of up to {tokens} tokens.")  # fmt: skip
        pairs, tokens = self.fit.get("per_device_train_batch_size", "–"), self.max_length or "–"
        weights, rows = _("LoRA") if self.peft_config else _("all weights"), self.rows or _("all")
        return shown(words.format(self, weights=weights, rows=rows, pairs=pairs, tokens=tokens))


def look(device: str | None, real: bool) -> tuple[str, str, float]:
    """The device, the precision to train a real or a bundled model in, and the GB that are free.

    bfloat16 only where the hardware has it, elsewhere it is slower; on a CPU a bundled model in float32, as recorded.
    """
    if torch.cuda.is_available() and device in (None, "cuda"):
        free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()  # a cell run again frees what it had
        return "cuda", "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16", free / 1e9
    if torch.backends.mps.is_available() and device in (None, "mps"):
        return "mps", "fp32", torch.mps.recommended_max_memory() / 1e9
    able: dict = getattr(torch.cpu, "get_capabilities", dict)()
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"  # what PyTorch uses, which may be less than there is
    has_bf16 = real and wide and device in (None, "cpu") and (able.get("avx512_bf16") or able.get("amx_bf16"))
    return device or "cpu", "bf16" if has_bf16 else "fp32", psutil.virtual_memory().available / 1e9


def start(
    lang: str = "en",
    *,
    hub: bool | None = None,
    device: str | None = None,
    precision: str | None = None,
    instruct_model: str | None = None,
    base_model: str | None = None,
    preferences: str | Path | None = None,
    rows: int | None = None,
    lora: bool | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    max_steps: int | None = None,
) -> Setup:
    """Set the language of all that the course prints, look at the machine, choose what suits it, and say so.

    Without a GPU that is the bundled model and data. With a CUDA GPU it is a model of the SmolLM2 family that fits
    its memory, and HH-RLHF's helpful part; nothing is downloaded before `fetch`.
    hub: True for real models and data without a GPU too, False for the bundled ones. device: "cuda", "mps" or "cpu".
    precision: "bf16", "fp16" or "fp32". rows: pairs to train on. lora: True for adapters, False for all weights.
    batch_size: pairs at a time. max_length: tokens of a prompt with its answer. max_steps: the most steps that one
    training of a real model takes, for less patience.
    ValueError for a model without its counterpart, and for data in a single file.
    """
    named: dict[str, Any] = {k: v for k, v in locals().items() if v is not None and k not in ("lang", "hub")}
    set_language(lang)
    datasets.disable_progress_bars()
    huggingface_hub.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    models = [name for name in (instruct_model, base_model) if name]
    real = [name for name in models if name not in BUNDLED]
    if len(models) == 1 and real and not (instruct_model or "").endswith("-Instruct"):
        words = _("“{name}” does not tell the model that goes with it; name both, instruct_model and base_model")
        raise ValueError(words.format(name=shown(models[0], 200)))
    if preferences and Path(preferences).is_file():
        words = _("{file} is one file, and a lesson needs two: name a folder that holds train{kind} and test{kind}")
        raise ValueError(words.format(file=shown(preferences, 200), kind="".join(Path(preferences).suffixes)))
    device, likely, memory = look(device, real=bool(hub or real))
    precision, asked = precision or likely, hub
    hub = device == "cuda" if hub is None else hub
    fit = {"per_device_train_batch_size": batch_size} if batch_size else {}
    usual, step, few_rows = GPU if device == "cuda" else CPU
    chosen: dict[str, Any] = dict.fromkeys([*REAL, "fit"], fit) | {"rows": rows, "max_length": max_length}
    if real or (hub and not models):
        model = real[0] if real else SMALLEST if device == "cpu" else ""  # on a CPU more would take hours
        table = PLANS if device == "cuda" else CPU_PLANS
        plans = [  # a copy of a model in a folder of its name is that model
            (model or name, adapter if lora is None else lora, pairs, needed)
            for name, adapter, pairs, needed in table
            if needed <= memory and Path(model).name in ("", Path(name).name) and (lora is not False or not adapter)
        ]
        if not (plans or models or asked):
            words = _("{memory:.1f} GB of free memory do not hold a lesson with {model}; the bundled model is taken.")
            print(local_decimals(words.format(memory=memory, model=SMALLEST)))
            return start(lang, hub=False, **named)
        if not plans:
            model = model or SMALLEST
            words = _("{model} may not fit into {memory:.1f} GB; if it does, a larger batch_size= is faster.")
            if Path(model).name not in {Path(name).name for name, *_plan in table}:
                words = _("What memory {model} takes is not known here, and {memory:.1f} GB are free; if it fits, a "
                          "larger batch_size= is faster.")  # fmt: skip
            print(local_decimals(words.format(model=shown(model, 200), memory=memory)))
        model, lora, pairs, planned = (*plans, (model, lora is not False, 1, None))[0]
        real, tokens = real or [model], max_length or usual
        shares = 2 if precision == "fp32" and device == "cuda" else 1
        pairs = batch_size or max(1, pairs * usual // max(usual, tokens) // shares)
        fit = {"per_device_train_batch_size": pairs, "gradient_accumulation_steps": max(1, step // pairs)}
        chosen |= {"fit": fit, "max_length": tokens, "memory": None if batch_size or max_length else planned}
        for method, (rate, steps) in (REAL if device == "cuda" else SHORT).items():
            rate, steps = 10 * rate if lora else rate, min(steps, max_steps or steps)  # an adapter takes larger steps
            chosen[method] = fit | {"learning_rate": rate, "max_steps": steps, "warmup_steps": steps // 10}
    instruct = instruct_model or (models or real or ["small"])[0]
    base = base_model or instruct.removesuffix("-Instruct")
    if models:
        named |= {"instruct_model": instruct, "base_model": base}
    if lora:
        chosen["peft_config"] = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    if data := preferences or (HH_RLHF if hub and real else None):
        chosen |= {"preferences": data, "instructions": None, "rows": rows or few_rows, "held_out": HELD_OUT}
    args = ALWAYS | {"use_cpu": device == "cpu", "dataloader_pin_memory": device == "cuda"}
    args |= {"bf16": precision == "bf16", "fp16": precision == "fp16"}
    setup = Setup(lang, device, precision, args, base, instruct, **chosen, named=named)
    print(setup)
    return setup


def fetch(setup: Setup) -> Setup:
    """Bring a setup's models and data into the hub's cache; returns the setup to go on with.

    After it nothing asks the hub again. If the hub does not give what the course chose, a line says why, and bundled
    models and data take the place of all that you did not name; if it does not give what you named: OSError.
    """
    wanted = {setup.instruct_model: "model", setup.base_model: "model"}
    if not isinstance(setup.preferences, datasets.DatasetDict):
        wanted[str(setup.preferences)] = "dataset"
    for name, kind in wanted.items():
        try:
            got = None if name in BUNDLED or Path(name).exists() else download(name, kind, HELD_OUT)
        except HUB_ERRORS as error:
            reason = explain_hub_error(error)
            if name in map(str, setup.named.values()):
                words = _("{name}: {reason}. Nothing takes the place of what you name; correct it, or leave it out")
                raise OSError(words.format(name=shown(name, 200), reason=reason)) from error
            goes_on = _("The course goes on with its bundled model and data where you named none.")
            print(f"{shown(name, 200)}: {reason}. {goes_on}")
            return fetch(start(setup.lang, hub=False, **setup.named))
        setup = replace(setup, preferences=got) if isinstance(got, datasets.DatasetDict) else setup
    if setup.device != "cuda" and setup.dpo.get("max_steps"):
        print(how_long(setup))
    return setup
