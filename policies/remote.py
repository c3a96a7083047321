"""Policies that run elsewhere: openpi's websocket protocol, RoboArena's dialect of it, and our own servers.

    policy = OpenpiPolicy("robot-lab", 8000, actions="bridge-rlds", horizon=8)
    policy.reset(info, seeds)                     # connects; the server says in its first message what it is
    actions = policy.act(observation)             # float32 [B, 7], canonical

    policy = remote_policy("openpi://robot-lab?actions=bridge-rlds&horizon=8")      # the same, see remote_name.py

Three kinds of server, told apart by their first message:
- openpi: one connection and one request per row; the reply is a chunk of actions, `horizon` of which are executed
  before the next request. It has no notion of an episode.
- RoboArena: the same with an `endpoint` (infer, reset), a session id per episode, and a config that says what it wants.
- wfm-sim (policies/server.py): the whole batch in one request, the environment's info and seeds at the reset, so that
  a policy acts as it would here. docs/remote_policies.md has the protocols.
"""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from wfm_sim.action_contract import CANONICAL, CONTRACTS, ActionContract, load_contract
from wfm_sim.errors import UserError, unknown
from wfm_sim.policies.base import ready_rows, rows_to_reset
from wfm_sim.policies.remote_actions import ROBOARENA_SPACES, canonical_actions, check_contract, per_step, read_chunk
from wfm_sim.policies.remote_connection import Connection, ConnectionLostError, Limits
from wfm_sim.policies.remote_observations import ObservationKeys, RoboArenaConfig, encode, encode_roboarena
from wfm_sim.policies.remote_wire import BEGIN, OBSERVATION, OURS, to_wire

API_KEY_VARIABLE = "WFM_SIM_POLICY_API_KEY"
DEFAULT_PORT = 8000
DIALECTS = ("auto", "openpi", "roboarena")
CAMERAS = {"observation/exterior_image_0_left": "pixels"}

Dialect = Literal["openpi", "roboarena", "wfm-sim"]
Read = TypeVar("Read")


@dataclass(frozen=True)
class _Server:
    """What the first message says: the dialect, what the actions are, and RoboArena's wishes."""

    dialect: Dialect
    contract: ActionContract
    config: RoboArenaConfig | None = None


@dataclass
class _Row:
    """One episode under way."""

    prompt: str | None
    session: str
    chunk: NDArray[np.float64]  # what is left of it, as sent, [n, A]
    ready: list[NDArray[np.float32]]  # canonical actions of a server that is slower than the environment
    asked: bool = False


class OpenpiPolicy:
    """A policy behind a websocket; see the module. Connects at the first reset; `close` ends the connections."""

    def __init__(
        self,
        host: str,
        port: int | None = None,
        api_key: str | None = None,
        *,
        dialect: Literal["auto", "openpi", "roboarena"] = "auto",
        actions: str | ActionContract | None = None,
        horizon: int | None = None,
        keys: ObservationKeys | None = None,
        cameras: Mapping[str, str] | None = None,
        blank: tuple[str, ...] = (),
        actions_key: str = "actions",
        prompt: str | None = None,
        limits: Limits | None = None,
        name: str | None = None,
    ) -> None:
        """Set up; nothing is sent yet.

        Args:
            host: A host name or address, or a whole ws:// or wss:// URL. Without a scheme ws:// is tried, then wss://.
            port: 8000 for a bare host, None for a URL that has its own.
            api_key: Sent as `Authorization: Api-Key ...`; the environment variable WFM_SIM_POLICY_API_KEY by default.
            dialect: 'auto' goes by the server's first message.
            actions: What the server's actions are: a contract of wfm_sim/action_contract.py, its name, or the path of
                one in JSON. Not needed where the server says it: ours, RoboArena's cartesian spaces, and any server
                with a contract under 'action_contract' in its metadata.
            horizon: How many actions of a chunk are executed before the next request; None: all of them.
            keys: Which keys an openpi server reads what from.
            cameras: The same for a RoboArena server's images: its key -> ours.
            blank: RoboArena image keys to be sent black.
            actions_key: Where the reply has its actions.
            prompt: Sent instead of the environment's instruction.
            limits: Timeouts, retries and the largest frame.
            name: What reports call it; the address by default.

        Raises:
            UserError: no such dialect or contract, one of joints, a horizon < 1, or an impossible address.
        """
        if dialect not in DIALECTS:
            raise unknown("dialect", dialect, DIALECTS)
        if horizon is not None and horizon < 1:
            raise UserError(f"horizon must be at least 1 action, not {horizon}")
        self._urls = _addresses(host, port)
        self._api_key = api_key or os.environ.get(API_KEY_VARIABLE)
        self._dialect, self._horizon = dialect, horizon
        contract = load_contract(actions) if isinstance(actions, str) else actions
        self._contract = None if contract is None else check_contract(contract)
        self._keys = keys or ObservationKeys()
        self._cameras, self._blank = dict(CAMERAS if cameras is None else cameras), blank
        self._actions_key, self._prompt = actions_key, prompt
        self._limits = limits or Limits()
        self.name = name or self._urls[0]
        self._server: _Server | None = None
        self._connections: list[Connection] = []
        self._rows: list[_Row | None] = []
        self._finalizer = weakref.finalize(self, _close_all, self._connections)

    @property
    def metadata(self) -> dict[str, Any]:
        """The server's first message; connects if need be. Raises UserError as `reset` does."""
        return self._open(0).metadata

    def reset(self, info: dict[str, Any], seeds: Sequence[int], mask: NDArray[np.bool_] | None = None) -> None:
        """See Policy.reset. Reads info["instruction"]; a server of ours is sent all that can be sent.

        Raises:
            UserError: no server, or none that can be understood; see Connection and RoboArenaConfig.
        """
        count = len(seeds)
        rows = rows_to_reset(count, mask)
        if len(self._rows) != count:
            self._rows = [None] * count
        if self._server is None:
            self._open(0)
        assert self._server is not None
        if self._server.dialect == "wfm-sim":
            chosen = np.isin(np.arange(count), rows)
            fresh = all(row is None for i, row in enumerate(self._rows) if i not in rows)
            begin = {"mask": chosen, "seeds": [int(seed) for seed in seeds], "info": to_wire(info)}
            self._ask_ours({BEGIN: begin}, may_reconnect=fresh)
        for i in rows:
            before = self._rows[i]
            if self._server.dialect == "roboarena" and before is not None and before.asked:
                self._ask(i, {"endpoint": "reset", "session_id": before.session}, text_ok=True)
            self._rows[i] = _Row(self._instruction(info, i), uuid.uuid4().hex, np.empty((0, 0)), [])

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See Policy.act.

        Raises:
            UserError: the observation lacks what the server wants, the server failed or did not answer in time, or its
                answer is no chunk of finite actions.
        """
        if "agent_pos" not in observation:
            raise UserError(f"the environment's observation has no 'agent_pos'; it has {', '.join(observation)}")
        poses = np.asarray(observation["agent_pos"], dtype=np.float64)
        rows = ready_rows(self._rows, len(poses))
        assert self._server is not None
        if self._server.dialect == "wfm-sim":
            reply = self._ask_ours({OBSERVATION: to_wire(observation)}, may_reconnect=False)
            actions = self._checked(lambda: read_chunk(reply, "actions", CANONICAL))
            if len(actions) != len(rows):
                raise UserError(
                    f"the policy server at {self._urls[0]} sent {len(actions)} actions for {len(rows)} rows"
                )
            return actions.astype(np.float32)
        return np.stack([self._act_row(i, row, observation, poses[i]) for i, row in enumerate(rows)])

    def close(self) -> None:
        """End all connections; a later `reset` opens them again."""
        _close_all(self._connections)
        self._rows = []

    def _act_row(
        self, i: int, row: _Row, observation: dict[str, NDArray[Any]], pose: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """The next action of one row, from what is left of its chunk or from the server."""
        assert self._server is not None
        contract = self._server.contract
        if not row.ready:
            group = per_step(contract)
            if len(row.chunk) < group:
                reply = self._ask(i, self._request(row, observation, i))
                row.asked = True
                row.chunk = self._checked(lambda: self._executed(reply, contract))
            rows, row.chunk = row.chunk[:group], row.chunk[group:]
            row.ready = list(self._checked(lambda: canonical_actions(contract, rows, pose)))
        return row.ready.pop(0)

    def _executed(self, reply: Any, contract: ActionContract) -> NDArray[np.float64]:
        """The part of the reply's chunk that is executed before the next request."""
        chunk = read_chunk(reply, self._actions_key, contract)
        wanted = len(chunk) if self._horizon is None else self._horizon
        if wanted > len(chunk):
            raise UserError(f"a chunk of {len(chunk)} actions is shorter than the horizon of {wanted}")
        if wanted < per_step(contract):
            raise UserError(
                f"{wanted} {contract.name!r} actions are less than one step: they come at {contract.rate_hz:g} Hz, "
                f"{per_step(contract)} to a step"
            )
        return chunk[:wanted]

    def _request(self, row: _Row, observation: dict[str, NDArray[Any]], i: int) -> dict[str, Any]:
        assert self._server is not None
        if self._server.config is None:
            return encode(self._keys, observation, i, row.prompt)
        config = self._server.config
        return encode_roboarena(config, self._cameras, self._blank, observation, i, row.prompt, row.session)

    def _instruction(self, info: Mapping[str, Any], i: int) -> str | None:
        if self._prompt is not None:
            return self._prompt
        return str(info["instruction"][i]) if "instruction" in info else None

    def _open(self, i: int) -> Connection:
        """Row i's connection, open; the first time the server is also made out."""
        while len(self._connections) <= i:
            self._connections.append(Connection(self._urls, self._limits, self._api_key))
        connection = self._connections[i]
        if not connection.is_open:
            connection.open()
            self._urls = [connection.url]
            try:
                server = self._make_out(connection.metadata)
                if self._server is not None and server != self._server:
                    raise UserError(
                        f"the policy server at {connection.url} is not the one it was: its metadata changed"
                    )
            except UserError:
                connection.close()
                raise
            self._server = server
        return connection

    def _make_out(self, metadata: dict[str, Any]) -> _Server:
        if self._dialect == "roboarena" or (self._dialect == "auto" and RoboArenaConfig.recognises(metadata)):
            if not RoboArenaConfig.recognises(metadata):
                raise UserError(f"the server at {self._urls[0]} sent no RoboArena config as its first message")
            config = RoboArenaConfig.read(metadata)
            contract = self._contract or ROBOARENA_SPACES[config.action_space]
            if contract is None:
                raise UserError(
                    f"the RoboArena server at {self._urls[0]} sends {config.action_space} actions, which only the "
                    "arm's kinematics can turn into ours; serve cartesian_position or cartesian_velocity"
                )
            return _Server("roboarena", contract, config)
        if self._dialect == "auto" and isinstance(metadata.get(OURS), dict):
            return _Server("wfm-sim", CANONICAL)
        contract = self._contract or self._declared(metadata)
        if contract is None:
            raise UserError(
                f"nothing says what the actions of the policy server at {self._urls[0]} mean; name their contract "
                f"(actions=...): {', '.join(CONTRACTS)}, or a JSON file"
            )
        return _Server("openpi", contract)

    def _declared(self, metadata: dict[str, Any]) -> ActionContract | None:
        """The contract in the metadata of a server that knows of them."""
        given = metadata.get("action_contract")
        if given is None:
            return None
        try:
            return check_contract(ActionContract.from_json(given))
        except (UserError, TypeError) as error:
            raise UserError(f"the policy server at {self._urls[0]} declares no sound contract: {error}") from error

    def _ask(self, i: int, message: dict[str, Any], text_ok: bool = False) -> Any:
        """Row i's request; sent again on a new connection when the old one ended before the reply."""
        for attempt in range(self._limits.resends + 1):
            connection = self._open(i)
            try:
                return connection.ask(message, text_ok)
            except ConnectionLostError:
                if attempt == self._limits.resends:
                    raise
        raise AssertionError  # pragma: no cover

    def _ask_ours(self, message: dict[str, Any], may_reconnect: bool) -> Any:
        """The batch's request to a server of ours, whose policy lives and dies with the connection."""
        if may_reconnect:
            return self._ask(0, message)
        connection = self._connections[0]
        try:
            if not connection.is_open:
                raise ConnectionLostError(f"the policy server at {connection.url} ended the connection")
            return connection.ask(message)
        except ConnectionLostError as error:
            self._rows = [None] * len(self._rows)
            raise UserError(f"{error}, and with it the policy's episodes: begin them again") from error

    def _checked(self, read: Callable[[], Read]) -> Read:
        try:
            return read()
        except UserError as error:
            raise UserError(f"the policy server at {self._urls[0]} sent bad actions: {error}") from error


def _addresses(host: str, port: int | None) -> list[str]:
    if "://" not in host:
        end = f"{host}:{DEFAULT_PORT if port is None else port}"
        return [f"ws://{end}", f"wss://{end}"]
    if not host.startswith(("ws://", "wss://")):
        raise UserError(f"{host!r} is no address of a policy server; expected a host, ws://... or wss://...")
    return [host if port is None else f"{host.rstrip('/')}:{port}"]


def _close_all(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()
