"""Servers that are slow, dying, broken or hostile: one clear sentence each, and never a wrong action."""

import pickle
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.sync.server import ServerConnection

from wfm_sim.errors import UserError
from wfm_sim.policies.msgpack_numpy import pack, unpack
from wfm_sim.policies.remote import OpenpiPolicy
from wfm_sim.policies.remote_connection import Limits
from wfm_sim.policies.server import PolicyServer
from wfm_sim.policies.simple import RandomPolicy

Raw = Callable[..., int]
OBSERVATION = {
    "pixels": np.zeros((1, 8, 8, 3), np.uint8),
    "agent_pos": np.array([[0.3, 0.0, 0.1, 0.0, 0.0, 0.0, 1.0]], np.float32),
}
GOOD = np.zeros((1, 7), np.float32)
LIMITS = Limits(connect_timeout=5, infer_timeout=5, attempts=1, backoff=0, max_bytes=50_000)


def client(port: int, limits: Limits = LIMITS, **options: Any) -> OpenpiPolicy:
    return OpenpiPolicy("127.0.0.1", port, actions="canonical", limits=limits, **options)


def act(policy: OpenpiPolicy, reset: bool = True) -> np.ndarray:
    if reset:
        policy.reset({"instruction": np.array(["go"], dtype=object)}, [0])
    return policy.act(OBSERVATION)


def answering(*replies: bytes | str) -> Callable[[ServerConnection], None]:
    """A server that sends metadata and then, whatever it is asked, these replies."""

    def handle(connection: ServerConnection) -> None:
        connection.send(pack({}))
        for reply in replies:
            connection.recv()
            connection.send(reply)
        connection.recv()

    return handle


def raw_array(dtype: str, data: bytes, shape: list[int]) -> bytes:
    return msgpack.packb({"actions": {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}})


class Bomb:
    """Unpickled, it would leave a mark."""

    fell = False

    def __reduce__(self) -> Any:
        return (setattr, (Bomb, "fell", True))


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            "Traceback (most recent call):\n  File ...\nValueError: no CUDA\n",
            "reports an error: ValueError: no CUDA",
        ),
        ("", "reports an error: an empty message"),
        (b"\xc1\xc1", "sent a bad message: the frame of 2 bytes is not a msgpack message"),
        (b"", "is not a msgpack message"),
        (pickle.dumps(Bomb()), "looks like a Python pickle, which is never loaded"),
        (raw_array("|O", pickle.dumps(Bomb()), [1]), "arrays of Python objects (pickles)"),
        (raw_array("<c16", b"\0" * 112, [1, 7]), "only numbers, booleans and text"),
        (raw_array("<f4", b"\0" * 27, [1, 7]), "needs 28 bytes, not 27 bytes"),
        (pack({"action": GOOD}), "the reply has no 'actions'; it has 'action'"),
        (pack({}), "it has nothing"),
        (pack(None), "'actions' is a NoneType"),
        (pack({"actions": "left"}), "'actions' is a str; expected an array of numbers [N, 7]"),
        (pack({"actions": GOOD > 0}), "an array of dtype bool"),
        (pack({"actions": np.array([["a"] * 7])}), "an array of dtype <U1"),
        (pack({"actions": [[1.0], [1.0, 2.0]]}), "a list that is no array"),
        (pack({"actions": GOOD[0]}), "has shape [7]; expected [N, 7]"),
        (
            pack({"actions": np.zeros((5, 8))}),
            "has shape [5, 8]; expected [N, 7] with N in 1..1000 ('canonical'",
        ),
        (pack({"actions": np.zeros((0, 7))}), "has shape [0, 7]"),
        (pack({"actions": np.zeros((1001, 7), np.uint8)}), "has shape [1001, 7]"),
        (pack({"actions": np.array([[0, 0, np.nan, 0, 0, 0, 1]])}), "not finite, first nan at [0, 2]"),
        (pack({"actions": np.array([[0, 0, 0, 0, 0, 0, -np.inf]])}), "not finite, first -inf at [0, 6]"),
        (pack({"actions": np.full((1, 7), 1e300)}), "as large as 1e+300, which no action has"),
        (pack({"actions": np.zeros((1000, 7))}), "a frame was too big"),
    ],
)
def test_bad_replies(reply: bytes | str, said: str, serve_raw: Raw) -> None:
    policy = client(serve_raw(answering(reply)))
    with pytest.raises(UserError) as caught:
        act(policy)
    message = str(caught.value)
    assert said in message and "127.0.0.1" in message
    assert "\n" not in message and len(message) < 400
    assert not Bomb.fell
    policy.close()


def test_numbers_in_other_clothes_are_taken(serve_raw: Raw) -> None:
    sent = np.array([[0.01, 0, 0, 0, 0, 0, 1]])
    replies = [pack({"actions": given}) for given in (sent, sent.astype(">f2"), sent.tolist())]
    policy = client(serve_raw(answering(*replies)))
    policy.reset({}, [0])
    for _ in replies:
        np.testing.assert_allclose(policy.act(OBSERVATION), sent, atol=1e-4)
    policy.close()


def test_a_message_nobody_asked_for(serve_raw: Raw) -> None:
    def twice(connection: ServerConnection) -> None:
        connection.send(pack({}))
        connection.recv()
        connection.send(pack({"actions": GOOD}))
        connection.send(pack({"actions": GOOD + 1}))
        connection.recv()

    policy = client(serve_raw(twice))
    act(policy)
    time.sleep(0.3)  # let the second one arrive
    with pytest.raises(UserError, match="a message that nobody asked for"):
        act(policy, reset=False)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (pack([1, 2]), "is a list; expected a map"),
        (b"\xff\x00", "sent a bad message"),
        ("RuntimeError: out of memory", "reports an error: RuntimeError: out of memory"),
        (pack({"actions": np.zeros((2000, 7))}), "a frame was too big"),
        (None, "sent no metadata within 0.3 s"),
        (
            pack({"image_resolution": "big", "n_external_cameras": 1, "action_space": "x"}),
            "unknown RoboArena action space",
        ),
    ],
)
def test_bad_first_messages(first: bytes | str | None, said: str, serve_raw: Raw) -> None:
    def handle(connection: ServerConnection) -> None:
        if first is not None:
            connection.send(first)
        connection.recv()

    policy = client(serve_raw(handle), Limits(connect_timeout=0.3, attempts=1, max_bytes=50_000))
    with pytest.raises(UserError) as caught:
        policy.reset({}, [0])
    assert said in str(caught.value)


def test_the_meaning_of_actions_is_never_guessed(serve_raw: Raw) -> None:
    policy = OpenpiPolicy("127.0.0.1", serve_raw(answering()), limits=LIMITS)
    with pytest.raises(UserError, match=r"nothing says what the actions .* mean; name their contract .*bridge-rlds"):
        policy.reset({}, [0])


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""])
def test_something_else_listens(greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def stranger() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(4096)
                    peer.sendall(greeting)

        thread = threading.Thread(target=stranger, daemon=True)
        thread.start()
        with pytest.raises(UserError) as caught:
            client(listener.getsockname()[1], Limits(connect_timeout=2, attempts=1)).reset({}, [0])
        assert "127.0.0.1" in str(caught.value) and len(str(caught.value)) < 300
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=5)


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"no policy server answers at ws://127.0.0.1:{port} \(.*; 3 attempts\)"):
        client(port, Limits(attempts=3, backoff=0.05)).reset({}, [0])
    assert time.monotonic() - began > 0.15  # it waited 0.05 s and 0.1 s between them


def test_a_server_that_never_answers_and_its_late_reply(serve_raw: Raw) -> None:
    let_go, connections = threading.Event(), []

    def slow_once(connection: ServerConnection) -> None:
        connections.append(connection)
        connection.send(pack({}))
        while True:
            connection.recv()
            if len(connections) == 1:
                let_go.wait(10)
            connection.send(pack({"actions": np.full((1, 7), 0.01 * len(connections))}))

    policy = client(serve_raw(slow_once), Limits(infer_timeout=0.3))
    with pytest.raises(UserError, match=r"gave no answer within 0.3 s"):
        act(policy)
    let_go.set()
    # The first connection's reply must not be taken for this one's.
    np.testing.assert_allclose(act(policy), 0.02, rtol=1e-6)
    assert len(connections) == 2
    policy.close()


def test_a_server_that_dies_and_comes_back(serve_raw: Raw) -> None:
    seen: list[Any] = []

    def one_request(connection: ServerConnection) -> None:
        connection.send(pack({}))
        seen.append(unpack(connection.recv()))
        connection.send(pack({"actions": GOOD + len(seen)}))

    port = serve_raw(one_request)  # hangs up after every answer
    policy = client(port)
    policy.reset({}, [0])
    for step in (1, 2, 3):
        np.testing.assert_array_equal(policy.act(OBSERVATION), GOOD + step)
    assert len(seen) == 3
    policy.close()


def test_a_server_that_is_away_for_a_while(serve_raw: Raw) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    timer = threading.Timer(0.5, serve_raw, [answering(pack({"actions": GOOD})), port])
    timer.start()
    np.testing.assert_array_equal(act(client(port, Limits(attempts=30, backoff=0.1))), GOOD)
    timer.join()


def test_sending_again_is_bounded(serve_raw: Raw) -> None:
    requests = []

    def dies(connection: ServerConnection) -> None:
        connection.send(pack({}))
        requests.append(connection.recv())

    policy = client(serve_raw(dies), Limits(attempts=2, backoff=0, resends=2))
    with pytest.raises(UserError, match="ended the connection"):
        act(policy)
    assert len(requests) == 3 and len(set(requests)) == 1


def test_another_server_at_the_same_address_is_noticed(serve_raw: Raw) -> None:
    from wfm_sim.action_contract import named_contract

    contracts = iter([named_contract("canonical").to_json(), named_contract("bridge-rlds").to_json()])

    def one_request(connection: ServerConnection) -> None:
        connection.send(pack({"action_contract": next(contracts)}))
        connection.recv()
        connection.send(pack({"actions": GOOD}))

    policy = OpenpiPolicy("127.0.0.1", serve_raw(one_request), limits=LIMITS)
    act(policy)
    with pytest.raises(UserError, match="is not the one it was: its metadata changed"):
        act(policy, reset=False)


def test_our_servers_episodes_die_with_it(serve_policy: Callable[..., PolicyServer]) -> None:
    server = serve_policy(RandomPolicy)
    policy = OpenpiPolicy("127.0.0.1", server.port, limits=LIMITS)
    first = act(policy)
    server.close()
    with pytest.raises(UserError, match="and with it the policy's episodes: begin them again"):
        act(policy, reset=False)
    with pytest.raises(UserError, match="0 were reset"):  # no action of a policy that lost its episode
        act(policy, reset=False)
    serve_policy(RandomPolicy, port=server.port)
    np.testing.assert_array_equal(act(policy), first)
    policy.close()


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("hello", "requests are binary frames"),
        (b"\xc1", "is not a msgpack message"),
        (pack([1]), "a request must be a map, not a list"),
        (pack({"endpoint": "shutdown"}), "unknown endpoint 'shutdown'; known: infer, reset"),
        (pack({}), "the request has no observation"),
        (
            pack({"prompt": "x", "observation/image": np.zeros((8, 8, 3), np.uint8)}),
            "needs 'agent_pos' (request key 'observation/state')",
        ),
        (pack({"observation/state": "here"}), "is str; expected an array of numbers"),
        (pack({"observation/state": np.full(7, np.nan)}), "not finite"),
        (pack({"observation/state": np.zeros(8)}), "is float64 [8]; expected [7]"),
        (pack({"observation/state": np.zeros(7), "observation/image": np.zeros((8, 8, 3))}), "is float64 [8, 8, 3]"),
        (pack({"wfm_sim/observation": {"agent_pos": np.zeros((1, 7))}}), "no episode has begun"),
        (pack({"wfm_sim/begin": 5}), "'wfm_sim/begin' must be a map"),
        (pack({"wfm_sim/begin": {"seeds": [-1], "mask": np.array([True]), "info": {}}}), "must be integers >= 0"),
        (pack({"wfm_sim/begin": {"seeds": [1, 2], "mask": np.array([True]), "info": {}}}), "must be booleans [2]"),
        (pack({"wfm_sim/begin": {"seeds": [1, 2], "mask": np.array([True, False]), "info": {}}}), "only 1 begin"),
    ],
)
def test_bad_requests_to_our_server(
    request_: bytes | str, said: str, serve_policy: Callable[..., PolicyServer]
) -> None:
    from websockets.sync.client import connect

    server = serve_policy(RandomPolicy, max_bytes=10_000)
    with connect(server.url, proxy=None) as connection:
        connection.recv()
        connection.send(request_)
        answer = connection.recv(timeout=5)
    assert isinstance(answer, str) and answer.startswith("error: ") and said in answer
    assert "\n" not in answer
    assert act(OpenpiPolicy("127.0.0.1", server.port, limits=LIMITS)).shape == (1, 7)  # it serves on


def test_a_crashing_policy_does_not_take_the_server_along(serve_policy: Callable[..., PolicyServer]) -> None:
    class Crashing(RandomPolicy):
        def act(self, observation: Any) -> Any:
            raise ZeroDivisionError("of my own")

    server = serve_policy(Crashing)
    for _ in range(2):
        with pytest.raises(UserError, match="reports an error: internal error: ZeroDivisionError: of my own"):
            act(OpenpiPolicy("127.0.0.1", server.port, limits=LIMITS))
