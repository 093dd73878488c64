"""The first line of every lesson: the learner's language, and what this machine can do."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
import transformers

from .i18n import _, set_language

SAMPLES = Path(__file__).parents[1] / "data_samples"


@dataclass(frozen=True)
class Setup:
    """What suits this machine.

    `training_args` goes into any TRL config. `model`, `instructions` and `preferences` are a bundled model's
    name and two folders of bundled data, each with one file a split.
    """

    lang: str
    device: str
    training_args: dict
    model: str = "small"
    instructions: Path = SAMPLES / "instructions"
    preferences: Path = SAMPLES / "preferences"


def find_device() -> tuple[str, str]:
    """The device, and the precision to train in: bfloat16 only where the hardware truly has it."""
    if torch.cuda.is_available():
        return "cuda", "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if torch.backends.mps.is_available():
        return "mps", "fp32"
    return "cpu", "fp32"


def start(lang: str = "en") -> Setup:
    """Set the language of all that the course prints, look at the machine, and say so in one line."""
    set_language(lang)
    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    device, precision = find_device()
    training_args = {
        "use_cpu": device == "cpu",
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "gradient_checkpointing": False,  # it saves memory and costs time; these models are small
        "dataloader_pin_memory": device == "cuda",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "output_dir": "runs",
    }
    setup = Setup(lang, device, training_args)
    print(
        _("Ready: {device} in {precision}, bundled model “{model}”, bundled data. Nothing is downloaded.").format(
            device=device, precision=precision, model=setup.model
        )
    )
    return setup
