"""The headers of an archive, one by one, in words that people understand when one is damaged."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, cast

from runtime.images.entry_names import shown
from runtime.images.tar_source import Refusal, TarSource, Truncated

_ZEROS = bytes(tarfile.BLOCKSIZE)


def entries(source: TarSource, *, end_mark: bool = True) -> Iterator[tarfile.TarInfo]:
    """Entries in the archive's order; tarfile's errors become ours.

    tarfile takes any bad header after the first for the end of the archive. The last block
    that it read tells: zeros are an end, anything else is damage or truncation.

    Args:
        end_mark: Whether an archive that just stops behind an entry, or is empty, is refused. If
            not, the last block needs not be filled up either: docker's client writes such a
            context where the Dockerfile comes from elsewhere.

    Raises:
        Refusal: The archive is damaged or truncated; the text names the last good entry.
    """
    last = ""
    archive = None
    try:
        archive = tarfile.TarFile(
            fileobj=cast(IO[bytes], source), encoding="utf-8", errors="surrogateescape"
        )
        while (entry := archive.next()) is not None:
            last = entry.name
            yield entry
            # It keeps them all, for random access that a stream has no use for.
            archive.members.clear()  # type: ignore[attr-defined]
    except Truncated as error:
        if not end_mark and _lacks_padding(source, archive):
            return
        raise Truncated(f"{error}{_after(last)}") from None
    except RecursionError:
        raise Refusal(f"damaged archive: headers without end{_after(last)}") from None
    except (tarfile.TarError, ValueError, OverflowError) as error:
        if not end_mark and (source.tell() == 0 or _lacks_padding(source, archive)):
            return
        raise _bad_header(source, last, error) from None
    if source.cut_short:
        if not end_mark and not source.last_read:
            return
        raise Truncated(f"the archive is truncated: its end mark is missing{_after(last)}")
    if source.last_read != _ZEROS:
        raise Refusal(f"damaged archive: no valid header{_after(last)}")


def _lacks_padding(source: TarSource, archive: tarfile.TarFile | None) -> bool:
    """Whether it stops in the last block before where the next header would be.

    Args:
        archive: None where not even its first header is one.
    """
    if archive is None:
        return False
    return archive.offset - tarfile.BLOCKSIZE < source.tell() < archive.offset


def _bad_header(source: TarSource, last: str, error: Exception) -> Refusal:
    if last:
        words = "the archive is truncated" if source.cut_short else f"damaged archive ({error})"
        return Refusal(f"{words}{_after(last)}")
    if source.tell() == 0:
        return Refusal("the archive is empty: not a single byte came")
    return Refusal("this is not a tar archive (plain, gzip, bzip2, xz or zstd)")


def _after(name: str) -> str:
    return f" (after {shown(name)})" if name else ""
