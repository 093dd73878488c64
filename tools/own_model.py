"""A model of your own, in plain libraries: your CSV, SFT, then DPO with LoRA, and what it answers before and after.

    pip install pandas "trl[peft]"
    python own_model.py --model Qwen/Qwen2.5-0.5B-Instruct --data pairs.csv --output my_model

This file stands alone; take it with you. The page own_model.md of the course goes through it. Tried with TRL 1.16.
"""

import argparse
import math
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # else TRL tells the hub that it is used

import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
GPU = torch.cuda.is_available()
BF16 = GPU and torch.cuda.is_bf16_supported(including_emulation=False)  # a T4 has none and takes fp16
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
ANSWER = 60  # tokens at most


def read_pairs(path):
    """The pairs of a CSV file as a table, or one sentence on what is wrong with it."""
    try:  # utf-8-sig, because Excel writes a mark before the text; without default_na an answer may be "None"
        table = pd.read_csv(path, encoding="utf-8-sig", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        sys.exit(f"{path}: {why}; expected a CSV file in UTF-8, with texts that hold commas in double quotes")
    if missing := [name for name in ROLES if name not in table]:
        sys.exit(f"{path} has no column {', '.join(missing)}; found {', '.join(table)}; expected {', '.join(ROLES)}")
    if not isinstance(table.index, pd.RangeIndex):
        sys.exit(f"{path}: rows have more cells than the header; put texts that hold commas in double quotes")
    # One form for each letter (NFC): ế can be one character or three, and to a tokenizer they are different texts.
    table = table[list(ROLES)].fillna("").apply(lambda column: column.str.normalize("NFC").str.strip())
    if empty := [str(i + 1) for i, row in enumerate(table.to_numpy()) if "" in row]:
        sys.exit(f"{path}: empty cells in pair {', '.join(empty[:5])}; fill them, or delete the pairs")
    if len(table) < 8:
        sys.exit(f"{path}: found {len(table)} pairs; expected at least 8, and hundreds to learn from")
    return table


def load(name):
    """A model in 32 bits: in 16 bits, steps of a small learning rate are rounded away."""
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, trust_remote_code=False)
    return model.to("cuda" if GPU else "cpu").eval()


def ask(who, model, tokenizer, questions):
    """Print and return the likeliest answer to each question."""
    answers = []
    for question in questions:
        chat = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
        out = model.generate(**ids.to(model.device), max_new_tokens=ANSWER, do_sample=False)
        answers.append(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip())
        print(f"{who}: {question} -> {answers[-1]!r}")
    return answers


def main(words=None):
    """Train what the command line says, into the folders sft, adapter and model of --output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a chat model: its name on the hub, or a folder")
    parser.add_argument("--data", required=True, help="a CSV file in UTF-8 with columns prompt, chosen, rejected")
    parser.add_argument("--output", required=True, type=Path, help="a new folder")
    parser.add_argument("--max_steps", type=int, default=100, help="steps of SFT, and as many of DPO")
    parser.add_argument("--max_length", type=int, default=512, help="tokens of a prompt with its answer, at most")
    args = parser.parse_args(words)
    if args.output.exists():
        sys.exit(f"{args.output} exists; name a new folder")

    # 1. The data: in each column a list of messages, which the model's own chat template turns into text. The last
    #    three prompts are kept out of training; they are asked.
    table, tokenizer = read_pairs(args.data), AutoTokenizer.from_pretrained(args.model, trust_remote_code=False)
    if tokenizer.chat_template is None:
        sys.exit(f"{args.model} has no chat template; name an instruct model")
    questions, table = table["prompt"].tolist()[-3:], table[:-3]
    columns = {name: [[{"role": role, "content": text}] for text in table[name]] for name, role in ROLES.items()}

    def fits(row):  # an answer that is cut off never learns to end, and DPO drops long prompts without a word
        chats = [row["prompt"] + row[name] for name in ("chosen", "rejected")]
        tokens = [tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"] for chat in chats]
        return max(map(len, tokens)) <= args.max_length

    pairs = Dataset.from_dict(columns).filter(fits)
    print(f"{len(pairs)} pairs to train on; {len(table) - len(pairs)} are longer than {args.max_length} tokens")
    if not len(pairs):
        sys.exit("no pair is left; give a larger --max_length")
    settings = {"max_steps": args.max_steps, "max_length": args.max_length, "per_device_train_batch_size": 4}
    settings |= {"bf16": BF16, "fp16": GPU and not BF16, "use_cpu": not GPU, "activation_checkpointing": False}
    settings |= {"logging_first_step": True, "save_strategy": "no", "report_to": "none", "output_dir": str(args.output)}

    # 2. SFT: an adapter learns the chosen answers. The loss counts the answers alone, not the prompts.
    model = load(args.model)
    ask("before", model, tokenizer, questions)
    demonstrations = pairs.remove_columns("rejected").rename_column("chosen", "completion")
    sft_args = SFTConfig(learning_rate=1e-4, completion_only_loss=True, **settings)
    lora = LoraConfig(**LORA)
    sft = SFTTrainer(model, sft_args, train_dataset=demonstrations, processing_class=tokenizer, peft_config=lora)
    sft.train()

    # 3. Merge: the adapter goes into the weights. From here on this is the model that DPO starts from and stays close
    #    to. It is saved and loaded again, because the adapter of DPO will name the folder that it belongs to.
    sft.model.merge_and_unload().save_pretrained(args.output / "sft")
    tokenizer.save_pretrained(args.output / "sft")
    model = load(args.output / "sft")
    ask("after SFT", model, tokenizer, questions)

    # 4. DPO with a new adapter. With the adapter off the model is the one after SFT: that is the reference, and no
    #    second model is needed. The two are equal at first, so each margin is 0, and the first loss is ln 2.
    dpo_args = DPOConfig(learning_rate=2e-5, beta=0.1, **settings)
    lora = LoraConfig(**LORA)
    dpo = DPOTrainer(model, None, dpo_args, train_dataset=pairs, processing_class=tokenizer, peft_config=lora)
    dpo.train()
    first = dpo.state.log_history[0]["loss"]
    print(f"first loss of DPO: {first:.4f}; ln 2 is {math.log(2):.4f}")
    if abs(first - math.log(2)) > 1e-3:
        sys.exit("the reference is not the model that DPO started from; nothing was saved after SFT")

    # 5. Save the adapter (small, and of use with `sft` alone), then merge it and save a model that stands alone.
    answers = ask("after DPO", dpo.model.eval(), tokenizer, questions)
    dpo.model.save_pretrained(args.output / "adapter")
    dpo.model.merge_and_unload().save_pretrained(args.output / "model")
    tokenizer.save_pretrained(args.output / "model")

    # 6. Load what was saved, and ask again.
    again = ask("reloaded", load(args.output / "model"), tokenizer, questions)
    print(f"{sum(a == b for a, b in zip(answers, again))} of {len(answers)} answers are the same after reloading")


if __name__ == "__main__":
    main()
