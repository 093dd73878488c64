"""For learners: what was found, beside what was asked for."""

import math
import operator
from collections.abc import Sequence

from .i18n import _, in_words, local_decimals, shown

RELATIONS = {">": operator.gt, "≥": operator.ge, "<": operator.lt, "≤": operator.le, "=": operator.eq}


class expect:  # called like a function, and shows itself
    """Compare numbers: `cu.expect(("fluent", 0.99, "≥", 0.97), ...)`, a line each, ✓ or ✗. It is true if all hold.

    A row is a name, a number, one of > ≥ < ≤ =, and the number asked for; more relations may follow. A name is shown in
    the learner's language, as `in_words` has it. bundled: False where another model was trained; what was asked of the
    bundled one then stands beside what was found, without ✓ or ✗.

    >>> expect(("fluent", 0.993, "≥", 0.97), ("preferred", 0.5, ">", 0.6, "<", 0.8))
    ✓ fluent: 0.993 (≥ 0.97)
    ✗ preferred: 0.5 (> 0.6, < 0.8)
    >>> expect(("fluent", 0.993, "≥", 0.97), ("preferred", math.nan, ">", 0.6), bundled=False)
    · fluent: 0.993 (bundled model: ≥ 0.97)
    · preferred: no number (bundled model: > 0.6)
    """

    def __init__(self, *rows: Sequence, bundled: bool = True):
        self.lines = []
        for name, found, *asked in rows:
            pairs = list(zip(asked[::2], asked[1::2]))
            sign = "✓" if all(RELATIONS[relation](found, bound) for relation, bound in pairs) else "✗"
            bounds = ", ".join(f"{relation} {bound:.3g}" for relation, bound in pairs)
            sign, bounds = (sign, bounds) if bundled else ("·", _("bundled model: {bounds}").format(bounds=bounds))
            number = _("no number") if math.isnan(found) else f"{found:.3g}"
            self.lines.append(local_decimals(f"{sign} {shown(in_words(name), 80)}: {number} ({bounds})"))

    def __bool__(self) -> bool:
        return all(line.startswith("✓") for line in self.lines)

    def __repr__(self) -> str:
        return "\n".join(self.lines)
