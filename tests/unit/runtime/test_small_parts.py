"""Parts of the init that need no container: look-up, masks, options, words."""

from __future__ import annotations

import errno
import json
import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import binds, capabilities, flags, json_text, mounts, payload, process_stat
from runtime.errors import PayloadRefused
from runtime.spec import DEFAULT_CAPABILITIES


def test_the_first_executable_in_path_wins(tmp_path):
    for name, mode in (("a", 0o644), ("b", 0o755), ("c", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").touch(mode)
    path = b":".join(os.fsencode(tmp_path / name) for name in ("none", "a", "b", "c"))
    assert payload.find(b"tool", {b"PATH": path}) == os.fsencode(tmp_path / "b/tool")


def test_an_empty_word_in_path_is_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "tool").touch(0o755)
    monkeypatch.chdir(tmp_path)
    assert payload.find(b"tool", {b"PATH": b"/nowhere:"}) == b"./tool"


@pytest.mark.parametrize(
    ("code", "exit_code", "words"),
    [
        (errno.ENOEXEC, 126, "exec /x: exec format error"),
        (errno.EACCES, 126, "exec /x: permission denied"),
        (errno.E2BIG, 126, "exec /x: argument list too long"),
        (
            errno.ENOENT,
            127,
            "exec /x: no such file or directory "
            "(the file is there, but not the interpreter that it names)",
        ),
    ],
)
def test_what_execve_s_refusal_means(code, exit_code, words):
    refused = payload.explain(b"/x", OSError(code, os.strerror(code)))
    assert (str(refused), refused.exit_code, refused.errno) == (words, exit_code, code)


def test_a_working_directory_outside_the_root_is_refused(tmp_path, monkeypatch):
    """CVE-2024-21626: the kernel spells such a path "(unreachable)/…"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "getcwdb", lambda: b"(unreachable)/etc")
    with pytest.raises(PayloadRefused, match="it is outside the container"):
        payload.enter(os.fsencode(tmp_path))


def test_a_working_directory_that_is_gone_is_refused(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(PayloadRefused, match="no such file or directory"):
        payload.enter(b".")


def test_docker_s_capabilities():
    assert capabilities.mask(DEFAULT_CAPABILITIES) == 0xA80425FB


@given(st.sets(st.sampled_from(capabilities.NAMES)))
def test_masks_and_members(names):
    bits = capabilities.mask(sorted(names))
    assert {capabilities.NAMES[number] for number in capabilities.members(bits)} == names


def test_a_set_from_proc_status():
    text = "Name:\tx\nCapPrm:\t000001fffeffffff\nCapBnd:\t0000000000000001\n"
    assert capabilities.status_mask(text, "CapBnd") == 1
    assert capabilities.status_mask(text, "CapPrm") == 0x1FFFEFFFFFF
    assert capabilities.status_mask(text, "CapAmb") == 0


def test_overlay_options_escape_what_overlayfs_splits_at():
    options = mounts.overlay_options([b"/a:b", b"/c,d", b"/e\\f"], b"/u:p,q", b"/w", False)
    assert options == b"lowerdir=/a\\:b:/c\\,d:/e\\\\f,upperdir=/u:p\\,q,workdir=/w"
    assert mounts.overlay_options([b"/a"], b"/u", b"/w", True).endswith(b",workdir=/w,volatile")


def test_many_layers_are_named_from_the_directory_that_most_are_in():
    few = [b"/images/short/1", b"/host/fs"]
    assert mounts.fitting_options(few, b"/u", b"/w") == (
        b"",
        b"lowerdir=/images/short/1:/host/fs,upperdir=/u,workdir=/w",
    )
    deep = b"/" + b"d" * 200 + b"/"
    many = [deep + b"%06x" % number for number in range(499)]
    directory, options = mounts.fitting_options([*many, b"/host/fs"], deep + b"u", deep + b"w")
    assert directory == deep
    assert options.startswith(b"lowerdir=000000:000001:")
    assert b":0001f2:/host/fs,upperdir=/ddd" in options
    with pytest.raises(OSError, match="do not fit one page"):
        mounts.fitting_options([path + b"/more" for path in many])


def test_without_an_upper_directory_there_are_only_lower_ones():
    assert mounts.overlay_options([b"/a", b"/b"]) == b"lowerdir=/a:/b"


def test_mount_bits_from_statvfs():
    assert mounts.mount_bits(0) == 0
    assert mounts.mount_bits(os.ST_RDONLY | os.ST_NOSUID | os.ST_RELATIME) == (
        flags.MS_RDONLY | flags.MS_NOSUID | flags.MS_RELATIME
    )


def test_mountinfo_s_escapes():
    assert binds._unescape(rb"/a\040b\011c\012d\134040") == b"/a b\tc\nd\\040"


VALUES = st.one_of(st.text(), st.integers(), st.none())


@given(st.dictionaries(st.text(), VALUES))
def test_json_is_what_the_json_package_reads_and_writes(values):
    assert json.loads(json_text.dump(values)) == values
    assert json_text.load(json_text.dump(values)) == values
    assert json_text.load(json.dumps(values).encode()) == values


@pytest.mark.parametrize("text", [b"", b"{", b"{} x", b"\xff", b"nul", b" {}", b'{"a":}'])
def test_json_that_is_none(text):
    with pytest.raises(ValueError):
        json_text.load(text)


@pytest.mark.parametrize("value", [1.5, True, [], {}])
def test_values_that_no_message_holds(value):
    with pytest.raises(TypeError, match="no message holds"):
        json_text.dump({"x": value})


def test_a_process_that_ends():
    with subprocess.Popen(["sleep", "1000"]) as process:
        started = process_stat.start_ticks(process.pid)
        assert not process_stat.is_ending(process.pid, started)
        assert process_stat.is_ending(process.pid, started + 1)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process_stat.is_ending(process.pid, started)
    assert process_stat.is_ending(process.pid, started)
