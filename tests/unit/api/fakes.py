"""A scripted engine and image store that keep the contract, and a client that sees every byte.

Registry, events, limits and waiting are the real ones: only what needs a kernel is faked.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import anyio
import h11

from runtime.cgroup_trees import Trees
from runtime.cgroups import Cgroups
from runtime.images.errors import ImageNotFound, ImportRefused
from runtime.images.model import Blob, Deleted, Image, Layer, RootfsLayers, Untagged
from runtime.images.store import ImageStore
from supervisor import names, signals, top, waiting
from supervisor.access import AccessOptions
from supervisor.api.server import serve
from supervisor.building.needed import NeededByBuilds
from supervisor.container import Container, Life
from supervisor.counts import Counts
from supervisor.errors import Conflict, StartFailed
from supervisor.events import EventBus
from supervisor.exec_sessions import Sessions
from supervisor.generations import Generations
from supervisor.limits import Limits
from supervisor.recent_ends import RecentEnds
from supervisor.registries.client import Registries
from supervisor.registries.configuration import RegistryOptions
from supervisor.registry import Registry
from supervisor.seccomp_options import SeccompOptions
from supervisor.states import ALIVE, State
from supervisor.stats import Sampler
from supervisor.volumes import Volumes

HOST = Image(
    id="sha256:" + "a" * 64,
    tags=("host:latest",),
    created_ns=1_700_000_000 * 10**9,
    size=1234,
    config={
        "Env": ["PATH=/usr/bin:/bin", "LANG=C"],
        "Cmd": ["/bin/sh"],
        "WorkingDir": "/root",
        "Labels": {"made-by": "mdocker"},
    },
    architecture="amd64",
    os="linux",
    diff_ids=(),
    built_in=True,
)


class FakeJob:
    """An import whose child is a thread that reads the pipe and judges what it read."""

    def __init__(self, store, name):
        self._store, self._name = store, name
        reader, self.stdin_fd = os.pipe()
        self.result_fd, self._result = os.pipe()
        self.aborted = self.finished = False
        self.warnings = {"device nodes are left out": 2}
        self.data = b""
        self._open = {self.stdin_fd, self.result_fd}
        self._thread = threading.Thread(target=self._read, args=(reader,))
        self._thread.start()

    def _read(self, reader):
        with open(reader, "rb", buffering=0) as pipe:
            while piece := pipe.read(65536):
                self.data += piece
                if self.data.startswith(b"BAD"):
                    break
        os.write(self._result, b"{}\n")
        os.close(self._result)

    def _close(self, descriptor):
        if descriptor in self._open:
            self._open.discard(descriptor)
            os.close(descriptor)

    def close_stdin(self):
        self._close(self.stdin_fd)

    def finish(self):
        self._close(self.stdin_fd)
        self._thread.join()
        self._close(self.result_fd)
        self.finished = True
        if self.data.startswith(b"BAD"):
            raise ImportRefused("the archive is truncated at entry bin/sh")
        image = Image(
            id="sha256:" + "b" * 64,
            tags=(f"{self._name}:latest",) if self._name else (),
            created_ns=time.time_ns(),
            size=len(self.data),
            config={},
            architecture="amd64",
            os="linux",
            diff_ids=("sha256:" + "c" * 64,),
        )
        self._store.known.append(image)
        return image

    def abort(self):
        if not self.finished:
            self.aborted = True
            self._close(self.stdin_fd)
            self._thread.join()
            self._close(self.result_fd)


class FakeImages:
    def __init__(self):
        self.known = [HOST]
        self.jobs = []
        self.retired = ()

    def images(self):
        return list(self.known)

    def resolve(self, reference):
        for image in self.known:
            tags = {*image.tags, *image.digests, *(tag.partition(":")[0] for tag in image.tags)}
            if reference in tags or reference == image.id:
                return image
        raise ImageNotFound(reference if ":" in reference else f"{reference}:latest")

    def of_container(self, image_id):
        return self.resolve(image_id)

    def layers(self, image):
        return RootfsLayers(lower=("/layers/top", "/layers/bottom"))

    def layer_directories(self, image):
        return ("/layers/top", "/layers/bottom")

    def config_blob(self, image):
        return b"{}"

    def manifest_blob(self, image):
        return b'{"schemaVersion":2}' if image.manifest else None

    def delete(self, reference, force, in_use, parents=True):
        image = self.resolve(reference)
        users = list(in_use(image.id))
        self.known.remove(image)
        self.deleted_with = (reference, force, users)
        return [Untagged(reference), Deleted(image.id)]

    def tag(self, reference, name):
        self.tagged_with = (reference, name)
        return self.resolve(reference)

    def layer_sizes(self, image):
        return [image.size] if image.built_in else list(range(10, 10 * len(image.diff_ids) + 1, 10))

    def layers_of(self, image):
        """Each has an archive of half its size but for the first, which an older engine made."""
        found = []
        whole = self.resolve(image.id)
        for diff_id, size in zip(whole.diff_ids, self.layer_sizes(whole), strict=True):
            kept = Blob(f"sha256:blob-{diff_id}", size // 2, "application/x") if found else None
            found.append(Layer(diff_id, size, kept))
        return [layer for layer in found if layer.diff_id in image.diff_ids]

    def ancestors(self, image):
        return [other for other in self.known if other.id == image.parent]

    def checked_name(self, name):
        return ImageStore.checked_name(name)

    def begin_import(self, name, message, changes):
        job = FakeJob(self, name)
        job.asked = (name, message, changes)
        self.jobs.append(job)
        return job


class FakeAttachment:
    def __init__(self):
        self.send, self.receive = anyio.create_memory_object_stream(1000)
        self.closed = False
        self.lost = ""
        self.begun = anyio.Event()

    async def __aiter__(self):
        async for piece in self.receive:
            yield piece

    def close(self):
        self.closed = True
        self.send.close()
        self.receive.close()


class FakeEngine:
    def __init__(self, root: Path):
        self.trouble_words = ""
        self.warnings_of_updates = []
        self.warnings = ["WARNING: a container was set aside"]
        self.root = root
        self.settings = SimpleNamespace(
            containers=root / "containers",
            rootfs=root / "rootfs",
            debug=False,
            registries=RegistryOptions(),
            access=AccessOptions(),
            seccomp=SeccompOptions(),
            no_new_privileges=False,
        )
        self.backend = "asyncio"
        self.remapping = SimpleNamespace(asked="")
        self.cgroups = Cgroups("engine", Trees(root / "v2", {"memory": root / "memory"}))
        self.registries = Registries(self.settings)
        self.engine_id = "an-id"
        self.containers = Registry()
        self.exec_sessions = Sessions(None)
        self.images = FakeImages()
        self.events = EventBus()
        self.ends = RecentEnds()
        self.limits = Limits()
        self.builds = NeededByBuilds()
        (root / "volumes").mkdir(exist_ok=True)
        self.volumes = Volumes(
            root / "volumes", self.events, lambda: self.containers, self.limits.removals
        )
        self.run_dir = root
        self.counts = Counts()
        self.upgrade = SimpleNamespace(agreed=anyio.Event(), drained=anyio.Event())
        self.shim = SimpleNamespace(deaths=0)
        self.generations = Generations(root)
        self.calls = []
        self.attachments = []
        self.log = None
        self.fails = None
        self.stats = Sampler(None, lambda work: self.tasks.start_soon(work))

    def directory(self, container):
        return self.settings.containers / container.id

    def layers(self, container):
        return self.images.layers(None)

    def _note(self, *call):
        self.calls.append(call)
        if self.fails is not None:
            raise self.fails

    async def create(self, name, config):
        self._note("create", name, config)
        await anyio.lowlevel.checkpoint()
        container = Container(
            id=os.urandom(32).hex(),
            name=names.check(name) if name else names.generate(self.containers.names),
            config=config,
            created_ns=time.time_ns(),
        )
        if config.log_driver == "json-file":
            container.log_path = str(self.root / f"{container.id}-json.log")
        self.containers.add(container)
        return container

    async def start(self, container):
        self._note("start", container.name)
        if container.state in ALIVE:
            return False
        if container.config.args[0] == "nosuch":
            raise StartFailed('exec: "nosuch": executable file not found in $PATH', 127)
        container.life = Life(state=State.RUNNING, pid=4242, started_ns=time.time_ns())
        return True

    def exit(self, container, code):
        container.life = Life(
            state=State.EXITED,
            exit_code=code,
            started_ns=container.life.started_ns,
            finished_ns=time.time_ns(),
        )
        waiting.tell_exit(container, waiting.ExitResult(code))

    async def stop(self, container, timeout=None, signal=None):
        self._note("stop", container.name, timeout, signal)
        if container.state not in ALIVE:
            return False
        self.exit(container, 143)
        return True

    async def kill(self, container, signal="SIGKILL"):
        signals.parse(signal)
        self._note("kill", container.name, signal)
        if container.state not in ALIVE:
            raise Conflict(
                f"cannot kill container: {container.name}: container {container.id} is not running"
            )

    async def restart(self, container, timeout=None, signal=None):
        self._note("restart", container.name, timeout, signal)

    async def pause(self, container):
        self._note("pause", container.name)

    async def unpause(self, container):
        self._note("unpause", container.name)

    async def commit(self, container, asked):
        self._note("commit", container.name, asked)
        return HOST

    async def top(self, container, options=""):
        self._note("top", container.name, options)
        return top.Listing(("PID", "CMD"), (("1", "sh -c x"),))

    async def update(self, container, change):
        before = container.config
        after = change(before)
        if after.restart != before.restart:
            self._note("update", container.name, after.restart)
        if after.resources != before.resources:
            self._note("limits", container.name, after.resources)
        return self.warnings_of_updates

    def rename(self, container, name):
        self.containers.rename(container, names.check(name))

    async def remove(self, container, force=False, volumes=False):
        self._note("remove", container.name, force, *(("volumes",) if volumes else ()))
        if container.state in ALIVE and not force:
            raise Conflict(f'cannot remove container "{container.name}": container is running')
        self.containers.discard(container)
        waiting.tell_removal(container)

    async def prune(self, chosen):
        gone = [c for c in self.containers.all() if c.state not in ALIVE and chosen(c)]
        for container in gone:
            self.containers.discard(container)
        return [c.id for c in gone], 4096

    def waiter(self, container, condition):
        self._note("waiter", container.name, condition)
        return waiting.waiter(container, condition)

    def log_of(self, container):
        return self.log

    def log_trouble(self, container):
        return self.trouble_words

    def attach(self, container, stdout, stderr, *, telling=False):
        self._note("attach", container.name, stdout, stderr)
        self.attachments.append(FakeAttachment())
        return self.attachments[-1], None

    def detach(self, container, attachment):
        self._note("detach", container.name)
        attachment.close()


class Answer:
    def __init__(self, head, body):
        self.status = head.status_code
        self.headers = {name.decode(): value.decode() for name, value in head.headers}
        self.body = body

    @property
    def message(self):
        import json

        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)["message"]

    @property
    def json(self):
        import json

        return json.loads(self.body)


class Client:
    """A client that can send anything and reads answers by h11."""

    def __init__(self, path):
        self._path = path
        self.socket = None

    async def __aenter__(self):
        self.stream = await anyio.connect_unix(self._path)
        self._h11 = h11.Connection(h11.CLIENT)
        self.raw = b""
        return self

    async def __aexit__(self, *_):
        await self.stream.aclose()

    async def send(self, data: bytes):
        await self.stream.send(data)

    async def hang_up(self):
        await self.stream.aclose()

    def half_close(self, how=socket.SHUT_WR):
        self.stream.extra_attributes[anyio.abc.SocketAttribute.raw_socket]().shutdown(how)

    async def receive(self) -> bytes:
        """What comes next; b"" at the end."""
        try:
            return await self.stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b""

    async def everything(self) -> bytes:
        pieces = []
        while piece := await self.receive():
            pieces.append(piece)
        return b"".join(pieces)

    async def request(self, method, path, body=None, headers=()):
        await self.begin(method, path, body, headers)
        return await self.answer()

    async def begin(self, method, path, body=None, headers=()):
        """Send a request; dicts go as JSON."""
        import json

        all_headers = [("Host", "d"), *headers]
        data = b""
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            if not any(name.lower() == "content-type" for name, _ in all_headers):
                all_headers.append(("Content-Type", "application/json"))
            all_headers.append(("Content-Length", str(len(data))))
        out = self._h11.send(h11.Request(method=method, target=path, headers=all_headers))
        out += self._h11.send(h11.Data(data)) + self._h11.send(h11.EndOfMessage())
        await self.stream.send(out)

    def has_sent(self):
        """Tell h11 of a request that was sent by hand."""
        self._h11.send(h11.Request(method="POST", target="/", headers=[("Host", "d")]))
        self._h11.send(h11.EndOfMessage())

    async def _event(self):
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self.receive())
        return event

    async def head(self):
        event = await self._event()
        assert isinstance(event, h11.Response | h11.InformationalResponse), event
        return event

    async def piece(self):
        """The next piece of a streamed body, None at its end."""
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        self._h11.start_next_cycle()
        return None

    async def answer(self):
        head = await self.head()
        pieces = []
        while (piece := await self.piece_or_close()) is not None:
            pieces.append(piece)
        return Answer(head, b"".join(pieces))

    async def piece_or_close(self):
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        with contextlib.suppress(h11.LocalProtocolError):
            self._h11.start_next_cycle()
        return None


@contextlib.asynccontextmanager
async def serving(tmp_path, listener=None, access=None):
    """A fake engine behind a real server on a real socket; yields (engine, connect)."""
    engine = FakeEngine(tmp_path)
    engine.settings.access = access or engine.settings.access
    path = str(tmp_path / f"{os.urandom(4).hex()}.sock")
    listener = listener or socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1000)
    async with anyio.create_task_group() as group:
        engine.tasks = group
        await group.start(serve, engine, [listener])
        engine.serving = group.cancel_scope
        yield engine, lambda: Client(path)
        group.cancel_scope.cancel()
    listener.close()
