"""Filters are made once for each profile and set of capabilities; what is refused, and when."""

from __future__ import annotations

import base64
import json

import anyio
import pytest

from runtime.seccomp import names
from runtime.spec import DEFAULT_CAPABILITIES
from supervisor import confinement, seccomp_options
from supervisor.confinement import Filter, Filters
from supervisor.container import ContainerConfig
from supervisor.errors import BadParameter, EngineFault, Unsupported
from supervisor.privileges import Privileges
from supervisor.seccomp_options import SeccompOptions

pytestmark = pytest.mark.anyio

ALLOWING = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]})
FORBIDDING = json.dumps({"defaultAction": "SCMP_ACT_ERRNO"})


@pytest.fixture
def actions(tmp_path):
    """A kernel that filters."""
    path = tmp_path / "actions_avail"
    path.touch()
    return path


def config(*words, **more):
    return ContainerConfig(image="i", image_id="sha256:i", security_options=words, **more)


def needs_library():
    try:
        names.check()
    except names.LibraryMissing as error:
        pytest.skip(str(error))


async def test_one_is_made_once_for_each_set_of_capabilities(actions):
    needs_library()
    filters = Filters(actions=actions)
    assert await filters.prepare() == ""
    usual = await filters.of(config(), DEFAULT_CAPABILITIES)
    assert len(base64.b64decode(usual.program)) % 8 == 0
    assert await filters.of(config("seccomp=builtin"), DEFAULT_CAPABILITIES[::-1]) is usual
    more = await filters.of(config(), (*DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN"))
    assert more.program != usual.program


async def test_many_who_want_the_same_at_once_get_one(actions, monkeypatch):
    needs_library()
    made = []
    make = Filters._make

    def counted(self, key):
        made.append(key)
        return make(self, key)

    monkeypatch.setattr(Filters, "_make", counted)
    filters, found = Filters(actions=actions), []

    async def one():
        found.append(await filters.of(config(), DEFAULT_CAPABILITIES))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(one)
    assert len(set(found)) == 1
    assert all(filter is found[0] for filter in found[1:])
    await filters.of(config(), DEFAULT_CAPABILITIES)
    assert len(made) <= 8


async def test_no_more_are_kept_than_a_few(actions):
    needs_library()
    filters = Filters(actions=actions)
    for number in range(confinement._MOST_KEPT + 5):
        profile = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "comment": str(number)})
        await filters.of(config(f"seccomp={profile}"), ())
    assert len(filters._made) == confinement._MOST_KEPT


async def test_who_has_none(actions, tmp_path):
    filters = Filters(actions=actions)
    assert await filters.of(config("seccomp=unconfined"), ()) == Filter()
    assert await filters.of(config("seccomp={}"), ()) == Filter()
    assert await filters.of(config(privileges=Privileges(privileged=True)), ()) == Filter()
    assert await Filters("unconfined", actions).of(config(), ()) == Filter()
    without = Filters(actions=tmp_path / "no")
    assert await without.of(config(), ()) == Filter()
    assert "this kernel filters no system calls" in await without.prepare()


async def test_a_privileged_container_has_the_one_that_it_asks_for(actions):
    needs_library()
    asked = config(f"seccomp={ALLOWING}", privileges=Privileges(privileged=True))
    filter = await Filters(actions=actions).of(asked, ())
    assert (bool(filter.program), filter.flags) == (True, 2)


async def test_where_the_engines_profile_is_lost_nobody_runs_without_it(actions):
    filters = Filters(actions=actions, lost="opening seccomp profile (/p) failed")
    assert "opening seccomp profile" in await filters.prepare()
    with pytest.raises(EngineFault, match="opening seccomp profile"):
        await filters.of(config(), DEFAULT_CAPABILITIES)
    with pytest.raises(BadParameter, match="opening seccomp profile"):
        await filters.check(config(), DEFAULT_CAPABILITIES)
    assert await filters.of(config("seccomp=unconfined"), ()) == Filter()


async def test_the_engines_own_profile_is_the_default(actions):
    needs_library()
    filters = Filters(ALLOWING, actions)
    assert (await filters.of(config(), ())).flags == 2
    assert (await filters.of(config("seccomp=builtin"), ())).flags == 4


async def test_what_can_not_be_is_refused_when_a_container_is_made(actions, tmp_path, monkeypatch):
    needs_library()
    monkeypatch.setattr(confinement, "has_apparmor", lambda: False)
    filters = Filters(actions=actions)
    for word, text in (
        ("seccomp=x", "Decoding seccomp profile failed"),
        (f"seccomp={FORBIDDING}", "the seccomp profile forbids execve"),
        ("apparmor=nest", "AppArmor is not enabled in your kernel"),
    ):
        with pytest.raises(BadParameter, match=text):
            await filters.check(config(word), ())
    with pytest.raises(EngineFault, match="forbids execve: the container's command could not"):
        await filters.of(config(f"seccomp={FORBIDDING}"), ())
    with pytest.raises(BadParameter, match="seccomp is not enabled in your kernel"):
        await Filters(actions=tmp_path / "no").check(config(f"seccomp={ALLOWING}"), ())


async def test_an_init_needs_two_calls(actions):
    needs_library()
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["execveat"], "action": "SCMP_ACT_KILL"}],
    }
    filters, word = Filters(actions=actions), f"seccomp={json.dumps(profile)}"
    await filters.check(config(word), ())
    with pytest.raises(BadParameter, match="forbids execveat"):
        await filters.check(config(word, init=True), ())


async def test_without_libseccomp_only_the_unconfined_are_taken(actions, monkeypatch):
    monkeypatch.setattr(names, "LIBRARY", "libnosuch.so.2")
    names._resolve.cache_clear()
    filters = Filters(actions=actions)
    try:
        assert (await filters.prepare()).startswith("WARNING: seccomp filters need libnosuch")
        with pytest.raises(Unsupported, match=r"need libnosuch.so.2.*Debian, Ubuntu: libseccomp2"):
            await filters.check(config(), ())
        with pytest.raises(EngineFault, match="seccomp=unconfined"):
            await filters.of(config(), ())
        await filters.check(config("seccomp=unconfined"), ())
    finally:
        monkeypatch.undo()
        names._resolve.cache_clear()


async def test_without_descriptors_it_is_the_machine_s_fault(actions, monkeypatch):
    def no_more(self, key):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Filters, "_make", no_more)
    filters = Filters(actions=actions)
    for asking in (filters.check, filters.of):
        with pytest.raises(EngineFault, match="system call filter: Too many open files"):
            await asking(config(), ())


async def test_apparmor_where_the_kernel_has_it(actions, tmp_path, monkeypatch):
    """No AppArmor here: its files are made up."""
    enabled = tmp_path / "enabled"
    enabled.write_text("Y\n")
    assert confinement.has_apparmor(enabled)
    enabled.write_text("N\n")
    assert not confinement.has_apparmor(enabled)
    assert not confinement.has_apparmor(tmp_path / "no")
    monkeypatch.setattr(confinement, "has_apparmor", lambda: True)
    asked = config("apparmor=nest", "seccomp=unconfined")
    await Filters(actions=actions).check(asked, ())
    assert confinement.apparmor(asked) == "nest"
    assert confinement.apparmor(config("apparmor=unconfined")) == ""


def test_the_profile_of_an_engine_is_read_when_it_starts(tmp_path):
    assert seccomp_options.checked("") == seccomp_options.checked("builtin") == SeccompOptions()
    assert seccomp_options.checked("").shown == "builtin"
    assert seccomp_options.checked("unconfined").words() == ["--seccomp-profile", "unconfined"]
    path = tmp_path / "profile.json"
    with pytest.raises(seccomp_options.RefusedProfile, match="No such file"):
        seccomp_options.checked(str(path))
    path.write_text("{")
    with pytest.raises(seccomp_options.RefusedProfile, match="Decoding seccomp profile failed"):
        seccomp_options.checked(str(path))
    path.write_text(ALLOWING)
    options = seccomp_options.checked(str(path))
    assert (options.profile, options.shown) == (ALLOWING, str(path))
    assert options.words() == ["--seccomp-profile", str(path)]
