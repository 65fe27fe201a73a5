"""A store and registries without files and network, for pulls and pushes.

A layer's archive is its tar here, and anything that begins with BAD is none.
"""

import contextlib
import hashlib
import json
import threading
from pathlib import Path
from types import SimpleNamespace

import anyio

from runtime.images.errors import ImageNotFound, ImportRefused
from runtime.images.model import Blob, Image, Layer
from supervisor.events import EventBus
from supervisor.limits import Limits
from supervisor.progress import Progress
from supervisor.registries.errors import BlobUnknown, ManifestUnknown, WrongContent
from supervisor.registries.manifests import OCI_INDEX, OCI_MANIFEST, Manifest
from supervisor.transfers.layer_downloads import LayerDownloads
from tests.unit.api.fakes import FakeJob

PLAIN = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
AMD64 = {"os": "linux", "architecture": "amd64"}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def diff_id(archive):
    """What the tar in an archive is: the archive itself, up to a mark that tells archives apart."""
    return digest(archive.partition(b"|")[0])


class FakeLayerJob(FakeJob):
    """An unpacking child that is a thread."""

    def __init__(self, store, kept):
        super().__init__(store, "")
        self._kept = kept
        self.ended = False

    def finish(self):
        self.abort()
        if self.data.startswith(b"BAD"):
            raise ImportRefused("the archive is no tar")
        layer = self._store.put(self.data)
        self._store.keep(layer.diff_id, self._kept)
        return layer

    def abort(self):
        self._close(self.stdin_fd)
        self._thread.join()
        self._close(self.result_fd)
        self.ended = True


class FakeHold:
    def __init__(self, store):
        self._store, self._kept = store, set()
        self.closed = False

    def layer(self, diff_id):
        assert not self.closed
        return self._store.keep(diff_id, self._kept)

    def begin_layer(self):
        assert not self.closed
        job = FakeLayerJob(self._store, self._kept)
        self._store.jobs.append(job)
        return job

    def add_image(self, config, *, tags=(), digests=(), manifest=b""):
        assert not self.closed
        assert set(json.loads(config)["rootfs"]["diff_ids"]) <= self._kept
        return self._store.add(config, tags, digests, manifest)

    def close(self):
        self.closed = True
        self._store.let_go(self._kept)


class FakeStore:
    """Images in memory; archives are files below a directory.

    Attributes:
        holds: All that were opened.
        jobs: All that were begun.
    """

    def __init__(self, directory):
        self._directory = Path(directory)
        self._lock = threading.Lock()
        self.known, self.layers, self.configs, self.manifests = {}, {}, {}, {}
        self.holds, self.jobs = [], []

    def hold(self):
        self.holds.append(FakeHold(self))
        return self.holds[-1]

    def put(self, archive, media_type=PLAIN):
        with self._lock:
            name = digest(archive)
            self.blob_path(name).write_bytes(archive)
            blob = Blob(name, len(archive), media_type)
            known = self.layers.get(diff_id(archive))
            if known is None or known.blob is None:
                self.layers[diff_id(archive)] = Layer(diff_id(archive), 1, blob)
            return self.layers[diff_id(archive)]

    def keep(self, diff_id, kept):
        with self._lock:
            if diff_id in self.layers:
                kept.add(diff_id)
            return self.layers.get(diff_id)

    def let_go(self, kept):
        with self._lock:
            kept.clear()
            used = {one for image in self.known.values() for one in image.diff_ids}
            used |= {one for hold in self.holds for one in hold._kept}
            self.layers = {key: layer for key, layer in self.layers.items() if key in used}

    def add(self, config, tags=(), digests=(), manifest=b""):
        told, name = json.loads(config), digest(config)
        with self._lock:
            before = self.known.get(name)
            for image in self.known.values():
                left = tuple(tag for tag in image.tags if tag not in tags)
                self.known[image.id] = _replaced(image, tags=left)
            self.known[name] = Image(
                id=name,
                tags=tuple(sorted({*tags, *(before.tags if before else ())})),
                created_ns=0,
                size=1,
                config=told.get("config", {}),
                architecture=told["architecture"],
                os=told["os"],
                diff_ids=tuple(told["rootfs"]["diff_ids"]),
                digests=tuple(sorted({*digests, *(before.digests if before else ())})),
                manifest=digest(manifest) if manifest else before.manifest if before else "",
            )
            self.configs[name] = config
            if manifest:
                self.manifests[name] = manifest
            return self.known[name]

    def images(self):
        return list(self.known.values())

    def host(self):
        return Image("sha256:" + "a" * 64, ("host:latest",), 0, 1, {}, "amd64", "linux", ())

    def resolve(self, reference):
        for image in self.known.values():
            if reference in (image.id, *image.tags, *image.digests):
                return image
        raise ImageNotFound(reference)

    def blob_path(self, name):
        return self._directory / name.partition(":")[2]

    def config_blob(self, image):
        return self.configs[image.id]

    def manifest_blob(self, image):
        return self.manifests.get(image.id)


def _replaced(image, **changed):
    import dataclasses

    return dataclasses.replace(image, **changed)


class FakeRegistry:
    """All registries in one; a repository of it is by its path alone.

    Attributes:
        gates: Events that must be set before a blob's last piece comes.
        asked: Blobs that were asked for.
        broken: Blobs whose bytes are not right at the end, the next time.
        sent: What was uploaded, by digest.
        at_step: What to do when something is asked for the n-th time.
    """

    def __init__(self):
        self.manifests, self.blobs, self.gates = {}, {}, {}
        self.asked, self.broken, self.sent, self.mounts = [], set(), {}, []
        self.failures = []
        self.begun = anyio.Event()
        self.steps, self.at_step = 0, {}

    async def step(self):
        """Count what is asked; do what is to be done at that moment."""
        self.steps += 1
        self.at_step.get(self.steps, lambda: None)()
        await anyio.lowlevel.checkpoint()

    def repository(self, reference, credentials, *, push=False):
        return FakeRepository(self, reference, credentials)

    def add(self, path, tag, archives, config=None, platform=AMD64, diff_ids=None):
        """An image; returns its manifest's digest."""
        layers = [self._put(path, one, PLAIN) for one in archives]
        told = {**platform, "config": config or {}, "rootfs": {"type": "layers"}}
        found = [diff_id(one) for one in archives]
        told["rootfs"]["diff_ids"] = found if diff_ids is None else diff_ids
        described = self._put(path, json.dumps(told).encode(), CONFIG)
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
        return self.add_manifest(
            path, tag, OCI_MANIFEST, document | {"config": described, "layers": layers}
        )

    def add_list(self, path, tag, entries):
        listed = [
            {
                "mediaType": OCI_MANIFEST,
                "digest": name,
                "size": len(self.manifests[path, name].data),
                "platform": platform,
            }
            for name, platform in entries
        ]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        return self.add_manifest(path, tag, OCI_INDEX, document)

    def add_manifest(self, path, tag, media_type, document):
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        name = digest(data)
        for key in (tag, name):
            self.manifests[path, key] = Manifest(media_type, name, data)
        return name

    def _put(self, path, data, media_type):
        self.blobs[path, digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


class FakeRepository:
    def __init__(self, registry, reference, credentials):
        self.registry, self.reference, self.credentials = registry, reference, credentials
        self.path = reference.path

    async def manifest(self, tag_or_digest):
        await self.registry.step()
        try:
            return self.registry.manifests[self.path, tag_or_digest]
        except KeyError:
            raise ManifestUnknown(self.reference.familiar) from None

    @contextlib.asynccontextmanager
    async def blob(self, name, size, *, waiting=None):
        await self.registry.step()
        self.registry.asked.append(name)
        if (self.path, name) not in self.registry.blobs:
            raise BlobUnknown(f"blob unknown: {name}")
        data = self.registry.blobs[self.path, name]
        assert len(data) == size

        async def pieces():
            middle = len(data) // 2
            yield data[:middle]
            await self.registry.step()
            if name in self.registry.gates:
                self.registry.begun.set()
                await self.registry.gates[name].wait()
            if name in self.registry.broken:
                self.registry.broken.discard(name)
                raise WrongContent(f"{name} has other content")
            yield data[middle:]

        async with contextlib.aclosing(pieces()) as handed:
            yield handed

    async def tags(self):
        await self.registry.step()
        return [
            tag for path, tag in self.registry.manifests if path == self.path and ":" not in tag
        ]

    async def has_blob(self, name):
        await self.registry.step()
        return (self.path, name) in self.registry.blobs

    async def mount_blob(self, name, source):
        await self.registry.step()
        self.registry.mounts.append((name, source))
        data = self.registry.blobs.get((source, name))
        if data is not None:
            self.registry.blobs[self.path, name] = data
        return data is not None

    async def upload_blob(self, pieces, size, name):
        await self.registry.step()
        data = b"".join([piece async for piece in pieces])
        await self.registry.step()
        if self.registry.failures:
            raise self.registry.failures.pop(0)
        assert size in (None, len(data)) and name in (None, digest(data))
        if digest(data) in self.registry.gates:
            self.registry.begun.set()
            await self.registry.gates[digest(data)].wait()
        self.registry.blobs[self.path, digest(data)] = self.registry.sent[digest(data)] = data
        return digest(data), len(data)

    async def put_manifest(self, tag, media_type, data):
        await self.registry.step()
        return self.registry.add_manifest(self.path, tag, media_type, data)


@contextlib.asynccontextmanager
async def an_engine(directory, downloads=3):
    """What pulls and pushes need of an engine; at the end nothing of theirs is left."""
    async with anyio.create_task_group() as tasks:
        engine = SimpleNamespace(
            images=FakeStore(directory),
            registries=FakeRegistry(),
            limits=Limits(downloads=downloads),
            events=EventBus(),
            begin=lambda work, *given: tasks.start_soon(work, *given),
        )
        engine.layer_downloads = LayerDownloads(engine)
        yield engine
        tasks.cancel_scope.deadline = anyio.current_time() + 5
    assert all(hold.closed for hold in engine.images.holds)
    assert all(job.ended for job in engine.images.jobs)
    used = {one for image in engine.images.known.values() for one in image.diff_ids}
    assert set(engine.images.layers) == used, "layers of no image"
    assert engine.limits.downloads.value == downloads
    assert not engine.layer_downloads._under_way


class Heard(Progress):
    """Keeps all that is told, as `id: text` and `text`."""

    def __init__(self):
        super().__init__()
        self.lines_told = []
        self._told_more = anyio.Event()

    def _put(self, key, value):
        super()._put(key, value)
        if "status" in value:
            before = f"{value['id']}: " if "id" in value else ""
            self.lines_told.append(before + value["status"])
            self._told_more.set()
            self._told_more = anyio.Event()

    async def hears(self, line):
        """Wait until a line has been told."""
        with anyio.fail_after(5):
            while line not in self.lines_told:
                await self._told_more.wait()

    def of(self, id):
        """What was told of one thing, each only once in a row."""
        told = [line.partition(": ")[2] for line in self.lines_told if line.startswith(f"{id}: ")]
        return [word for at, word in enumerate(told) if not at or told[at - 1] != word]
