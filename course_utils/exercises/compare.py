"""For whoever adds exercises: when two results are the same, and where they part if not."""

import math
from typing import Any

import numpy as np
import torch


def same(one: Any, other: Any) -> bool:
    """Whether two results agree: shapes, numbers to five digits, everything else exactly."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        one, other = one.double(), other.double()
        return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
    if isinstance(one, float) and not isinstance(other, (str, bool)):
        try:
            number = float(other)  # of numpy, of torch, a fraction: all the same
        except (TypeError, ValueError, OverflowError, RuntimeError):
            return False
        return math.isclose(one, number, rel_tol=1e-4, abs_tol=1e-5) or (math.isnan(one) and math.isnan(number))
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return False
    return type(one) is type(other) and one == other


def usual(result: Any, wanted: Any) -> Any:
    """A result in the form of the one wanted, where another form says the same: an array, a tuple, a generator."""
    if isinstance(wanted, torch.Tensor) and isinstance(result, np.ndarray | np.generic):
        return torch.as_tensor(result)
    if isinstance(wanted, list) and not isinstance(result, list | str | dict | None) and hasattr(result, "__iter__"):
        return list(result)
    return result


def all_finite(result: Any) -> bool:
    """Whether a result has no infinite number, and is one."""
    return not isinstance(result, torch.Tensor) or bool(result.isfinite().all())


def plain(value: Any) -> str:
    """A result in a few digits, for a message."""
    if isinstance(value, torch.Tensor):
        rounded = [round(number, 4) for number in value.detach().double().flatten().tolist()[:4]]
        return f"{rounded}{' …' if value.numel() > 4 else ''}"
    text = f"{value:.4f}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 200 else text[:200] + " …"


def marked(wanted: str, got: str) -> str:
    """Two texts one below the other, with a mark under the first sign in which they differ."""
    wanted, got = repr(wanted), repr(got)
    start = next((i for i, (a, b) in enumerate(zip(wanted, got)) if a != b), min(len(wanted), len(got)))
    cut = max(0, start - 40)
    lines = [f"{'…' if cut else ''}{text[cut : cut + 90]}" for text in (wanted, got)]
    return "\n".join([*lines, " " * (start - cut + bool(cut)) + "^"])
