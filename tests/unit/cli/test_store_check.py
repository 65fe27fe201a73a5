"""`system check` against a scripted engine: what it prints, and what it exits with."""

from __future__ import annotations

import json

import pytest

DIGITS = "4f" * 32

FINDING = {
    "Kind": "layer",
    "Subject": f"sha256:{DIGITS}",
    "Words": "/bin/ls has another content than in the archive",
    "Advice": "remove it",
    "Images": ["busybox:latest"],
}
ORPHAN = {**FINDING, "Kind": "orphan", "Subject": "staging/import-1", "Words": "is half-made"}
LINES = [
    f"layer {DIGITS[:12]}: /bin/ls has another content than in the archive; remove it",
    "orphan staging/import-1: is half-made; remove it",
]


def summary(findings=0, without=0):
    return {
        "Images": 3,
        "Layers": 7,
        "Blobs": 13,
        "WithoutArchive": without,
        "Bytes": 7_000_000,
        "Findings": findings,
    }


@pytest.fixture
def says(engine):
    """Have the engine say these lines of a check."""

    def script(*news):
        def answer(call, *_):
            call.begin("application/json")
            for one in news:
                call.chunk(json.dumps(one).encode() + b"\n")
            call.finish_chunks()

        engine.on("GET", "/mdocker/check", answer)

    return script


def progress(done):
    return {"Progress": {"Done": done, "Total": 7_000_000}}


def test_a_store_that_is_fine(says, mdocker):
    says(progress(0), progress(7_000_000), {"Summary": summary()})
    code, out, err = mdocker("system", "check")
    assert (code, err) == (0, "")
    assert out == "Checked 3 images, 7 layers, 13 blobs (7MB of archives): all is well\n"
    assert mdocker("system", "check", "-q").out == ""


def test_findings_are_lines_and_a_code(says, mdocker):
    says({"Finding": ORPHAN}, progress(0), {"Finding": FINDING}, {"Summary": summary(2, 1)})
    code, out, err = mdocker("system", "check")
    assert (code, err) == (1, "")
    assert out.splitlines()[:2] == LINES[::-1]
    assert out.splitlines()[2] == (
        "Checked 3 images, 7 layers, 13 blobs (7MB of archives); 1 layers of an older engine have "
        "no archive, and could not be compared: 2 findings"
    )
    assert mdocker("system", "check", "--quiet").out.splitlines() == LINES[::-1]


def test_json_is_one_document(says, mdocker):
    says(progress(0), {"Finding": FINDING}, {"Summary": summary(1)})
    code, out, _ = mdocker("system", "check", "--format", "json")
    assert code == 1
    assert json.loads(out) == {"Findings": [FINDING], "Summary": summary(1)}


def test_a_check_that_fails_or_is_cut_is_no_clean_store(says, mdocker):
    says(progress(0), {"error": "the check failed: too many open files", "errorDetail": {}})
    code, out, err = mdocker("system", "check")
    assert (code, out) == (1, "")
    assert err == "mdocker: the check failed: too many open files\n"
    says(progress(0))
    code, out, err = mdocker("system", "check")
    assert (code, out) == (1, "")
    assert "went away in the middle of the check" in err


def test_an_unknown_format_is_refused(mdocker):
    code, _, err = mdocker("system", "check", "--format", "{{.Words}}")
    assert code == 125
    assert "--format json is all there is" in err
