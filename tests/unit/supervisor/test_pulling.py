"""Pull against a registry without network: what is asked for once, told, checked and undone."""

import contextlib
import dataclasses
import json

import anyio
import pytest

from runtime.images import references
from runtime.images.errors import ImportRefused
from supervisor.errors import BadParameter
from supervisor.registries.errors import (
    BlobUnknown,
    ManifestUnknown,
    NoMatchingPlatform,
    NotThere,
    RegistryUnreachable,
    UnsupportedManifest,
    WrongContent,
)
from supervisor.registries.manifests import OCI_MANIFEST
from supervisor.transfers.pulling import Asked, pull, pull_all_tags, short
from supervisor.transfers.whereabouts import seen
from tests.unit.supervisor.fake_transfers import AMD64, Heard, an_engine, diff_id, digest

pytestmark = pytest.mark.anyio

LOW, HIGH = b"low " * 100, b"high " * 100
ARM = {"os": "linux", "architecture": "arm64", "variant": "v8"}


def asked(name="box", platform=""):
    return Asked(references.parse(name), platform)


async def test_an_image_comes(tmp_path):
    async with an_engine(tmp_path) as engine:
        labels = {"Labels": {"a": "b"}}
        name = engine.registries.add("library/box", "latest", [LOW, HIGH], config=labels)
        heard = Heard()
        image = await pull(engine, asked(), heard)
        assert image.tags == ("box:latest",) and image.digests == (f"box@{name}",)
        assert image.manifest == name
        assert image.diff_ids == (diff_id(LOW), diff_id(HIGH))
        low, high = short(digest(LOW)), short(digest(HIGH))
        assert heard.lines_told[:3] == [
            "latest: Pulling from library/box",
            f"{low}: Pulling fs layer",
            f"{high}: Pulling fs layer",
        ]
        for layer in (low, high):
            assert heard.of(layer) == [
                "Pulling fs layer",
                "Downloading",
                "Verifying Checksum",
                "Download complete",
                "Extracting",
                "Pull complete",
            ]
        assert heard.lines_told[-2:] == [
            f"Digest: {name}",
            "Status: Downloaded newer image for box:latest",
        ]
        (event,) = engine.events.past()
        assert (event.type, event.action, event.id) == ("image", "pull", "box:latest")
        assert event.attributes == {"a": "b", "name": "box"}


async def test_what_is_here_is_not_asked_for(tmp_path):
    async with an_engine(tmp_path) as engine:
        engine.registries.add("library/box", "latest", [LOW])
        await pull(engine, asked(), Heard())
        before = len(engine.registries.asked)
        heard = Heard()
        await pull(engine, asked(), heard)
        assert len(engine.registries.asked) == before
        assert heard.lines_told[0] == "latest: Pulling from library/box"
        assert heard.lines_told[2:] == ["Status: Image is up to date for box:latest"]
        engine.registries.add("library/box", "latest", [LOW, HIGH])
        heard = Heard()
        image = await pull(engine, asked(), heard)
        assert heard.of(short(digest(LOW))) == ["Pulling fs layer", "Already exists"]
        assert heard.lines_told[-1] == "Status: Downloaded newer image for box:latest"
        assert image.tags == ("box:latest",)
        assert sorted(one.tags for one in engine.images.images()) == [(), ("box:latest",)]


async def test_by_digest_it_gets_no_tag(tmp_path):
    async with an_engine(tmp_path) as engine:
        name = engine.registries.add("library/box", "1", [LOW])
        heard = Heard()
        image = await pull(engine, asked(f"box@{name}"), heard)
        assert (image.tags, image.digests) == ((), (f"box@{name}",))
        assert heard.lines_told[0] == f"{name}: Pulling from library/box"
        assert heard.lines_told[-1] == f"Status: Downloaded newer image for box@{name}"
        heard = Heard()
        await pull(engine, asked(f"box:2@{name}"), heard)
        assert heard.lines_told[-1] == f"Status: Image is up to date for box@{name}"


async def test_the_platform_is_chosen(tmp_path):
    async with an_engine(tmp_path) as engine:
        ours = engine.registries.add("library/box", "x", [LOW])
        other = engine.registries.add("library/box", "y", [HIGH], platform=ARM)
        both = engine.registries.add_list("library/box", "latest", [(other, ARM), (ours, AMD64)])
        heard = Heard()
        image = await pull(engine, asked(platform="linux/amd64"), heard)
        assert (image.architecture, image.digests) == ("amd64", (f"box@{both}",))
        assert image.manifest == ours
        assert f"Digest: {both}" in heard.lines_told
        image = await pull(engine, asked(platform="linux/arm64"), Heard())
        assert (image.architecture, image.tags) == ("arm64", ("box:latest",))
        heard = Heard()
        with pytest.raises(NoMatchingPlatform):
            await pull(engine, asked(platform="linux/s390x"), heard)
        assert not heard.begun
        with pytest.raises(NoMatchingPlatform, match="box:y is for linux/arm64"):
            await pull(engine, asked("box:y", platform="linux/amd64"), Heard())
        with pytest.raises(BadParameter):
            await pull(engine, asked(platform="linux/amd64/v1/x"), Heard())


async def test_all_tags(tmp_path):
    async with an_engine(tmp_path) as engine:
        engine.registries.add("library/box", "1", [LOW])
        engine.registries.add("library/box", "2", [LOW, HIGH])
        heard = Heard()
        await pull_all_tags(engine, asked(), heard)
        tags = sorted(tag for image in engine.images.images() for tag in image.tags)
        assert tags == ["box:1", "box:2"]
        assert [line for line in heard.lines_told if "Pulling from" in line] == [
            "1: Pulling from library/box",
            "2: Pulling from library/box",
        ]
        with pytest.raises(NotThere, match="the repository other has no tags"):
            await pull_all_tags(engine, asked("other"), Heard())


async def test_host_is_no_registrys(tmp_path):
    async with an_engine(tmp_path) as engine:
        heard = Heard()
        await pull(engine, asked("host"), heard)
        assert heard.lines_told == [
            "Status: host:latest is made of this machine: there is nothing to pull"
        ]


async def test_no_more_at_once_than_allowed(tmp_path):
    async with an_engine(tmp_path, downloads=1) as engine:
        engine.registries.add("library/box", "latest", [LOW, HIGH])
        gate = anyio.Event()
        engine.registries.gates |= {digest(LOW): gate, digest(HIGH): gate}
        heard = Heard()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pull, engine, asked(), heard)
            await engine.registries.begun.wait()
            (first,) = engine.registries.asked[1:]
            (second,) = {digest(LOW), digest(HIGH)} - {first}
            await heard.hears(f"{short(second)}: Waiting")
            assert len(engine.registries.asked) == 2
            gate.set()
        assert heard.of(short(second))[:3] == ["Pulling fs layer", "Waiting", "Downloading"]


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda one: one.blobs.pop(("library/box", digest(HIGH))), BlobUnknown),
        (lambda one: one.broken.add(digest(HIGH)), WrongContent),
        (lambda one: one.manifests.clear(), ManifestUnknown),
        (lambda one: one.add("library/box", "latest", [LOW, b"BAD" * 50_000]), ImportRefused),
        (lambda one: one.add("library/box", "latest", [LOW], diff_ids=[]), UnsupportedManifest),
        (lambda one: one.add("library/box", "latest", [LOW], diff_ids=[1]), UnsupportedManifest),
        (
            lambda one: one.add("library/box", "latest", [LOW], diff_ids=[diff_id(HIGH)]),
            ImportRefused,
        ),
    ],
)
async def test_a_failure_leaves_nothing(tmp_path, spoil, error):
    async with an_engine(tmp_path) as engine:
        engine.registries.add("library/box", "latest", [LOW, HIGH])
        spoil(engine.registries)
        with pytest.raises(error):
            await pull(engine, asked(), Heard())
        assert not engine.images.known
        assert not engine.events.past()


async def begin(tasks, work, *given):
    """Start a task of its own scope; returns the scope."""
    scope = anyio.CancelScope()

    async def run():
        with scope:
            await work(*given)

    tasks.start_soon(run)
    return scope


async def test_who_cancels_leaves_nothing(tmp_path):
    async with an_engine(tmp_path) as engine:
        engine.registries.add("library/box", "latest", [LOW, HIGH])
        engine.registries.gates[digest(HIGH)] = anyio.Event()
        async with anyio.create_task_group() as tasks:
            scope = await begin(tasks, pull, engine, asked(), Heard())
            await engine.registries.begun.wait()
            scope.cancel()
        assert not engine.images.known


@pytest.mark.parametrize("step", range(1, 8))
@pytest.mark.parametrize("how", ["cancelled", "fails"])
async def test_nothing_is_left_wherever_it_ends(tmp_path, step, how):
    async with an_engine(tmp_path) as engine:
        engine.registries.add("library/box", "latest", [LOW, HIGH])
        scope = anyio.CancelScope()

        def fail():
            raise RegistryUnreachable("gone")

        engine.registries.at_step[step] = scope.cancel if how == "cancelled" else fail
        with scope, contextlib.suppress(RegistryUnreachable):
            await pull(engine, asked(), Heard())
            # Manifest; configuration, in two pieces; two layers, each in two pieces.
            raise AssertionError("it went on to its end")
        assert not engine.images.known


@pytest.mark.parametrize("first", ["stays", "cancelled"])
async def test_two_that_want_the_same_layer(tmp_path, first):
    async with an_engine(tmp_path) as engine:
        for name in ("a", "b"):
            engine.registries.add(f"library/{name}", "latest", [LOW], config={"User": name})
        gate = engine.registries.gates[digest(LOW)] = anyio.Event()
        one, other = Heard(), Heard()
        async with anyio.create_task_group() as tasks:
            scope = await begin(tasks, pull, engine, asked("a"), one)
            await engine.registries.begun.wait()
            tasks.start_soon(pull, engine, asked("b"), other)
            await other.hears(f"{short(digest(LOW))}: Downloading")
            if first == "cancelled":
                scope.cancel()
                await anyio.wait_all_tasks_blocked()
            gate.set()
        assert engine.registries.asked.count(digest(LOW)) == 1
        assert other.of(short(digest(LOW)))[-1] == "Pull complete"
        tags = sorted(tag for image in engine.images.images() for tag in image.tags)
        assert tags == (["b:latest"] if first == "cancelled" else ["a:latest", "b:latest"])


async def test_the_second_tries_for_itself_if_the_first_fails(tmp_path):
    async with an_engine(tmp_path) as engine:
        for name in ("a", "b"):
            engine.registries.add(f"library/{name}", "latest", [LOW], config={"User": name})
        gate = engine.registries.gates[digest(LOW)] = anyio.Event()
        engine.registries.broken.add(digest(LOW))
        refused = []

        async def first():
            try:
                await pull(engine, asked("a"), Heard())
            except WrongContent as error:
                refused.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first)
            await engine.registries.begun.wait()
            other = Heard()
            tasks.start_soon(pull, engine, asked("b"), other)
            await other.hears(f"{short(digest(LOW))}: Downloading")
            gate.set()
        assert len(refused) == 1
        assert [image.tags for image in engine.images.images()] == [("b:latest",)]


async def test_a_layer_without_its_archive_is_downloaded_again(tmp_path):
    async with an_engine(tmp_path) as engine:
        engine.registries.add("library/box", "latest", [LOW])
        image = await pull(engine, asked(), Heard())
        (one,) = image.diff_ids
        whole = engine.images.layers[one]
        engine.images.layers[one] = dataclasses.replace(whole, blob=None)
        heard = Heard()
        await pull(engine, asked(), heard)
        assert heard.of(short(digest(LOW)))[-1] == "Pull complete"
        assert engine.images.layers[one] == whole


async def test_the_same_layer_twice_in_an_image(tmp_path):
    async with an_engine(tmp_path) as engine:
        engine.registries.add("library/box", "latest", [LOW, HIGH, LOW])
        image = await pull(engine, asked(), Heard())
        assert image.diff_ids == (diff_id(LOW), diff_id(HIGH), diff_id(LOW))
        assert sorted(engine.registries.asked[1:]) == sorted([digest(LOW), digest(HIGH)])


async def test_nobody_is_believed_what_a_layer_is_called_that_was_here(tmp_path):
    """Found: a push took the stranger's archive, if the registry had it, for the layer."""
    async with an_engine(tmp_path) as engine:
        name = engine.registries.add("library/box", "latest", [LOW])
        image = await pull(engine, asked(), Heard())
        registry = engine.registries
        registry.add("stranger/box", "latest", [HIGH])
        lie = json.loads(registry.manifests["stranger/box", "latest"].data)
        lie["config"] = json.loads(registry.manifests["library/box", "latest"].data)["config"]
        lied = registry.add_manifest("stranger/box", "latest", OCI_MANIFEST, lie)
        again = await pull(engine, asked("stranger/box"), Heard())
        assert again.id == image.id
        assert again.digests == (f"box@{name}", f"stranger/box@{lied}")
        (known,) = seen(engine.images, again, "docker.io")[diff_id(LOW)]
        assert (known.blob.digest, again.manifest) == (digest(LOW), name)
