"""For learners: a model and its tokenizer, bundled, from a folder or from the hub."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..i18n import N_, _, shown
from .hub import HUB_ERRORS, explain_hub_error

SAMPLES = Path(__file__).parents[2] / "data_samples"
BUNDLED = {path.parent.name: path.parent for path in sorted(SAMPLES.glob("models/*/*.safetensors"))}
#: What to say where a library says this.
REFUSED = {
    "trust_remote_code": N_(
        "load_model: “{name}” comes with code of its own, which is never run here; take a model of a kind that "
        "transformers knows by itself"
    ),
    "file named model.safetensors": N_(
        "load_model: “{name}” has no weights as safetensors, and pickles, which can hold code, are never read here; "
        "take a model that has them, or save it with save_pretrained where you trust it"
    ),
}


def find(name: str | Path) -> str:
    """A bundled model's folder, a folder, what the hub's cache holds of a name, or the name itself."""
    if str(name) in BUNDLED or Path(name).is_dir():
        return str(BUNDLED.get(str(name), name))
    files = (try_to_load_from_cache(str(name), f"model.safetensors{index}") for index in ("", ".index.json"))
    return next((str(Path(file).parent) for file in files if isinstance(file, str)), str(name))


def load_model(
    name: str | Path = "small", device: str = "cpu", template: str | Path | None = None, max_length: int | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return `(model, tokenizer)`; OSError for a model that is not available.

    name: "small" or "large" for the bundled base models, else a folder or a hub id. template: the name of a model of
    the same family whose chat template is taken if this one has none, as base models do. max_length: tokens of a
    prompt with its answer; kept as `tokenizer.model_max_length`, by which `load_preferences` and `train_dpo` go.
    The weights come in float32: in bfloat16 the small steps of preference training round away. Only safetensors are
    read, and no code that comes with a model is run.
    """
    safe = {"trust_remote_code": False}
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(find(name), **safe)
        model: Any = AutoModelForCausalLM.from_pretrained(find(name), dtype=torch.float32, use_safetensors=True, **safe)
        borrows = template and tokenizer.chat_template is None
        name = template if template and borrows else name
        theirs = AutoTokenizer.from_pretrained(find(name), **safe) if borrows else None
    except HUB_ERRORS as error:
        words = _("load_model: “{name}” is neither a bundled model ({known}) nor a folder, nor from the hub: {reason}")
        words = next((_(refusal) for theirs, refusal in REFUSED.items() if theirs in str(error)), words)
        reason = explain_hub_error(error)
        raise OSError(words.format(name=shown(name, 200), known=", ".join(BUNDLED), reason=reason)) from error
    if template and theirs and theirs.chat_template:
        from trl import clone_chat_template  # seconds to import, and seldom needed

        with tempfile.TemporaryDirectory() as folder:  # without the model's code, which TRL would offer to run
            theirs.save_pretrained(folder)
            model, tokenizer, _added = clone_chat_template(model, tokenizer, folder)
    if max_length:
        tokenizer.model_max_length = max_length
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device), tokenizer
