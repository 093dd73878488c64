"""For a whole run of the tests: what one notebook has trained or written, another takes from it.

The languages share their code byte for byte, so the second one would train the same models from the same rows and let
them write the same answers again. Whoever comes first computes; all else runs in every kernel. A notebook that is
tested alone, as in the workflow's jobs, computes all by itself.
"""

import copy
import hashlib
import os
from functools import wraps
from pathlib import Path
from unittest.mock import patch

import torch
from datasets.fingerprint import Hasher
from filelock import FileLock

FOLDER = "COURSE_TESTS_SHARE"  # names the folder of what was computed
HERE = Path(__file__).parent


def digest(model: torch.nn.Module) -> str:
    """What a model is: its kind, its settings and its weights."""
    found = hashlib.sha256(f"{type(model)} {model.config.to_json_string()}".encode())
    for name, values in model.state_dict().items():
        found.update(name.encode() + values.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def kept(key: str, compute):
    """What `compute` gives, from the folder if it was computed before under this key."""
    path = Path(os.environ[FOLDER]) / f"{key}.pt"
    with FileLock(f"{path}.lock"):
        if path.exists():
            return torch.load(path, weights_only=False)
        found = compute()
        torch.save(found, path)
        return found


def share() -> None:
    """Let this process take part; what has an adapter is computed in every process."""
    from course_utils import evaluation, generation, trainer

    train, sample = trainer.train, generation.sample

    @wraps(train)
    def train_once(model, tokenizer, data, rows, args, peft_config, objective, per_token=False):
        def compute():
            run = train(*everything)
            return {"state": run.model.state_dict(), "log": run.log, "tokens": run.tokens, "finished": run.finished}

        everything = model, tokenizer, data, rows, args, peft_config, objective, per_token
        if peft_config or type(model).__name__.startswith("Peft"):
            return train(*everything)
        try:
            key = Hasher.hash([digest(model), rows, args.to_dict(), objective, per_token, torch.get_num_threads()])
        except Exception:  # a loss that uses what cannot be told apart from outside
            return train(*everything)
        found = kept(f"train-{key}", compute)
        trained = copy.deepcopy(model)
        trained.load_state_dict(found["state"])
        return trainer.Run(trained.to(args.device).eval(), found["log"], found["tokens"], found["finished"], data)

    @wraps(sample)
    def sample_once(model, tokenizer, prompts, *settings):
        if type(model).__name__.startswith("Peft"):
            return sample(model, tokenizer, prompts, *settings)
        key = Hasher.hash([digest(model), tokenizer.chat_template, list(prompts), settings, torch.get_num_threads()])
        return iter(kept(f"sample-{key}", lambda: list(sample(model, tokenizer, prompts, *settings))))

    trainer.train, generation.sample, evaluation.sample = train_once, sample_once, sample_once


def in_every_kernel(ipython: Path, code: str) -> None:
    """Run this code, which may import these tests and the course, in all kernels whose IPython folder is this one."""
    startup = ipython / "profile_default" / "startup"
    startup.mkdir(parents=True)
    paths = [str(HERE.parent), str(HERE)]
    (startup / "begin.py").write_text(f"import sys\nsys.path[:0] = {paths}\n{code}\n")


def prepare(folder: Path) -> None:
    """Make this the folder in which the processes of these tests keep what they compute, and name it to them."""
    in_every_kernel(folder, "import once\nonce.share()")
    os.environ[FOLDER] = str(folder)


def shared(start_kernel):
    """`start_kernel` of a notebook, for a kernel that takes part."""

    def start():
        with patch.dict(os.environ, IPYTHONDIR=os.environ[FOLDER]):
            return start_kernel()

    return start
