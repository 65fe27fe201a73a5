"""One step of a program for `runtime.native`, and the memory that its arguments point to."""

from __future__ import annotations

import struct

from runtime.layer_files import Unusual

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

STEP_BYTES = 64
COMPARE = -1
"""No call: is the byte at the first argument equal to the second argument?"""

_pack = struct.Struct("=q5Q3H2x3h2x").pack


def step(
    call: int,
    *arguments: int,
    passing: tuple[int, ...] = (),
    passed: int = 1,
    failed: int = 0,
    done: int = 1,
) -> bytes:
    """One step. Jumps count steps: 1 is the next one, 0 (for `failed`) gives up."""
    args = (*arguments, 0, 0, 0, 0, 0)[:5]
    errnos = (*passing, 0, 0, 0)[:3]
    return _pack(call, *args, *errnos, passed, failed, done)


class Texts:
    """Texts and structures at known addresses.

    Attributes:
        content: What was put so far, for the memory at `address`.
        scratch: Address of a page that the child may write to.
    """

    def __init__(self, address: int, room: int, scratch: int) -> None:
        self.scratch = scratch
        self._address = address
        self._room = room
        self.content = bytearray()

    def put(self, data: bytes) -> int:
        """Add `data` and a NUL byte; returns its address.

        Raises:
            Unusual: it doesn't fit.
        """
        at = len(self.content)
        end = bytes(8 - len(data) % 8)  # one NUL at least, and the next text is aligned
        if at + len(data) + len(end) > self._room:
            raise Unusual
        self.content += data
        self.content += end
        return self._address + at

    def put_array(self, words: Sequence[bytes]) -> int:
        """Add texts and an array of their addresses that ends with NULL; returns the array's."""
        addresses = [self.put(word) for word in words]
        return self.put(struct.pack(f"={len(addresses)}Q8x", *addresses))
