"""For whoever has a GPU: what hardware.md could only reckon, measured there in at most eight minutes, as one JSON file.

    python tools/gpu_check.py                                            # writes gpu_check.json
    python tools/gpu_check.py mine.json --minutes 20 --model FOLDER --preferences FOLDER

First DPO of models with the shapes of the SmolLM2 family and random weights, each with the course's trainer and with
stock TRL: the same made-up rows in the same order, the same settings. The first batch has the longest rows there may be
and decides on peak memory; speed is the median of the steps that follow, in the lengths of HH-RLHF's rows. Then both
lessons as they are, with the models and data of the hub, or with yours. What there was no time or no memory for is
named under "left_out". The file is written again after each result, so what was measured is not lost.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

import nbformat
import psutil
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from peft import LoraConfig

ROOT, OUTSIDE = Path(__file__).parents[1], dict(os.environ)  # the bench below goes offline, and the lessons do not
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench_training import SMALLEST, Clock, made_up_model, made_up_pairs, made_up_tokenizer, ours, stock  # noqa: E402
from trl import DPOConfig, DPOTrainer  # noqa: E402

import course_utils as cu  # noqa: E402

ON_CPU = ', device="cpu"'
LONGEST = 512  # tokens of a prompt with one answer, as in the lessons
SHAPES = {
    "SmolLM2-135M": (576, 1536, 30, 9, 3),
    "SmolLM2-360M": (960, 2560, 32, 15, 5),
    "SmolLM2-1.7B": (2048, 8192, 24, 32, 32),
}
#: From the most to the least important: a shape, trained with LoRA or not, pairs at a time. Lessons come in between.
JOBS = [(shape, lora, 8 if shape != "SmolLM2-135M" else 4) for shape in SHAPES for lora in (False, True)]
MORE = [("SmolLM2-135M", lora, pairs) for lora, pairs in ((False, 16), (True, 1), (False, 2), (True, 16))]
LESSONS = ("dpo_finetuning_example", "orpo_finetuning_example")
TOLD = """import json, torch
gpu = torch.cuda.is_available()
print(json.dumps({"setup": str(setup), "bundled": setup.is_bundled}
    | ({"peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9} if gpu else {})))"""


class Limit(Clock):
    """A clock that ends the training when its time is over and at least one step has counted."""

    def __init__(self, seconds: float, warm: int):
        super().__init__()
        self.end, self.warm = time.monotonic() + seconds, warm

    def on_step_end(self, args, state, control, **more):
        super().on_step_end()
        control.should_training_stop |= time.monotonic() > self.end and len(self.seconds) > self.warm


def machine(setup) -> dict:
    """What the numbers are of."""
    names = ("torch", "transformers", "trl", "peft", "accelerate")
    told = {"device": "CPU", "precision": setup.precision, "versions": {name: version(name) for name in names}}
    if setup.device == "cuda":
        free, total = torch.cuda.mem_get_info()
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        told |= {"device": torch.cuda.get_device_name(), "memory_gb": total / 1e9, "free_memory_gb": free / 1e9}
        told |= {"capability": list(torch.cuda.get_device_capability()), "cuda": torch.version.cuda}
        with suppress(OSError):
            told["driver"] = subprocess.run(asked, capture_output=True, text=True).stdout.partition("\n")[0]
    return told


def check_memory(sizes: dict, lora: bool, setup) -> None:
    """MemoryError where the weights alone are too much: on the GPU, by hardware.md's sums, or three copies here."""
    with torch.device("meta"):
        billions = made_up_model(**sizes).num_parameters() / 1e9
    needs = [("this machine", 12, psutil.virtual_memory().available)]
    if setup.device == "cuda":
        needs.append(("the GPU", 10 if lora else 22, torch.cuda.mem_get_info()[0]))
    for where, each, free in needs:
        if each * billions > free / 1e9:
            raise MemoryError(f"the weights need {each * billions:.1f} GB of {where}, which has {free / 1e9:.1f} free")


def training(setup, sizes: dict, lora: bool, pairs: int, trl: bool, seconds: float) -> dict:
    """Steps a second, and on a GPU the peak of its memory, of one trainer on one model."""
    check_memory(sizes, lora, setup)
    gpu = setup.device == "cuda"
    warm, timed = (3, 10) if gpu else (1, 2)
    settings = setup.training_args | {"train_sampling_strategy": "sequential"}
    run = stock(DPOTrainer, DPOConfig, **settings) if trl else ours(cu.train_dpo, setup, **settings)
    rows = made_up_pairs((warm + timed - 1) * pairs, LONGEST, first=[(LONGEST // 2,) * 3] * pairs)
    common = {"per_device_train_batch_size": pairs, "learning_rate": 5e-6, "max_steps": warm + timed}
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model, clock = made_up_model(**sizes), Limit(seconds, warm)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    log = run(model, made_up_tokenizer(), rows, common, clock, **({"peft_config": adapter} if lora else {}))
    steps = clock.seconds[warm:]
    told = {"steps_per_second": 1 / statistics.median(steps), "timed_steps": len(steps)}
    told |= {"first_loss": log[0]["loss"], "first_logps_chosen": log[0]["logps/chosen"]}
    return told | ({"peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9} if gpu else {})


def lesson(name: str, given: str, seconds: float) -> dict:
    """Run a notebook as it is, but for what `cu.start` is `given`: seconds of each cell. RuntimeError says why not."""
    if given == ON_CPU:
        raise RuntimeError("without a GPU it trains the bundled model; name --model and --preferences to run it here")
    path = ROOT / "notebooks" / "en" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    begin, *cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    begin.source = begin.source.replace('cu.start(lang="en")', f'cu.start(lang="en"{given})')
    notebook.cells = [begin, nbformat.v4.new_code_cell(TOLD), *cells, nbformat.v4.new_code_cell(TOLD)]
    client = NotebookClient(notebook, resources={"metadata": {"path": path.parent}})
    begun, spent, told = time.monotonic(), {}, {}
    with client.setup_kernel(env=OUTSIDE):
        for index, cell in enumerate(notebook.cells):
            start, before = time.monotonic(), notebook.cells[index - 1]
            client.timeout = max(1, int(begun + seconds - start))
            try:
                client.execute_cell(cell, index)
            except CellTimeoutError:
                return told | {"finished": False, "stopped_in": cell.id, "seconds": seconds, "cells": spent}
            except CellExecutionError as error:
                raise RuntimeError(f"cell {cell.id}: {error.ename}: {error.evalue}") from None
            if cell.source != TOLD:
                spent[cell.id] = time.monotonic() - start
            elif (told := json.loads(cell.outputs[0].text)).pop("bundled"):
                raise RuntimeError("no real model: " + " ".join(output.get("text", "") for output in before.outputs))
    return told | {"finished": True, "seconds": time.monotonic() - begun, "cells": spent}


def main(words: list[str] | None = None, shapes: dict = SHAPES, jobs: list = JOBS, more: list = MORE) -> int:
    """Measure in order of importance while there is time, and write it down after each result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default="gpu_check.json", help="where the numbers go")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--model", type=Path, help="a folder, in place of the hub's model")
    parser.add_argument("--preferences", type=Path, help="a folder with train and test, in place of the hub's data")
    args = parser.parse_args(words)
    if bool(args.model) != bool(args.preferences):
        parser.error("--model and --preferences go together")
    if args.device == "cuda" and not torch.cuda.is_available():
        print("gpu_check.py: PyTorch finds no CUDA GPU here; run it on a machine that has one, or try it with "
              "--device cpu --minutes 1.", file=sys.stderr)  # fmt: skip
        return 2
    end, share = time.monotonic() + 60 * args.minutes, 60 * args.minutes / 16  # the most that a training gets
    setup = cu.start("en", hub=False, device=args.device)
    given = "" if args.device == "cuda" else ON_CPU
    if args.model:
        model, data = str(args.model.absolute()), str(args.preferences.absolute())
        given += f", instruct_model={model!r}, base_model={model!r}, preferences={data!r}"
    report = {"minutes": args.minutes, "machine": machine(setup), "trainings": [], "lessons": [], "left_out": []}

    def note(kind: str, what: dict, work: Callable) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        found, why = {}, "no time left"
        try:
            if end - time.monotonic() >= share:
                found = work()
                report[kind].append(what | found)
                why = "" if found.get("finished", True) else f"stopped after {found['seconds']:.0f} s"
        except Exception as error:  # whatever it is, the rest is measured
            why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        report["left_out"] += [what | {"why": why}] if why else []
        args.file.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
        print(*what.values(), why or {name: found[name] for name in found if name != "cells"}, sep=" | ", flush=True)

    def trainings(some: list) -> None:
        for shape, lora, pairs in some:
            for trainer in ("cu.train_dpo", "trl.DPOTrainer"):
                what = {"shape": shape, "trained": "LoRA" if lora else "all weights", "pairs": pairs}
                sizes, trl = dict(zip(SMALLEST, shapes[shape])), trainer.startswith("trl")
                work = partial(training, setup, sizes, lora, pairs, trl, share)
                note("trainings", what | {"trainer": trainer}, work)

    trainings(jobs)
    for still, name in zip((2, 1), LESSONS):
        work = partial(lesson, name, given, (end - time.monotonic()) / still)
        note("lessons", {"lesson": name}, work)
    trainings(more)
    return 0


if __name__ == "__main__":
    sys.exit(main())
