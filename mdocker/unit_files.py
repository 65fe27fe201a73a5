"""The two systemd units that run the engine as a service, as text. Pure.

Every line of them that is no matter of course has its reason here:

- The socket is systemd's: clients wait in its backlog while a supervisor is replaced, and none is
  refused. The group `docker` may use it where there is one.
- `KillMode=process`: stopping or restarting the service ends the supervisor alone. The shim and
  the containers go on, and the next supervisor takes them over.
- `Restart=always` with `--no-respawn`: the shim leaves the starting of supervisors to systemd.
  There is no limit of starts: the containers are there, so somebody has to come back for them.
- `Delegate=yes`: what is below the unit's cgroup is ours; systemd changes and removes nothing
  there. The containers' own cgroups are beside it, at the top (`mdocker-XXXXXXXX`): systemd puts
  each new supervisor into the unit's cgroup itself, where cgroup v2 allows no process once a
  cgroup below it has controllers.
- `OOMPolicy=continue`, `TasksMax=infinity`: on cgroup v1 a container without a limit of its own is
  in the unit's memory and pids cgroup. Its end must not be the service's, nor may its processes
  count as the service's.
- `OOMScoreAdjust`: what the supervisor would do itself a little later; containers get 0.
- `WatchdogSec`: the event loop answers for itself. A supervisor that hangs is replaced; containers
  do not notice.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SERVICE = "mdocker.service"
SOCKET = "mdocker.socket"
MARK = "# Written by 'mdocker daemon --install'; 'mdocker daemon --uninstall' takes it away."

_STEPPED_SINCE = 254
"""The systemd that knows RestartSteps= (systemd.service(5))."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./~^-]+")


class BadPath(ValueError):
    """A path that no unit file can name."""


class Service(NamedTuple):
    """What is to be run.

    Attributes:
        command: The supervisor's argv; its first word is an absolute path.
        upgrade: The argv that has a running supervisor execute the mdocker that is installed now.
        directory: Where it is started, so that the same mdocker is found again.
        root: The engine's root.
        socket: The path of the API's socket.
        group: Who besides root may use the socket.
        systemd: The manager's version; 0 for one that tells none.
        further: More that systemd listens on: paths, ADDRESS:PORT.
    """

    command: tuple[str, ...]
    upgrade: tuple[str, ...]
    directory: str
    root: str
    socket: str
    group: str
    systemd: int
    further: tuple[str, ...] = ()


def service_unit(service: Service) -> str:
    """Return mdocker.service.

    Raises:
        BadPath: A path has control characters.
    """
    steps = "RestartSteps=8\nRestartMaxDelaySec=30\n" if service.systemd >= _STEPPED_SINCE else ""
    return f"""\
{MARK}
[Unit]
Description=mdocker container engine
Requires={SOCKET}
After={SOCKET} local-fs.target
RequiresMountsFor={_word(service.root)}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={_line(service.command)}
ExecReload={_line(service.upgrade)}
WorkingDirectory={_path(service.directory)}
Restart=always
RestartSec=200ms
{steps}WatchdogSec=60
TimeoutStartSec=5min
TimeoutStopSec=30
KillMode=process
Delegate=yes
OOMPolicy=continue
OOMScoreAdjust=-900
TasksMax=infinity
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity

[Install]
WantedBy=multi-user.target
Also={SOCKET}
"""


def socket_unit(service: Service) -> str:
    """Return mdocker.socket.

    Raises:
        BadPath: A path has control characters.
    """
    return f"""\
{MARK}
[Unit]
Description=mdocker container engine's API

[Socket]
ListenStream={_path(service.socket)}
{"".join(f"ListenStream={_path(one)}{chr(10)}" for one in service.further)}SocketUser=root
SocketGroup={service.group}
SocketMode=0660
DirectoryMode=0755
Backlog=4096
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""


def _line(words: tuple[str, ...]) -> str:
    """Spell a command line (systemd.service(5), "Command lines").

    A dollar is doubled in the arguments, but not in the program's name, which can't have quotes.

    Raises:
        BadPath: The program's path has quotes, backslashes or control characters.
    """
    program, *arguments = words
    if set(program) & set("\"'\\"):
        raise BadPath(f"systemd executes nothing with quotes in its path: {program}")
    return " ".join([_word(program), *(_word(word.replace("$", "$$")) for word in arguments)])


def _word(text: str) -> str:
    """Spell one word of a list: quoted where it must be (systemd.syntax(7))."""
    checked = _path(text)
    if _PLAIN.fullmatch(checked):
        return checked
    return '"' + checked.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _path(text: str) -> str:
    """Spell a value that is one path to the end of its line: only `%` means something there.

    Raises:
        BadPath: It has control characters.
    """
    if _CONTROL.search(text) or text != text.strip():
        raise BadPath(f"{text!r} can't be named in a unit file: move it to a plainer path")
    return text.replace("%", "%%")
