"""What tests of `--init` need."""

import pytest

from supervisor import init_program
from supervisor.errors import Unsupported


def _is_there():
    try:
        init_program.find()
    except Unsupported:
        return False
    return True


needed = pytest.mark.skipif(not _is_there(), reason="needs an init (apt-get install tini)")
