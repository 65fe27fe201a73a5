"""What every benchmark shares: samples, rows, the table on the terminal and the record on disk.

A row asks one thing and has a column for each competitor: `ours`, `podman`, `docker`, `floor`. Its
`to_reach` is the figure of the project's own budget. Nothing here judges by raising: a figure that
is not reached says "no" in the table, and that is all.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.machine import facts, load_average, versions

RESULTS = Path(__file__).parent / "results"
PEERS = ("podman", "docker")
COLUMNS = ("ours", *PEERS, "floor")


class BenchError(Exception):
    """A step of a benchmark failed; the text says which and how. The other steps go on."""


@dataclass(frozen=True)
class Sample:
    """The values of one figure over its runs, in the unit of its row."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Sample:
        """Keeps the values in the order they were measured; BenchError when there is none."""
        kept = tuple(values)
        if not kept:
            raise BenchError("nothing was measured")
        return cls(kept)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def minimum(self) -> float:
        return min(self.values)

    @property
    def p99(self) -> float:
        """The nearest-rank 99th percentile: the largest value when there are fewer than 100."""
        ordered = sorted(self.values)
        return ordered[max(0, -(-99 * len(ordered) // 100) - 1)]

    def as_json(self) -> dict[str, object]:
        return {
            "n": len(self.values),
            "median": round(self.median, 4),
            "min": round(self.minimum, 4),
            "p99": round(self.p99, 4),
            "max": round(max(self.values), 4),
            "values": [round(value, 4) for value in self.values[:1000]],
        }


@dataclass
class Row:
    """One figure of every competitor. `limit` is what to reach, in the row's unit."""

    what: str
    unit: str
    limit: float | None = None
    more_is_better: bool = False
    cells: dict[str, Sample | str] = field(default_factory=dict)
    note: str = ""

    def put(self, column: str, values: float | Iterable[float]) -> None:
        """Sets a column from one value or many."""
        if column not in COLUMNS:
            raise ValueError(f"no column {column}; there are {', '.join(COLUMNS)}")
        several = (values,) if isinstance(values, int | float) else values
        self.cells[column] = Sample.of(several)

    def say(self, column: str, words: str) -> None:
        """Sets a column to the reason why there is no figure."""
        self.cells.setdefault(column, words)

    def figure(self, column: str) -> float | None:
        cell = self.cells.get(column)
        return cell.median if isinstance(cell, Sample) else None

    @property
    def ratio(self) -> float | None:
        """How many times better ours is than the best peer; below 1 is worse."""
        ours = self.figure("ours")
        peers = [value for peer in PEERS if (value := self.figure(peer)) is not None]
        if not ours or not peers:
            return None
        return ours / max(peers) if self.more_is_better else min(peers) / ours

    @property
    def reached(self) -> bool | None:
        ours = self.figure("ours")
        if ours is None or self.limit is None:
            return None
        return ours >= self.limit if self.more_is_better else ours <= self.limit

    def as_json(self) -> dict[str, object]:
        return {
            "what": self.what,
            "unit": self.unit,
            "better": "more" if self.more_is_better else "less",
            "to_reach": self.limit,
            "reached": self.reached,
            "times_better_than_best_peer": self.ratio and round(self.ratio, 3),
            "note": self.note,
            "cells": {
                column: cell if isinstance(cell, str) else cell.as_json()
                for column, cell in self.cells.items()
            },
        }


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cell(cell: Sample | str | None) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell if len(cell) <= 14 else cell[:13] + "…"
    if len(cell.values) >= 20:
        return f"{_number(cell.median)} (p99 {_number(cell.p99)})"
    return _number(cell.median)


def _lines(row: Row) -> list[str]:
    to_reach = ""
    if row.limit is not None:
        to_reach = ("≥ " if row.more_is_better else "≤ ") + _number(row.limit)
    verdict = {True: "yes", False: "no", None: ""}[row.reached]
    ratio = "" if row.ratio is None else f"{_number(row.ratio)}x"
    cells = [_cell(row.cells.get(column)) for column in COLUMNS]
    return [row.what, row.unit, *cells, ratio, to_reach, verdict]


def table(rows: Sequence[Row]) -> str:
    """The rows as lines of text; medians, and the 99th percentile from 20 runs on."""
    head = ["", "unit", *COLUMNS, "vs best peer", "to reach", "reached"]
    grid = [head, *(_lines(row) for row in rows)]
    widths = [max(len(line[i]) for line in grid) for i in range(len(head))]
    text = []
    for number, line in enumerate(grid):
        first, *rest = (
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        text.append("  ".join([first, *rest]).rstrip())
        if number == 0:
            text.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
    text.extend(f"  {row.what}: {row.note}" for row in rows if row.note)
    return "\n".join(text)


def warn(words: str) -> None:
    """One line on stderr, apart from the tables."""
    print(f"bench: {words}", file=sys.stderr, flush=True)


def check_load() -> float:
    """The load before a measurement; says so when the machine is too busy to trust the figures."""
    load = load_average()
    cpus = os.cpu_count() or 1
    if load > cpus / 2:
        warn(f"load average is {load:.2f} on {cpus} CPUs: the figures will be worse than they are")
    return load


@dataclass
class Record:
    """What one script measured, with all that is needed to believe it."""

    name: str
    question: str
    quick: bool
    load_before: float
    part: str = ""  # "ours" or "peers" when only they were measured
    rows: list[Row] = field(default_factory=list)

    def write(self) -> Path:
        """Keeps the record as results/<date>-<name>.json and returns its path.

        A second run on the same day replaces the first, if it is as long and of the same parts.
        """
        length = [] if self.quick else ["full"]
        part = [self.part] if self.part else []
        flags = [*length, *(f"{part}-only" for part in part)]
        now = datetime.datetime.now(datetime.UTC)
        content = {
            "name": self.name,
            "question": self.question,
            "date": now.isoformat(timespec="seconds"),
            "quick": self.quick,
            "command": f"python -m bench.{self.name}" + "".join(f" --{flag}" for flag in flags),
            "machine": facts(),
            "load": {"before": self.load_before, "after": load_average()},
            "versions": versions(),
            "rows": [row.as_json() for row in self.rows],
        }
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{'-'.join([f'{now:%Y-%m-%d}', self.name, *length, *part])}.json"
        text = json.dumps(content, indent=1, ensure_ascii=False)
        # the values of a sample on one line: a record is read by people too
        text = re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", _one_line, text)
        path.write_text(text + "\n")
        return path


def _one_line(found: re.Match[str]) -> str:
    return "[" + " ".join(found[1].split()) + "]"
