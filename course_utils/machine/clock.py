"""For learners with a real model and no GPU: how long a lesson will take here."""

import copy
import time

import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from ..i18n import _, local_decimals
from .models import find

#: Tokens of a row with both of its answers, and those of its answers: the mean of HH-RLHF's rows of up to 256 tokens.
TOKENS, ANSWERS = 168, 72
#: What a lesson takes, as measured once: pairs for each step of its main training, more for each of the first 32, which
#: its other trainings take too, pairs besides, and short answers.
EACH_STEP, EACH_SHORT_STEP, PAIRS, READ = 13, 38, 115, 3000


def seconds(setup) -> tuple[float, float]:
    """The time of a pair in a DPO step, and of a short answer, both of a model of the same shape with random weights.

    An answer is written in float32, whatever the training's precision.
    """
    config = AutoConfig.from_pretrained(find(setup.instruct_model), trust_remote_code=False)
    model = AutoModelForCausalLM.from_config(config)
    trained = get_peft_model(model, copy.deepcopy(setup.peft_config)) if setup.peft_config else model
    pairs = setup.fit["per_device_train_batch_size"]
    ids = torch.randint(model.config.vocab_size, (pairs, min(TOKENS, setup.max_length)))
    questions = ids[:1].repeat(10, 1)

    def step():
        with torch.autocast("cpu", torch.bfloat16, setup.precision == "bf16"):
            with torch.no_grad():
                model(input_ids=ids, logits_to_keep=ANSWERS)  # the reference
            trained(input_ids=ids, logits_to_keep=ANSWERS).logits.float().logsumexp(dim=-1).sum().backward()

    def answer():
        model.generate(questions, attention_mask=torch.ones_like(questions), min_new_tokens=16, max_new_tokens=16)

    taken = []
    for work, times, rows in ((step, 4, pairs), (answer, 1, len(questions))):
        work()  # the first is slower
        started = time.perf_counter()
        for _time in range(times):
            work()
        taken.append((time.perf_counter() - started) / times / rows)
    return taken[0], taken[1]


def how_long(setup) -> str:
    """How long a lesson will take with this setup, and with fewer steps; and the memory it is planned with."""
    (a_pair, an_answer), steps = seconds(setup), setup.dpo["max_steps"]
    minutes = {
        some: (a_pair * (EACH_STEP * some + EACH_SHORT_STEP * min(some, 32) + PAIRS) + an_answer * READ) / 60
        for some in (steps, 20)
    }
    words = _("With at most {steps} steps a training, a lesson will take about {minutes:.0f} minutes on this machine: "
              "a pair takes {seconds:.1f} s here, tried just now.")  # fmt: skip
    if steps > 20:
        words += " " + _("cu.start(…, max_steps=20) makes it about {few:.0f} minutes.")
    if setup.memory:
        words += " " + _("A training may take {memory} GB of memory; the lesson, which keeps its models, 5 GB more.")
    numbers = {"minutes": minutes[steps], "seconds": a_pair, "few": minutes[20], "memory": setup.memory}
    return local_decimals(words.format(steps=steps, **numbers))
