"""NAME=VALUE entries, as options and the files that they name have them: -e, --env-file, labels."""

from __future__ import annotations

from collections.abc import Mapping

from mdocker.errors import UsageError


def entries(
    files: tuple[str, ...], words: tuple[str, ...], environment: Mapping[str, str]
) -> list[str]:
    """Collect NAME=VALUE entries, those of files first; a bare NAME is looked up.

    Raises:
        UsageError: An entry has no name, or a file can't be read.
    """
    found = []
    for name in files:
        found.extend(_read_file(name))
    found.extend(words)
    resolved = []
    for entry in found:
        key, equals, _ = entry.partition("=")
        if not key:
            raise UsageError(f'invalid entry "{entry}": there is no name before the "="')
        if equals or key not in environment:
            resolved.append(entry)
        else:
            resolved.append(f"{key}={environment[key]}")
    return resolved


def _read_file(name: str) -> list[str]:
    try:
        with open(name, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise UsageError(f"unable to read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"unable to read {name}: it is no UTF-8 text") from error
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.rstrip("\r").lstrip()
        if not entry or entry.startswith("#"):
            continue
        key = entry.partition("=")[0]
        if not key or any(letter.isspace() for letter in key):
            raise UsageError(
                f'{name}, line {number}: "{key}" is no name (it is empty or has white space)'
            )
        found.append(entry)
    return found
