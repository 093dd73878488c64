"""For learners with a real model and no GPU: how long a lesson will take here."""

import copy
import time

import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from ..i18n import _
from .models import find

#: Tokens of a row with both of its answers, and those of its answers: the mean of HH-RLHF's rows of up to 256 tokens.
TOKENS, ANSWERS = 168, 72
#: What a lesson takes besides its main training: the time of so many pairs, and of so many for each step of one.
BESIDES, EACH_STEP = 600, 18


def seconds_a_pair(setup) -> float:
    """The time of a pair in a DPO step, by two steps of a model of the same shape with random weights."""
    config = AutoConfig.from_pretrained(find(setup.instruct_model), trust_remote_code=False)
    model = AutoModelForCausalLM.from_config(config)
    trained = get_peft_model(model, copy.deepcopy(setup.peft_config)) if setup.peft_config else model
    pairs = setup.fit["per_device_train_batch_size"]
    ids = torch.randint(model.config.vocab_size, (pairs, min(TOKENS, setup.max_length)))
    taken = []
    for _step in range(3):  # the first is slower
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, setup.precision == "bf16"):
            with torch.no_grad():
                model(input_ids=ids, logits_to_keep=ANSWERS)  # the reference
            trained(input_ids=ids, logits_to_keep=ANSWERS).logits.float().logsumexp(dim=-1).sum().backward()
        taken.append((time.perf_counter() - started) / pairs)
    return min(taken[1:])


def how_long(setup) -> str:
    """How long a lesson will take with this setup, and with fewer steps; and the memory it is planned with."""
    seconds, steps = seconds_a_pair(setup), setup.dpo["max_steps"]
    minutes = {some: seconds * (BESIDES + EACH_STEP * some) / 60 for some in (steps, 20)}
    words = _("With at most {steps} steps a training, a lesson will take about {minutes:.0f} minutes on this machine: "
              "a pair takes {seconds:.1f} s here, tried just now.")  # fmt: skip
    if steps > 20:
        words += " " + _("cu.start(…, max_steps=20) makes it about {few:.0f} minutes.")
    if setup.memory:
        words += " " + _("It may take {memory} GB of memory.")
    return words.format(steps=steps, minutes=minutes[steps], seconds=seconds, few=minutes[20], memory=setup.memory)
