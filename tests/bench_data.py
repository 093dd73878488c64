"""`make bench`: how fast preference rows are formatted, and whether memory and cost grow with their number.

Beside it: plain `datasets` with TRL's own extraction of the prompt, which checks and counts nothing.

HH-like transcripts are made from the bundled sample, about as long as those of Anthropic/hh-rlhf's harmless-base
test split (2.5 questions and 650 characters each). 10,000 and 160,000 of them are read in turn, in one run, each time
in a process of its own; the best of three counts.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SIZES = (10_000, 160_000)
ROUNDS = 3


def write_rows(path: Path, count: int) -> None:
    """HH-like rows, no two alike."""
    rng = random.Random(0)
    sample = [json.loads(line) for line in (ROOT / "data_samples/preferences/train.jsonl").open(encoding="utf-8")]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            last, *earlier = rng.choices(sample, k=rng.choice([1, 2, 3]))
            history = "".join(row["chosen"] for row in earlier)
            row = {side: (history + last[side]).replace(": ", f": {number} ", 1) for side in ("chosen", "rejected")}
            file.write(json.dumps(row) + "\n")


def measure(how: str, path: str) -> None:
    """Print the seconds and the growth in peak memory, in MB, that reading a file takes."""
    sys.path.insert(0, str(ROOT))
    import datasets
    from trl import extract_prompt

    import course_utils as cu

    datasets.disable_progress_bars()
    cu.load_preferences(path, limit=1000)  # first use imports and compiles
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if how == "ours":
        data, report = cu.load_preferences(path)
        assert len(data) == report.kept == report.read
    else:
        with tempfile.TemporaryDirectory() as cache:
            rows = datasets.load_dataset("json", data_files=path, split="train", cache_dir=cache)
            rows.map(extract_prompt)
    seconds = time.perf_counter() - start
    print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        best = {}
        paths = {size: Path(folder) / f"{size}.jsonl" for size in SIZES}
        for size, path in paths.items():
            write_rows(path, size)
        for _round in range(ROUNDS):
            for size, path in paths.items():
                for how in ("ours", "plain"):
                    command = [sys.executable, __file__, how, path]
                    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    seconds, memory = map(float, out.split())
                    best[how, size] = min(best.get((how, size), (float("inf"), 0)), (seconds, memory))
    for (how, size), (seconds, memory) in best.items():
        name = {"ours": "load_preferences", "plain": "datasets.map with TRL's extract_prompt"}[how]
        print(f"{size:>8,} rows: {size / seconds:>8,.0f} rows/s, peak memory +{memory:.0f} MB, {name}")
    few, many = (best["ours", size][0] / size for size in SIZES)
    print(f"seconds a row, {SIZES[1]:,} rows against {SIZES[0]:,}: {many / few:.2f} times")


if __name__ == "__main__":
    measure(*sys.argv[1:]) if len(sys.argv) > 1 else main()
