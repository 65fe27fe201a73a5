"""What a sample of statistics says to a person: Docker's columns, and bars for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mdocker.listing import Row
from mdocker.units import human_binary_size, human_size

HEADINGS: Row = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")

UNKNOWN = "--"
"""Docker's sign for what can't be said."""

_BAR_CELLS = 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LOAD_COLOURS = ((85.0, "31"), (60.0, "33"), (0.0, "32"))


def row(sample: dict[str, Any], *, no_trunc: bool) -> Row:
    """Return the fields of one container."""
    id = str(sample["id"])
    cpu, memory = cpu_percent(sample), memory_percent(sample)
    used, limit = memory_used(sample), (sample.get("memory_stats") or {}).get("limit", 0)
    pids = (sample.get("pids_stats") or {}).get("current")
    return {
        "Container": id if no_trunc else id[:12],
        "ID": id if no_trunc else id[:12],
        "Name": str(sample.get("name", "")).removeprefix("/"),
        "CPUPerc": _percent(cpu),
        "MemUsage": UNKNOWN
        if used is None
        else f"{human_binary_size(used)} / {human_binary_size(limit)}",
        "MemPerc": _percent(memory),
        "NetIO": _network(sample.get("networks")),
        "BlockIO": _blocks((sample.get("blkio_stats") or {}).get("io_service_bytes_recursive")),
        "PIDs": UNKNOWN if pids is None else str(pids),
    }


def cpu_percent(sample: dict[str, Any]) -> float | None:
    """Return the use of processors between two samples, 100 for one; None where it is not known."""
    now, before = sample["cpu_stats"], sample["precpu_stats"]
    if "system_cpu_usage" not in now or "system_cpu_usage" not in before:
        return None
    total = now["system_cpu_usage"] - before["system_cpu_usage"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    if total <= 0 or used <= 0:
        return 0.0
    return float(used / total * (now.get("online_cpus") or 1) * 100)


def memory_used(sample: dict[str, Any]) -> int | None:
    """Return bytes without the part of the page cache that can go at once, as Docker does."""
    memory = sample.get("memory_stats") or {}
    usage: int | None = memory.get("usage")
    if usage is None:
        return None
    details = memory.get("stats") or {}
    cache: int = details.get("total_inactive_file", details.get("inactive_file", 0))
    return usage - cache if cache < usage else usage


def memory_percent(sample: dict[str, Any]) -> float | None:
    """Return the part of its limit, or of the machine's memory; None where it is not known."""
    used, limit = memory_used(sample), (sample.get("memory_stats") or {}).get("limit", 0)
    return None if used is None else used / limit * 100 if limit else 0.0


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}%"


def _network(networks: dict[str, dict[str, int]] | None) -> str:
    if networks is None:
        return UNKNOWN
    received = sum(one.get("rx_bytes", 0) for one in networks.values())
    sent = sum(one.get("tx_bytes", 0) for one in networks.values())
    return f"{human_size(received, 3)} / {human_size(sent, 3)}"


def _blocks(entries: Sequence[dict[str, Any]] | None) -> str:
    if entries is None:
        return UNKNOWN
    sums = {"r": 0, "w": 0}
    for entry in entries:
        kind = str(entry.get("op", ""))[:1].lower()
        if kind in sums:
            sums[kind] += entry.get("value", 0)
    return f"{human_size(sums['r'], 3)} / {human_size(sums['w'], 3)}"


class Cell(NamedTuple):
    """A cell of a table; the colour (SGR parameters) does not count for its width."""

    text: str
    colour: str = ""


def bar(percent: float | None, *, blocks: bool) -> str:
    """Draw a percentage, full at 100 and beyond."""
    eighths = round(min(max(percent or 0.0, 0.0), 100.0) / 100 * _BAR_CELLS * 8)
    if not blocks:
        return "#" * (eighths // 8)
    whole, rest = divmod(eighths, 8)
    return _EIGHTHS[8] * whole + (_EIGHTHS[rest] if rest else "")


def load_colour(percent: float | None) -> str:
    """Return the colour of a percentage: green, yellow, red."""
    return next(colour for least, colour in _LOAD_COLOURS if (percent or 0.0) >= least)


def pictured(
    samples: Sequence[dict[str, Any]], *, no_trunc: bool, blocks: bool, colour: bool, width: int
) -> str:
    """Lay samples out as a table, as wide as there is room: with bars, without, narrow.

    Args:
        samples: What the engine tells of each container.
        no_trunc: With whole ids.
        blocks: The terminal has block characters.
        colour: Colours are welcome.
        width: The terminal's columns.
    """
    headings = [Cell(str(HEADINGS[name]), "1") for name in COLUMNS]
    for bars, gap in ((True, "   "), (False, "   "), (False, " ")):
        table = [
            headings,
            *(_cells(one, no_trunc=no_trunc, blocks=blocks, bars=bars) for one in samples),
        ]
        widths = [max(len(cells[at].text) for cells in table) for at in range(len(COLUMNS))]
        if sum(widths) + len(gap) * (len(widths) - 1) <= width:
            break
    lines = []
    for cells in table:
        padded = [
            (cell.text.ljust(room), cell.colour) for cell, room in zip(cells, widths, strict=True)
        ]
        lines.append(gap.join(_painted(*one) if colour else one[0] for one in padded).rstrip())
    return "\n".join(lines) + "\n"


def _cells(sample: dict[str, Any], *, no_trunc: bool, blocks: bool, bars: bool) -> list[Cell]:
    fields = row(sample, no_trunc=no_trunc)
    cells = [Cell(str(fields[name])) for name in COLUMNS]
    for name, percent in (("CPUPerc", cpu_percent(sample)), ("MemPerc", memory_percent(sample))):
        at = COLUMNS.index(name)
        text = cells[at].text
        if bars:
            text = f"{text:>8} {bar(percent, blocks=blocks):<{_BAR_CELLS}}"
        cells[at] = Cell(text, load_colour(percent))
    if sample.get("State") not in ("running", None):
        cells[COLUMNS.index("Name")] = Cell(f"{fields['Name']} ({sample['State']})", "90")
    return cells


def _painted(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text
