"""Go templates: the everyday kind works as Go's do, all else is a clear error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdocker.errors import TemplateError
from mdocker.template import Template

THING = {
    "Name": "/bird",
    "Args": ["-c", "x"],
    "None": None,
    "Zero": 0,
    "Yes": True,
    "Load": 1.5,
    "State": {"Status": "running", "Pid": 5},
    "Config": {"Labels": {"a.b": "c", "n": "1"}, "Env": []},
    "Mounts": [{"Source": "/x", "RW": True}, {"Source": "/y", "RW": False}],
    "Networks": {"z": {"IP": "2"}, "a": {"IP": "1"}},
}


def render(text):
    return Template(text).render(THING)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", ""),
        ("plain }} text", "plain }} text"),
        ("{{.Name}}", "/bird"),
        ("{{ .State.Status }}!", "running!"),
        ("{{.Yes}} {{.Zero}} {{.None}} {{.Load}}", "true 0 <no value> 1.5"),
        ("{{.Args}}", "[-c x]"),
        ("{{.State}}", "map[Pid:5 Status:running]"),
        ("{{json .Args}}", '["-c","x"]'),
        ("{{json .}}", None),
        ("{{json .Name}} {{json .None}}", '"/bird" null'),
        ('{{json "<&>"}}', '"<&>"'),
        ('{{index .Config.Labels "a.b"}}', "c"),
        ('{{index .Config.Labels "nope"}}|', "|"),
        ("{{index .Args 1}}", "x"),
        ('{{index .Networks "a" "IP"}}', "1"),
        ("{{.Config.Labels.nope}}", "<no value>"),
        ("{{.Config.Labels.nope.x}} {{json .Config.Labels.nope}}", "<no value> null"),
        ('{{len .Config.Labels.nope}}{{join .Config.Labels.nope ","}}|', "0|"),
        ("{{if .Config.Labels.nope}}x{{else}}none{{end}}", "none"),
        ("{{(index .Mounts 0).Source}}", "/x"),
        ("{{range .Mounts}}{{.Source}} {{end}}", "/x /y "),
        ("{{range .Config.Env}}x{{else}}none{{end}}", "none"),
        ("{{range .None}}x{{end}}", ""),
        ("{{range $i, $m := .Mounts}}{{$i}}{{$m.Source}}{{$.Name}} {{end}}", "0/x/bird 1/y/bird "),
        ("{{range $k, $n := .Networks}}{{$k}}={{$n.IP}} {{end}}", "a=1 z=2 "),
        ("{{range $m := .Mounts}}{{if $m.RW}}{{$m.Source}}{{end}}{{end}}", "/x"),
        ('{{if eq .State.Status "running"}}yes{{else}}no{{end}}', "yes"),
        ("{{if .Zero}}a{{else if .None}}b{{else if .Yes}}c{{else}}d{{end}}", "c"),
        ('{{if and .Yes (not .None) (gt .State.Pid 4)}}{{"x"}}{{end}}', "x"),
        ('{{or .None "or"}} {{and .Yes .Name}}', "or /bird"),
        ("{{with .None}}x{{else}}{{.Name}}{{end}}", "/bird"),
        ("{{with $s := .State}}{{.Status}}{{$s.Pid}}{{end}}", "running5"),
        ("{{$n := .Name}}{{$n | upper}}", "/BIRD"),
        ('{{.Name | upper | lower | printf "%-8s|"}}', "/bird   |"),
        ('{{join .Args ","}}', "-c,x"),
        ('{{split "a,b" ","}}', "[a b]"),
        ("{{len .Args}} {{len .Name}} {{len .Networks}} {{len .None}}", "2 5 2 0"),
        ('{{title "big bird"}}', "Big Bird"),
        (
            '{{pad "x" 1 2}}|{{truncate "abc" 2}}|{{slice .Name 1}}|{{slice .Args 0 1}}',
            " x  |ab|bird|[-c]",
        ),
        ('{{print "a" 1 2 "b"}}|{{println "a" 1}}', "a1 2b|a 1\n"),
        (
            '{{printf "%s %d %q %v %t %05.1f %%" "a" 1 "q" .Args true 1.5}}',
            'a 1 "q" [-c x] true 001.5 %',
        ),
        ("a {{- .Zero -}} b", "a0b"),
        ("a {{/* a comment */}}b", "a b"),
        ("a {{- /* trims */ -}} b", "ab"),
        ('{{`raw \\n`}}{{"tab\\t"}}', "raw \\ntab\t"),
        (
            '{{eq "a" "b" "a"}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{ge 1 2}}',
            "true true true true false",
        ),
        ("{{range .Args}}{{$}}{{end}}", None),
        ("{{true}} {{if false}}x{{end}}", "true "),
        ("{{.Name}}\n{{.Zero}}", "/bird\n0"),
    ],
)
def test_templates(text, result):
    rendered = render(text)
    if result is not None:
        assert rendered == result


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{.Nope}}", 'there is no field "Nope" in .; there are: Args, Config'),
        ("{{.Health}}", 'there is no field "Health" in .;'),
        ("{{.State.Nope}}", 'there is no field "Nope" in .State; there are: Pid, Status'),
        ("{{.Name.x}}", ".Name is no structure"),
        ("{{.None.x}}", ".None is nothing"),
        ("{{.Name", 'a "{{" without its "}}"'),
        ("{{}}", "empty"),
        ("{{if .Name}}x", "has no {{end}}"),
        ("{{range .Args}}x{{else}}y", "has no {{end}}"),
        ("{{end}}", "too many"),
        ("{{else}}", "too many"),
        ("{{if}}x{{end}}", "needs a value"),
        ("{{foo .Name}}", 'the function "foo" is not defined'),
        ('{{template "x"}}', "not supported"),
        ('{{define "x"}}{{end}}', "not supported"),
        ("{{range .Args}}{{break}}{{end}}", "not supported"),
        ("{{index .Args 7}}", "out of range"),
        ("{{index .Name 0}}", "neither list nor map"),
        ("{{range .Name}}{{end}}", "can't go over"),
        ("{{upper .Zero}}", "needs a text"),
        ("{{upper}}", "upper does not take 0 values"),
        ("{{join .Args}}", "join does not take 1 values"),
        ("{{eq .Name 1}}", "can't be compared"),
        ("{{lt .Name 1}}", "can't be compared"),
        ("{{.Name .Zero}}", "no function has an argument"),
        ("{{$x}}", 'the variable "$x" is not set'),
        ("{{(.Name}}", 'a "(" without its ")"'),
        ("{{.Name)}}", "not expected"),
        ("{{.Name | }}", "a value is missing"),
        ("{{| upper}}", "a value is missing"),
        ("{{.Name % 2}}", "not understood"),
        ('{{printf "%d"}}', "no value for %d"),
        ('{{printf "%d" "x"}}', "%d of x"),
        ('{{printf "x" 1}}', "too many"),
        ("{{slice .Args 2 1}}", "out of range"),
        ("{{len .Zero}}", "neither text, list nor map"),
        ("{{if $a, $b := .Name}}{{end}}", "one variable only"),
        ("{{.x := 1}}", "sets no variable"),
    ],
)
def test_errors(text, reason):
    with pytest.raises(TemplateError) as caught:
        render(text)
    assert reason in str(caught.value)
    assert text in str(caught.value)


@given(st.text(st.sampled_from('{}.-|()$"` abNamerange if end else := ,1'), max_size=40))
def test_nothing_but_a_template_error(text):
    """Any text is either filled or refused; no other exception comes out."""
    try:
        assert isinstance(Template(text).render(THING), str)
    except TemplateError as error:
        assert str(error)
