"""`port`: Docker's lines, for what an engine that publishes ports says."""

from __future__ import annotations

import pytest

PORTS = {
    "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
    "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
    "443/tcp": None,
}


@pytest.fixture
def bird(engine):
    about = {"Name": "/bird", "NetworkSettings": {"Ports": PORTS}}
    engine.json("GET", "/containers/bird/json", about)
    return engine


def test_all_ports(bird, mdocker):
    assert mdocker("port", "bird") == (
        0,
        "53/udp -> 127.0.0.1:53\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n",
        "",
    )


def test_one_port(bird, mdocker):
    assert mdocker("port", "bird", "80") == (0, "0.0.0.0:8080\n[::]:8080\n", "")
    assert mdocker("port", "bird", "53/UDP") == (0, "127.0.0.1:53\n", "")
    for none in ("53", "443/tcp", "1/sctp"):
        result = mdocker("port", "bird", none)
        assert (result.code, result.out) == (1, "")
        assert "no public port '" in result.err and "published for bird" in result.err


def test_none_at_all(engine, mdocker):
    engine.json("GET", "/containers/a/json", {"Name": "/a", "NetworkSettings": {"Ports": {}}})
    assert mdocker("port", "a") == (0, "", "")
    assert mdocker("port", "a", "80").code == 1


@pytest.mark.parametrize("port", ["x", "70000", "0", "80/ip", "-1", "80-90", "9" * 50])
def test_what_is_no_port(engine, mdocker, port):
    result = mdocker("port", "a", "--", port)
    assert (result.code, result.out) == (1, "")
    assert f'invalid port "{port}"' in result.err
    assert not engine.requests
