"""For authors: run every notebook and keep what it printed: `python tools/execute.py [part of a path]`."""

import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def tidy(notebook) -> None:
    """Keep of each progress bar what a terminal would show at last, and nothing of the machine or the widgets."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            merged = []
            for output in cell.outputs:
                if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
                    merged[-1].text += output.text
                else:
                    merged.append(output)
            for output in merged:
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)  # the still picture stays
                if output.output_type == "stream" and output.name == "stderr":
                    output.text = re.sub(
                        r"\S*/site-packages/", "", output.text
                    )  # where a library is, is the machine's affair
                    lines = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in output.text.split("\n"))
                    output.text = "\n".join(lines)
            bars = [output for output in merged if output.get("name") == "stderr"]
            half = [output for output in bars[:-1] if not output.text.endswith("\n")]  # drawn again further down
            cell.outputs = [output for output in merged if output not in half]


def main(part: str = "") -> None:
    """Run the notebooks whose path holds `part`."""
    for path in sorted(NOTEBOOKS.glob("*/*.ipynb")):
        if part in str(path):
            start = time.time()
            notebook = nbformat.read(path, as_version=4)
            with tempfile.TemporaryDirectory() as nothing_done_yet:
                os.environ["COURSE_PROGRESS"] = nothing_done_yet
                NotebookClient(notebook, timeout=300, resources={"metadata": {"path": path.parent}}).execute()
            tidy(notebook)
            nbformat.write(notebook, path)
            print(f"{path.relative_to(NOTEBOOKS)}: {time.time() - start:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
