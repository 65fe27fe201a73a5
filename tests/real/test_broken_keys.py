"""Keys of the session in which the engine was started stay there (keyrings(7))."""

import subprocess
import sys

from tests.real.engine_process import CHECKOUT

# keyctl and add_key by number, for there is no command for them in every test machine.
IN_A_SESSION_WITH_A_SECRET = """
import ctypes, os, sys
sys.path.insert(0, sys.argv[1])
call = ctypes.CDLL(None, use_errno=True).syscall
keyctl, add_key = (250, 248) if os.uname().machine == "x86_64" else (219, 217)
assert call(keyctl, 1, b"a-session") > 0
assert call(add_key, b"user", b"a-secret", b"s3", 2, -3) > 0
from tests.real.engine_process import EngineProcess
engine = EngineProcess(sys.argv[2]).start()
try:
    look = '''
import ctypes
call = ctypes.CDLL(None, use_errno=True).syscall
found = call(%d, 10, -3, b"user", b"a-secret", 0)
print("found" if found > 0 else "nothing")
''' % keyctl
    print(*engine.result("/usr/bin/python3", "-c", look))
    add = look.replace("found = ", "found = call(%d, b'user', b'mine', b'x', 1, -3) #" % add_key)
    print(*engine.result("/usr/bin/python3", "-c", add))
finally:
    engine.close()
"""


def test_a_container_sees_no_key_of_who_started_the_engine_and_shares_none(tmp_path):
    told = subprocess.run(
        [sys.executable, "-c", IN_A_SESSION_WITH_A_SECRET, str(CHECKOUT), str(tmp_path / "engine")],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        timeout=60,
        check=True,
    )
    assert told.stdout == "0 nothing\n \n0 nothing\n \n", told.stderr
