"""`python -m course_utils dpo.yaml` trains what `write_run` wrote; see launch.py."""

import sys

from .launch import main

main(*sys.argv[1:] or [""])
