"""One websocket connection to a policy server: connect, ask, wait so long and no longer, say what went wrong.

    connection = Connection(["ws://127.0.0.1:8000"], Limits(), api_key=None)
    connection.open()                       # retries while nothing listens; connection.metadata is what the server says
    reply = connection.ask({"prompt": ...}) # one frame each way
    connection.close()

Whatever the network or the server does ends in a UserError of one sentence. A request that was cut off by a lost
connection raises ConnectionLostError, which the caller may answer with `open` and asking again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from wfm_sim.errors import UserError
from wfm_sim.policies.msgpack_numpy import pack, unpack

LOOPBACK = ("localhost", "127.0.0.1", "::1")
UNAUTHORISED = (401, 403)
MESSAGE_TOO_BIG = 1009


class ConnectionLostError(UserError):
    """The connection ended before the reply came."""


@dataclass(frozen=True)
class Limits:
    """How long to wait and how much to take.

    Attributes:
        connect_timeout: Seconds for one attempt to connect, its first message included.
        infer_timeout: Seconds for one reply. Large policies compile at their first request: be generous.
        attempts: How often to try to connect, >= 1.
        backoff: Seconds before the second attempt; each further wait doubles, up to MAX_BACKOFF.
        max_bytes: Of one frame; a larger one ends the connection.
        resends: How often a request is sent again, on a new connection, when the connection ended before the reply.
    """

    connect_timeout: float = 10.0
    infer_timeout: float = 60.0
    attempts: int = 5
    backoff: float = 0.5
    max_bytes: int = 64 * 2**20
    resends: int = 2

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "infer_timeout", "attempts", "max_bytes"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("backoff", "resends"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} must be >= 0, not {getattr(self, name)}")


MAX_BACKOFF = 8.0


class Connection:
    """See the module. Not for use by several threads at once."""

    def __init__(self, urls: Sequence[str], limits: Limits, api_key: str | None = None) -> None:
        """Set up; nothing is sent yet.

        Args:
            urls: ws:// or wss:// addresses of the same server, in the order to be tried.
            limits: See Limits.
            api_key: Sent as the header `Authorization: Api-Key ...`, as openpi's client does.
        """
        self._urls, self._limits = list(urls), limits
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        self._socket: ClientConnection | None = None
        self.metadata: dict[str, Any] = {}

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    @property
    def url(self) -> str:
        """The address in use, or the first to be tried."""
        return self._urls[0]

    def open(self) -> None:
        """Connect, unless connected, and read the server's metadata.

        Raises:
            UserError: nothing answered in any attempt, the server refused, or its first message is no map.
        """
        if self._socket is not None:
            return
        wait = self._limits.backoff
        for attempt in range(1, self._limits.attempts + 1):
            try:
                self._open_any()
                return
            except (OSError, EOFError, ConnectionClosed) as error:  # TimeoutError is an OSError
                if attempt == self._limits.attempts:
                    tried = f"{attempt} attempts" if attempt > 1 else "one attempt"
                    raise UserError(f"no policy server answers at {self.url} ({_why(error)}; {tried})") from error
            time.sleep(min(wait, MAX_BACKOFF))
            wait *= 2

    def ask(self, message: dict[str, Any], text_ok: bool = False) -> Any:
        """Send one message and return the reply, decoded; a text reply as str where `text_ok`.

        Raises:
            ConnectionLostError: the connection ended before the reply came.
            UserError: the server reported an error or sent no valid frame, or `infer_timeout` passed. The connection is
                closed then: a late reply must not be taken for that to the next request.
        """
        assert self._socket is not None, "open first"
        frame = pack(message)
        self._refuse_unasked()
        try:
            self._socket.send(frame)
            reply = self._socket.recv(timeout=self._limits.infer_timeout)
        except TimeoutError as error:
            self.close()
            raise UserError(
                f"the policy server at {self.url} gave no answer within {self._limits.infer_timeout:g} s"
            ) from error
        except (ConnectionClosed, OSError) as error:
            self.close()
            raise self._lost(error) from error
        except BaseException:  # Ctrl-C while waiting: the reply is still under way
            self.close()
            raise
        if isinstance(reply, str):
            if text_ok:
                return reply
            self.close()
            raise UserError(f"the policy server at {self.url} reports an error: {last_line(reply)}")
        return self._decode(reply)

    def _refuse_unasked(self) -> None:
        """A frame that is already there answers no request of ours; taken for a reply, it would shift all others."""
        assert self._socket is not None
        try:
            frame = self._socket.recv(timeout=0)
        except (TimeoutError, ConnectionClosed):  # nothing there; a closed connection shows when sending
            return
        self.close()
        if isinstance(frame, str):
            raise UserError(f"the policy server at {self.url} reports an error: {last_line(frame)}")
        raise UserError(f"the policy server at {self.url} sent a message that nobody asked for")

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._socket is not None:
            socket, self._socket = self._socket, None
            with contextlib.suppress(OSError, ConnectionClosed):
                socket.close()

    def _open_any(self) -> None:
        """One attempt at each address; the one that works is kept."""
        for i, url in enumerate(self._urls):
            try:
                self._socket = self._connect(url)
            except InvalidStatus as error:
                status = error.response.status_code
                hint = "; is the API key right?" if status in UNAUTHORISED else ""
                raise UserError(f"the policy server at {url} refused with HTTP status {status}{hint}") from error
            except InvalidURI as error:
                raise UserError(f"{url!r} is no address of a policy server; expected ws://host:port") from error
            except (InvalidHandshake, ConnectionClosed, EOFError, OSError) as error:
                plain_refusal = isinstance(error, (ConnectionRefusedError, TimeoutError))
                if i + 1 < len(self._urls) and not plain_refusal:
                    continue  # a TLS server talks gibberish to plain ws://
                if isinstance(error, InvalidHandshake) and not isinstance(error.__cause__, (OSError, EOFError)):
                    raise UserError(f"what answers at {url} is no websocket server ({_why(error)})") from error
                raise OSError(_why(error)) from error
            self._urls = [url]
            self._greet()
            return

    def _connect(self, url: str) -> ClientConnection:
        connecting = connect(
            url,
            additional_headers=self._headers,
            compression=None,  # images are sent as they are; deflate would only cost time
            open_timeout=self._limits.connect_timeout,
            close_timeout=1.0,
            # A policy server that computes in its event loop answers no pings meanwhile; infer_timeout is what counts.
            ping_interval=None,
            max_size=self._limits.max_bytes,
            max_queue=2,
            proxy=None if urlsplit(url).hostname in LOOPBACK else True,
        )
        return connecting.__enter__()

    def _greet(self) -> None:
        """Read the first message, which every server sends of its own accord."""
        assert self._socket is not None
        try:
            frame = self._socket.recv(timeout=self._limits.connect_timeout)
        except TimeoutError as error:
            self.close()
            raise UserError(
                f"the server at {self.url} accepted the connection but sent no metadata within "
                f"{self._limits.connect_timeout:g} s; is it a policy server?"
            ) from error
        except BaseException as error:
            self.close()
            if isinstance(error, ConnectionClosed) and _code(error) == MESSAGE_TOO_BIG:
                raise self._lost(error) from error
            raise
        if isinstance(frame, str):
            self.close()
            raise UserError(f"the policy server at {self.url} reports an error: {last_line(frame)}")
        metadata = self._decode(frame)
        if not isinstance(metadata, dict):
            self.close()
            raise UserError(
                f"the first message of the server at {self.url} is a {type(metadata).__name__}; expected a map"
            )
        self.metadata = metadata

    def _decode(self, frame: bytes) -> Any:
        try:
            return unpack(frame)
        except UserError as error:
            self.close()
            raise UserError(f"the policy server at {self.url} sent a bad message: {error}") from error

    def _lost(self, error: Exception) -> UserError:
        if isinstance(error, ConnectionClosed) and _code(error) == MESSAGE_TOO_BIG:
            return UserError(
                f"a frame was too big: the policy server at {self.url} sent more than {self._limits.max_bytes} bytes, "
                f"or takes less than it was sent ({_why(error)})"
            )
        return ConnectionLostError(f"the policy server at {self.url} ended the connection ({_why(error)})")


def last_line(text: str) -> str:
    """What a traceback ends with: the exception itself, at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "an empty message"


def _code(error: ConnectionClosed) -> int | None:
    frames = [frame for frame in (error.sent, error.rcvd) if frame is not None]
    codes = [frame.code for frame in frames]
    return MESSAGE_TOO_BIG if MESSAGE_TOO_BIG in codes else (codes[0] if codes else None)


def _why(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return said[:200] or type(error).__name__
