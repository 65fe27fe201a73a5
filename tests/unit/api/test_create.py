"""Create requests: merged with the image, or refused by name."""

import pytest

from supervisor.api import limits
from supervisor.api.limits import cpus

pytestmark = pytest.mark.anyio

CLI = {
    # What the docker CLI 28.2.2 sends for `docker run -d host top`.
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False,
    "AttachStderr": False, "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None,
    "Cmd": ["top"], "Image": "host", "Volumes": {}, "WorkingDir": "", "Entrypoint": None,
    "OnBuild": None, "Labels": {},
    "HostConfig": {
        "Binds": None, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}},
        "NetworkMode": "default", "PortBindings": {},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": False,
        "VolumeDriver": "", "VolumesFrom": None, "ConsoleSize": [0, 0], "CapAdd": None,
        "CapDrop": None, "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [],
        "ExtraHosts": None, "GroupAdd": None, "IpcMode": "", "Cgroup": "", "Links": None,
        "OomScoreAdj": 0, "PidMode": "", "Privileged": False, "PublishAllPorts": False,
        "ReadonlyRootfs": False, "SecurityOpt": None, "UTSMode": "", "UsernsMode": "",
        "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0,
        "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [], "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [],
        "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0,
        "CpusetCpus": "", "CpusetMems": "", "Devices": [], "DeviceCgroupRules": None,
        "DeviceRequests": None, "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": -1,
        "OomKillDisable": False, "PidsLimit": 0, "Ulimits": [], "CpuCount": 0, "CpuPercent": 0,
        "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "MaskedPaths": None, "ReadonlyPaths": None,
    },
    "NetworkingConfig": {"EndpointsConfig": {"default": {
        "IPAMConfig": None, "Links": None, "Aliases": None, "MacAddress": "", "DriverOpts": None,
        "GwPriority": 0, "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "",
        "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }}},
}  # fmt: skip


async def created(engine_and_client, body):
    async with engine_and_client() as (engine, connect), connect() as client:
        answer = await client.request("POST", "/containers/create", body)
        assert answer.status == 201, answer.body
        (container,) = engine.containers.all()
        assert answer.json["Id"] == container.id
        return container.config, answer.json["Warnings"]


async def shown(engine_and_client, body):
    async with engine_and_client() as (_engine, connect), connect() as client:
        answer = await client.request("POST", "/containers/create", body)
        assert answer.status == 201, answer.body
        return (await client.request("GET", f"/containers/{answer.json['Id']}/json")).json


async def refused(engine_and_client, body, path="/containers/create"):
    async with engine_and_client() as (engine, connect), connect() as client:
        answer = await client.request("POST", path, body)
        assert engine.containers.all() == []
        return answer.status, answer.message


async def test_what_the_docker_cli_sends_is_taken(engine_and_client):
    config, warnings = await created(engine_and_client, CLI)
    assert config.args == ("top",)
    assert config.env == ("PATH=/usr/bin:/bin", "LANG=C")
    assert config.working_dir == "/root"
    assert config.labels == {"made-by": "mdocker"}
    assert config.image_id == "sha256:" + "a" * 64
    assert config.log_driver == "json-file"
    assert config.shm_size == 64 * 2**20
    assert config.resources.pids is None
    assert warnings == [
        "networks are not supported yet: this container has only a loopback interface "
        "(--network none)"
    ]


async def test_network_none_and_host_need_no_warning(engine_and_client):
    for mode in ("none", "host"):
        config, warnings = await created(
            engine_and_client, {"Image": "host", "HostConfig": {"NetworkMode": mode}}
        )
        assert (config.network_mode, warnings) == (mode, [])


async def test_the_requests_values_win_over_the_images(engine_and_client):
    config, _ = await created(
        engine_and_client,
        {
            "Image": "host",
            "Cmd": ["-c", "true"],
            "Entrypoint": ["/bin/bash"],
            "Env": ["LANG=de", "A=b=c", "PATH"],
            "Labels": {"x": "y"},
            "WorkingDir": "/tmp/../srv//",
            "User": "1000:1000",
            "Hostname": "box",
            "StopSignal": "SIGINT",
            "StopTimeout": 3,
            "AttachStdout": True,
            "HostConfig": {
                "Memory": 64 * 2**20,
                "MemorySwap": -1,
                "NanoCpus": 500_000_000,
                "PidsLimit": 7,
                "CpuShares": 512,
                "AutoRemove": True,
                "LogConfig": {"Type": "k8s-file"},
                "SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"],
                "ShmSize": 1024,
            },
        },
    )
    assert config.entrypoint == ("/bin/bash",)
    assert config.cmd == ("-c", "true")
    # What took something away is there to be seen, as in Docker, and no program gets it.
    assert config.env == ("PATH", "LANG=de", "A=b=c")
    assert config.variables == ("LANG=de", "A=b=c")
    assert config.labels == {"made-by": "mdocker", "x": "y"}
    assert config.working_dir == "/srv"
    assert (config.user, config.hostname) == ("1000:1000", "box")
    assert (config.stop_signal, config.stop_timeout) == ("SIGINT", 3)
    assert config.attach_stdout
    assert not config.attach_stderr
    assert config.auto_remove
    assert config.log_driver == "k8s-file"
    assert config.no_new_privileges(False)
    assert config.security_options == ("no-new-privileges:true", "seccomp=unconfined")
    assert config.shm_size == 1024
    limits = config.resources
    assert (limits.memory, limits.memory_swap) == (64 * 2**20, -1)
    assert (limits.nano_cpus, limits.cpu_shares, limits.pids) == (500_000_000, 512, 7)


async def test_added_groups_are_told(engine_and_client):
    host = {"GroupAdd": ["audio", "1000"]}
    told = await shown(engine_and_client, {"Image": "host", "HostConfig": host})
    assert told["HostConfig"]["GroupAdd"] == ["audio", "1000"]


@pytest.mark.parametrize(
    ("body", "runtime", "isolation"),
    [
        ({}, "mdocker", ""),
        ({"HostConfig": {"Runtime": "runc", "Isolation": "default"}}, "runc", "default"),
        ({"Runtime": "runc"}, "runc", ""),  # where docker-py puts it
    ],
)
async def test_other_names_of_what_there_is_are_told(engine_and_client, body, runtime, isolation):
    host = (await shown(engine_and_client, {"Image": "host", **body}))["HostConfig"]
    assert (host["Runtime"], host["Isolation"]) == (runtime, isolation)


@pytest.mark.parametrize(
    ("asked", "user", "cgroup"),
    [
        ({}, "", "private"),
        ({"UsernsMode": "host", "CgroupnsMode": "host"}, "host", "host"),
        ({"CgroupnsMode": "private"}, "", "private"),
    ],
)
async def test_user_and_cgroup_namespaces_are_shown_as_asked(
    engine_and_client, asked, user, cgroup
):
    host = (await shown(engine_and_client, {"Image": "host", "HostConfig": asked}))["HostConfig"]
    assert (host["UsernsMode"], host["CgroupnsMode"]) == (user, cgroup)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("UsernsMode", "invalid USER mode: container:x"),
        ("CgroupnsMode", "invalid cgroup namespace mode: container:x"),
    ],
)
async def test_nobody_shares_these_with_another(engine_and_client, option, text):
    body = {"Image": "host", "HostConfig": {option: "container:x"}}
    assert await refused(engine_and_client, body) == (400, text)


@pytest.mark.parametrize(
    ("version", "asked", "mode"),
    [
        ("1.39", "", "shareable"),
        ("1.39", "none", "none"),
        ("1.40", "", "private"),
    ],
)
async def test_older_clients_may_share_ipc(engine_and_client, version, asked, mode):
    async with engine_and_client() as (engine, connect), connect() as client:
        body = {"Image": "host", "HostConfig": {"IpcMode": asked}}
        answer = await client.request("POST", f"/v{version}/containers/create", body)
        assert answer.status == 201, answer.body
        assert engine.containers.all()[0].config.namespaces.ipc == mode


async def test_what_resolves_names_is_told(engine_and_client):
    asked = {
        "NetworkMode": "host",
        "Dns": ["1.1.1.1", "::1"],
        "DnsSearch": ["."],
        "DnsOptions": ["ndots:2"],
        "ExtraHosts": ["db:10.0.0.5", "six:fe80::1", "out:host-gateway"],
    }
    told = (await shown(engine_and_client, {"Image": "host", "HostConfig": asked}))["HostConfig"]
    assert {key: told[key] for key in asked} == asked


async def test_exposed_ports_are_told(engine_and_client):
    """docker-compose's `expose`; with the network none or host Docker does no more with them."""
    ports = {"80/tcp": {}, "53/udp": {}, "8080": {}}
    told = await shown(engine_and_client, {"Image": "host", "ExposedPorts": ports})
    assert told["Config"]["ExposedPorts"] == {"53/udp": {}, "80/tcp": {}, "8080/tcp": {}}
    assert told["NetworkSettings"]["Ports"] == {}
    assert "ExposedPorts" not in (await shown(engine_and_client, {"Image": "host"}))["Config"]


@pytest.mark.parametrize(("asked", "kept"), [(None, None), (-1, None), (0, 0), (100, 100)])
async def test_swappiness_is_of_cgroup_v1(engine_and_client, monkeypatch, asked, kept):
    body = {"Image": "host", "HostConfig": {"NetworkMode": "none", "MemorySwappiness": asked}}
    monkeypatch.setattr(limits, "pure_v2", lambda: False)
    config, warnings = await created(engine_and_client, body)
    assert (config.resources.memory_swappiness, warnings) == (kept, [])
    monkeypatch.setattr(limits, "pure_v2", lambda: True)
    config, warnings = await created(engine_and_client, body)
    assert config.resources.memory_swappiness is None
    text = "Your kernel does not support memory swappiness"
    assert [warning[: len(text)] for warning in warnings] == [text] * (kept is not None)


async def test_no_health_check_is_what_we_do(engine_and_client):
    await created(engine_and_client, {"Image": "host", "Healthcheck": {"Test": ["NONE"]}})


async def test_an_entrypoint_takes_the_images_command_away(engine_and_client):
    config, _ = await created(engine_and_client, {"Image": "host", "Entrypoint": ["/bin/ls"]})
    assert config.args == ("/bin/ls",)
    config, _ = await created(engine_and_client, {"Image": "host", "Entrypoint": [], "Cmd": []})
    assert config.args == ("/bin/sh",)
    config, _ = await created(
        engine_and_client, {"Image": "host", "Entrypoint": [""], "Cmd": ["ls"]}
    )
    assert config.args == ("ls",)
    config, _ = await created(engine_and_client, {"Image": "host", "Cmd": "ls -l"})
    assert config.args == ("ls", "-l")


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("Runtime", "kata", "HostConfig.Runtime 'kata'"),
        ("CpuRealtimePeriod", 5, "HostConfig.CpuRealtimePeriod 5 yet: cgroups"),
        ("KernelMemoryTCP", 5, "HostConfig.KernelMemoryTCP 5 yet: it is limited with"),
        ("RestartPolicy", {"Jitter": 1}, "HostConfig.RestartPolicy.Jitter 1"),
        ("NetworkMode", "bridge", "HostConfig.NetworkMode bridge"),
        ("SecurityOpt", ["label=type:nest"], "HostConfig.SecurityOpt label=type:nest: it sets no"),
        ("Mounts", [{"Later": 1}], "HostConfig.Mounts[0].Later 1"),
        ("Devices", [{"Later": 1}], "HostConfig.Devices[0].Later 1"),
        ("Mounts", [{"BindOptions": {"Later": 1}}], "HostConfig.Mounts[0].BindOptions.Later 1"),
        ("Mounts", [{"Type": "image", "Target": "/x"}], "mounts of type image"),
        ("ExtraHosts", ["db:host-gateway"], "db:host-gateway without a network"),
        (
            "PortBindings",
            {"80/tcp": [{"HostPort": "80"}]},
            "HostConfig.PortBindings yet: what listens in the network host is reached at its own",
        ),
        ("AnOptionOfTomorrow", 1, "HostConfig.AnOptionOfTomorrow 1"),
    ],
)
async def test_a_host_option_in_use_that_we_lack_is_named(engine_and_client, option, value, text):
    body = {"Image": "host", "HostConfig": {option: value}}
    status, message = await refused(engine_and_client, body)
    assert status == 501
    assert message.startswith(f"mdocker does not support {text}")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("MacAddress", "aa:bb:cc:dd:ee:ff"),
        ("NetworkDisabled", True),
    ],
)
async def test_a_config_option_in_use_that_we_lack_is_named(engine_and_client, option, value):
    status, message = await refused(engine_and_client, {"Image": "host", option: value})
    assert status == 501
    assert message.startswith(f"mdocker does not support Config.{option}")


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"Image": ""}, 400, "no image specified"),
        ({"Image": "nosuch"}, 404, "No such image: nosuch:latest"),
        ({"Entrypoint": [""]}, 400, "no command specified"),
        ({"Cmd": [""]}, 400, "no command specified"),
        ({"Domainname": "a\nb"}, 400, "invalid domainname"),
        ({"Domainname": "x" * 65}, 400, "invalid domainname"),
        ({"Env": ["=x"]}, 400, "invalid environment variable: =x"),
        ({"Env": ["A=\0"]}, 400, "invalid Env"),
        ({"Cmd": ["a\0b"]}, 400, "invalid Cmd"),
        ({"WorkingDir": "tmp"}, 400, "the working directory 'tmp' is invalid"),
        ({"StopSignal": "FOO"}, 400, "Invalid signal: FOO"),
        ({"StopTimeout": -7}, 400, "invalid StopTimeout -7"),
        ({"StopTimeout": 2**31}, 400, "invalid StopTimeout 2147483648"),
        ({"Hostname": "a b"}, 400, "invalid hostname"),
        ({"Hostname": "h" * 65}, 400, "invalid hostname"),
        (
            {"Labels": ["a"]},
            400,
            "invalid request: Expected `object | null`, got `array`",
        ),
        ({"HostConfig": []}, 400, "invalid request: "),
        ({"HostConfig": {"Memory": "1g"}}, 400, "invalid request: "),
        ({"HostConfig": {"Memory": 1024}}, 400, "Minimum memory limit allowed is 6MB"),
        ({"HostConfig": {"Memory": -1}}, 400, "invalid Memory -1"),
        ({"HostConfig": {"Memory": 2**80}}, 400, "inva"),
        ({"HostConfig": {"MemorySwap": 2**30}}, 400, "You should always set the Memory limit"),
        (
            {"HostConfig": {"Memory": 2**30, "MemorySwap": 2**29}},
            400,
            "Minimum memoryswap limit should be larger than memory limit",
        ),
        (
            {"HostConfig": {"NanoCpus": 10**15}},
            400,
            f"range of CPUs is from 0.01 to {cpus()}.00, as there are only {cpus()} CPUs available",
        ),
        ({"HostConfig": {"NanoCpus": -1}}, 400, "range of CPUs is from 0.01"),
        ({"HostConfig": {"NanoCpus": 10**9, "CpuQuota": 5000}}, 400, "Conflicting options"),
        ({"HostConfig": {"CpuPeriod": 1}}, 400, "CPU cfs period"),
        ({"HostConfig": {"CpuQuota": 1}}, 400, "CPU cfs quota"),
        ({"HostConfig": {"CpuShares": -1}}, 400, "invalid CPU shares (-1)"),
        ({"HostConfig": {"PidsLimit": -2}}, 400, "invalid PidsLimit -2"),
        ({"HostConfig": {"ShmSize": -1}}, 400, "SHM size can not be -1"),
        ({"HostConfig": {"GroupAdd": ["a\0b"]}}, 400, "invalid GroupAdd"),
        ({"HostConfig": {"Dns": ["ns.wood"]}}, 400, "invalid IP address: ns.wood"),
        ({"HostConfig": {"DnsSearch": ["a b"]}}, 400, "invalid domain: 'a b'"),
        ({"HostConfig": {"DnsOptions": ["a\nnameserver x"]}}, 400, "invalid DNS option: "),
        ({"HostConfig": {"ExtraHosts": [""]}}, 400, 'bad format for add-host: ""'),
        ({"HostConfig": {"ExtraHosts": ["a\nb:1.1.1.1"]}}, 400, "bad format for add-host: "),
        ({"HostConfig": {"ExtraHosts": ["a:b"]}}, 400, 'invalid IP address in add-host: "b"'),
        ({"HostConfig": {"MemorySwappiness": 101}}, 400, "invalid value: 101, valid memory swapp"),
        ({"HostConfig": {"MemorySwappiness": -2}}, 400, "invalid value: -2, valid memory swapp"),
        ({"HostConfig": {"LogConfig": {"Type": "syslog"}}}, 501, 'unknown log driver "syslog"'),
        (
            {"HostConfig": {"LogConfig": {"Type": "asdf"}}},
            400,
            "logger: no log driver named 'asdf' is registered",
        ),
        ({"Runtime": "kata"}, 501, "mdocker does not support Config.Runtime 'kata' yet"),
        ({"ExposedPorts": {"80-90/tcp": {}}}, 400, "invalid port specification: '80-90/tcp'"),
        ({"ExposedPorts": {"65536": {}}}, 400, "invalid port specification: '65536'"),
        (
            {"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-sise": "1m"}}}},
            400,
            "unknown log opt 'max-sise' for json-file log driver",
        ),
        ({"HostConfig": {"NetworkMode": "mine"}}, 400, "network mine not found"),
        ({"NetworkingConfig": {"EndpointsConfig": {"mine": {}}}}, 400, "network mine not found"),
        (
            {"NetworkingConfig": {"EndpointsConfig": {"default": {"IPAddress": "1.2.3.4"}}}},
            501,
            "mdocker does not support NetworkingConfig.EndpointsConfig.default.IPAddress",
        ),
    ],
)
async def test_bad_values_are_refused_in_words(engine_and_client, change, status, text):
    found, message = await refused(engine_and_client, {"Image": "host", **change})
    assert (found, message[: len(text)]) == (status, text)


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (b"{}", "text/plain", "Content-Type specified (text/plain) must be 'application/json'"),
        (b"{", "application/json", "invalid JSON: "),
        (b"", "application/json", "invalid JSON: got EOF"),
        (b"[1]", "application/json", "invalid JSON: the body must be an object, not an array"),
        (b"null", "application/json", "invalid JSON: the body must be an object, not null"),
        (b"{} {}", "application/json", "invalid JSON: "),
        (b"\xff\xfe", "application/json", "invalid JSON: "),
        (b'{"Image": "\xff"}', "application/json", "invalid JSON: "),
        (b"[" * 100_000, "application/json", "invalid JSON: "),
        (b'{"Image":' * 100_000, "application/json", "invalid JSON: "),
    ],
)
async def test_a_body_that_is_no_json_object(engine_and_client, body, content_type, text):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request(
            "POST", "/containers/create", body, [("Content-Type", content_type)]
        )
        assert answer.status == 400
        assert answer.message.startswith(text)


async def test_json_with_a_charset_is_json(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request(
            "POST",
            "/containers/create",
            {"Image": "host"},
            [("Content-Type", "application/json; charset=utf-8")],
        )
        assert answer.status == 201


async def test_names_are_the_engines_to_check(engine_and_client):
    body = {"Image": "host"}
    async with engine_and_client() as (engine, connect), connect() as client:
        bad = await client.request("POST", "/containers/create?name=a%20b", body)
        assert bad.status == 400
        assert bad.message == (
            "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
        assert (await client.request("POST", "/containers/create?name=c1", body)).status == 201
        taken = await client.request("POST", "/containers/create?name=c1", body)
        assert taken.status == 409
        assert taken.message.startswith('Conflict. The container name "/c1" is already in use')
        assert len(engine.containers) == 1


async def test_another_platform_is_not_found(engine_and_client):
    path = "/containers/create?platform=linux%2Fs390x"
    status, message = await refused(engine_and_client, {"Image": "host"}, path)
    assert status == 404
    assert message == "image host is for linux/amd64, not for the platform asked: linux/s390x"
