"""A container's log held against the account that it kept itself (see `payload.py`)."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

from tests.soak.payload import EVERY_ERROR


@dataclass
class Findings:
    """What one log, or many together, held."""

    lines: int = 0
    bytes: int = 0
    lost: int = 0
    repeated: int = 0
    foreign: int = 0
    disordered: int = 0
    words: list[str] = field(default_factory=list)

    def add(self, other):
        self.lines += other.lines
        self.bytes += other.bytes
        self.lost += other.lost
        self.repeated += other.repeated
        self.foreign += other.foreign
        self.disordered += other.disordered
        self.words += other.words

    @property
    def clean(self):
        return not (self.lost or self.repeated or self.foreign or self.disordered)


def runs_of(account):
    """What each run noted: {run: (last line's number, number of its END or 0)}."""
    runs = {}
    for line in account.splitlines(keepends=True):
        if not line.endswith("\n"):
            continue
        words = line.split()
        if words[0] == "END":
            runs[int(words[1])] = (runs.get(int(words[1]), (0, 0))[0], int(words[2]))
        else:
            runs[int(words[0])] = (int(words[1]), 0)
    return runs


def due(account, filling, errors):
    """The lines that a stream must hold, and those that it may hold besides.

    Args:
        errors: For standard error; else for standard output.
    """
    wanted, allowed = [], set()
    for run, (last, end) in sorted(runs_of(account).items()):
        wanted += [
            f"{run} {n} {filling}" for n in range(1, last + 1) if (n % EVERY_ERROR == 0) == errors
        ]
        if end and not errors:
            wanted.append(f"END {run} {end}")
        elif not end:
            # Cut off between a line and its note: the next line, or the END, may be there.
            allowed.add(f"{run} {last + 1} {filling}")
            allowed |= {f"END {run} {last + 1}", f"END {run} {last + 2}"}
    return wanted, allowed


def judge(account, runs, filling, out, err, *, tail_only=False, cut=False):
    """Hold a log against the account.

    Args:
        account: What the container noted.
        runs: How many runs there were; one that was killed before its first note noted nothing.
        out, err: The log's two streams.
        tail_only: The log was rotated: its oldest lines may be missing, but no others.
        cut: Supervisor and shim have died at once, and the pipes with them: a run's newest lines
            may be missing, but no others.
    """
    findings = Findings(bytes=len(out) + len(err))
    if tail_only and not out and not err:
        findings.lost = 1
        findings.words.append("rotation has left nothing")
    for name, data, errors in (("stdout", out, False), ("stderr", err, True)):
        wanted, allowed = due(account, filling, errors)
        allowed |= {f"{run} 1 {filling}" for run in range(1, runs + 1)} - set(wanted)
        found = data.decode(errors="replace").split("\n")
        if found.pop() and not cut:
            findings.foreign += 1
            findings.words.append(f"{name} ends within a line")
        findings.lines += len(found)
        _compare(findings, name, wanted, allowed, found, tail_only, cut)
    return findings


def _by_run(lines):
    """The lines of each run."""
    return [list(run) for _, run in itertools.groupby(lines, key=_run_of)]


def _run_of(line):
    return line.removeprefix("END ").split()[0]


def _up_to_the_last(run, found):
    """The lines of one run up to the last that was found."""
    last = max((at for at, line in enumerate(run) if line in found), default=-1)
    return run[: last + 1]


def _compare(findings, name, wanted, allowed, found, tail_only, cut):
    counted = Counter(found)
    known = set(wanted)
    kept = [line for line in found if line in known]
    if tail_only:
        # Rotation takes the oldest, perhaps all that one stream had.
        wanted = wanted[wanted.index(kept[0]) :] if kept else []
        known = set(wanted)
    if cut:
        wanted = [line for run in _by_run(wanted) for line in _up_to_the_last(run, counted)]
    lost = set(wanted) - counted.keys()
    repeated = sum(count - 1 for count in counted.values())
    foreign = [line for line in counted if line not in known and line not in allowed]
    findings.lost += len(lost)
    findings.repeated += repeated
    findings.foreign += len(foreign)
    if not lost and not repeated and kept != wanted:
        findings.disordered += 1
    if lost:
        example = min(lost, key=wanted.index)
        findings.words.append(f"{name}: {len(lost)} lost, the first {example[:40]!r}")
    if repeated:
        example = next(line for line, count in counted.items() if count > 1)
        findings.words.append(f"{name}: {repeated} repeated, for example {example[:40]!r}")
    if foreign:
        findings.words.append(f"{name}: {len(foreign)} unknown, for example {foreign[0][:60]!r}")
