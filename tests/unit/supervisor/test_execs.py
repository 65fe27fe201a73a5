"""What becomes of what an exec's process reports."""

from __future__ import annotations

import pytest

from supervisor.execs import _not_executed


@pytest.mark.parametrize(
    "report", [b"x", b"\xff", b"{}", b'{"words": 1}', b"[]", b'{"words": "x", "exit_code": "y"}']
)
def test_a_report_that_somebody_else_has_written(report):
    refusal = _not_executed(report)
    assert (str(refusal).endswith("its report makes no sense"), refusal.exit_code) == (True, 125)


def test_a_report():
    refusal = _not_executed(b'{"step": "execute", "errno": 2, "words": "no x", "exit_code": 127}')
    assert str(refusal) == "exec failed: unable to start container process: no x"
    assert refusal.exit_code == 127
