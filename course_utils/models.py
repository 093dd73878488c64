"""Load a model and its tokenizer, bundled or from a folder or the hub."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

BUNDLED = Path(__file__).parents[1] / "data_samples" / "models"


def load_model(name: str = "small", device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return `(model, tokenizer)`.

    name: "small" or "large" for the bundled base models, else a folder or a hub id.
    The weights come in float32: in bfloat16 the small steps of preference training round away.
    """
    folder = BUNDLED / name
    source = folder if folder.is_dir() else name
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, use_safetensors=True)
    except OSError as error:
        bundled = ", ".join(sorted(path.name for path in BUNDLED.iterdir()))
        raise OSError(
            f"load_model: {name!r} is neither a bundled model ({bundled}) nor a folder with a model, "
            "and the hub did not give it; check the name, or take a bundled one"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device), tokenizer
