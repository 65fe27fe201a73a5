"""Lists of things: Docker's table, --format templates, JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mdocker.errors import UsageError
from mdocker.output import table
from mdocker.paths import json_text

Row = Mapping[str, Any]
"""A field's name and its text, or a function for one that takes an argument (`.Label "a"`)."""


def show(
    rows: Sequence[Row], headings: Row, columns: Sequence[str], format: str, only: str = ""
) -> None:
    """Print rows as `rendered` has them.

    Args:
        only: The one field to print where no format was asked for (`--quiet`).
    """
    if only and not format:
        sys.stdout.writelines(f"{row[only]}\n" for row in rows)
    else:
        sys.stdout.write(rendered(rows, headings, columns, format))


def rendered(rows: Sequence[Row], headings: Row, columns: Sequence[str], format: str) -> str:
    """Return rows as text, in lines.

    Args:
        rows: What to print.
        headings: The heading of each field.
        columns: The fields of the ordinary table.
        format: Empty or `table`; `json`; `table TEMPLATE`; or a template for each row.

    Raises:
        TemplateError: The template is wrong, or names a field that there is not.
    """
    if format in ("", "table"):
        cells = [[headings[name] for name in columns]]
        cells += [[row[name] for name in columns] for row in rows]
        return table(cells)
    if format == "json":
        return "".join(as_json(row) + "\n" for row in rows)
    from mdocker.template import Template

    headed = format.startswith("table ")
    # A shell hands \t on as two letters.
    text = format.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n")
    template = Template(text)
    lines = [template.render(row) for row in rows]
    if headed:
        lines.insert(0, template.headings(headings))
        return table([line.split("\t") for line in lines])
    return "".join(line + "\n" for line in lines)


def as_json(row: Row) -> str:
    """Print a row as `docker … --format json` does: sorted, texts only."""
    fields = {name: row[name] for name in sorted(row) if not callable(row[name])}
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def parse_filters(words: Sequence[str]) -> str | None:
    """Turn `--filter KEY=VALUE` into what the API takes; None for none.

    Raises:
        UsageError: A word is no KEY=VALUE.
    """
    if not words:
        return None
    filters: dict[str, dict[str, bool]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f'invalid argument "{word}" for "-f, --filter": must be KEY=VALUE')
        filters.setdefault(key.strip().lower(), {})[value.strip()] = True
    return json_text(filters)


def labels_text(labels: Mapping[str, str] | None) -> str:
    """Print labels as a list's field has them."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def label_field(labels: Mapping[str, str] | None) -> Callable[[str], str]:
    """Return the `.Label "key"` of a row."""
    return lambda key: (labels or {}).get(key, "")


def shorten(text: str, length: int) -> str:
    """Cut a text, with an ellipsis as its last letter."""
    return text if len(text) <= length else text[: length - 1] + "…"
