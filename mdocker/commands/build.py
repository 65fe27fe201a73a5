"""`build`."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from mdocker.build_options import BuildOptions
from mdocker.client import Engine
from mdocker.copy_rules import words
from mdocker.errors import FAILED, EngineUnreachable, UsageError
from mdocker.messages import Request
from mdocker.options import flattened, injected
from mdocker.output import complain

if TYPE_CHECKING:
    from mdocker.build_context import Context
    from mdocker.build_output import BuildOutput

_PLAIN = BuildOptions()


def build(
    context: str,
    /,
    *,
    options: Annotated[BuildOptions, flattened()] = _PLAIN,
    engine: Annotated[Engine, injected()],
) -> int:
    """Build an image as a Dockerfile says.

    PATH is a directory, the context: the files that COPY and ADD find, but for those that its
    .dockerignore leaves out (or DOCKERFILE.dockerignore, where there is one). They are sent to the
    engine while they are read. With - a context's tar is read from standard input, or a Dockerfile
    that needs no context. A URL of a tar or a Dockerfile is fetched by the engine; one of a git
    repository (URL.git[#BRANCH[:DIRECTORY]]) by git, here.

    Steps that were run before are taken from the cache, which are the images themselves: 'mdocker
    image prune' clears it. Ctrl-C ends the build, and nothing stays of the step that was running.
    """
    from mdocker.build_context import find_context
    from mdocker.build_output import BuildFailed, BuildOutput
    from mdocker.build_request import build_target

    if options.iidfile:
        _forget(options.iidfile)
    output = BuildOutput(quiet=options.quiet)
    try:
        with contextlib.ExitStack() as stack:
            found = find_context(context, options.file, stack)
            where = build_target(options, found.dockerfile, found.remote)
            _talk(engine, where, found, output)
    except BuildFailed as failed:
        complain(str(failed))
        return failed.code
    output.end()
    if options.iidfile:
        _note(options.iidfile, output.image)
    return 0


def _talk(engine: Engine, where: str, context: Context, output: BuildOutput) -> None:
    """Send the context, show the answer."""
    from mdocker.credentials import registry_config
    from mdocker.upload import answer_lines, progress

    credentials = (("X-Registry-Config", registry_config()),)
    connection = engine.connection()
    try:
        connection.send(Request("POST", where, chunked="application/x-tar", headers=credentials))
        with contextlib.ExitStack() as stack:
            advance: Callable[[int], None] = _nobody
            if not (output.quiet or context.remote):
                advance = stack.enter_context(progress("Sending build context", None))
            for line in answer_lines(connection, context.read, advance):
                stack.close()  # the bar: the engine has the context by now
                output.take(line)
    finally:
        connection.close()


def _nobody(_step: int) -> None:
    """Who looks at a progress that nobody wants to see."""


def _forget(path: str) -> None:
    """Remove the file of an earlier build, which this one may not come to replace.

    What is no file of its own stays: of root's /dev/stdout, or /dev/null, there is only one.
    """
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode) and os.path.isfile(path):
            os.truncate(path, 0)
        elif stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # unlink(2) has the words for directories
            os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"Removing image ID file: {path}: {words(error)}", FAILED) from error


def _note(path: str, image: str) -> None:
    if not image:
        raise EngineUnreachable(f"the engine did not say which image it built: no {path}")
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(image)
    except OSError as error:
        raise UsageError(f"unable to write {path}: {words(error)}", FAILED) from error
