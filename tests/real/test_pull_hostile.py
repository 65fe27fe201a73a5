"""What a pull says to registries that lie, break off, stall or send elsewhere; all stays clean.

The pull is the engine's own, in this process, with less patience.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import re
import tarfile
import types

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from runtime.images import references
from runtime.images.errors import ImageError
from runtime.images.store import ImageStore
from supervisor.config import Settings
from supervisor.errors import EngineError
from supervisor.limits import Limits
from supervisor.progress import Progress
from supervisor.registries import repository
from supervisor.registries.backoff import Backoff
from supervisor.registries.client import Registries
from supervisor.registries.connections import Patience
from supervisor.registries.credentials import Credentials
from supervisor.transfers.layer_downloads import LayerDownloads
from supervisor.transfers.pulling import Asked, pull, pull_all_tags
from tests.real import hostile_registry as lies
from tests.real.hostile_registry import HostileRegistry, Told, at, at_digest, both, first
from tests.real.image_store import archive, entry, open_files
from tests.real.oci_layout import AMD64, CONFIG, LAYER, MANIFEST, OciLayout
from tests.real.test_store_check import findings

PATIENCE = Patience(connect=30.0, silence=30.0)
IMPATIENCE = Patience(connect=30.0, silence=0.25)
BACKOFF = Backoff(tries=3, small_tries=2, first_s=0.01, most_s=0.02)

FIRST = archive(
    entry("bin", tarfile.DIRTYPE),
    *((entry(f"bin/{name}"), name.encode() * 5000) for name in ("wren", "robin", "tit")),
)
SECOND = archive((entry("etc/motd"), b"second\n"))


@pytest.fixture
def anyio_backend():
    """What stands on it is run on both elsewhere."""
    return "asyncio"


class Puller:
    """As much of an engine as a pull needs."""

    def __init__(self, base, tasks):
        self.store = ImageStore(base / "store")
        settings = Settings(base / "root", base / "run", "asyncio")
        self.registries = Registries(settings, patience=PATIENCE, backoff=BACKOFF)
        self.impatient = Registries(settings, patience=IMPATIENCE, backoff=BACKOFF)
        self.events = types.SimpleNamespace(publish=lambda *_: None)
        self.limits = Limits()
        self.images = self.store
        self._tasks = tasks
        self._busy = 0
        self._rests = anyio.Event()
        self.layer_downloads = LayerDownloads(self)

    def begin(self, work):
        self._busy += 1
        self._tasks.start_soon(self._counted, work)

    async def _counted(self, work):
        try:
            await work()
        finally:
            self._busy -= 1
            self._rests.set()

    async def said(self, name, impatient):
        """What a pull says; once nothing of it goes on any more."""
        patient = self.registries
        self.registries = self.impatient if impatient else patient
        said = await self.pull(name)
        self.registries = patient
        while self._busy:
            self._rests = anyio.Event()
            await self._rests.wait()
        return said

    async def pull(self, name, credentials=None, work=pull):
        """Pull; returns what went wrong, in words, or ""."""
        progress = Progress()
        reference = references.parse(name)
        try:
            await work(self, Asked(reference, "", credentials), progress)
        except (EngineError, ImageError) as error:
            return f"{type(error).__name__}: {error}"
        return ""


@contextlib.asynccontextmanager
async def puller_in(base):
    before = open_files()
    async with anyio.create_task_group() as tasks:
        puller = Puller(base, tasks)
        try:
            yield puller
        finally:
            await puller.registries.aclose()
            await puller.impatient.aclose()
    assert await anyio.to_thread.run_sync(findings, puller.store) == []
    assert list((puller.store.root / "staging").iterdir()) == []
    left = {fd: what for fd, what in open_files().items() if fd not in before}
    assert not [what for what in left.values() if str(base) in what], left


def nothing_in(store):
    """Once all tasks have ended: what was whole before another layer failed goes a little later."""
    images = store.root
    places = (images / "layers", images / "blobs/sha256", images / "short", images / "staging")
    assert [path for place in places for path in place.iterdir()] == []
    assert findings(store) == []


class Pair:
    """A registry and who pulls from it, for many tests; before each the store is empty."""

    def __init__(self, registry, puller, portal):
        self.registry = registry
        self.puller = puller
        self._portal = portal

    def said(self, name=None, impatient=False):
        return self._portal.call(self.puller.said, name or self.registry.name(), impatient)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    base = tmp_path_factory.mktemp("hostile")
    with (
        registry_of(OciLayout(base / "layout")) as registry,
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(puller_in(base)) as puller,
    ):
        yield Pair(registry, puller, portal)
        registry.lie = lies.honest


@contextlib.contextmanager
def registry_of(layout):
    with HostileRegistry(layout) as made:
        made.image = layout.add_image([layout.add_layer(tar) for tar in (FIRST, SECOND)])
        manifest = layout.manifest(made.image)
        made.config = manifest["config"]["digest"]
        made.layers = [one["digest"] for one in manifest["layers"]]
        made.serve(made.image)
        yield made


@pytest.fixture
def registry(layout):
    with registry_of(layout) as made:
        yield made


def of_layer(lie, number=0):
    return lambda registry: at("blob", at_digest(registry.layers[number], lie))


def of_config(lie):
    return lambda registry: at("blob", at_digest(registry.config, lie))


def of_manifest(lie):
    return lambda registry: at("manifest", lie)


def always(kind, lie):
    return lambda registry: at(kind, lie)


# What is told once only, or does not matter: the pull succeeds.
HARMLESS = {
    "a blob that breaks off once": of_layer(first(1, lies.cut(100))),
    "a blob that breaks off twice": of_layer(first(2, lies.cut(100))),
    "every blob breaks off once": always("blob", lies.once_each(lies.cut(60))),
    "a blob that breaks off, of a registry without ranges": lambda registry: both(
        at("blob", lies.no_ranges(registry.layout)),
        at("blob", at_digest(registry.layers[0], first(1, lies.cut(100)))),
    ),
    "a manifest that breaks off once": of_manifest(first(1, lies.cut(10))),
    "503 once": of_layer(first(1, lies.status(503, {"Retry-After": "0"}))),
    "429 once": of_layer(first(1, lies.status(429, {"Retry-After": "0"}))),
    "500 of a manifest, once": of_manifest(first(1, lies.status(500))),
    "silence once": of_layer(first(1, lies.stall(50))),
    "no HTTP once": of_layer(first(1, lies.raw(b"\x00\x01\x02nothing of the kind\r\n\r\n"))),
    "redirects to itself": of_layer(first(3, lies.redirected("{path}"))),
    "no digest beside a manifest": of_manifest(
        lambda asked, told: Told(headers={"Content-Type": MANIFEST}, body=told.body)
    ),
}  # fmt: skip

# What is told always, and the words for it.
LIES = {
    "another content": (of_layer(lies.altered), "verification failed for digest sha256:"),
    "another content of the configuration": (
        of_config(lies.altered), "verification failed for digest sha256:"),
    "a truncated blob": (of_layer(lies.truncated(50)), r"has \d+ bytes by its descriptor, and 50"),
    "a truncated blob without a length": (
        of_layer(lambda asked, told: Told(body=iter([told.body[:50]]))),
        "unexpected EOF after 50 of"),
    "a blob with something behind it": (
        of_layer(lambda asked, told: Told(body=told.body + b"more")), "by its descriptor"),
    "a blob without an end": (of_layer(lies.endless), "sent more than the"),
    "a length that is too small": (of_layer(lies.promised(-5)), "by its descriptor"),
    "a length that is too large": (of_layer(lies.promised(5)), "by its descriptor"),
    "a blob that breaks off always": (of_layer(lies.cut(10)), r"EOF|reset|broke"),
    "silence": (of_layer(lies.stall(10)), "i/o timeout: the registry is silent"),
    "silence in a manifest": (of_manifest(lies.stall(10)), "i/o timeout: the registry is silent"),
    "no blob": (of_layer(lies.status(404)), "NotThere: .*: the registry answers 404"),
    "no such tag": (
        always("manifest", lies.status(404)),
        "ManifestUnknown: manifest for .*birds/wren:latest not found: manifest unknown"),
    "not for us": (always("manifest", lies.status(401)), "Unauthorized: .*authentication required"),
    "forbidden": (always("manifest", lies.status(403)), "PullDenied: pull access denied for"),
    "too many requests": (
        always("manifest", lies.status(429, {"Retry-After": "0"})),
        "TooManyRequests: toomanyrequests"),
    "too many requests for hours": (
        of_layer(lies.status(429, {"Retry-After": "7200"})), "TooManyRequests: toomanyrequests"),
    "503": (of_layer(lies.status(503, {"Retry-After": "0"})), "the registry answers 503"),
    "a page of HTML": (
        always("manifest", lies.status(502, {}, b"<html>Bad Gateway</html>")),
        "the registry answers 502"),
    "circles": (of_layer(lies.redirected("{path}")), "stopped after 10 redirects"),
    "a redirect to a file": (
        of_layer(lies.redirected("file:///etc/passwd")),
        "the registry sends to file:///etc/passwd: no address"),
    "a redirect to nowhere": (of_layer(lies.status(307)), "the registry answers 307"),
    "no HTTP": (
        always("manifest", lies.raw(b"SSH-2.0-OpenSSH\r\n")),
        "RegistryFault|RegistryUnreachable"),
    "an endless head": (
        always("manifest", lies.raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000)),
        "RegistryFault|RegistryUnreachable"),
    "a manifest without an end": (
        of_manifest(lies.endless),
        "RegistryFault: .*: the answer has more than the 4194304 bytes that are read"),
    "a huge manifest": (
        of_manifest(lambda asked, told: Told(headers=told.headers, body=told.body, length=1 << 40)),
        "RegistryUnreachable: .*: unexpected EOF"),
    "a manifest that is none": (of_manifest(lies.swapped(b"[]")), "UnsupportedManifest"),
    "a manifest that is no JSON": (of_manifest(lies.swapped(b"\xff{")), "UnsupportedManifest"),
    "a manifest with another digest": (
        of_manifest(lambda asked, told: Told(headers={
            **told.headers, "Docker-Content-Digest": f"sha256:{'0' * 64}"}, body=told.body)),
        "WrongContent: "),
    "a deep manifest": (of_manifest(lies.swapped(b"[" * 100_000)), "UnsupportedManifest"),
    "tokens from nowhere": (
        always("manifest", lies.status(
            401, {"WWW-Authenticate": 'Bearer realm="file:///etc/passwd",service="x"'})),
        "the registry names a token server that is none"),
}  # fmt: skip


@pytest.mark.parametrize("what", HARMLESS)
def test_what_goes_wrong_once_is_tried_again(what, pair):
    pair.registry.lie = HARMLESS[what](pair.registry)
    assert pair.said(impatient="silence" in what) == ""
    store = pair.puller.store
    assert store.resolve(pair.registry.name()).id == pair.registry.config
    store.delete(pair.registry.config, force=True)
    nothing_in(store)


@pytest.mark.parametrize("what", LIES)
def test_a_lie_is_said_and_leaves_nothing(what, pair):
    lie, words = LIES[what]
    pair.registry.lie = lie(pair.registry)
    said = pair.said(impatient="silence" in what)
    assert re.search(words, said), said
    assert [image.tags for image in pair.puller.store.images()] == [("host:latest",)]
    nothing_in(pair.puller.store)


def config_of(layout, layers, **more):
    told = {
        **AMD64,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
    }
    return layout.add_blob(json.dumps(told | more).encode(), CONFIG)


def with_config(**more):
    """An image whose configuration says this."""

    def made(layout):
        layers = [layout.add_layer(FIRST)]
        return layout.add_manifest(config_of(layout, layers, **more), [layers[0][0]])

    return made


def with_layer(data, media_type=f"{LAYER}+gzip", tar=None):
    """An image of one layer that is this."""

    def made(layout):
        descriptor = layout.add_blob(data, media_type)
        diff_id = f"sha256:{hashlib.sha256(data if tar is None else tar).hexdigest()}"
        return layout.add_image([(descriptor, diff_id)])

    return made


def with_descriptor(**more):
    """An image whose layer's descriptor says this."""

    def made(layout):
        layer, diff_id = layout.add_layer(FIRST)
        config = config_of(layout, [(layer, diff_id)])
        return layout.add_manifest(config, [layer | more])

    return made


def config_is_a_layer(layout):
    layer, _ = layout.add_layer(FIRST)
    return layout.add_manifest(layer, [layer])


def two_layers_for_one(layout):
    layers = [layout.add_layer(tar) for tar in (FIRST, SECOND)]
    return layout.add_manifest(config_of(layout, layers[:1]), [one for one, _ in layers])


def other_diff_id(layout):
    layer, _ = layout.add_layer(FIRST)
    _, other = layout.add_layer(SECOND)
    return layout.add_image([(layer, other)])


def index_without_us(layout):
    arm = {"os": "linux", "architecture": "s390x"}
    return layout.add_index((layout.add_image([layout.add_layer(FIRST)], arm), arm))


def index_of_an_index(layout):
    inner = layout.add_index((layout.add_image([layout.add_layer(FIRST)]), AMD64))
    return layout.add_index((inner, AMD64))


def index_that_lies(layout):
    image = layout.add_image([layout.add_layer(FIRST)])
    return layout.add_index((image | {"digest": f"sha256:{'1' * 64}"}, AMD64))


def many_layers(layout):
    layer, _ = layout.add_layer(FIRST)
    layers = [(layer, f"sha256:{number:064x}") for number in range(2000)]
    return layout.add_manifest(config_of(layout, layers), [layer] * 2000)


def bomb(megabytes):
    """gzip of a tar with one file of zeros, some thousandth of its size."""
    info = entry("zeros")
    info.size = megabytes << 20
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9) as packed:
        packed.write(info.tobuf(tarfile.PAX_FORMAT))
        for _ in range(megabytes):
            packed.write(bytes(1 << 20))
        packed.write(bytes(10240))
    return out.getvalue()


TRAVERSAL = archive((entry("../../escaped"), b"out"))

# What an image may be that is none, and the words for it.
NO_IMAGES = {
    "a layer for a configuration": (config_is_a_layer, "UnsupportedManifest: "),
    "a configuration that is no object": (
        lambda layout: layout.add_manifest(layout.add_blob(b"[1]", CONFIG), []), "configuration"),
    "a configuration for Windows": (with_config(os="windows"), "windows"),
    "diff ids that are no list": (with_config(rootfs={"type": "layers", "diff_ids": 7}), ""),
    "diff ids that lead out": (
        with_config(rootfs={"type": "layers", "diff_ids": ["sha256:../../../etc"]}),
        "ImportRefused: .*names layers by something else than sha256"),
    "no root file system": (with_config(rootfs=None), ""),
    "layers that nobody announced": (
        two_layers_for_one, "has 2 layers and .* 1: they do not belong"),
    "another layer than announced": (other_diff_id, "ImportRefused: .*layer"),
    "too many layers": (many_layers, "ImportRefused: .*2000 layers"),
    "a layer that is no tar": (with_layer(gzip.compress(b"no tar" * 1000)), "ImportRefused: .*tar"),
    "a layer that is no gzip": (
        with_layer(b"\x1f\x8b" + b"?" * 5000), "ImportRefused: .*gzip data is damaged"),
    "a layer that is cut": (
        with_layer(gzip.compress(FIRST)[:-30]), "ImportRefused: .*truncated"),
    "a layer that leads out": (
        with_layer(gzip.compress(TRAVERSAL), tar=TRAVERSAL), "ImportRefused: .*leads out"),
    "a layer of a strange kind": (
        with_layer(FIRST, "application/x-7z-compressed"), "UnsupportedManifest: "),
    "a layer elsewhere": (
        with_descriptor(mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                        urls=["http://127.0.0.1:1/layer"]), ""),
    "a negative size": (with_descriptor(size=-1), "UnsupportedManifest: "),
    "a size that is text": (with_descriptor(size="7"), "UnsupportedManifest: "),
    "a size that is too large": (with_descriptor(size=1 << 62), "by its descriptor"),
    "a digest that leads out": (
        with_descriptor(digest="sha256:../../../../etc/passwd"), "UnsupportedManifest: "),
    "a digest of another kind": (
        with_descriptor(digest=f"md5:{'0' * 32}"), "UnsupportedManifest: "),
    "no image for this machine": (index_without_us, "NoMatchingPlatform: no matching manifest"),
    "an index of an index": (index_of_an_index, "UnsupportedManifest: "),
    "an index that lies": (index_that_lies, "ManifestUnknown: "),
    "schema 1": (
        lambda layout: layout.add_blob(
            b'{"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []}',
            "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        "UnsupportedManifest: "),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_IMAGES)
def test_what_is_no_image_leaves_nothing(what, pair):
    make, words = NO_IMAGES[what]
    pair.registry.lie = lies.honest
    said = pair.said(pair.registry.serve(make(pair.registry.layout), "odd"))
    assert said and re.search(words, said), said
    nothing_in(pair.puller.store)
    assert not list(pair.puller.store.root.parent.rglob("escaped"))


@pytest.mark.anyio
async def test_a_layer_by_a_path_is_not_another_images(layout, tmp_path):
    """What a stranger's configuration names was held, and removed with the pull that failed."""
    victim = layout.add_image([layout.add_layer(FIRST)])
    (digits,) = [one.partition(":")[2] for _, one in [layout.add_layer(FIRST)]]
    other, _ = layout.add_layer(SECOND)
    config = config_of(layout, [(other, f"sha256:../layers/{digits}")])
    hostile = layout.add_manifest(config, [other])
    with HostileRegistry(layout) as registry:
        registry.serve(victim, "victim")
        async with puller_in(tmp_path) as puller:
            assert await puller.pull(registry.name("victim")) == ""
            said = await puller.pull(registry.serve(hostile, "hostile"))
            assert "names layers by something else than sha256" in said
            with puller.store.hold() as hold:
                assert hold.layer(f"sha256:../layers/{digits}") is None
            assert (puller.store.root / "layers" / digits / "fs/bin/wren").exists()


@pytest.mark.anyio
async def test_credentials_are_for_the_registry_that_asks(registry, layout, tmp_path):
    """Not for the host that it sends to; a header of one's own would go along with a redirect."""

    def asks_for_a_login(asked, told):
        if not asked.headers.get("authorization"):
            return Told(401, {"WWW-Authenticate": 'Basic realm="birds"'})
        return told

    login = Credentials(username="bird", password="nest")
    with HostileRegistry(layout, "127.0.0.2") as elsewhere:
        registry.lie = both(
            asks_for_a_login, at("blob", lies.redirected(f"http://{elsewhere.address}{{path}}"))
        )
        async with puller_in(tmp_path) as puller:
            assert await puller.pull(registry.name(), login) == ""
        assert any("authorization" in asked.headers for asked in registry.asked)
        assert elsewhere.asked
        assert not [asked for asked in elsewhere.asked if "authorization" in asked.headers]


@pytest.mark.anyio
async def test_tags_without_an_end_are_given_up(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(repository, "MOST_PAGES", 20)

    def one_more(asked, told):
        more = f'<{asked.path.partition("?")[0]}?last={asked.number}>; rel="next"'
        return Told(headers={"Link": more}, body=b'{"name": "birds/wren", "tags": ["latest"]}')

    registry.lie = at("tags", one_more)
    async with puller_in(tmp_path) as puller:
        said = await puller.pull(f"{registry.address}/birds/wren", work=pull_all_tags)
        assert re.search("RegistryFault: .* has tags on over 20 pages", said), said


@pytest.mark.anyio
async def test_a_bomb_fills_its_disk_and_nothing_stays(layout, tmp_path):
    """What is small at the registry may be huge here; the store's disk is full, and clean again."""
    command = ["mount", "-t", "tmpfs", "-o", "size=10m", "bomb", str(tmp_path / "small")]
    (tmp_path / "small").mkdir()
    await anyio.run_process(command)
    try:
        packed = bomb(16)
        assert len(packed) < 80_000
        layer = layout.add_blob(packed, f"{LAYER}+gzip")
        tar = hashlib.sha256(gzip.decompress(packed)).hexdigest()
        with HostileRegistry(layout) as registry:
            registry.serve(layout.add_image([(layer, f"sha256:{tar}")]))
            async with puller_in(tmp_path / "small") as puller:
                said = await puller.pull(registry.name())
                assert "ImportFailed: no space left on device" in said, said
            nothing_in(puller.store)
    finally:
        await anyio.run_process(["umount", "-l", str(tmp_path / "small")])


@pytest.mark.parametrize("kind", ["manifest", "blob"])
@pytest.mark.anyio
async def test_a_pull_that_is_given_up_leaves_nothing(kind, registry, tmp_path):
    registry.lie = at(kind, lies.stall(30))
    async with puller_in(tmp_path) as puller:
        puller.registries = Registries(Settings(tmp_path / "r", tmp_path / "s", "asyncio"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(puller.pull, registry.name())
            await anyio.to_thread.run_sync(registry.stalling.wait)
            tasks.cancel_scope.cancel()
        registry.lie = lies.honest
        await puller.registries.aclose()
