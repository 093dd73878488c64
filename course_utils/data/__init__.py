"""For the learner with preference data: `load_preferences` goes sources → layouts → pairs, and the report counts."""

from .pairs import load_preferences
from .report import Report

__all__ = ["Report", "load_preferences"]
