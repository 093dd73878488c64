"""Load a model and its tokenizer, bundled or from a folder or the hub."""

from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from .hub import HUB_ERRORS, trouble
from .i18n import _

BUNDLED = {
    path.parent.name: path.parent
    for path in sorted(Path(__file__).parents[1].glob("data_samples/models/*/*.safetensors"))
}


def find(name: str | Path) -> str | Path:
    """A bundled model's folder, a folder, what the hub's cache holds of a name, or the name itself."""
    if str(name) in BUNDLED or Path(name).is_dir():
        return BUNDLED.get(str(name), Path(name))
    files = (try_to_load_from_cache(str(name), f"model.safetensors{index}") for index in ("", ".index.json"))
    return next((Path(file).parent for file in files if isinstance(file, str)), name)


def load_model(
    name: str | Path = "small",
    device: str = "cpu",
    template: str | Path | None = None,
    max_length: int | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return `(model, tokenizer)`.

    name: "small" or "large" for the bundled base models, else a folder or a hub id. template: the name of a model
    of the same family whose chat template is taken if this one has none, as base models do. max_length: how many
    tokens a prompt and its answer may have together; kept as `tokenizer.model_max_length`, by which `load_preferences`
    and the `train_` functions go.
    The weights come in float32: in bfloat16 the small steps of preference training round away. Only safetensors
    are read, and no code that comes with a model is run.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(find(name))
        model = AutoModelForCausalLM.from_pretrained(find(name), dtype=torch.float32, use_safetensors=True)
        borrows = template and tokenizer.chat_template is None
        theirs = AutoTokenizer.from_pretrained(find(template)) if borrows else tokenizer
    except HUB_ERRORS as error:
        raise OSError(
            _(
                "load_model: “{name}” is neither a bundled model ({bundled}) nor a folder with a model, and it did not "
                "come from the hub: {trouble}. You can go on with a bundled one"
            ).format(name=name, bundled=", ".join(BUNDLED), trouble=trouble(error))
        ) from error
    if borrows and theirs.chat_template:
        from trl import clone_chat_template  # seconds to import, and seldom needed

        model, tokenizer, _added = clone_chat_template(model, tokenizer, find(template))
    if max_length:
        tokenizer.model_max_length = max_length
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device), tokenizer
