"""Push to a registry without network: what is skipped, mounted, compressed, told and undone."""

import dataclasses
import gzip
import json

import anyio
import pytest

from runtime.images import references
from runtime.images.errors import StoreCorrupted
from supervisor.errors import BadParameter, NotFound
from supervisor.kept_blobs import DamagedBlob
from supervisor.registries.errors import Denied, RegistryUnreachable
from supervisor.registries.manifests import DOCKER_MANIFEST, OCI_MANIFEST
from supervisor.transfers import layer_uploads
from supervisor.transfers.pulling import Asked as AskedPull
from supervisor.transfers.pulling import pull, short
from supervisor.transfers.pushed_manifest import Stored, build
from supervisor.transfers.pushing import Asked, push
from tests.unit.supervisor.fake_transfers import AMD64, Heard, an_engine, diff_id, digest

pytestmark = pytest.mark.anyio

LOW, HIGH = b"low " * 100, b"high " * 100
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def asked(name="reg.io/box:1", **more):
    return Asked(references.parse(name), **more)


def add(engine, tag, archives, media_type=GZIP, **more):
    """An image in the store, as an import or a build leaves it."""
    layers = [engine.images.put(one, media_type) for one in archives]
    rootfs = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    return engine.images.add(json.dumps({**AMD64, "rootfs": rootfs, **more}).encode(), (tag,))


def manifest_of(engine, tag="1", path="box"):
    found = engine.registries.manifests[path, tag]
    return found, json.loads(found.data)


async def test_an_image_goes(tmp_path):
    async with an_engine(tmp_path) as engine:
        image = add(engine, "reg.io/box:1", [LOW, HIGH])
        heard = Heard()
        await push(engine, asked(), heard)
        found, told = manifest_of(engine)
        assert found.media_type == DOCKER_MANIFEST
        assert [layer["digest"] for layer in told["layers"]] == [digest(LOW), digest(HIGH)]
        assert told["config"]["digest"] == image.id
        assert set(engine.registries.sent) == {digest(LOW), digest(HIGH), image.id}
        low, high = short(diff_id(LOW)), short(diff_id(HIGH))
        assert heard.lines_told[:3] == [
            "The push refers to repository [reg.io/box]",
            f"{high}: Preparing",
            f"{low}: Preparing",
        ]
        assert heard.of(low) == ["Preparing", "Pushing", "Pushed"]
        assert heard.lines_told[-1] == f"1: digest: {found.digest} size: {len(found.data)}"
        (event,) = engine.events.past()
        assert (event.action, event.id) == ("push", "reg.io/box:1")
        assert event.attributes == {"name": "reg.io/box"}
        (image,) = engine.images.images()
        assert image.digests == (f"reg.io/box@{found.digest}",)
        assert image.manifest == found.digest
        # Once more: nothing is sent.
        engine.registries.sent.clear()
        heard = Heard()
        await push(engine, asked(), heard)
        assert not engine.registries.sent
        assert heard.of(low) == ["Preparing", "Layer already exists"]
        assert heard.lines_told[-1] == f"1: digest: {found.digest} size: {len(found.data)}"


async def test_the_last_line_is_for_programs(tmp_path):
    async with an_engine(tmp_path) as engine:
        add(engine, "reg.io/box:1", [LOW])
        heard = Heard()
        await push(engine, asked(), heard)
        heard.close()
        *_, last = b"".join([piece async for piece in heard.lines()]).splitlines()
        found, _ = manifest_of(engine)
        aux = {"Tag": "1", "Digest": found.digest, "Size": len(found.data)}
        assert json.loads(last) == {"progressDetail": {}, "aux": aux}


async def test_what_was_pulled_keeps_its_manifest(tmp_path):
    async with an_engine(tmp_path) as engine:
        name = engine.registries.add("library/box", "latest", [LOW, HIGH])
        image = await pull(engine, AskedPull(references.parse("box")), Heard())
        for layer, archive in zip(image.diff_ids, (LOW, HIGH), strict=True):
            blob = dataclasses.replace(engine.images.layers[layer].blob, media_type=GZIP)
            engine.images.layers[layer] = dataclasses.replace(
                engine.images.layers[layer], blob=blob
            )
            assert blob.digest == digest(archive)
        engine.images.add(engine.images.configs[image.id], ("nest:2",))
        heard = Heard()
        await push(engine, asked("nest:2"), heard)
        found, _ = manifest_of(engine, "2", "library/nest")
        assert found == engine.registries.manifests["library/box", name]
        # The same registry has the layers: they are mounted.
        assert heard.of(short(diff_id(LOW))) == ["Preparing", "Mounted from library/box"]
        assert set(engine.registries.sent) == {image.id}
        # Another registry is not asked for that.
        engine.images.add(engine.images.configs[image.id], ("reg.io/box:1",))
        engine.registries.mounts.clear()
        await push(engine, asked(), Heard())
        assert not engine.registries.mounts
        assert manifest_of(engine)[0].digest == name


async def test_layers_of_a_base_that_was_pushed_are_known(tmp_path):
    async with an_engine(tmp_path) as engine:
        add(engine, "reg.io/base:1", [LOW], "application/vnd.oci.image.layer.v1.tar")
        await push(engine, asked("reg.io/base:1"), Heard())
        add(engine, "reg.io/box:1", [LOW, HIGH], User="x")
        engine.registries.sent.clear()
        heard = Heard()
        await push(engine, asked(), heard)
        assert heard.of(short(diff_id(LOW))) == ["Preparing", "Mounted from base"]
        _, told = manifest_of(engine)
        base = manifest_of(engine, path="base")[1]
        assert told["layers"][0] == base["layers"][0]
        assert len(engine.registries.sent) == 2  # the other layer, and the configuration


async def test_a_plain_layer_is_compressed_on_its_way(tmp_path):
    async with an_engine(tmp_path) as engine:
        big = b"plain " * 1_000_000
        add(engine, "reg.io/box:1", [big], "application/vnd.oci.image.layer.v1.tar")
        await push(engine, asked(), Heard())
        _, told = manifest_of(engine)
        (layer,) = told["layers"]
        sent = engine.registries.sent[layer["digest"]]
        assert layer["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar.gzip"
        assert layer["size"] == len(sent) < len(big) // 100
        assert gzip.decompress(sent) == big
        # The next time it is known by what it was called, without another compression.
        engine.registries.sent.clear()
        heard = Heard()
        await push(engine, asked(), heard)
        assert heard.of(short(diff_id(big))) == ["Preparing", "Layer already exists"]


async def test_zstd_is_ocis(tmp_path):
    async with an_engine(tmp_path) as engine:
        engine.images.put(HIGH, GZIP.replace("gzip", "zstd"))
        add(engine, "reg.io/box:1", [LOW, HIGH])
        await push(engine, asked(), Heard())
        found, told = manifest_of(engine)
        assert found.media_type == told["mediaType"] == OCI_MANIFEST
        kinds = [layer["mediaType"].rpartition("+")[2] for layer in told["layers"]]
        assert kinds == ["gzip", "zstd"]
        assert told["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"


async def test_all_tags(tmp_path):
    async with an_engine(tmp_path) as engine:
        add(engine, "reg.io/box:1", [LOW])
        add(engine, "reg.io/box:2", [LOW, HIGH])
        add(engine, "reg.io/other:3", [HIGH])
        heard = Heard()
        await push(engine, asked("reg.io/box", all_tags=True), heard)
        tags = [tag for path, tag in engine.registries.manifests if ":" not in tag]
        assert sorted(tags) == ["1", "2"]
        assert sum("digest" in line for line in heard.lines_told) == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "tag does not exist: reg.io/no:1"),
        ({"all_tags": True}, "An image does not exist locally with the tag: reg.io/no"),
    ],
)
async def test_no_such_image(tmp_path, more, words):
    async with an_engine(tmp_path) as engine:
        heard = Heard()
        with pytest.raises(NotFound, match=f"^{words}$"):
            await push(engine, asked("reg.io/no:1", **more), heard)
        assert heard.lines_told == ["The push refers to repository [reg.io/no]"]


@pytest.mark.parametrize("changed", [{"built_in": True}, {"base": "host"}])
async def test_what_lies_on_this_machine_stays_here(tmp_path, changed):
    async with an_engine(tmp_path) as engine:
        image = add(engine, "reg.io/box:1", [LOW])
        engine.images.known[image.id] = dataclasses.replace(image, **changed)
        heard = Heard()
        with pytest.raises(BadParameter, match="can't be pushed: it lies on this machine"):
            await push(engine, asked(), heard)
        assert not heard.begun


async def test_a_layer_without_its_archive(tmp_path):
    async with an_engine(tmp_path) as engine:
        image = add(engine, "reg.io/box:1", [LOW])
        (one,) = image.diff_ids
        engine.images.layers[one] = dataclasses.replace(engine.images.layers[one], blob=None)
        with pytest.raises(BadParameter, match="mdocker kept no archive of its layer"):
            await push(engine, asked(), Heard())


@pytest.mark.parametrize("media_type", [GZIP, GZIP.removesuffix("+gzip")])
@pytest.mark.parametrize("how", ["gone", "changed", "longer", "shorter"])
async def test_a_damaged_archive_is_nobodys(tmp_path, media_type, how):
    async with an_engine(tmp_path) as engine:
        add(engine, "reg.io/box:1", [LOW], media_type)
        path = engine.images.blob_path(digest(LOW))
        changed = {"changed": b"L" + LOW[1:], "longer": LOW + b"x", "shorter": LOW[:-1]}
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(changed[how])
        with pytest.raises(DamagedBlob, match="'mdocker system check' tells of all"):
            await push(engine, asked(), Heard())
        assert not engine.registries.sent


async def test_a_break_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(layer_uploads, "WAITS_S", (0, 0))
    async with an_engine(tmp_path) as engine:
        add(engine, "reg.io/box:1", [LOW])
        engine.registries.failures = [RegistryUnreachable("gone"), RegistryUnreachable("gone")]
        heard = Heard()
        await push(engine, asked(), heard)
        assert heard.of(short(diff_id(LOW)))[-2:] == ["Pushing", "Pushed"]
        engine.registries.blobs = {("box", digest(LOW)): LOW}  # the configuration is left to send
        engine.registries.failures = [RegistryUnreachable("gone")]
        await push(engine, asked(), Heard())
        engine.registries.blobs.clear()
        for failures in ([RegistryUnreachable("gone")] * 3, [Denied("denied: no")]):
            engine.registries.failures = failures
            with pytest.raises((RegistryUnreachable, Denied)):
                await push(engine, asked(), Heard())
            assert not engine.registries.failures


async def test_who_cancels_leaves_nothing_held(tmp_path):
    async with an_engine(tmp_path) as engine:
        add(engine, "reg.io/box:1", [LOW, HIGH])
        engine.registries.gates[digest(HIGH)] = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(push, engine, asked(), Heard())
            await engine.registries.begun.wait()
            tasks.cancel_scope.cancel()
        assert ("box", "1") not in engine.registries.manifests
        assert all(hold.closed for hold in engine.images.holds)
        assert engine.limits.uploads_to_registries.value == 5


@pytest.mark.parametrize("step", range(1, 8))
async def test_wherever_it_ends_nothing_is_held_and_no_image_is_there(tmp_path, step):
    async with an_engine(tmp_path) as engine:
        image = add(engine, "reg.io/box:1", [LOW, HIGH])
        with anyio.CancelScope() as scope:
            engine.registries.at_step[step] = scope.cancel
            await push(engine, asked(), Heard())
            raise AssertionError("it went on to its end")
        assert ("box", "1") not in engine.registries.manifests
        assert engine.images.resolve(image.id).digests == ()
        assert engine.limits.uploads_to_registries.value == 5


def test_manifests_that_are_none_are_not_used():
    assert Stored.read(None) is None
    assert Stored.read(b"no json") is None
    assert Stored.read(b"[1]") is None
    assert Stored.read(b'{"schemaVersion": 1}') is None
    built = build(b"{}", [])
    stored = Stored.read(built.data)
    assert stored is not None and stored.manifest == built
    assert stored.fits(digest(b"{}"), [])
    assert not stored.fits(digest(b"{ }"), [])


async def test_what_is_removed_meanwhile_stays_removed(tmp_path):
    """Found: the note of its digest brought it back, without a name."""
    async with an_engine(tmp_path) as engine:
        add(engine, "reg.io/box:1", [LOW])
        engine.registries.at_step[2] = engine.images.known.clear
        await push(engine, asked(), Heard())
        assert engine.images.images() == []
        assert engine.registries.manifests["box", "1"]


async def test_another_images_damage_is_not_in_the_way(tmp_path, monkeypatch):
    """Found: one broken manifest had all images with the same base refused."""
    async with an_engine(tmp_path) as engine:
        add(engine, "reg.io/box:1", [LOW])
        other = add(engine, "reg.io/other:1", [LOW, HIGH])
        await push(engine, asked("reg.io/other:1"), Heard())
        read = engine.images.manifest_blob

        def damaged(image):
            if image.id == other.id:
                raise StoreCorrupted("it is damaged")
            return read(image)

        monkeypatch.setattr(engine.images, "manifest_blob", damaged)
        await push(engine, asked(), Heard())
        assert engine.registries.manifests["box", "1"]
        with pytest.raises(StoreCorrupted):
            await push(engine, asked("reg.io/other:1"), Heard())
