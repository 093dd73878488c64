"""For teachers: a class's progress as CSV, `python tools/class_progress.py codes.txt > class.csv`.

codes.txt has one "name code" a line, the code from a learner's `cu.progress()`. Needs Python alone.
"""

import csv
import importlib.util
import sys
from pathlib import Path

CODES = Path(__file__).parents[1] / "course_utils" / "exercises" / "codes.py"


def main(path: str = "") -> None:
    """Print a row a learner, with 1 for each exercise that was passed; name the lines that have no code."""
    spec = importlib.util.spec_from_file_location("codes", CODES)
    codes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(codes)
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"{path or 'no file'}: {error}; expected a text file in UTF-8 with one “name code” a line")
    sys.stdout.reconfigure(encoding="utf-8", newline="")
    out = csv.writer(sys.stdout)
    out.writerow(["name", *codes.BITS, "sum"])
    for number, line in enumerate(lines, 1):
        *who, code = line.split() or [""]
        passed = codes.decode(code) if code else None
        if passed is not None:
            name = " ".join(who) or str(number)
            name = f"'{name}" if name[0] in "=+-@" else name  # or a spreadsheet would take it for a formula
            out.writerow([name, *(int(one in passed) for one in codes.BITS), len(passed)])
        elif code:
            print(f"{path}, line {number}: {code!r} is no code of this course", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:2])
