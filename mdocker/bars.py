"""Spans of time as bars under one another, on an axis that all share. Pure.

A container starts in milliseconds and runs for days: in true proportion all but the run would be
nothing. So the axis is cut at every beginning and end, and each piece is as wide as the logarithm
of its time: order and overlap are true, lengths are not. `linear` makes them so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """What one bar shows. Times in ns on any clock.

    Attributes:
        end: None while it goes on; equal to `begin` for a moment.
        part: Drawn lighter: it is part of the bar above.
    """

    begin: int
    end: int | None
    part: bool = False


class Letters(NamedTuple):
    """What bars are made of."""

    whole: str
    part: str
    moment: str
    going_on: str


BLOCKS = Letters("█", "▒", "◆", "▶")
PLAIN = Letters("#", "=", "*", ">")

_UNIT_NS = 1_000_000
"""Pieces much shorter than this are as wide as they are long, longer ones by the logarithm."""


def bars(
    spans: Sequence[Span], now: int, width: int, letters: Letters = BLOCKS, *, linear: bool = False
) -> list[str]:
    """Draw one bar for each span, each in a text of `width` cells at most.

    Args:
        now: Where spans that go on end.
        width: At least 1.
        linear: Lengths in true proportion.
    """
    ends = [now if span.end is None else max(span.end, span.begin) for span in spans]
    cuts = sorted({*(span.begin for span in spans), *ends})
    places = _places(cuts, width, linear)
    return [
        _bar(span, places[span.begin], places[end], width, letters)
        for span, end in zip(spans, ends, strict=True)
    ]


def _places(cuts: Sequence[int], width: int, linear: bool) -> dict[int, float]:
    """Where each cut of the axis is, in cells from the left."""
    weights = [
        float(after - before) if linear else math.log1p((after - before) / _UNIT_NS)
        for before, after in itertools.pairwise(cuts)
    ]
    scale = width / (sum(weights) or 1.0)
    places, at = {}, 0.0
    for cut, weight in zip(cuts, [*weights, 0.0], strict=True):
        places[cut] = at * scale
        at += weight
    return places


def _bar(span: Span, begin: float, end: float, width: int, letters: Letters) -> str:
    first = min(int(begin), width - 1)
    cells = max(min(round(end), width) - first, 1)
    if span.end == span.begin:
        return " " * first + letters.moment
    letter = letters.part if span.part else letters.whole
    drawn = letter * cells
    if span.end is None:
        drawn = drawn[:-1] + letters.going_on
    return " " * first + drawn
