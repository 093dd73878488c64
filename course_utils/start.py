"""The first line of every lesson: the learner's language, and what suits this machine."""

import math
import re
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets
import huggingface_hub
import psutil
import torch
import transformers
from peft import LoraConfig
from safetensors import safe_open

from .hub import unreachable
from .i18n import _, set_language
from .models import BUNDLED

SAMPLES = Path(__file__).parents[1] / "data_samples"
FAMILY = "HuggingFaceTB/SmolLM2-"
SMALLEST = f"{FAMILY}135M-Instruct"
HH_RLHF = "Anthropic/hh-rlhf/helpful-base"
ROWS, HELD_OUT = 2000, 100

#: Parameters, and bytes that each token of a batch keeps from the forward to the backward pass: counted for these
#: shapes in 16 bits with TRL's trainers, and for 1.7B scaled up. See hardware.md.
SIZES = {"135M": (134.5e6, 0.92e6), "360M": (361.8e6, 1.63e6), "1.7B": (1711e6, 3.1e6)}
#: Bytes a token that ORPO's logits take besides: measured on a CPU with a vocabulary of 49,152.
LOGITS = 0.71e6
#: Bytes a parameter in a lesson. A DPO step on all weights: weights 4, gradients 4, Adam's two means 8, the reference
#: 4, 16-bit copies 2; with LoRA the weights, the model they were copied from, and 16-bit copies. To both, 16 for the
#: four models that a lesson keeps to compare.
FULL, LORA = 22 + 16, 10 + 16
#: How much of the memory to plan with, pairs and tokens in a batch, and pairs in a step.
USABLE, PAIRS, TOKENS, STEP = 0.8, (8, 4, 2, 1), 512, 16

#: Where to begin with real models: usual values of papers and model cards, not tuned by this course.
REAL = {
    "sft": {"learning_rate": 2e-5, "max_steps": 60, "warmup_steps": 6},
    "dpo": {"learning_rate": 5e-6, "max_steps": 125, "warmup_steps": 12},
    "orpo": {"learning_rate": 8e-6, "max_steps": 125, "warmup_steps": 12},
}


@dataclass(frozen=True)
class Setup:
    """What suits this machine.

    training_args: for every `TrainingArguments`. sft, dpo, orpo: what another model than a bundled one needs besides,
    empty for these; fit: the part of it that the memory asks for. peft_config: for the `train_` functions; None trains
    all weights. base_model, instruct_model, max_length: for `load_model`. preferences: for `load_preferences`, with
    `rows` and `held_out` as its limits for training and test data. instructions: a folder of demonstrations, or None.
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
    fit: dict = field(default_factory=dict)
    sft: dict = field(default_factory=dict)
    dpo: dict = field(default_factory=dict)
    orpo: dict = field(default_factory=dict)

    @property
    def from_hub(self) -> list[tuple[str, str]]:
        """What must come from the hub: each (name, "model" or "dataset")."""
        models = dict.fromkeys([self.instruct_model, self.base_model])
        wanted = [(name, "model") for name in models if name not in BUNDLED] + [(self.preferences, "dataset")]
        return [(name, kind) for name, kind in wanted if isinstance(name, str) and not Path(name).exists()]

    @property
    def is_bundled(self) -> bool:
        """Whether the models come with the course."""
        return self.instruct_model in BUNDLED and self.base_model in BUNDLED

    def bundled(self) -> "Setup":
        """The same machine with the bundled model and data; on a CPU these are trained in float32."""
        if self.device != "cpu":
            return Setup(self.lang, self.device, self.precision, self.training_args)
        return Setup(self.lang, self.device, "fp32", self.training_args | {"bf16": False})

    def in_words(self) -> str:
        """What was chosen, in one line."""
        where = _("{device} in {precision}").format(device=self.device, precision=self.precision)
        if self.is_bundled and self.preferences == SAMPLES / "preferences":
            words = _("Ready: {where}, bundled model “{model}”, bundled data. Nothing is downloaded.")
            return words.format(where=where, model=self.instruct_model)
        models = " / ".join(dict.fromkeys([self.instruct_model, self.base_model]))
        words = _(
            "Ready: {where}; models {models}, {weights}; data {data}, {rows} pairs; {pairs} at a time, of up to "
            "{tokens} tokens."
        )
        return words.format(
            where=where,
            models=models,
            weights=_("LoRA") if self.peft_config else _("all weights"),
            data=self.preferences,
            rows=self.rows or _("all"),
            pairs=self.fit.get("per_device_train_batch_size", "–"),
            tokens=self.max_length or "–",
        )


def find_device(real: bool) -> tuple[str, str]:
    """The device, and the precision to train a real or a bundled model in: bfloat16 only where the hardware has it.

    A CPU without instructions for bfloat16 is slower with it; bundled models train in float32 there in any case, as
    the recorded ones did.
    """
    if torch.cuda.is_available():
        return "cuda", "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if torch.backends.mps.is_available():
        return "mps", "fp32"
    able = getattr(torch.cpu, "get_capabilities", dict)()
    return "cpu", "bf16" if real and (able.get("avx512_bf16") or able.get("amx_bf16")) else "fp32"


def free_memory(device: str) -> float:
    """Bytes that can be had on a device."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()  # a cell run again frees what it had
    if device == "mps":
        return torch.mps.recommended_max_memory()
    return psutil.virtual_memory().available


def count_parameters(file: Path) -> int:
    with safe_open(file, "pt") as weights:
        names = weights.keys()
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in names)


def size_of(name: str) -> tuple[float, float]:
    """Parameters of a model, and bytes for each token of its layers, from its name or files; large if neither tells."""
    found = re.search(r"(\d+(?:\.\d+)?)\s*([MB])\b", name, re.IGNORECASE)
    if found:
        parameters = float(found[1]) * {"M": 1e6, "B": 1e9}[found[2].upper()]
    else:
        parameters = sum(map(count_parameters, Path(name).glob("*.safetensors"))) or 1.7e9
    like = next((size for size in SIZES.values() if size[0] > 0.9 * parameters), SIZES["1.7B"])
    return parameters, like[1] * max(1, parameters / like[0])


def need(name: str, lora: bool, pairs: int, precision: str, tokens: int = TOKENS) -> float:
    """Bytes that a lesson takes, by arithmetic: what each parameter needs, and what each token of a batch needs."""
    parameters, layers = size_of(name)
    token = (2 if precision == "fp32" else 1) * layers + LOGITS
    return (LORA if lora else FULL) * parameters + token * 2 * pairs * tokens


def best_plan(model: str | None, lora: bool | None, pairs: int | None, tokens: int, precision: str, memory: float):
    """(model, LoRA, pairs at a time) that fit, a larger model before a larger batch; None where nothing fits."""
    names = [model] if model else [f"{FAMILY}{size}-Instruct" for size in reversed(SIZES)]
    full_batch = [(name, bool(lora), pairs or PAIRS[0]) for name in names]
    smaller = [
        (names[-1], way, count)
        for way in ((False, True) if lora is None else (lora,))
        for count in ([pairs] if pairs else PAIRS)
    ]
    return next((plan for plan in full_batch + smaller if need(*plan, precision, tokens) <= USABLE * memory), None)


def choose_models(instruct_model, base_model, lora, pairs, tokens, precision, memory) -> dict:
    """The fields of a `Setup` that go with the models named, or with the largest of the family that fits."""
    named = instruct_model or base_model
    alone = bool(instruct_model) != bool(base_model)
    if alone and named not in BUNDLED and not (instruct_model or "").endswith("-Instruct"):
        raise ValueError(
            _("“{name}” does not tell the model that goes with it; name both, instruct_model and base_model").format(
                name=named
            )
        )
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    if named in BUNDLED:
        return {"instruct_model": named, "base_model": base_model or named, "peft_config": adapter if lora else None}
    plan = best_plan(named, lora, pairs, tokens, precision, memory)
    if plan is None and named in (None, SMALLEST):
        words = _("{memory:.1f} GB of free memory do not hold a lesson with {model}; the bundled model is taken.")
        print(words.format(memory=memory / 1e9, model=SMALLEST))
        return {}
    if plan is None:
        plan = named, lora is not False, pairs or PAIRS[-1]
        words = _("{model} may not fit: a lesson with it takes about {needed:.1f} GB, and {memory:.1f} GB are free.")
        print(words.format(model=named, needed=need(*plan, precision, tokens) / 1e9, memory=memory / 1e9))
    named, lora, pairs = plan
    fit = {
        "per_device_train_batch_size": pairs,
        "gradient_accumulation_steps": max(1, STEP // pairs),
    }
    rate = 2 if lora else 1  # an adapter takes larger steps
    return {
        "instruct_model": named,
        "base_model": base_model or named.removesuffix("-Instruct"),
        "peft_config": adapter if lora else None,
        "max_length": tokens,
        "fit": fit,
        **{method: {**args, "learning_rate": rate * args["learning_rate"], **fit} for method, args in REAL.items()},
    }


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
) -> Setup:
    """Set the language of all that the course prints, look at the machine, choose what suits it, and say so.

    Without a GPU that is the bundled model and data. With a CUDA GPU it is a model of the SmolLM2 family that fits
    its memory, and HH-RLHF's helpful part, if the hub answers; nothing is downloaded before `fetch`. A model that you
    name is taken also where it may not fit, and that is said.
    Each choice has its argument. hub: True for real models and data without a GPU too, False for the bundled ones.
    device: "cuda", "mps" or "cpu". precision: "bf16", "fp16" or "fp32". rows: pairs to train on. lora: True for
    adapters, False for all weights. batch_size: pairs at a time. max_length: tokens of a prompt with its answer.
    """
    set_language(lang)
    datasets.disable_progress_bars()
    huggingface_hub.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    found = find_device(real=bool(hub) or any(name and name not in BUNDLED for name in (instruct_model, base_model)))
    device = device or found[0]
    precision = precision or (found[1] if device == found[0] else "fp32")
    training_args = {
        "use_cpu": device == "cpu",
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "gradient_checkpointing": False,  # it saves memory and costs time
        "dataloader_pin_memory": device == "cuda",
        "train_sampling_strategy": "group_by_length",  # answers of similar length in a batch: a third faster
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "output_dir": "runs",
    }
    setup = Setup(lang, device, precision, training_args)
    named = {"per_device_train_batch_size": batch_size} if batch_size else {}
    setup = replace(setup, max_length=max_length, fit=named, sft=named, dpo=named, orpo=named)
    hub = device == "cuda" if hub is None else hub
    if hub or instruct_model or base_model:
        memory = free_memory(device)
        if device == "cpu" and not base_model:
            instruct_model = instruct_model or SMALLEST  # more would take hours
        chosen = choose_models(instruct_model, base_model, lora, batch_size, max_length or TOKENS, precision, memory)
        setup = replace(setup, **chosen)
    if preferences or (hub and not setup.is_bundled):
        data = {"preferences": preferences or HH_RLHF, "instructions": None}
        setup = replace(setup, **data, rows=ROWS, held_out=HELD_OUT)
    if preferences and Path(preferences).is_file():
        raise ValueError(
            _(
                "{file} is one file, and a lesson needs pairs to test with too; put two into a folder, train{kind} and "
                "test{kind}, and name that folder"
            ).format(file=preferences, kind="".join(Path(preferences).suffixes))
        )
    setup = replace(setup, rows=rows or setup.rows)
    if problem := unreachable(setup.from_hub):
        print(problem, _("The course goes on with its bundled model and data."))
        setup = setup.bundled()
    print(setup.in_words())
    return setup
