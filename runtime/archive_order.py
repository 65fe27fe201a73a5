"""What a helper process is asked to do in a container's file system, and what it may refuse.

    kind       the engine gives / gets                                 the view
    stat       path → its stat                                          with all mounts
    read       path → its stat, then a tar on stdout                    with all mounts
    write      path, a tar on stdin → its warnings                      with all mounts
    export     a tar of the whole root on stdout                        the overlay alone
    changes    → a list of [path, kind]                                 upper beside lower
    layer      a tar of what has changed, with whiteouts, on a pipe     upper beside lower

and by a build (`runtime.building`), in trees of its own:

    context    directory, a tar on stdin, texts, most → what is in them of that directory alone
    receive    directory, name, mtime_ns, a file on stdin → its sum     the same
    exclude    directory, rules (`runtime.building.ignoring`)           the same
    sources    roots (layers of each), sources → [kind, sum] of each    the roots
    copy       the same, image (layers), destination → a layer          the roots and the image

The order is JSON in a sealed memfd, the answers are lines of JSON on the result pipe:

    {"stat": {...}}                  `stat` and `read`: the path is there
    {"begun": true}                  `write`, `export`, `layer`: the place is there
    {"done": {...}}                  all is well
    {"error": "words", "kind": …}    one of the kinds below; it is the last line

Only the standard library is needed here, and both sides import it.
"""

from __future__ import annotations

MISSING = "missing"
"""There is no such path."""
REFUSED = "refused"
"""What is asked can't be done by anybody: a bad archive, a path that is no directory."""
READ_ONLY = "read-only"
"""The path lies in a file system that is mounted read-only."""
FAILED = "failed"
"""The machine failed: disk full, input/output error."""
UNREAD = "unread"
"""Nobody reads the archive that is made: who was to has ended, and knows why."""
GONE = "gone"
"""The container has ended meanwhile: ask again, for its files as they are then."""


class Refused(Exception):
    """The order can't be carried out.

    Attributes:
        kind: One of the kinds above.
    """

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind
