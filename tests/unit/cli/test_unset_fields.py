"""What a template of `inspect` gets for a field that is not set: docker 27 prints it, too."""

import pytest

THING = {
    "Id": "1" * 64,
    "ExecIDs": None,
    "State": {"Status": "running"},
    "Config": {"Labels": {"a": "b"}, "Volumes": None, "Cmd": ["true"]},
    "HostConfig": {
        "Binds": None,
        "PidsLimit": None,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
    },
    "NetworkSettings": {"Networks": {"none": {"IPAMConfig": None, "Links": None}}},
}


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("{{.State.Health}} {{json .State.Health}}", "<nil> null"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{with .State}}{{.Health}}{{end}}", "<nil>"),
        ("{{.Config.StopTimeout}}|{{.Config.StopSignal}}|{{.SizeRw}}", "<nil>||<nil>"),
        ("{{.ExecIDs}} {{.Config.Volumes}} {{.HostConfig.Binds}}", "[] map[] []"),
        ("{{json .ExecIDs}} {{json .Config.Volumes}} {{json .HostConfig.Binds}}", "null null null"),
        (
            "{{.Config.ExposedPorts}} {{.Config.NetworkDisabled}} {{.Config.Cmd}}",
            "map[] false [true]",
        ),
        (
            "{{.HostConfig.Mounts}} {{.HostConfig.KernelMemory}} {{.HostConfig.PidsLimit}}",
            "[] 0 <nil>",
        ),
        ("{{.ImageManifestDescriptor}}", "<nil>"),
        ('{{index .HostConfig.LogConfig.Config "max-size"}}', "1m"),
        ("{{.HostConfig.LogConfig.Config.tag}} {{.Config.Labels.nope}}", "<no value> <no value>"),
        ("{{.NetworkSettings.Networks.bridge.IPAddress}}", "<no value>"),
        ("{{range .NetworkSettings.Networks}}{{.IPAMConfig}} {{.Links}}{{end}}", "<nil> []"),
        ("{{len .HostConfig.CapAdd}}{{range .Config.OnBuild}}x{{end}}", "0"),
        (
            "{{json .State}} {{json .Config}}",
            '{"Status":"running"} {"Labels":{"a":"b"},"Volumes":null,"Cmd":["true"]}',
        ),
    ],
)
def test_what_is_not_set_is_printed_as_docker_does(engine, mdocker, text, printed):
    engine.json("GET", "/containers/a/json", THING)
    assert mdocker("inspect", "-f", text, "a") == (0, f"{printed}\n", "")


def test_an_image_has_no_fields_of_a_container(engine, mdocker):
    engine.refuse("GET", "/containers/b/json", 404, "No such container: b")
    engine.json("GET", "/images/b/json", {"Id": "sha256:1", "Config": {"Env": None}})
    assert mdocker("inspect", "-f", "{{.Config.Env}}{{.Config.Volumes}}", "b").out == "[]map[]\n"
    assert 'there is no field "HostConfig"' in mdocker("inspect", "-f", "{{.HostConfig}}", "b").err


def test_what_docker_does_not_know_stays_a_mistake(engine, mdocker):
    engine.json("GET", "/containers/a/json", THING)
    for text in ("{{.State.Healthy}}", "{{.State.Health.Status}}", "{{.Foo}}"):
        result = mdocker("inspect", "-f", text, "a")
        assert (result.code, "there is no field" in result.err) == (1, True)
