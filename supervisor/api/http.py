"""HTTP/1.1 by h11: requests in, answers, chunked streams and hijacked connections out."""

from __future__ import annotations

import email.utils
import http
import math
import time
from collections.abc import Awaitable, Callable, Sequence

import anyio
import h11

from supervisor.api.accounts import Account, HoldsTooMuch
from supervisor.api.audit import Entry
from supervisor.api.hangups import Hangups
from supervisor.api.messages import BrokenRequest, Reply, Request
from supervisor.api.sockets import ByteSocket, ClientGone
from supervisor.errors import BadParameter

LONGEST_HEAD = 256 * 1024
"""Bytes of a request line with its headers; more is answered 431. A build may bring the logins of
fifty registries along, each with a token of some kilobytes."""

HEAD_SECONDS = 60.0
"""How long a client may take for its first request's head, or for any head it has begun: for all of
it, however small the pieces are."""

UNCOUNTED_HEAD = 16 * 1024
"""Bytes of a head that are held for any client."""

TAKING_SECONDS = 0.5
"""How long a client may take to read a hand-made head before more is sent all the same."""

LINGER_SECONDS = 2.0
LINGER_BYTES = 64 * 1024 * 1024

_REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_BODYLESS = frozenset({204, 304})


class Connection:
    """One client's connection: requests one after another, each answered in full.

    Attributes:
        stream: The socket below.
        hangups: Watches for a client that goes away while an answer is under way.
        base_headers: What every answer carries.
        account: Whom what it holds counts for.
        entry: What is to be written down when the answer begins.
        answering: The account whose request is being answered, until the answer begins.
    """

    def __init__(
        self,
        stream: ByteSocket,
        hangups: Hangups,
        base_headers: list[tuple[bytes, bytes]],
        account: Account,
    ) -> None:
        self.stream = stream
        self.hangups = hangups
        self.base_headers = base_headers
        self.account = account
        self.entry: Entry | None = None
        self.answering: Account | None = None
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        self._first = True
        self.hijacked = False
        self.abandoned = False
        self._head_only = False
        self._kept: list[bytes | memoryview] = []

    # -- requests in

    async def next_request(self) -> Request | None:
        """Return the next request, or None when the client has ended (or never began).

        Raises:
            BrokenRequest: What arrived is no HTTP.
            ClientGone: The connection broke.
        """
        deadline = anyio.current_time() + HEAD_SECONDS if self._first else math.inf
        self._first = False
        self._head_only = False
        held = 0
        try:
            while True:
                try:
                    event = self._h11.next_event()
                except h11.RemoteProtocolError as error:
                    # h11 repeats the line as Python spells bytes: whoever sent it knows it.
                    reason = str(error).partition(": bytearray(")[0]
                    hint = error.error_status_hint
                    raise BrokenRequest(hint, f"bad request: {reason}") from error
                if type(event) is h11.Request:
                    self._head_only = event.method == b"HEAD"
                    _check_head(event)
                    return Request(self, event)
                if event is not h11.NEED_DATA:
                    return None
                waiting = len(self._h11.trailing_data[0])
                if waiting > UNCOUNTED_HEAD + held:
                    self.account.hold(waiting - held)
                    held = waiting
                if waiting and deadline == math.inf:
                    deadline = anyio.current_time() + HEAD_SECONDS
                if deadline == math.inf:
                    # Between two requests a client may rest as long as it likes: pools do.
                    data = await self.stream.receive()
                else:
                    with anyio.CancelScope(deadline=deadline) as scope:
                        data = await self.stream.receive()
                    if scope.cancelled_caught:
                        return None
                self._h11.receive_data(data)
        except HoldsTooMuch as error:
            raise BrokenRequest(error.status, str(error)) from error
        finally:
            if held:
                self.account.release(held)

    def buffered_body(self) -> bytes | None:
        """Return a piece of body that has arrived, b"" at its end, None if more must come."""
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise BadParameter(f"the request body is malformed: {error}") from error
            if type(event) is h11.Data:
                if event.data:
                    return bytes(event.data)
            elif event is h11.NEED_DATA:
                return None
            else:
                return b""

    async def receive_body(self) -> bytes:
        """Wait for a piece of body; b"" at its end.

        Raises:
            ClientGone: The client hung up half-way.
        """
        if self._h11.they_are_waiting_for_100_continue:
            go_on = self._h11.send(
                h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            )
            await self.stream.send(go_on)
        while True:
            data = await self.stream.receive()
            if not data:
                raise ClientGone
            self._h11.receive_data(data)
            piece = self.buffered_body()
            if piece is not None:
                return piece

    def _request_is_whole(self) -> bool:
        """Skip what has arrived of a body that nobody asked for; tell whether that was all."""
        if self._h11.their_state is h11.SEND_BODY:
            try:
                while self.buffered_body():
                    pass
            except BadParameter:
                return False
        return self._h11.their_state is h11.DONE

    # -- answers out

    def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        response = h11.Response(
            status_code=status,
            headers=[*self.base_headers, (b"Date", _date()), *headers],
            reason=_REASONS.get(status, b""),
        )
        return self._h11.send(response) or b""

    async def send_reply(self, reply: Reply) -> None:
        """Send a whole answer with one system call.

        Raises:
            ClientGone: Nobody will read it.
        """
        headers = list(reply.headers)
        body = reply.body
        if not self._request_is_whole():
            headers.append((b"Connection", b"close"))
        if reply.status in _BODYLESS:
            body = b""
        else:
            if reply.content_type:
                headers.append((b"Content-Type", reply.content_type))
            headers.append((b"Content-Length", b"%d" % len(body)))
        out = self._head(reply.status, headers)
        if body and not self._head_only:
            out += self._h11.send(h11.Data(body)) or b""
        out += self._h11.send(h11.EndOfMessage()) or b""
        try:
            await self.stream.send(out)
        finally:
            self.answer_begins(reply.status)

    def answer_begins(self, status: int | None) -> None:
        """Write down what became of the request, and let another one of its account begin.

        Args:
            status: Of the answer; None where there was none.
        """
        if self.answering is not None:
            self.answering.answering -= 1
            self.answering = None
        if self.entry is not None:
            self.entry.note(status)
            self.entry = None

    @property
    def can_reply(self) -> bool:
        """Whether a whole answer can still be sent for the request under way."""
        return not self.hijacked and self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    async def start_stream(
        self, status: int, content_type: bytes, more: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """Send the head of an answer that comes in pieces, now.

        Args:
            more: Headers in addition to those that every such answer has.

        Raises:
            ClientGone: Nobody will read it.
        """
        headers = [(b"Content-Type", content_type), *more]
        if self._h11.their_http_version != b"1.0":
            headers.append((b"Transfer-Encoding", b"chunked"))
        await self.stream.send(self._head(status, headers))
        self.answer_begins(status)

    async def send_piece(self, data: bytes) -> None:
        """Send a piece of the answer, uncopied, as one chunk; first what `push_piece` has kept.

        Raises:
            ClientGone: Nobody will read it.
        """
        parts = [*self._kept, *(self._h11.send_with_data_passthrough(h11.Data(data)) or ())]
        self._kept = []
        if parts:
            await self.stream.send_all(parts)

    def push_piece(self, data: bytes) -> bool:
        """Send a piece of the answer as far as that needs no wait.

        It may be called in any thread, while nobody else uses the connection.

        Returns:
            False where a part of it is kept, to be sent before the next piece.
        """
        parts = self._h11.send_with_data_passthrough(h11.Data(data)) or ()
        self._kept = self.stream.push(parts)
        return not self._kept

    async def end_stream(self) -> None:
        """Send the end of an answer that came in pieces.

        Raises:
            ClientGone: Nobody will read it.
        """
        end = self._h11.send(h11.EndOfMessage())
        if end:
            await self.stream.send(end)

    def abandon(self) -> None:
        """The client is gone in the middle of an answer: there is no next request."""
        self.abandoned = True

    async def hijack(
        self, head: bytes, meanwhile: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """Send a hand-made head and leave HTTP: from here on the connection is a byte stream.

        Returns once the client has read the head. docker-py reads it through a buffer that it
        forgets: what had come together with it would be lost (an exec's only line, say).

        Args:
            meanwhile: Waits for what is to follow, while the client reads.

        Raises:
            ClientGone: Nobody will read it.
        """
        self.hijacked = True
        await self.stream.send(head)
        self.answer_begins(int(head.split(b" ", 2)[1]))
        if meanwhile is not None:
            await meanwhile()
        await self.stream.taken(TAKING_SECONDS)

    def leftover(self) -> bytes:
        """What a client has sent behind the request that was hijacked, before it had an answer."""
        self._request_is_whole()
        return bytes(self._h11.trailing_data[0])

    async def next_cycle(self) -> bool:
        """Make ready for the next request; False if the connection must end here.

        Raises:
            ClientGone: The connection broke.
        """
        if self.abandoned:
            return False
        if self.hijacked or self._h11.our_state is not h11.DONE:
            await self._linger()
            return False
        if not self._request_is_whole():
            await self._linger()
            return False
        self._h11.start_next_cycle()
        return True

    async def refuse(self, error: BrokenRequest, body: bytes) -> None:
        """Answer what was no request, and be done with the connection.

        Raises:
            ClientGone: Nobody will read it.
        """
        if not self.can_reply:
            return
        await self.stream.send(self.last_answer(error.status, body))
        await self._linger()

    def last_answer(self, status: int, body: bytes) -> bytes:
        """Spell an answer after which the connection ends."""
        out = self._head(
            status,
            [
                (b"Content-Type", b"application/json"),
                (b"Content-Length", b"%d" % len(body)),
                (b"Connection", b"close"),
            ],
        )
        return out if self._head_only else out + (self._h11.send(h11.Data(body)) or b"")

    async def _linger(self) -> None:
        self.stream.end_sending()
        await self.stream.drain(LINGER_SECONDS, LINGER_BYTES)


def _check_head(head: h11.Request) -> None:
    """Refuse what h11 lets pass: heads that arrive whole but oversized, and HTTP of tomorrow."""
    size = len(head.target) + sum(len(name) + len(value) for name, value in head.headers)
    if size > LONGEST_HEAD:
        raise BrokenRequest(431, f"bad request: the head has more than {LONGEST_HEAD} bytes")
    if head.http_version not in (b"1.1", b"1.0"):
        version = head.http_version.decode("ascii")
        raise BrokenRequest(505, f"bad request: HTTP {version} is not spoken here, only 1.1")


_latest_date = (0, b"")


def _date() -> bytes:
    """The Date header's value, made once a second."""
    global _latest_date
    now = int(time.time())
    if _latest_date[0] != now:
        _latest_date = (now, email.utils.formatdate(now, usegmt=True).encode())
    return _latest_date[1]
