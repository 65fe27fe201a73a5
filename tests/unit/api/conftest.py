import pytest

from tests.unit.api.fakes import serving


@pytest.fixture
def engine_and_client(tmp_path):
    """A context manager that gives a served fake engine and a function that connects to it."""
    return lambda: serving(tmp_path)
