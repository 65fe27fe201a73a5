"""docker-py, the Docker SDK for Python: what its users do."""

from __future__ import annotations

import contextlib
import io
import socket
import tarfile
import threading

import pytest

from supervisor.privileges import at_hand
from tests import an_init
from tests.clients.not_done import still_refused, untold, words

docker = pytest.importorskip("docker", reason="needs docker-py (pip install docker)")

SLEEP = ["sleep", "600"]

pytestmark = [
    pytest.mark.usefixtures("sockets_collected"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def client(engine):
    with docker_client(engine) as made:
        yield made


def docker_client(engine, **more):
    return contextlib.closing(docker.DockerClient(f"unix://{engine.socket}", **more))


@pytest.fixture
def bird(client):
    return client.containers.run(
        "box:1", ["sh", "-c", "echo tweet; echo squawk >&2; exec sleep 600"],
        name="bird", detach=True, labels={"kind": "bird"}, network_mode="none",
    )  # fmt: skip


def first_lines(container, count=2):
    """The first lines of a container, which has printed them when this returns."""
    with contextlib.closing(container.logs(stream=True, follow=True)) as stream:
        text = b""
        for piece in stream:
            text += piece
            if text.count(b"\n") >= count:
                return text
    return text


def test_the_engine(client, engine):
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.50"
    assert client.info()["DockerRootDir"] == str(engine.root)
    assert {"Images", "Containers"} <= client.df().keys()


def test_an_older_client(engine):
    with docker_client(engine, version="1.24") as old:
        assert old.ping()
        assert old.containers.list(all=True) == []
    with (
        pytest.raises(docker.errors.APIError, match="too new"),
        docker_client(engine, version="1.99") as new,
    ):
        new.version()


def test_run(client):
    assert client.containers.run("box:1", remove=True) == b"from the box\n"
    out = client.containers.run(
        "host", ["sh", "-c", "echo $SONG $PWD $(id -u); hostname"], remove=True,
        environment={"SONG": "tweet"}, working_dir="/tmp", user="1:2", hostname="nest",
        mem_limit="64m", nano_cpus=500_000_000, pids_limit=50, network_mode="none",
    )  # fmt: skip
    assert out == b"tweet /tmp 1\nnest\n"
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run("box:1", ["sh", "-c", "echo oops >&2; exit 7"], remove=True)
    assert (failed.value.exit_status, failed.value.stderr) == (7, b"oops\n")
    assert client.containers.list(all=True) == []


@an_init.needed
def test_namespaces_of_others_and_an_init(client):
    giver = client.containers.run(
        "box:1", SLEEP, detach=True, name="giver", network_mode="none", ipc_mode="shareable",
        hostname="nest", init=True,
    )  # fmt: skip
    shared = {f"{kind}_mode": f"container:{giver.id}" for kind in ("network", "pid", "ipc")}
    out = client.containers.run(
        "host", ["sh", "-c", "hostname; ps -eo args"], remove=True, **shared
    )
    assert out.splitlines()[0] == b"nest"
    assert b"/sbin/docker-init -- sleep 600" in out
    hosts = {"network_mode": "none", "pid_mode": "host", "ipc_mode": "host", "uts_mode": "host"}
    out = client.containers.run("host", ["hostname"], remove=True, **hosts)
    assert out.decode().strip() == socket.gethostname()
    with pytest.raises(docker.errors.APIError, match="hostname and the network mode") as refused:
        client.containers.run("box:1", hostname="x", network_mode="container:giver")
    assert refused.value.response.status_code == 400
    giver.stop(timeout=0)
    with pytest.raises(docker.errors.APIError, match="of a non running container") as refused:
        client.containers.run("box:1", remove=True, network_mode="container:giver")
    assert refused.value.response.status_code == 409
    giver.remove()


def test_what_can_not_be_run(client):
    with pytest.raises(docker.errors.APIError, match="executable file not found"):
        client.containers.run("box:1", ["nosuch"])
    with pytest.raises(docker.errors.APIError, match="connection refused"):
        client.containers.run("127.0.0.1:1/nosuch:1")
    for wish in (
        {"device_requests": [docker.types.DeviceRequest(count=-1, capabilities=[["gpu"]])]},
        {"network": "mine"},
    ):
        with pytest.raises(docker.errors.APIError) as refused:
            client.containers.run("box:1", **wish)
        assert refused.value.response.status_code in (400, 404, 501)
        text = refused.value.explanation
        assert "could not select device driver" in text or "not found" in text, text


def test_privileges(client):
    def rights(**more):
        show = ["sh", "-c", "grep -e CapEff -e NoNewPrivs /proc/self/status | cut -f 2; id -G"]
        out = client.containers.run("box:1", show, network_mode="none", remove=True, **more)
        effective, pinned, *groups = out.decode().split()
        return int(effective, 16), pinned, groups

    assert rights(cap_drop=["ALL"], cap_add=["CHOWN"]) == (1, "0", ["0"])
    assert rights(privileged=True)[0] == at_hand()
    more = {"user": "5:6", "group_add": [7, "8"], "security_opt": ["no-new-privileges"]}
    assert rights(**more) == (0, "1", ["6", "7", "8"])
    with pytest.raises(docker.errors.APIError, match="unknown capability") as refused:
        client.containers.create("box:1", cap_add=["FLY"])
    assert refused.value.status_code == 400
    plain = client.containers.run("box:1", SLEEP, network_mode="none", detach=True, cap_drop="ALL")
    show = ["grep", "CapEff", "/proc/self/status"]
    assert plain.exec_run(show).output.split()[1] == b"0" * 16
    assert int(plain.exec_run(show, privileged=True).output.split()[1], 16) == at_hand()
    assert plain.attrs["HostConfig"]["CapDrop"] == ["ALL"]
    plain.remove(force=True)


def test_devices(client):
    seen = "stat -c '%F %t:%T' /dev/pit; cat < /dev/pit | wc -c; echo x > /dev/pit || echo refused"
    rules = {"devices": ["/dev/loop-control:/dev/pit:r"], "device_cgroup_rules": ["c 42:* rwm"]}
    made = client.containers.create("box:1", ["sh", "-c", seen], **rules)
    host = made.attrs["HostConfig"]
    assert host["Devices"] == [
        {
            "PathOnHost": "/dev/loop-control",
            "PathInContainer": "/dev/pit",
            "CgroupPermissions": "r",
        }
    ]
    assert host["DeviceCgroupRules"] == ["c 42:* rwm"]
    made.start()
    made.wait()
    assert b"character special file a:ed" in made.logs()
    assert b"refused\n" in made.logs()
    made.remove()


def test_logs(client, bird):
    assert sorted(first_lines(bird).splitlines()) == [b"squawk", b"tweet"]
    assert bird.logs(stderr=False) == b"tweet\n"
    assert bird.logs(stdout=False, tail=1) == b"squawk\n"
    assert bird.logs(stderr=False, timestamps=True).endswith(b"Z tweet\n")
    assert bird.logs(since=4_000_000_000) == b""
    following = bird.logs(stream=True, follow=True, stderr=False)
    bird.kill()
    assert b"".join(following) == b"tweet\n"


def test_life(client, bird):
    assert bird.status in ("created", "running")
    bird.reload()
    assert bird.status == "running" and bird.attrs["State"]["Pid"] > 0
    bird.rename("raven")
    assert client.containers.get("raven").id == bird.id
    bird.update(restart_policy={"Name": "on-failure", "MaximumRetryCount": 3})
    bird.reload()
    assert bird.attrs["HostConfig"]["RestartPolicy"]["Name"] == "on-failure"
    bird.restart(timeout=0)
    bird.kill("HUP")
    bird.stop(timeout=0)
    assert bird.wait()["StatusCode"] == 137
    bird.start()
    bird.remove(force=True)
    with pytest.raises(docker.errors.NotFound, match="No such container: raven"):
        client.containers.get("raven")


def test_refusals_have_their_status(client, bird):
    with pytest.raises(docker.errors.APIError, match="stop the container before removing") as no:
        bird.remove()
    assert no.value.response.status_code == 409
    with pytest.raises(docker.errors.APIError, match=r'name "/bird" is already in use') as no:
        client.containers.create("host", SLEEP, name="bird")
    assert no.value.response.status_code == 409


def test_waiting(client):
    container = client.containers.create("host", ["sh", "-c", "exit 5"])
    codes = []
    waiter = threading.Thread(
        target=lambda: codes.append(container.wait(condition="next-exit")["StatusCode"])
    )
    with_events = client.events(decode=True, filters={"event": "die"})
    waiter.start()
    container.start()
    waiter.join(10)
    assert next(with_events)["Actor"]["Attributes"]["exitCode"] == "5"
    with_events.close()
    if not codes:  # it may have ended before it was waited for
        container.start()
        waiter.join(10)
    assert codes == [5]


def test_attach(client):
    container = client.containers.create("box:1", ["sh", "-c", "echo out; echo err >&2"])
    stream = container.attach(stream=True, logs=True, demux=True)
    container.start()
    pieces = list(stream)
    assert b"".join(out for out, _ in pieces if out) == b"out\n"
    assert b"".join(err for _, err in pieces if err) == b"err\n"


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"name": "bird"}, ["bird"]),
        ({"label": "kind=bird"}, ["bird"]),
        ({"label": ["kind", "other"]}, []),
        ({"status": "exited"}, ["gone"]),
        ({"exited": 3}, ["gone"]),
        ({"ancestor": "box:1"}, ["bird"]),
        ({"before": "gone"}, ["bird"]),
        ({"since": "bird"}, ["gone"]),
        ({"network": "none"}, ["bird", "gone"]),
        ({"health": "none"}, ["bird", "gone"]),
        ({"is-task": False}, ["bird", "gone"]),
        ({"volume": "nosuch"}, []),
        ({"publish": 80}, []),
        ({"expose": "80/tcp"}, []),
    ],
    ids=str,
)
def test_filters(client, bird, filters, names):
    gone = client.containers.run("host", ["sh", "-c", "exit 3"], name="gone", detach=True)
    gone.wait()
    found = client.containers.list(all=True, filters=filters)
    assert sorted(container.name for container in found) == names


def test_prune(client, bird):
    for _ in range(3):
        client.containers.create("host", SLEEP, labels={"old": "1"})
    pruned = client.containers.prune(filters={"label": "old"})
    assert len(pruned["ContainersDeleted"]) == 3
    assert client.containers.list(all=True) == [bird]


def test_names_and_history_of_images(client, bird):
    image = client.images.get("box:1")
    with pytest.raises(docker.errors.APIError, match="connection refused"):
        client.images.pull("127.0.0.1:1/box", tag="2")
    assert image.tag("here:5000/crate", "3")
    made = bird.commit("nest", "1")
    assert [step["Tags"] for step in made.history()] == [["nest:1"], ["box:1", "here:5000/crate:3"]]
    assert (made.attrs["Container"], made.attrs["ContainerConfig"]["Image"]) == (bird.id, "box:1")
    for name in ("here:5000/crate:3", "nest:1"):
        client.images.remove(name)
    assert client.images.get("box:1").id == image.id


def test_commit(client, bird):
    words = {"message": "c", "author": "me", "changes": ["ENV A=1", "CMD echo $A $B"]}
    made = bird.commit("roost", "3", conf={"Env": ["B=2"], "Hostname": "x"}, **words)
    assert made.tags == ["roost:3"]
    assert (made.attrs["Author"], made.attrs["Comment"]) == ("me", "c")
    assert client.containers.run("roost:3", remove=True) == b"1 2\n"
    assert bird.commit(pause=False, changes="USER 7\nENV C=3").attrs["Config"]["User"] == "7"
    with pytest.raises(docker.errors.APIError, match="not a valid change command") as refused:
        bird.commit(changes="ADD x y")
    assert refused.value.status_code == 400


def test_groups_a_runtime_and_a_driver_by_their_docker_names(client):
    words = {"group_add": ["1000", 37], "runtime": "runc", "isolation": "default"}
    container = client.containers.run("box:1", ["id", "-G"], detach=True, **words)
    container.wait()
    assert container.logs() == b"0 37 1000\n"
    with pytest.raises(docker.errors.APIError) as refused:
        client.containers.create("box:1", log_config={"type": "asdf"})
    assert refused.value.explanation == "logger: no log driver named 'asdf' is registered"


def test_images(client, box):
    imported = client.api.import_image_from_data(
        box, repository="nest", tag="2", changes=["ENV A=B", "LABEL k=v", "EXPOSE 80"]
    )
    assert "sha256:" in imported
    image = client.images.get("nest:2")
    assert image.labels == {"k": "v"}
    assert "nest:2" in {tag for one in client.images.list() for tag in one.tags}
    assert client.images.list(name="nest") == [image]
    assert client.images.list(filters={"label": "k=other"}) == []
    made = client.containers.create("nest:2", SLEEP)
    assert client.containers.list(all=True, filters={"expose": "80"}) == [made]
    with pytest.raises(docker.errors.APIError, match="unable to remove repository reference"):
        client.images.remove("nest:2")
    client.images.remove("nest:2", force=True)
    with pytest.raises(docker.errors.ImageNotFound, match="No such image: nest:2"):
        client.images.get("nest:2")


def test_networks(client):
    assert {network.name for network in client.networks.list()} == {"none", "host"}
    assert client.networks.get("none").attrs["Driver"] == "null"


class TestExec:
    def test_output_and_exit_code(self, bird):
        assert bird.exec_run("sh -c 'echo out; echo err >&2; exit 4'", demux=True) == (
            4,
            (b"out\n", b"err\n"),
        )
        assert bird.exec_run(["cat", "/nosuch"])[0] == 1
        stream = bird.exec_run(["sh", "-c", "echo a; echo b"], stream=True).output
        assert b"".join(stream) == b"a\nb\n"

    def test_options(self, bird):
        told = bird.exec_run(
            ["sh", "-c", "echo $SONG $PWD $(id -u)"],
            environment={"SONG": "tweet"}, workdir="/tmp", user="1000",
        )  # fmt: skip
        assert told.output == b"tweet /tmp 1000\n"
        assert bird.exec_run(["tty"], tty=True).output.startswith(b"/dev/pts/")

    def test_in_the_background(self, client, bird):
        started = client.api.exec_create(bird.id, ["sh", "-c", "echo done >/tmp/x"])
        client.api.exec_start(started, detach=True)
        assert client.api.exec_inspect(started)["ContainerID"] == bird.id
        while client.api.exec_inspect(started)["Running"]:
            pass
        assert bird.exec_run(["cat", "/tmp/x"]).output == b"done\n"

    def test_where_it_can_not_be(self, bird):
        code, text = bird.exec_run(["nosuch"])
        assert code in (126, 127) and b"executable file not found" in text
        bird.kill()
        bird.wait()
        with pytest.raises(docker.errors.APIError, match="is not running") as refused:
            bird.exec_run(["true"])
        assert refused.value.response.status_code == 409


class TestFiles:
    def test_into_and_out_of_a_container(self, bird):
        assert bird.put_archive("/tmp", tar_of("song", b"tweet"))
        assert bird.exec_run(["cat", "/tmp/song"]).output == b"tweet"
        pieces, about = bird.get_archive("/tmp/song")
        assert (about["name"], about["size"]) == ("song", 5)
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
            assert archive.extractfile("song").read() == b"tweet"
        assert {"Path": "/tmp/song", "Kind": 1} in bird.diff()
        with pytest.raises(docker.errors.NotFound, match="Could not find the file /nosuch"):
            bird.get_archive("/nosuch")

    def test_the_whole_of_it(self, bird):
        with tarfile.open(fileobj=io.BytesIO(b"".join(bird.export()))) as archive:
            assert "bin/busybox" in archive.getnames()


class TestVolumes:
    def test_one_with_a_name(self, client):
        volume = client.volumes.create("nest", labels={"k": "v"})
        mount = docker.types.Mount("/data", "nest")
        client.containers.run("box:1", ["sh", "-c", "echo egg >/data/x"], mounts=[mount])
        read = client.containers.run("box:1", ["cat", "/data/x"], volumes=["nest:/data:ro"])
        assert read == b"egg\n"
        assert client.volumes.list(filters={"label": "k=v"}) == [volume]
        made = client.containers.list(all=True, filters={"volume": "nest"})
        assert len(made) == 2
        with pytest.raises(docker.errors.APIError, match="volume is in use"):
            volume.remove()
        for container in made:
            container.remove()
        volume.remove()
        with pytest.raises(docker.errors.NotFound, match="no such volume"):
            client.volumes.get("nest")

    def test_binds_and_a_root_that_is_read_only(self, client, tmp_path):
        (tmp_path / "x").write_text("egg")
        out = client.containers.run(
            "box:1", ["sh", "-c", "cat /in/x; touch /y; touch /run/z && echo ok"],
            volumes={str(tmp_path): {"bind": "/in", "mode": "ro"}}, read_only=True,
            tmpfs={"/run": "size=1m"}, stderr=False,
        )  # fmt: skip
        assert out == b"eggok\n"


def test_pause_top_and_stats(client, bird):
    bird.pause()
    bird.reload()
    assert bird.status == "paused"
    with pytest.raises(docker.errors.APIError, match="is paused, unpause the container"):
        bird.exec_run(["true"])
    bird.unpause()
    assert "sleep 600" in str(bird.top()["Processes"])
    sample = bird.stats(stream=False)
    assert sample["id"] == bird.id and sample["pids_stats"]["current"] >= 1


def test_a_terminal_and_its_input(client):
    container = client.containers.create(
        "box:1", ["sh", "-c", "read x; stty size; echo got $x"], tty=True, stdin_open=True
    )
    sock = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    container.resize(30, 100)
    sock._sock.sendall(b"tweet\n")
    said = b""
    while b"got tweet" not in said and (piece := sock._sock.recv(1000)):
        said += piece
    sock.close()
    assert b"30 100" in said
    assert container.wait()["StatusCode"] == 0


def test_a_web_socket(engine):
    """Over TCP: docker-py speaks WebSocket to no unix socket."""
    websocket = pytest.importorskip("websocket", reason="needs pip install 'docker[websockets]'")
    listener = socket.create_server(("127.0.0.1", 0))
    ends = [listener]

    def pass_on(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def relay():
        with contextlib.suppress(OSError):
            while True:
                ours, theirs = listener.accept()[0], socket.socket(socket.AF_UNIX)
                ends.extend((ours, theirs))
                theirs.connect(str(engine.socket))
                for pair in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=pass_on, args=pair, daemon=True).start()

    threading.Thread(target=relay, daemon=True).start()
    url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    with contextlib.closing(docker.DockerClient(base_url=url, timeout=20)) as client:
        command = ["sh", "-c", "read x; echo got $x; echo err >&2; exit 3"]
        container = client.containers.create("box:1", command, stdin_open=True)
        wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        sock = container.attach_socket(params=wanted, ws=True)
        container.start()
        sock.ping("still there?")
        opcode, frame = sock.recv_data_frame(True)
        assert (opcode, frame.data) == (websocket.ABNF.OPCODE_PONG, b"still there?")
        sock.send(b"tweet\n")
        said = {}
        while (frame := sock.recv_frame()).opcode != websocket.ABNF.OPCODE_CLOSE:
            assert frame.opcode == websocket.ABNF.OPCODE_BINARY
            said[frame.data] = True
        assert said.keys() == {b"got tweet\n", b"err\n"}
        assert frame.data == (1000).to_bytes(2, "big")
        sock.close()
        assert container.wait()["StatusCode"] == 3
        with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
            client.api.attach_socket("nosuch", ws=True)
    for one in ends:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def tar_of(name, text):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return out.getvalue()


def test_images_as_files(client, box):
    image = client.images.get("box:1")
    data = b"".join(image.save(named="box:1"))
    assert client.images.load(data) == [image]
    image.tag("other", "2")
    (loaded,) = client.images.load(b"".join(client.api.get_image("other:2")))
    assert {"box:1", "other:2"} <= set(loaded.tags)
    client.images.remove("other:2")
    with pytest.raises(docker.errors.ImageLoadError, match="this is not a tar archive"):
        client.images.load(b"hello")
    with pytest.raises(docker.errors.ImageNotFound):
        list(client.api.get_image("nobody"))


REFUSED = {
    "creating and changing networks": lambda c: c.networks.create("mine"),
    "plugins": lambda c: c.plugins.install("nosuch"),
    "sessions of BuildKit": lambda c: c.api._raise_for_status(c.api._post(c.api._url("/session"))),
}


@pytest.mark.parametrize("what", still_refused(REFUSED))
def test_what_is_not_done_is_refused_by_name(client, bird, what):
    with pytest.raises(docker.errors.APIError) as refused:
        REFUSED[what](client)
    assert refused.value.explanation == words(what)
    assert refused.value.response.status_code == 501


def test_whatever_is_refused_is_asked_for_here():
    assert untold(REFUSED) == []


def test_swarms_are_refused(client):
    with pytest.raises(docker.errors.APIError, match="This node is not a swarm manager"):
        client.services.list()


def test_an_execs_first_words_are_not_lost(bird):
    """docker-py loses what comes together with the answer's head."""
    first_lines(bird)
    for number in range(20):
        assert bird.exec_run(["echo", str(number)]) == (0, f"{number}\n".encode())
        assert bird.attach(logs=True, stream=False, stderr=False) == b"tweet\n"


def test_logs_come_line_by_line(client):
    container = client.containers.run("host", ["sh", "-c", "echo a; echo b; echo c"], detach=True)
    container.wait()
    assert list(container.logs(stream=True)) == [b"a\n", b"b\n", b"c\n"]
    assert list(container.logs(stream=True, follow=True, tail=2)) == [b"b\n", b"c\n"]


def test_a_variable_without_a_value(client):
    container = client.containers.run(
        "box:1", ["env"], environment={"B": None, "A": ""}, detach=True
    )
    container.wait()
    assert b"\nB" not in container.logs() and b"A=\n" in container.logs()
    container.reload()
    assert {"B", "A="} <= set(container.attrs["Config"]["Env"])
