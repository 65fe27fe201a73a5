"""Layers on their way from registries into the store, each by one download whoever wants it.

    pull ──┐
           ├── download (a task of the engine's) ── registry ══> unpacking child ══> store
    pull ──┘

A download goes on as long as one pull wants it. Those that wait hold the layer before the download
lets go of it. Should it fail, the pull that began it fails, too, and the others try for themselves,
each with its own registry and credentials.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import anyio
import anyio.to_thread

from runtime.images.errors import ImportRefused
from runtime.images.holding import Hold
from supervisor import image_making
from supervisor.pipes import write_all
from supervisor.registries.manifests import Descriptor
from supervisor.registries.repository import Repository

if TYPE_CHECKING:
    from supervisor.engine import Engine


class Wanted(NamedTuple):
    """A layer that a pull wants.

    Attributes:
        diff_id: What its tar must be.
        blob: Its archive at the registry.
    """

    diff_id: str
    blob: Descriptor


class Told(Protocol):
    """Hears how far a layer is: Docker's word, and bytes where they are known."""

    def __call__(self, action: str, current: int = 0, total: int = 0) -> None: ...


def is_here(hold: Hold, diff_id: str) -> bool:
    """Hold a layer, and tell whether it is here with its archive. Reads a file.

    Older engines kept no archives: what lacks one is downloaded once more, and can be pushed then.
    """
    layer = hold.layer(diff_id)
    return layer is not None and layer.blob is not None


class LayerDownloads:
    """All layers that are being downloaded by one engine. Made inside the event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._under_way: dict[str, _Download] = {}

    async def bring(self, wanted: Wanted, repository: Repository, hold: Hold, told: Told) -> None:
        """Have a layer in the store, kept by `hold`.

        Raises:
            RegistryError: It can't be had from there.
            ImageError: It is no layer, or this machine failed.
        """
        waited = False
        while not await self._is_here(wanted, hold):
            download = self._under_way.get(wanted.diff_id)
            ours = download is None
            if download is None:
                download = _Download(self._engine, wanted, repository, self._forget)
                self._under_way[wanted.diff_id] = download
                self._engine.begin(download.run)
            with download.watched(told):
                await download.ended.wait()
                if download.error is None and await self._is_here(wanted, hold):
                    told("Pull complete")
                    return
            if ours and download.error is not None:
                raise download.error
            waited = True
        told("Pull complete" if waited else "Already exists")

    async def _is_here(self, wanted: Wanted, hold: Hold) -> bool:
        look = functools.partial(is_here, hold, wanted.diff_id)
        return await anyio.to_thread.run_sync(look, limiter=self._engine.limits.images)

    def _forget(self, download: _Download) -> None:
        if self._under_way.get(download.wanted.diff_id) is download:
            del self._under_way[download.wanted.diff_id]


class _Download:
    """One layer on its way.

    Attributes:
        ended: It is in the store, or failed.
        error: Why it failed.
    """

    def __init__(
        self,
        engine: Engine,
        wanted: Wanted,
        repository: Repository,
        forget: Callable[[_Download], None],
    ) -> None:
        """Nothing is done before `run`.

        Args:
            forget: Has the next who wants this layer begin anew.
        """
        self.wanted = wanted
        self.ended = anyio.Event()
        self.error: Exception | None = None
        self._engine = engine
        self._repository = repository
        self._forget = forget
        self._scope = anyio.CancelScope()
        self._left = anyio.Event()
        self._watchers: list[Told] = []
        self._state: tuple[str, int, int] = ("", 0, 0)

    @contextlib.contextmanager
    def watched(self, told: Told) -> Iterator[None]:
        """Tell somebody how far it is; it ends when nobody wants to know any more."""
        if self._state[0]:
            told(*self._state)
        self._watchers.append(told)
        try:
            yield
        finally:
            self._watchers.remove(told)
            if not self._watchers:
                self._forget(self)
                self._left.set()
                self._scope.cancel("nobody wants this layer any more")

    def _tell(self, action: str, current: int = 0, total: int = 0) -> None:
        self._state = (action, current, total)
        for told in self._watchers:
            told(action, current, total)

    async def run(self) -> None:
        """Download it, and keep it until those who want it do."""
        hold = self._engine.images.hold()
        try:
            with self._scope:
                try:
                    await self._bring(hold)
                except Exception as error:  # noqa: BLE001 - raised where it was asked for
                    self.error = error
            self._forget(self)
            self.ended.set()
            await self._left.wait()
        finally:
            self._forget(self)
            await image_making.taken_back(self._engine, hold.close, self._engine.limits.images)

    async def _bring(self, hold: Hold) -> None:
        blob = self.wanted.blob
        async with contextlib.AsyncExitStack() as stack:
            slot = await stack.enter_async_context(self._slot())
            job = await stack.enter_async_context(
                image_making.making(self._engine, hold.begin_layer)
            )
            os.set_blocking(job.stdin_fd, False)
            await self._fill(job.stdin_fd)
            job.close_stdin()
            slot.close()
            self._tell("Download complete")
            self._tell("Extracting", blob.size, blob.size)
            layer = await image_making.finish(self._engine, job)
        if layer.diff_id != self.wanted.diff_id:
            raise ImportRefused(
                f"layer {blob.digest} is not what the image's configuration says: its tar is "
                f"{layer.diff_id} instead of {self.wanted.diff_id}"
            )

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncGenerator[contextlib.ExitStack, None]:
        """Wait for our turn; closing what this gives is the end of it."""
        slots = self._engine.limits.downloads
        if not slots.value:
            self._tell("Waiting")
        await slots.acquire()
        with contextlib.ExitStack() as turn:
            turn.callback(slots.release)
            yield turn

    async def _fill(self, descriptor: int) -> None:
        """Hand the archive on as it comes, as long as somebody takes it."""
        blob, received = self.wanted.blob, 0
        self._tell("Downloading", 0, blob.size)
        async with self._repository.blob(blob.digest, blob.size, waiting=self._wait) as pieces:
            async for piece in pieces:
                if not await write_all(descriptor, piece):
                    return  # the child has seen enough: its result says why
                received += len(piece)
                self._tell("Downloading", received, blob.size)
        self._tell("Verifying Checksum")

    def _wait(self, seconds: float) -> None:
        self._tell(f"Retrying in {seconds:.0f} second{'' if round(seconds) == 1 else 's'}")
