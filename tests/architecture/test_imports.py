"""Who may import whom, as docs/architecture.md says; no module is a drawer for odds and ends."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ALLOWED = {
    # Of what the standard library lacks; in the child that unpacks, at its first use.
    "runtime": {"isal", "zstandard"},
    "logs": {"anyio", "structlog"},
    "supervisor": {
        "runtime",
        "logs",
        "anyio",
        "structlog",
        "certifi",
        "h11",
        "dockerfile_parse",
        "httpx",
        "msgspec",
        "prometheus_client",
        "uvloop",
        "wsproto",
    },
    "mdocker": {"cyclopts", "h11", "rich"},
}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "shared"}


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def imports(path):
    """Top-level names that a file imports, with the line of each."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0], node.lineno


@pytest.mark.parametrize("package", ALLOWED)
def test_import_directions_hold(package):
    assert modules(package), f"{package}/ has no modules"
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for name, line in imports(path)
        if name not in sys.stdlib_module_names and name != package and name not in ALLOWED[package]
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["supervisor", "logs"])
def test_async_code_is_written_for_both_backends(package):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for name, line in imports(path)
        if name in ("asyncio", "trio")
    ]
    assert wrong == []


def test_api_is_imported_by_the_daemon_alone():
    wrong = []
    for path in modules("supervisor"):
        if "api" in path.parts or path.name == "daemon.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "supervisor.api"
            ):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []


def test_no_module_is_a_drawer():
    found = [
        str(path.relative_to(ROOT))
        for package in (*ALLOWED, "tests", "bench")
        for path in modules(package)
        if path.stem in DRAWERS or path.parent.name in DRAWERS
    ]
    assert found == []


def test_a_wrong_import_would_be_found(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from supervisor.engine import Engine\n    import trio.lowlevel\n")
    assert list(imports(bad)) == [("supervisor", 2), ("trio", 3)]
