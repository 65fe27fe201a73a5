"""The size of a client's terminal, as containers and execs are told it."""

from __future__ import annotations

from supervisor.errors import BadParameter


def console_size(asked: list[int] | None) -> tuple[int, int]:
    """Lines and columns of a terminal, (0, 0) where the client does not know them.

    Raises:
        BadParameter: It is no size.
    """
    if asked is None:
        return (0, 0)
    if len(asked) != 2 or not all(0 <= number < 65536 for number in asked):
        raise BadParameter(f"invalid ConsoleSize {asked}: lines and columns, each below 65536")
    return (asked[0], asked[1])
