"""The `k8s-file` format, which Kubernetes calls the CRI log format.

One record is `<time> stdout F <line>` and a newline; a piece of a longer line has `P` in place of
`F`, and the bytes of the line stand as they are. The time has nine digits and `Z` (UTC), as
containerd writes it.
"""

from __future__ import annotations

from logs import stamps
from logs.records import Records


class K8sRecords:
    """Writes `k8s-file` records. See `logs.records.RecordWriter`."""

    __slots__ = ()

    def lines(self, stream: bytes, held: bytes, text: bytes, end: int, time_ns: int) -> Records:
        head = b"%b %b F " % (stamps.fixed(time_ns), stream)
        body = text.replace(b"\n", b"\n" + head)
        # Each newline has made it longer by as much: no need to count them.
        number = (len(body) - len(text)) // len(head)
        whole = memoryview(body)[: len(body) - (len(text) - end) - len(head)]
        return Records([head + held, whole], number)

    def piece(self, stream: bytes, text: bytes, time_ns: int) -> bytes:
        return b"%b %b P %b\n" % (stamps.fixed(time_ns), stream, text)
