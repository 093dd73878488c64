"""For tests that run whole lessons: fewer steps, pairs and prompts, and shorter answers, in the lesson's own process.

What is tested then is that the cells fit together, not how good the models become. Nothing of a lesson's text is
changed.
"""

import transformers

#: Steps of the lessons, and how many are taken. A margin must grow on a learner's own 20, and a match needs enough of
#: both sides to come out at equal compute, in a number that is none of these.
STEPS = {20: 9, 32: 3, 40: 3, 80: 15, 100: 6, 150: 6}
ROWS = {"train": 450, "test": 100}
MEASURED, TOKENS = 16, 16


def shorten() -> None:
    """Make the course short in this process."""
    import course_utils as cu

    load, generate, kl, accuracy = cu.load_preferences, cu.generate, cu.policy_kl, cu.reward_accuracy
    finish = transformers.TrainingArguments.__post_init__

    def fewer_rows(source, split="train", limit=None, **settings):
        return load(source, split, min(limit or ROWS[split], ROWS[split]), **settings)

    def fewer_tokens(*arguments, **settings):
        return generate(*arguments, **settings | {"max_new_tokens": TOKENS})

    def fewer_prompts(model, reference, tokenizer, prompts, **settings):
        return kl(model, reference, tokenizer, prompts[:MEASURED], **settings | {"max_new_tokens": TOKENS})

    def fewer_pairs(model, reference, tokenizer, pairs):
        return accuracy(model, reference, tokenizer, pairs.select(range(min(MEASURED, len(pairs)))))

    def fewer_steps(args):
        if args.max_steps in STEPS:
            args.max_steps, args.warmup_steps = STEPS[args.max_steps], 1
        finish(args)

    cu.load_preferences, cu.generate = fewer_rows, fewer_tokens
    cu.policy_kl, cu.reward_accuracy = fewer_prompts, fewer_pairs
    transformers.TrainingArguments.__post_init__ = fewer_steps
