"""Policy servers for tests: ours, and bare websockets that say whatever a test wants."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from wfm_sim.policies.base import Policy
from wfm_sim.policies.server import PolicyServer, ServerConfig


@pytest.fixture(autouse=True)
def no_key_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API key of whoever runs the tests is not to be used in them."""
    monkeypatch.delenv("WFM_SIM_POLICY_API_KEY", raising=False)


@pytest.fixture
def serve_policy() -> Iterator[Callable[..., PolicyServer]]:
    """serve_policy(make_policy, **config) -> a server of ours on a free port, answering in a thread."""
    running: list[tuple[PolicyServer, threading.Thread]] = []

    def start(make_policy: Callable[[], Policy], port: int = 0, **config: object) -> PolicyServer:
        server = PolicyServer(make_policy, ServerConfig(port=port, **config))  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.close()
        thread.join(timeout=10)
        assert not thread.is_alive()


@pytest.fixture
def serve_raw() -> Iterator[Callable[..., int]]:
    """serve_raw(handler, port=0) -> the port of a websocket server that calls handler(connection) per client."""
    running = []

    def start(handler: Callable[[ServerConnection], None], port: int = 0) -> int:
        def handle(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                handler(connection)

        server = serve(handle, "127.0.0.1", port, compression=None, max_size=None)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return int(server.socket.getsockname()[1])

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join(timeout=10)
        assert not thread.is_alive()
