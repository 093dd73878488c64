"""A class's progress: `python -m course_utils.exercises codes.txt`, with one "name code" a line."""

import sys

from .progress import main

main(*sys.argv[1:])
