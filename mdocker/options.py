"""How a command declares its options, once, for two readers.

A command writes `Annotated[bool, flag("--detach", "-d", help="…")]`. Annotations are strings
until somebody evaluates them (PEP 563), so importing a command costs nothing:

- cyclopts evaluates them in the command's own module, where `flag` is the function below, and
  gets cyclopts parameters (help pages, conversions that need it);
- `mdocker/binding.py` evaluates the same text with a `flag` that makes plain records, and can
  bind an everyday line without cyclopts, which takes longer to import than a container to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import Parameter


def flag(*names: str, help: str) -> Parameter:
    """An option with Docker's spelling: the long name first, then its aliases."""
    from cyclopts import Parameter

    return Parameter(name=names, help=help, negative=(), show_default=False)


def flattened() -> Parameter:
    """A named tuple whose fields are options of the command that takes it."""
    from cyclopts import Parameter

    return Parameter(name="*")


def injected() -> Parameter:
    """Not on the command line: handed in by the launcher."""
    from cyclopts import Parameter

    return Parameter(parse=False)
