"""For whoever has several GPUs: DPO or ORPO with the course's trainer, on one process or more, each with a whole model.

    accelerate launch --num_processes 4 tools/train.py --method dpo --model HuggingFaceTB/SmolLM2-360M-Instruct \
        --preferences trl-lib/ultrafeedback_binarized --output_dir runs/big --bf16 --learning_rate 5e-6

Every setting of `TrainingArguments` can be given. Without GPUs several processes start only with `--multi_gpu`.
"""

import json
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

if alone_silent := os.environ.get("RANK", "0") != "0":  # process 0 speaks for all
    os.environ["TQDM_DISABLE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from peft import LoraConfig
from transformers import HfArgumentParser, TrainingArguments

import course_utils as cu


@dataclass
class Choices:
    method: Literal["dpo", "orpo"]
    model: str = "small"
