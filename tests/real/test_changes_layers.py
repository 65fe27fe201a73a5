"""What a container has changed, where its image has several layers, and by overlayfs's rarer marks.

The helper is asked directly: nothing makes images of several layers yet.
"""

import errno
import json
import os
import select
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.archive_job import ArchiveJob

CHECKOUT = Path(__file__).parents[2]


def ask(order):
    """Have a helper carry out an order without streams; returns its last answer."""
    job = ArchiveJob(order)
    try:
        told = b""
        while not told.endswith(b"\n"):
            assert select.select([job.result_fd], [], [], 20)[0]
            piece = os.read(job.result_fd, 1 << 20)
            assert piece, told
            told += piece
        return json.loads(told.splitlines()[-1])
    finally:
        job.close()
        job.reap()


@pytest.fixture
def layers(tmp_path):
    """Two layers of an image; the upper one hides a file and a directory of the other."""
    low, top = tmp_path / "low", tmp_path / "top"
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (low / "d").mkdir(parents=True)
    (top / "d").mkdir(parents=True)
    (low / "d/hidden").write_text("1")
    (low / "d/seen").write_text("2")
    (low / "moved/deep").mkdir(parents=True)
    (low / "moved/deep/f").write_text("3")
    (low / "moved/g").write_text("4")
    (top / "d/new").write_text("5")
    os.mknod(top / "d/hidden", stat.S_IFCHR, 0)
    return tmp_path


def mounted(base, script, options=""):
    """Run a script in the layers' overlay, mounted in a namespace of its own."""
    mount = (
        f"mount -t overlay overlay -o lowerdir={base}/top:{base}/low,upperdir={base}/upper,"
        f"workdir={base}/work{options} {base}/merged && cd {base}/merged && {script}"
    )
    subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-ec", mount], check=True)


def changes(base, *hidden):
    view = {
        "lower": [str(base / "top"), str(base / "low")],
        "upper": str(base / "upper"),
        "merged": str(base / "merged"),
    }
    told = ask({"kind": "changes", "hidden": list(hidden), "view": view})
    return ["CAD"[kind] + path for path, kind in told["done"]]


def test_what_an_upper_layer_hides_was_never_there(layers):
    mounted(layers, "echo x >d/hidden; echo y >>d/seen; rm d/new")
    assert changes(layers) == ["C/d", "A/d/hidden", "D/d/new", "C/d/seen"]


def test_a_directory_made_anew_hides_all_that_was_in_it(layers):
    mounted(layers, "rm -rf d moved; mkdir d; echo z >d/seen; echo z >d/own")
    assert changes(layers) == ["C/d", "D/d/new", "A/d/own", "C/d/seen", "D/moved"]


def test_a_directory_that_was_renamed_is_all_new(layers):
    mounted(layers, "mv moved d/there; echo x >d/there/deep/own; rm d/there/g", ",redirect_dir=on")
    assert changes(layers) == [
        "C/d",
        "A/d/there",
        "A/d/there/deep",
        "A/d/there/deep/f",
        "A/d/there/deep/own",
        "D/moved",
    ]


def test_what_was_renamed_in_a_directory_that_was_renamed(layers):
    """Where it comes from is told from there: overlayfs names it in the directory's own terms."""
    mounted(layers, "mv moved d/there; mv d/there/deep d/there/down", ",redirect_dir=on")
    assert changes(layers) == [
        *("C/d", "A/d/there", "A/d/there/down", "A/d/there/down/f", "A/d/there/g", "D/moved")
    ]


def test_nothing_has_changed(layers):
    mounted(layers, "cat d/seen >/dev/null")
    assert changes(layers) == []


def test_places_for_mounts_are_no_changes(layers):
    mounted(layers, "mkdir -p proc etc d/mnt/deep; touch etc/hosts etc/own")
    hidden = ("/proc", "/etc/hosts", "/d/mnt/deep")
    assert changes(layers, *hidden) == ["A/etc", "A/etc/own"]
    mounted(layers, "rm etc/own; echo x >etc/hosts")
    assert changes(layers, *hidden) == ["A/etc", "A/etc/hosts"]


def test_files_replaced_by_directories_and_back(layers):
    mounted(layers, "rm d/seen; mkdir d/seen; touch d/seen/in; rm -rf moved; touch moved")
    assert changes(layers) == ["C/d", "C/d/seen", "A/d/seen/in", "C/moved"]


OPENED = """
import os, sys
sys.path.append(sys.argv[1])
from runtime import changes
upper, image = changes.open_layers(
    {name: f"{sys.argv[2]}/{name}" for name in ("upper", "merged")}
    | {"lower": [f"{sys.argv[2]}/{name}" for name in sys.argv[3:]]}
)
for where in (upper, image):
    assert os.listdir(where), where
    for how in (os.O_RDONLY, os.O_WRONLY):
        try:
            os.open("node", how, dir_fd=where)
        except OSError as error:
            print(error.errno)
"""


@pytest.mark.parametrize("lower", [("low",), ("top", "low")])
def test_no_node_of_a_container_can_be_opened(layers, lower):
    """Nor is anything that is looked at changed; the machine's own mounts stay as they are."""
    for name in ("upper", "low"):
        os.mknod(layers / name / "node", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    words = [sys.executable, "-c", OPENED, CHECKOUT, layers, *lower]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    assert set(told) <= {str(errno.EACCES), str(errno.EROFS)} and len(told) == 4
    assert str(layers) not in Path("/proc/self/mountinfo").read_text()
