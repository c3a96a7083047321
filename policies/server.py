"""A websocket server that offers a policy of ours to openpi clients, RoboArena-style `endpoint`s, and our own client.

    with PolicyServer(ScriptedExpert, ServerConfig(port=8000)) as server:
        server.serve_forever()                    # until another thread calls server.close(), or Ctrl-C

Every connection is a session with a policy of its own. Loopback by default; any other address needs an API key.
docs/remote_policies.md says what a client sends and gets.
"""

from __future__ import annotations

import hmac
import http
import ipaddress
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from wfm_sim.errors import UserError
from wfm_sim.policies.base import Policy
from wfm_sim.policies.msgpack_numpy import pack, unpack
from wfm_sim.policies.server_session import Session, metadata_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerConfig:
    """Where and how to serve.

    Attributes:
        host: Address to listen at. Anything but loopback is refused without an API key.
        port: 0 takes a free one, see `PolicyServer.port`.
        api_key: What clients must send as `Authorization: Api-Key ...`; None lets everyone in who can reach the port.
        seed: Episode k of an openpi client's connection has seed + k; our own client sends its seeds.
        max_bytes: Of one request.
        max_connections: Further clients are turned away.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    seed: int = 0
    max_bytes: int = 64 * 2**20
    max_connections: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"port must be 0..65535, not {self.port}")
        if self.seed < 0:
            raise UserError(f"seed must be >= 0, not {self.seed}")
        if self.api_key is not None and (not self.api_key.isascii() or not self.api_key.strip()):
            raise UserError("the API key must be a text of ASCII characters, and not empty")
        if self.api_key is None and not is_loopback(self.host):
            raise UserError(
                f"serving at {self.host!r} lets others in: it needs an API key (127.0.0.1 serves this machine alone)"
            )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may lead anywhere
        return False


class PolicyServer:
    """Listens from the moment it is made; `serve_forever` answers."""

    def __init__(self, make_policy: Callable[[], Policy], config: ServerConfig | None = None) -> None:
        """Bind the port.

        Args:
            make_policy: Called once per connection, in that connection's thread.
            config: See ServerConfig.

        Raises:
            UserError: the policy cannot be made, or the address is not free.
        """
        self.config = config or ServerConfig()
        self._make_policy = make_policy
        self._metadata = metadata_of(make_policy())
        self._lock = threading.Lock()
        self._open: set[ServerConnection] = set()
        self._closing = self._serving = False
        self.requests = 0
        try:
            self._server = serve(
                self._handle,
                self.config.host,
                self.config.port,
                compression=None,
                max_size=self.config.max_bytes,
                ping_timeout=120,  # a client may be busy with its own model; only the dead are to be dropped
                # Browsers send an Origin and policy clients do not: no web page gets at a server on this machine.
                origins=[None],
                process_request=self._admit,
                server_header=None,
                logger=_quiet_logger(),
            )
        except OSError as error:
            raise UserError(
                f"cannot serve at {self.config.host}:{self.config.port}: {error.strerror or error}"
            ) from error
        self.port = int(self._server.socket.getsockname()[1])

    @property
    def url(self) -> str:
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"ws://{host}:{self.port}"

    def __enter__(self) -> PolicyServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def serve_forever(self) -> None:
        """Answer until `close` is called from another thread, or an exception such as Ctrl-C's ends it."""
        self._serving = True
        self._server.serve_forever()

    def close(self) -> None:
        """Stop listening, tell the clients, and wait for requests under way."""
        with self._lock:
            self._closing = True
            connections = list(self._open)
        for connection in connections:
            connection.close(CloseCode.GOING_AWAY, "the server stops")
        if self._serving:
            self._server.shutdown()
        else:  # shutdown would wait for a loop that never ran
            self._server.socket.close()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """The health check, and the API key."""
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if self.config.api_key is not None:
            given = request.headers.get_all("Authorization")
            expected = f"Api-Key {self.config.api_key}"
            if len(given) != 1 or not hmac.compare_digest(given[0].encode(), expected.encode()):
                return connection.respond(http.HTTPStatus.UNAUTHORIZED, "wrong or missing API key\n")
        return None

    def _handle(self, connection: ServerConnection) -> None:
        """One session, from its metadata to the end of the connection."""
        with self._lock:
            full = len(self._open) >= self.config.max_connections
            if not full and not self._closing:
                self._open.add(connection)
        if full or self._closing:
            connection.close(CloseCode.TRY_AGAIN_LATER, "too many clients" if full else "the server stops")
            return
        try:
            session = Session(self._make_policy(), self.config.seed)
            connection.send(pack(self._metadata))
            self._answer(connection, session)
        except ConnectionClosed:
            pass
        except UserError as error:
            self._fail(connection, f"error: {error}")
        except Exception as error:
            logger.exception("a request failed")
            self._fail(connection, f"internal error: {type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._open.discard(connection)

    def _answer(self, connection: ServerConnection, session: Session) -> None:
        last_ms = None
        while True:
            frame = connection.recv()
            began = time.monotonic()
            if isinstance(frame, str):
                raise UserError("requests are binary frames of msgpack, not text")
            reply = session.answer(unpack(frame))
            if isinstance(reply, dict):
                reply["server_timing"] = {"infer_ms": 1000 * (time.monotonic() - began)}
                if last_ms is not None:
                    reply["server_timing"]["prev_total_ms"] = last_ms
            connection.send(reply if isinstance(reply, str) else pack(reply))
            last_ms = 1000 * (time.monotonic() - began)
            with self._lock:
                self.requests += 1

    def _fail(self, connection: ServerConnection, sentence: str) -> None:
        """As openpi's server: the error as a text frame, then close."""
        try:
            connection.send(sentence)
            connection.close(CloseCode.INTERNAL_ERROR, "the previous frame says what went wrong")
        except ConnectionClosed:
            pass


def _quiet_logger() -> logging.Logger:
    """Strangers that speak no websocket are no news; websockets would print a traceback for each."""
    quiet = logging.getLogger(f"{__name__}.websockets")
    quiet.setLevel(logging.CRITICAL)
    return quiet
