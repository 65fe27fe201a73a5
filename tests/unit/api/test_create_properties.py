"""Whatever JSON a client sends as a create request, it is taken or refused, never an accident."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.api import create, options, wire
from supervisor.container import ContainerConfig
from supervisor.errors import EngineError
from tests.unit.api.fakes import HOST
from tests.unit.api.test_create import CLI

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["", "none", "host", "default", "json-file", "SIGTERM", "/", "a=b", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
config_names = st.sampled_from([name for name in CLI if name != "HostConfig"]) | st.text(max_size=5)
host_names = st.sampled_from(list(CLI["HostConfig"])) | st.text(max_size=5)


def taken_or_refused(body):
    try:
        config, warnings = create.merge(create.read(body), HOST)
    except EngineError as error:
        assert 400 <= error.status <= 501
        assert str(error)
        return None
    assert isinstance(config, ContainerConfig)
    assert all(isinstance(warning, str) for warning in warnings)
    assert config.args
    return config


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(config_names, values, max_size=3),
    st.dictionaries(host_names, values, max_size=3) | values,
)
def test_any_options_are_taken_or_refused(config, host):
    taken_or_refused({"Image": "host", **config, "HostConfig": host})


@settings(max_examples=100, deadline=None)
@given(host_names, values)
def test_an_option_that_we_do_not_do_is_never_taken_in_use(name, value):
    known = set(wire.AskedHostConfig.__struct_fields__)
    if name in known or options.unused(value):
        return
    assert taken_or_refused({"Image": "host", "HostConfig": {name: value}}) is None


@settings(max_examples=100, deadline=None)
@given(st.sets(st.sampled_from(list(CLI["HostConfig"]))), st.sets(st.sampled_from(list(CLI))))
def test_what_clients_send_for_nothing_may_be_left_out(host, config):
    body = {name: CLI[name] for name in config if name != "HostConfig"}
    body |= {"Image": "host", "HostConfig": {name: CLI["HostConfig"][name] for name in host}}
    found = taken_or_refused(body)
    assert found == taken_or_refused({"Image": "host", "Cmd": body.get("Cmd")})
    json.dumps(body)
