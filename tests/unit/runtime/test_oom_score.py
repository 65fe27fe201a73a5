"""The engine asks to be spared when memory is short; what its containers get instead."""

import pytest

from runtime.oom_score import spare_us


@pytest.mark.parametrize(
    ("before", "containers"),
    [("0\n", b"0"), ("200\n", b"200"), ("-500\n", b"0"), ("-900\n", b"0"), ("-1000\n", b"0")],
)
def test_with_the_capability(tmp_path, before, containers):
    path = tmp_path / "oom_score_adj"
    path.write_text(before)
    assert spare_us(str(path)) == containers
    # What a service manager has set lower already stays.
    assert int(path.read_text()) == min(int(before), -900)


@pytest.mark.parametrize(
    ("before", "containers"), [("0\n", b""), ("200\n", b""), ("-500\n", b"0"), ("-900\n", b"0")]
)
def test_without_it_only_what_was_inherited_lower_is_set_back(tmp_path, before, containers):
    path = tmp_path / "oom_score_adj"
    path.write_text(before)
    with pytest.MonkeyPatch.context() as patch:
        real = open

        def refuse(name, mode, *more):
            if "w" in mode:
                raise PermissionError(13, "Permission denied", name)
            return real(name, mode, *more)

        patch.setattr("builtins.open", refuse)
        assert spare_us(str(path)) == containers
    assert path.read_text() == before
