"""For whoever adds exercises: when two results are the same, and in what they differ if not."""

import itertools
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..i18n import _, shown


def same(one: Any, other: Any) -> bool:
    """Whether two results agree: shapes, numbers to five digits, everything else exactly."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape:
            return False
        return torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-5, equal_nan=True)
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
    if isinstance(wanted, torch.Tensor) and isinstance(result, torch.Tensor):
        return result.detach().as_subclass(torch.Tensor)
    if isinstance(wanted, list) and not isinstance(result, list | str | dict | None) and hasattr(result, "__iter__"):
        return list(itertools.islice(result, 1000))  # it may have no end
    return str(result) if isinstance(result, str) else result


def all_finite(result: Any) -> bool:
    """Whether a result has no infinite number, and is one."""
    return not isinstance(result, torch.Tensor) or bool(result.isfinite().all())


def plain(value: Any) -> str:
    """A result in a few digits, for a message."""
    if isinstance(value, torch.Tensor):
        rounded = [round(number, 4) for number in value.detach().double().flatten().tolist()[:4]]
        return f"{rounded}{' …' if value.numel() > 4 else ''}"
    return f"{value:.4f}" if isinstance(value, float) else shown(repr(value), 200)


def marked(wanted: str, got: str) -> str:
    """Two texts one below the other, with a mark under the first sign in which they differ."""
    wanted, got = repr(wanted), repr(got)
    start = next((i for i, (a, b) in enumerate(zip(wanted, got)) if a != b), min(len(wanted), len(got)))
    cut = max(0, start - 40)
    lines = [f"{'…' if cut else ''}{text[cut : cut + 90]}" for text in (wanted, got)]
    return "\n".join([*lines, " " * (start - cut + bool(cut)) + "^"])


def relation(results: Sequence, wanted: Sequence) -> tuple[str, str] | None:
    """What holds between all numbers and the right ones, as a key and a sentence: a factor, a constant, rounding …"""
    try:
        pairs = [(torch.as_tensor(got).double(), torch.as_tensor(want).double()) for got, want in zip(results, wanted)]
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
    if any(got.shape != want.shape for got, want in pairs):
        return None
    got, want = (torch.cat([one[side].flatten() for one in pairs]) for side in (0, 1))
    usable = got.isfinite() & want.isfinite() & (want.abs() > 1e-4) & (want.abs() < 1e4)
    got, want = got[usable], want[usable]
    if len(want) < 3:
        return None
    factor, more = got / want, got - want
    if torch.allclose(factor, factor[:1], rtol=1e-3):
        return "factor", _("Your numbers are the right ones times {factor:.4g}.").format(factor=factor[0].item())
    if torch.allclose(more, more[:1], rtol=1e-3, atol=1e-4):
        return "offset", _("Your numbers are the right ones plus {more:.4g}.").format(more=more[0].item())
    if torch.allclose(got.abs(), want.abs(), rtol=1e-3):
        return "signs", _("Your numbers have the right size, but not always the right sign.")
    if all(len(one.flatten().unique()) == 1 for one, _want in pairs) and any(one.numel() > 1 for one, _want in pairs):
        return "same_rows", _("Every row gets the same number. Each has its own: mind what you sum or average over.")
    equal = torch.isclose(got, want, rtol=1e-3, atol=1e-4)
    if equal.double().mean() >= 0.5 and (got[~equal] == got[~equal][:1]).all():
        return "clamped", _("Beyond a limit your numbers stay at {limit:.4g}. Nothing is cut off here.").format(
            limit=got[~equal][0].item()
        )
    if (more.abs() <= 0.06).all():
        return "rounded", _("Your numbers are nearly right: something is rounded, or a small constant is in the way.")
    return None


def pulls(names: Sequence[str], found: Sequence, wanted: Sequence) -> tuple[str, str] | None:
    """Which argument does not enter, or pulls the wrong way, from the gradients of every example."""
    for i, name in enumerate(names):
        rights = torch.cat([one[i].flatten() for one in wanted])
        ours = torch.cat([(torch.zeros_like(w[i]) if f[i] is None else f[i]).flatten() for f, w in zip(found, wanted)])
        usable = rights.isfinite() & ours.isfinite() & (rights.abs() > 1e-4)
        if usable.any() and not ours[usable].any():
            return "unused", _("{name} does not enter your result. What is it for?").format(name=name)
        if usable.any() and (ours[usable] * rights[usable] < 0).all():
            words = _("{name} has the wrong sign: as it grows, your result should {go}.")
            go = _("grow") if rights[usable].sum() > 0 else _("fall")
            return "wrong_way", words.format(name=name, go=go)
    return None


def real(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether this is a finite number from low to high, and no text, truth value or list."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    return is_number and math.isfinite(value) and low <= float(value) <= high
