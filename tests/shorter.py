"""For tests that run whole lessons: fewer steps, pairs and prompts, and shorter answers, in the lesson's own process.

What is tested then is that the cells fit together, not how good the models become. Nothing of a lesson's text is
changed; `USED` tells which of the numbers below stood in it.
"""

from pathlib import Path

import transformers

#: Steps of the lessons, and how many are taken. A margin must grow on a learner's own 20, and a match needs enough of
#: both sides to come out at equal compute, in a number that is none of these.
STEPS = {20: 9, 32: 3, 40: 3, 80: 15, 100: 6, 150: 6}
ROWS = {"train": 450, "test": 100}
TOKENS = 24
USED = set()


def shorten(patch=setattr) -> None:
    """Make the course short in this process; `patch` may be pytest's `monkeypatch.setattr`."""
    import course_utils as cu

    load, generate, finish = cu.load_preferences, cu.generate, transformers.TrainingArguments.__post_init__

    def fewer_rows(source, split="train", limit=None, **settings):
        return load(source, split, min(limit or ROWS[split], ROWS[split]), **settings)

    def fewer_tokens(*arguments, **settings):
        return generate(*arguments, **{"max_new_tokens": TOKENS} | settings)

    def fewer_steps(args):
        if args.max_steps in STEPS:
            USED.add(args.max_steps)
            args.max_steps, args.warmup_steps = STEPS[args.max_steps], 1
        finish(args)

    patch(cu, "load_preferences", fewer_rows)
    patch(cu, "generate", fewer_tokens)
    patch(transformers.TrainingArguments, "__post_init__", fewer_steps)


def in_every_kernel(ipython: Path, root: Path) -> None:
    """Make the course in `root` short in all kernels whose IPython folder is this one."""
    startup = ipython / "profile_default" / "startup"
    startup.mkdir(parents=True)
    paths = [str(root), str(Path(__file__).parent)]
    (startup / "shorter.py").write_text(f"import sys\nsys.path[:0] = {paths}\nimport shorter\nshorter.shorten()\n")
