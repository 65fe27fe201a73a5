"""The soak: 200 containers start, print, fail, are stopped and killed while the supervisor dies.

`python -m tests.soak --seconds 600 --seed 7` ends with a closing count, and with exit code 1 if a
line was lost or repeated, an exit code is wrong, or anything is left behind.

| file | what |
| --- | --- |
| `payload.py` | what a container does, and the account that it keeps of it |
| `account.py` | a container's log held against its account |
| `patient.py` | a client that outlives the supervisor |
| `lives.py` | the ways a container lives and ends, and what must be true of each |
| `kept_alive.py` | the same for those that the engine keeps alive: policies, health checks |
| `killer.py` | kill -9 at moments that the seed chooses |
| `chronicle.py` | the event stream held against the lives |
| `leftovers.py` | what is left, and whether memory and descriptors are flat |
| `soak.py`, `__main__.py` | all of it together, and the closing count |
"""
