"""The command's entry: `mdocker …` and `python -m mdocker …`.

`--version` is answered before anything is imported, and the garbage collector never runs in a
client that ends after some milliseconds (measured: 13 to 31 ms less for each command).
"""

import gc
import os
import sys


def main() -> None:
    """Run one command line and leave with its exit code."""
    _open_standard_streams()
    words = sys.argv[1:]
    if words in (["--version"], ["-v"]):
        from mdocker import __version__

        sys.stdout.write(f"mdocker version {__version__}\n")
        code = 0
    else:
        gc.disable()
        try:
            from mdocker.launch import launch

            code = launch(words)
        except KeyboardInterrupt:  # before it could say so itself
            code = 130
    # The modules' tear-down takes longer than the command. Nothing here needs it: what was
    # written is flushed, and the kernel closes the rest.
    os._exit(_flushed(code))


def _open_standard_streams() -> None:
    """Fill a closed 0, 1 or 2 with /dev/null, or a socket gets the number and is printed to."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    # A name that the locale can't spell is no reason to fail.
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]


def _flushed(code: int) -> int:
    """Write out what is buffered; return the exit code, which a full disk changes."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read it has gone, as in `mdocker ps | head -1`: quiet, as any tool of a pipeline.
        code = code or 141
    except OSError as error:
        sys.stderr.write(f"mdocker: unable to write the output: {error.strerror}\n")
        code = code or 1
    try:
        sys.stderr.flush()
    except OSError:
        return code
    return code


if __name__ == "__main__":
    main()
