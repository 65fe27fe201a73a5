"""What each user has of us, so that one who floods us leaves the others served.

An account is a uid's, or a certificate's. Root's has no limits: whoever is root needs no flood.

- Open connections: half of what there may be for one account, and an eighth is left for root. A
  client beyond that is told so and closed.
- Requests: all that have come are answered, but of those of one account only so many *begin* in
  each turn of the event loop, fewer where turns get long. Who asks for little waits for a few of
  each other's, not for thousands.
- Bytes of requests that are not whole yet, so held in memory: beyond a limit they are refused.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter

import anyio
import anyio.lowlevel

from supervisor.api.peers import Peer
from supervisor.errors import EngineError

BEGINNING = 8
"""So many requests of one account begin in one turn of the event loop, at most."""

LONG_TURN_S = 0.01
"""After a turn that took longer fewer begin in the next: some requests take as long as many."""

HELD_BYTES = 64 * 1024 * 1024
"""What the requests of one account that are not whole yet may take."""


class HoldsTooMuch(EngineError):
    """One account's unfinished requests take too much memory."""

    status = 429


class Account:
    """What is under way for one user.

    Attributes:
        who: In words.
        unlimited: It is root's.
        connections: How many are open.
        answering: Requests that have begun and whose answer has not.
        held: Bytes of requests that are not whole.
        refusing: It was told that it has too many connections, and still has.
    """

    __slots__ = ("answering", "connections", "held", "refusing", "unlimited", "waiting", "who")

    def __init__(self, who: str, *, unlimited: bool) -> None:
        self.who = who
        self.unlimited = unlimited
        self.connections = 0
        self.answering = 0
        self.held = 0
        self.refusing = False
        self.waiting: deque[anyio.Event] = deque()

    def hold(self, size: int) -> None:
        """Count bytes that are in memory now; `release` must follow.

        Raises:
            HoldsTooMuch: They would be too many; they are not counted.
        """
        if self.held + size > HELD_BYTES and not self.unlimited:
            raise HoldsTooMuch(
                f"the requests of {self.who} that are under way hold {self.held} bytes: "
                f"at most {HELD_BYTES} are taken, ask again when they are done"
            )
        self.held += size

    def release(self, size: int) -> None:
        """Bytes that were counted are out of memory, or part of what is being done."""
        self.held -= size


class Accounts:
    """All accounts that have a connection. `run` must be running for turns to come."""

    def __init__(self, most: int) -> None:
        """Args:
        most: Connections that there may be at once.
        """
        self._each = max(1, most // 2)
        self._together = max(1, most - most // 8)
        self._limited = 0
        self._accounts: dict[str, Account] = {}
        self._somebody_waits = anyio.Event()

    def of(self, peer: Peer) -> Account:
        """The account of a client."""
        account = self._accounts.get(peer.who)
        if account is None:
            account = self._accounts[peer.who] = Account(peer.who, unlimited=peer.is_root)
        return account

    def admit(self, account: Account) -> bool:
        """Count one more connection, if there is room for it; `leave` must follow then."""
        if not account.unlimited:
            if account.connections >= self._each or self._limited >= self._together:
                return False
            self._limited += 1
        account.connections += 1
        account.refusing = False
        return True

    def leave(self, account: Account) -> None:
        """A connection has ended."""
        account.connections -= 1
        self._limited -= not account.unlimited
        if not account.connections:
            self._accounts.pop(account.who, None)

    async def turn(self, account: Account) -> None:
        """Wait until a request of this account may begin: not at all, unless it asks for many."""
        if account.unlimited or (account.answering < BEGINNING and not account.waiting):
            return
        begins = anyio.Event()
        account.waiting.append(begins)
        self._somebody_waits.set()
        try:
            await begins.wait()
        finally:
            if not begins.is_set():
                account.waiting.remove(begins)

    async def run(self) -> None:
        """Give turns, until cancelled."""
        while True:
            await self._somebody_waits.wait()
            self._somebody_waits = anyio.Event()
            share = BEGINNING
            while waiting := [one for one in self._accounts.values() if one.waiting]:
                for account in waiting:
                    for _ in range(min(share, len(account.waiting))):
                        account.waiting.popleft().set()
                began = perf_counter()
                await anyio.lowlevel.checkpoint()
                long = perf_counter() - began > LONG_TURN_S
                share = max(1, share // 2) if long else min(BEGINNING, share + 1)
