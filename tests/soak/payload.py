"""What a container of the soak does, and the account that it keeps of it.

It prints numbered lines, each eighth of them to standard error, and after each line it notes the
line's number in /account, a file of its writable layer. Whoever reads that file on the host knows
how many lines there were to the last one: each noted line was written to the pipe before, and at
most one more was. The shell must repeat a write that a signal cut off, as dash and busybox do.
"""

from __future__ import annotations

from dataclasses import dataclass

EVERY_ERROR = 8
"""Each so many lines one goes to standard error."""

SCRIPT = r"""
r=0; [ -e /runs ] && while read -r _; do r=$((r+1)); done </runs
r=$((r+1)); echo $r >>/runs
exec 3>>/account
stop=; trap "$ON_TERM" TERM; trap 'CODE=7; stop=1' USR1
n=0
while [ $n -lt $LINES ] && [ -z "$stop" ]; do
  n=$((n+1))
  if [ $((n % 8)) -eq 0 ]; then printf '%s\n' "$r $n $PAD" >&2
  else printf '%s\n' "$r $n $PAD"; fi
  echo "$r $n" >&3
  [ $((n % BURST)) -eq 0 ] && sleep $NAP
done
n=$((n+1)); [ $((n % 8)) -eq 0 ] && n=$((n+1))
printf 'END %s %s\n' $r $n
echo "END $r $n" >&3
[ $r -ge $GOOD_AT ] && exit 0
exit $CODE
"""

ENDLESS = 1 << 30

# Everything that a JSON log has to escape, and a character of three bytes.
FILLING = 'a"b\\c\td<e>&f\x01\u2028'


@dataclass(frozen=True)
class Payload:
    """One container's part.

    Attributes:
        lines: How many it prints if nobody ends it before.
        burst: It takes a nap after each so many lines.
        nap_s: How long, in seconds.
        code: Its exit code.
        pad: How many characters a line has beyond its numbers. Below 1,200 a line goes into the
            pipe whole or not at all (PIPE_BUF), so it can't be torn by a kill.
        on_term: What the shell does at SIGTERM.
        good_at: The run that ends with 0 instead.
    """

    lines: int = ENDLESS
    burst: int = 10
    nap_s: float = 0.2
    code: int = 0
    pad: int = 20
    on_term: str = "stop=1"
    good_at: int = ENDLESS

    @property
    def filling(self):
        return (FILLING * (self.pad // len(FILLING) + 1))[: self.pad] + "."

    @property
    def config(self):
        """The body of its create request."""
        environment = {
            "LINES": self.lines,
            "BURST": self.burst,
            "NAP": self.nap_s,
            "CODE": self.code,
            "PAD": self.filling,
            "ON_TERM": self.on_term,
            "GOOD_AT": self.good_at,
        }
        return {
            "Image": "host",
            "Cmd": ["sh", "-c", SCRIPT],
            "Env": [f"{name}={value}" for name, value in environment.items()],
        }
