"""One client's session with a policy: what it asks in, what it gets out. Nothing here knows about sockets.

A request is one of
- our own client's: "wfm_sim/begin" or "wfm_sim/observation", see remote_wire.py;
- an openpi client's: the keys of REQUEST. The first one of a connection begins an episode; so does "wfm_sim/reset";
- the same with RoboArena's "endpoint", where "reset" ends the episode and is answered by the text "reset successful".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wfm_sim.action_contract import CANONICAL
from wfm_sim.actions import ACTION_DIM
from wfm_sim.errors import UserError, unknown
from wfm_sim.policies.base import Policy, batch_of_one
from wfm_sim.policies.remote_wire import BEGIN, BEGUN, INFO, OBSERVATION, OURS, from_wire

# Request key -> key of the observation that the policy gets.
REQUEST = {"observation/image": "pixels", "observation/state": "agent_pos"}
RESET, PROMPT, ENDPOINT, SESSION = "wfm_sim/reset", "prompt", "endpoint", "session_id"
ENDPOINTS = ("infer", "reset")
MAX_ROWS = 4096


def metadata_of(policy: Policy) -> dict[str, Any]:
    """The first message of a server with this policy."""
    about = {"protocol": 1, "policy": policy.name, "request": [*REQUEST, PROMPT], "horizon": 1}
    return {OURS: about, "action_contract": CANONICAL.to_json()}


class Session:
    """Holds the policy of one connection and what it knows of the episode."""

    def __init__(self, policy: Policy, seed: int) -> None:
        self._policy, self._seed = policy, seed
        self._episodes = 0
        self._rows: int | None = None  # None: no episode has begun
        self._session = ""

    def answer(self, request: Any) -> dict[str, Any] | str:
        """The reply to one request: a map to be packed, or a text.

        Raises:
            UserError: the request is malformed, or the policy cannot do with what it got.
        """
        if not isinstance(request, dict):
            raise UserError(f"a request must be a map, not a {type(request).__name__}")
        if BEGIN in request:
            return self._begin_batch(_map(request, BEGIN))
        if OBSERVATION in request:
            return {"actions": self._act(_observation(_map(request, OBSERVATION)))}
        endpoint = request.get(ENDPOINT, "infer")
        if endpoint not in ENDPOINTS:
            raise unknown("endpoint", endpoint, ENDPOINTS)
        if endpoint == "reset":
            self._rows = None
            return "reset successful"
        return {"actions": self._infer(request)}

    def _begin_batch(self, begin: dict[str, Any]) -> dict[str, Any]:
        seeds, mask, info = begin.get("seeds"), begin.get("mask"), _map(begin, "info")
        if not isinstance(seeds, list) or not 1 <= len(seeds) <= MAX_ROWS:
            raise UserError(f"'seeds' must be a list of 1..{MAX_ROWS} integers")
        if not all(type(seed) is int and 0 <= seed < 2**63 for seed in seeds):
            raise UserError("'seeds' must be integers >= 0")
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (len(seeds),):
            raise UserError(f"'mask' must be booleans [{len(seeds)}], one per seed")
        if self._rows != len(seeds) and not mask.all():
            raise UserError(f"of {len(seeds)} rows only {int(mask.sum())} begin, and the others never began")
        self._reset(from_wire(info), seeds, mask)
        return {BEGUN: len(seeds)}

    def _infer(self, request: dict[str, Any]) -> np.ndarray[Any, Any]:
        """An openpi client's request: one row."""
        observation = _observation({ours: request[key] for key, ours in REQUEST.items() if key in request})
        observation = {key: value[None] for key, value in observation.items()}
        session = str(request.get(SESSION))  # a text or an array, by the client
        if self._rows is None or request.get(RESET) is True or session != self._session:
            self._session = session
            info = batch_of_one(from_wire(_map(request, INFO) if INFO in request else {}))
            if PROMPT in request:
                info["instruction"] = np.array([str(request[PROMPT])], dtype=object)
            self._reset(info, [self._seed + self._episodes], None)
            self._episodes += 1
        return self._act(observation)

    def _reset(self, info: dict[str, Any], seeds: list[int], mask: np.ndarray[Any, Any] | None) -> None:
        self._rows = None
        try:
            self._policy.reset(info, seeds, mask)
        except KeyError as error:
            raise UserError(
                f"policy {self._policy.name!r} needs {error.args[0]!r} of the environment's info to begin; our own "
                f"client sends it, others may under {INFO!r}"
            ) from error
        self._rows = len(seeds)

    def _act(self, observation: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        if self._rows is None:
            raise UserError(f"no episode has begun: send {BEGIN!r} first")
        for key, value in observation.items():
            if len(value) != self._rows:
                raise UserError(f"{key!r} has {len(value)} rows; {self._rows} began")
        if not observation:
            raise UserError(f"the request has no observation; expected {', '.join(REQUEST)}")
        try:
            actions = self._policy.act(observation)
        except KeyError as error:
            sent_as = {ours: key for key, ours in REQUEST.items()}.get(error.args[0], error.args[0])
            raise UserError(
                f"policy {self._policy.name!r} needs {error.args[0]!r} (request key {sent_as!r}), which was not sent"
            ) from error
        actions = np.asarray(actions, dtype=np.float32)
        if actions.shape != (self._rows, ACTION_DIM):
            raise UserError(f"policy {self._policy.name!r} gave actions of shape {list(actions.shape)}")
        return actions


def _map(request: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = request.get(key)
    if not isinstance(value, dict):
        raise UserError(f"{key!r} must be a map, not a {type(value).__name__}")
    return value


def _observation(given: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """An observation's arrays, each of numbers that are finite; lists of numbers are taken too."""
    read = {}
    for key, value in given.items():
        array = np.array(value) if isinstance(value, list) else value
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf" or array.ndim < 1:
            given_as = f"an array of dtype {array.dtype}" if isinstance(array, np.ndarray) else type(value).__name__
            raise UserError(f"the observation's {key!r} is {given_as}; expected an array of numbers")
        if not np.isfinite(array).all():
            raise UserError(f"the observation's {key!r} has numbers that are not finite")
        read[key] = array
    for key, shape in (("pixels", "[H, W, 3]"), ("agent_pos", "[7]")):
        if key in read and not _fits(key, read[key]):
            raise UserError(f"the observation's {key!r} is {read[key].dtype} {list(read[key].shape)}; expected {shape}")
    return read


def _fits(key: str, array: np.ndarray[Any, Any]) -> bool:
    """Whether an array's last axes are those of an image or a pose."""
    if key == "pixels":
        return array.dtype == np.uint8 and array.ndim >= 3 and array.shape[-1] == 3
    return array.shape[-1] == ACTION_DIM
