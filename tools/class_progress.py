"""For teachers: a class's progress, `python tools/class_progress.py codes.txt class.html` (or class.csv).

codes.txt has one "name code" a line, the code from a learner's `cu.progress()`; commas, semicolons, tabs and quotation
marks may stand around them. The page shows learners by exercises; the CSV opens in a spreadsheet. Needs Python alone.
"""

import csv
import html
import importlib.util
import io
import re
import sys
import unicodedata
from pathlib import Path

CODES = Path(__file__).parents[1] / "course_utils" / "exercises" / "codes.py"
LINE = re.compile(r"""^(?P<name>.*?)[\s,;"']*(?P<code>[\w-]+)[\s,;"']*$""")
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Progress of the class</title>
<style>body {{ font-family: sans-serif }} th, td {{ padding: 0.2em 0.6em; text-align: center; border: 1px solid #ccc }}
table {{ border-collapse: collapse }} th:first-child {{ text-align: left }} .yes {{ background: #cfe8dc }}</style>
<h1>Progress of the class</h1><table>{rows}</table></html>
"""


def read(path: str) -> str:
    """A text file in UTF-8, UTF-16, or the code page of Vietnamese Windows; ValueError for any other."""
    data = Path(path).read_bytes()
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if wide else ("utf-8-sig", "cp1258"):
        try:
            return unicodedata.normalize("NFC", data.decode(encoding))
        except UnicodeDecodeError:
            continue
    raise ValueError("these bytes are no text; save the file as UTF-8")


def learners(path: str, decode) -> list[tuple[str, set[str]]]:
    """Name and passed exercises of each line that has a code; the lines that have none are named on stderr."""
    found = []
    for number, line in enumerate(read(path).splitlines(), 1):
        match = LINE.match(line.strip())
        passed = decode(match["code"]) if match else None
        if passed is not None:
            name = "".join(filter(str.isprintable, match["name"])).strip(" ,;\"'")
            found.append((name or f"line {number}", passed))
        elif line.strip() and not (number == 1 and match and match["code"].lower() in ("code", "mã")):
            print(f"{path}, line {number}: found no code of this course in {line.strip()[:60]!r}", file=sys.stderr)
    return found


def as_csv(found: list, names: list[str]) -> str:
    """A row a learner, with 1 for each exercise that was passed."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["name", *names, "sum"])
    for name, passed in found:
        name = f"'{name}" if name[0] in "=+-@" else name  # or a spreadsheet would take it for a formula
        writer.writerow([name, *(int(one in passed) for one in names), len(passed)])
    return out.getvalue()


def as_page(found: list, names: list[str], sign) -> str:
    """The same as a page to look at, with how many passed each exercise."""
    head = "".join(f"<th scope='col'>{sign(name)}<br>{name.replace('.', '.<br>')}</th>" for name in names)
    rows = f"<tr><th scope='col'>{len(found)} learners</th>{head}<th scope='col'>sum</th></tr>"
    for name, passed in found:
        cells = "".join("<td class='yes'>✓</td>" if one in passed else "<td>·</td>" for one in names)
        rows += f"\n<tr><th scope='row'>{html.escape(name)}</th>{cells}<td>{len(passed)}</td></tr>"
    sums = "".join(f"<td>{sum(one in passed for _name, passed in found)}</td>" for one in names)
    return PAGE.format(rows=f"{rows}\n<tr><th scope='row'>passed by</th>{sums}<td></td></tr>")


def main(path: str = "", target: str = "") -> None:
    """Write the page or the table, or print the table where no file is named."""
    spec = importlib.util.spec_from_file_location("codes", CODES)
    codes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(codes)
    sys.stdout.reconfigure(encoding="utf-8", newline="")
    sys.stderr.reconfigure(errors="backslashreplace")
    try:
        found, names = learners(path, codes.decode), list(codes.BITS)
        if target.endswith(".html"):
            text = as_page(found, names, lambda name: codes.TIERS[codes.tier_of(name)])
            Path(target).write_text(text, encoding="utf-8")
        elif target:
            Path(target).write_text(as_csv(found, names), encoding="utf-8-sig", newline="")  # Excel asks for the mark
        else:
            print(as_csv(found, names), end="")
    except (OSError, ValueError) as error:
        sys.exit(f"{path or 'no file'}: {error}; expected a text file with one “name code” a line")


if __name__ == "__main__":
    main(*sys.argv[1:3])
