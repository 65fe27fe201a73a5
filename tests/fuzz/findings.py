"""What a fuzzer has seen go wrong, each kind once."""

from __future__ import annotations

import re
from collections import Counter

_VARIABLE = re.compile(r"0x[0-9a-f]+|[0-9a-f]{12,64}|\d+|'[^']*'|\"[^\"]*\"")


class Findings:
    """Kinds of trouble, with the first example of each.

    Attributes:
        seen: Kind -> how often.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def note(self, kind: str, words: str, example: str = "") -> None:
        """Count it, and print what is new."""
        # The same fault with another number or name is the same fault.
        key = f"{kind}: {_VARIABLE.sub('_', words)[:300]}"
        self.seen[key] += 1
        if self.seen[key] == 1:
            print(f"FOUND {kind}: {words[:2000]}\n      {example[:1500]}", flush=True)
