"""Operations whose modules are imported behind the start."""

import importlib
import inspect
import sys
import threading
import types

import anyio
import anyio.to_thread
import pytest

from supervisor.api import late, routes


@pytest.fixture
def operations(monkeypatch, tmp_path):
    """A module with an operation, that nobody has imported."""
    (tmp_path / "told_late.py").write_text(
        "async def answer(engine, request):\n    return engine, request\n"
    )
    package = importlib.import_module("supervisor.api")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.setattr(late, "_modules", set())
    monkeypatch.setattr(late, "_here", set())
    yield "supervisor.api.told_late"
    sys.modules.pop("supervisor.api.told_late", None)


@pytest.mark.anyio
async def test_who_asks_before_it_is_imported_waits_for_it(operations):
    handler = late.late("told_late", "answer")
    assert operations not in sys.modules
    assert await handler("engine", "request") == ("engine", "request")
    assert operations in sys.modules
    assert await handler("engine", "again") == ("engine", "again")


@pytest.mark.anyio
async def test_all_of_it_is_imported_behind_the_start(operations, monkeypatch):
    monkeypatch.setattr(late, "REST_S", 0)
    late.late("told_late", "answer")
    await late.import_all()
    assert operations in sys.modules


@pytest.mark.anyio
@pytest.mark.parametrize("trouble", [OSError(24, "Too many open files"), ImportError("it changes")])
async def test_what_can_t_be_imported_now_is_later(operations, monkeypatch, trouble):
    """It was the engine's end: no descriptors a second after its start."""
    monkeypatch.setattr(late, "REST_S", 0)
    late.late("told_late", "answer")
    failures = [trouble, trouble]

    def bring(path):
        if failures:
            raise failures.pop()
        return real(path)

    real = importlib.import_module
    monkeypatch.setattr(late.importlib, "import_module", bring)
    await late.import_all()
    assert (operations in sys.modules, failures) == (True, [])


@pytest.mark.anyio
async def test_who_asks_while_it_is_imported_waits_for_its_end(operations, tmp_path, monkeypatch):
    """It was asked for in a module that was half there: an answer 500 (pull beside import)."""
    begun, may_end = threading.Event(), threading.Event()
    gate = types.ModuleType("gate_of_told_late")
    gate.begun, gate.may_end = begun, may_end
    monkeypatch.setitem(sys.modules, "gate_of_told_late", gate)
    text = (tmp_path / "told_late.py").read_text()
    wait = "from gate_of_told_late import begun, may_end\nbegun.set()\nmay_end.wait()\n"
    (tmp_path / "told_late.py").write_text(wait + text)
    handler = late.late("told_late", "answer")
    answers = []

    async def ask():
        answers.append(await handler("engine", "request"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.to_thread.run_sync(begun.wait)
        assert operations in sys.modules
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        may_end.set()
    assert answers == [("engine", "request")] * 2


def test_what_the_table_names_is_there():
    named = [
        inspect.getclosurevars(handler).nonlocals
        for _, _, handler in routes._ROUTES
        if handler.__module__ == "supervisor.api.late"
    ]
    assert len(named) > 5
    for one in named:
        module = importlib.import_module(one["path"])
        assert inspect.iscoroutinefunction(getattr(module, one["name"]))
