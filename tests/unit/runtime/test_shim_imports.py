"""The shim's cost per container is what it imports: each fork copies it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
DEAR = {"enum", "re", "json", "typing", "dataclasses", "socket", "signal", "collections", "pathlib"}
DEAR |= {"inspect", "functools", "contextlib", "threading", "asyncio", "subprocess", "logging"}
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import runtime.shim
print(*sorted(sys.modules))
"""


def test_the_shim_imports_few_modules():
    command = [sys.executable, "-I", "-S", "-E", "-c", SCRIPT, str(CHECKOUT)]
    loaded = set(subprocess.check_output(command, text=True).split())
    assert loaded & DEAR == set()
    assert {name for name in loaded if name.startswith("runtime.")} >= {"runtime.init"}
    assert not {name for name in loaded if name.startswith(("runtime.images", "runtime.spec"))}


def test_nothing_is_imported_after_the_fork():
    """An import between clone3 and execve could wait for ever or cost milliseconds."""
    import ast

    for name in (
        "init",
        "exec_child",
        "becoming",
        "mounts",
        "binds",
        "copy_up",
        "devices",
        "devices",
        "payload",
        "users",
        "capabilities",
        "json_text",
    ):
        tree = ast.parse((CHECKOUT / "runtime" / f"{name}.py").read_text())
        inner = [
            node
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert inner == [], name
