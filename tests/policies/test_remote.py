"""Our client and openpi's own against our server, the command line, and names of remote policies."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import wfm_sim  # noqa: F401 - registers the environments
from wfm_sim.actions import apply_action
from wfm_sim.assets.tabletop import WORKSPACE, layout_of, sample_scene
from wfm_sim.errors import UserError
from wfm_sim.evals.contestants import make_policy
from wfm_sim.policies.base import Policy, batch_of_one
from wfm_sim.policies.remote import OpenpiPolicy
from wfm_sim.policies.remote_connection import Limits
from wfm_sim.policies.remote_name import remote_policy
from wfm_sim.policies.remote_observations import ObservationKeys
from wfm_sim.policies.scripted import ScriptedExpert
from wfm_sim.policies.server import PolicyServer, ServerConfig, is_loopback
from wfm_sim.policies.simple import RandomPolicy, ZeroPolicy

Serve = Callable[..., PolicyServer]
QUICK = Limits(connect_timeout=5, infer_timeout=10, attempts=1, backoff=0)


def begin(seeds: Sequence[int]) -> dict[str, Any]:
    layouts = [layout_of(sample_scene(seed)) for seed in seeds]
    layout = {key: np.stack([layout[key] for layout in layouts]) for key in layouts[0]}
    return {"layout": layout, "instruction": np.array([f"scene {seed}" for seed in seeds], dtype=object)}


def rollout(policy: Policy, seeds: Sequence[int], steps: int, restart: int | None = None) -> np.ndarray:
    """Actions [steps, B, 7] without physics; row 0 begins anew after `restart` steps."""
    info = begin(seeds)
    policy.reset(info, seeds)
    pose, actions = info["layout"]["start"].astype(np.float64), []
    for step in range(steps):
        if step == restart:
            pose[0] = info["layout"]["start"][0]
            policy.reset(info, seeds, mask=np.arange(len(seeds)) == 0)
        observation = {"agent_pos": pose.astype(np.float32), "pixels": np.zeros((len(seeds), 8, 8, 3), np.uint8)}
        actions.append(policy.act(observation))
        pose = apply_action(pose, actions[-1], WORKSPACE)
    return np.stack(actions)


@pytest.mark.parametrize("make", [ZeroPolicy, RandomPolicy, lambda: ScriptedExpert(noise=0.3, flaw="random")])
def test_our_server_gives_the_actions_of_the_local_policy(make: Any, serve_policy: Serve) -> None:
    server = serve_policy(make)
    policy = OpenpiPolicy("127.0.0.1", server.port, limits=QUICK)
    assert isinstance(policy, Policy)
    remote = rollout(policy, [3, 4, 5], 12, restart=7)
    assert remote.shape == (12, 3, 7) and remote.dtype == np.float32
    np.testing.assert_array_equal(remote, rollout(make(), [3, 4, 5], 12, restart=7))
    assert policy.metadata["wfm_sim"]["policy"] == make().name
    policy.close()
    np.testing.assert_array_equal(rollout(policy, [9], 2), rollout(make(), [9], 2))  # opens again
    policy.close()


def test_an_episode_in_the_twin_is_that_of_the_local_expert(serve_policy: Serve) -> None:
    server = serve_policy(ScriptedExpert)
    env = gym.make("wfm_sim/TabletopMuJoCo-v0", disable_env_checker=True)
    episodes = []
    for policy in (ScriptedExpert(), make_policy(f"openpi://127.0.0.1:{server.port}")):
        observation, info = env.reset(seed=20_000_007, options={"task": "push"})
        policy.reset(batch_of_one(info), [20_000_007])
        actions, ended = [], False
        while not ended:
            actions.append(policy.act(batch_of_one(observation))[0])
            observation, _, terminated, truncated, info = env.step(actions[-1])
            ended = terminated or truncated
        episodes.append((np.stack(actions), info["is_success"]))
    env.close()
    np.testing.assert_array_equal(episodes[0][0], episodes[1][0])
    assert episodes[0][1] and episodes[1][1]


def test_openpis_own_client_talks_to_our_server(serve_policy: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    openpi = pytest.importorskip("openpi_client.websocket_client_policy", reason="openpi-client is not installed")
    for variable in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    server = serve_policy(RandomPolicy, seed=40, api_key="secret")
    client = openpi.WebsocketClientPolicy("127.0.0.1", server.port, api_key="secret")
    assert client.get_server_metadata()["wfm_sim"]["policy"] == "random"
    local = RandomPolicy()
    pose = np.array([0.3, 0.0, 0.1, 0.0, 0.0, 0.2, 1.0], np.float32)
    for episode in range(2):
        local.reset({}, [40 + episode])
        for step in range(3):
            request = {"observation/image": np.zeros((64, 64, 3), np.uint8), "observation/state": pose, "prompt": "x"}
            if step == 0 and episode == 1:
                request["wfm_sim/reset"] = True
            reply = client.infer(request)
            assert reply["actions"].shape == (1, 7) and reply["actions"].dtype == np.float32
            assert reply["server_timing"]["infer_ms"] >= 0
            assert ("prev_total_ms" in reply["server_timing"]) == (step + episode > 0)
            np.testing.assert_array_equal(reply["actions"], local.act({"agent_pos": pose[None]}))
    client._ws.close()


def test_a_policy_that_needs_the_layout_says_so(serve_policy: Serve) -> None:
    openpi = pytest.importorskip("openpi_client.websocket_client_policy", reason="openpi-client is not installed")
    server = serve_policy(ScriptedExpert)
    layout = layout_of(sample_scene(1))
    request = {"observation/state": layout["start"], "prompt": "push"}
    client = openpi.WebsocketClientPolicy("127.0.0.1", server.port)
    with pytest.raises(RuntimeError, match="policy 'expert' needs 'layout' of the environment's info"):
        client.infer(request)
    client = openpi.WebsocketClientPolicy("127.0.0.1", server.port)
    given = client.infer({**request, "wfm_sim/info": {"layout": layout}})["actions"]
    local = ScriptedExpert()
    local.reset({"layout": {key: np.asarray(value)[None] for key, value in layout.items()}}, [0])
    np.testing.assert_array_equal(given, local.act({"agent_pos": layout["start"][None]}))
    client._ws.close()


def test_api_key(serve_policy: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve_policy(ZeroPolicy, api_key="secret")
    for key in (None, "wrong"):
        policy = OpenpiPolicy("127.0.0.1", server.port, api_key=key, limits=QUICK)
        with pytest.raises(UserError, match="refused with HTTP status 401; is the API key right"):
            policy.reset({}, [0])
    monkeypatch.setenv("WFM_SIM_POLICY_API_KEY", "secret")
    policy = remote_policy(f"openpi://127.0.0.1:{server.port}")
    policy.reset({}, [0])
    policy.close()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz") as answer:
        assert (answer.status, answer.read()) == (200, b"OK\n")  # no key needed


def test_only_loopback_is_served_without_a_key() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8")] == [True] * 4
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "", "10.0.0.3", "localhost.example"))
    with pytest.raises(UserError, match=re.escape("serving at '0.0.0.0' lets others in: it needs an API key")):
        ServerConfig(host="0.0.0.0")
    assert ServerConfig(host="0.0.0.0", api_key="k").api_key == "k"
    for key in ("", " ", "schlüssel"):
        with pytest.raises(UserError, match="API key"):
            ServerConfig(api_key=key)


def test_web_pages_are_kept_out(serve_policy: Serve) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    server = serve_policy(ZeroPolicy)
    with pytest.raises(InvalidStatus) as refused, connect(server.url, origin="http://evil.example", proxy=None):
        pass
    assert refused.value.response.status_code == 403


def test_a_taken_port_and_a_full_server(serve_policy: Serve) -> None:
    server = serve_policy(ZeroPolicy, max_connections=1)
    with pytest.raises(UserError, match=f"cannot serve at 127.0.0.1:{server.port}"):
        PolicyServer(ZeroPolicy, ServerConfig(port=server.port))
    first = OpenpiPolicy("127.0.0.1", server.port, limits=QUICK)
    first.reset({}, [0])
    with pytest.raises(UserError, match="too many clients"):
        OpenpiPolicy("127.0.0.1", server.port, limits=QUICK).reset({}, [0])
    first.close()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("openpi://", "is no remote policy"),
        ("openpi://user@host:1", "is no remote policy"),
        ("http://host:1", "is no remote policy"),
        ("openpi://host:1/path", "is no remote policy"),
        ("openpi://host:port", "no number"),
        ("openpi://host:1?horizon=x", "no number"),
        ("openpi://host:1?horizon=0", "horizon must be at least 1"),
        ("openpi://host:1?horizn=4", "unknown option of a remote policy 'horizn'; did you mean 'horizon'?"),
        ("openpi://host:1?actions=bridge-rdls", "did you mean 'bridge-rlds'?"),
        ("openpi://host:1?actions=openpi-droid", "the arm's kinematics only"),
        ("openpi://host:1?image_size=0", "image size must be"),
        ("openpi://host:1?timeout=-1", "infer_timeout must be positive"),
    ],
)
def test_names_that_are_none(name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        make_policy(name)
    assert said in str(caught.value)


def test_options_of_a_name_arrive() -> None:
    policy = remote_policy(
        "openpi://[::1]:81?actions=libero&horizon=8&image_size=180x320&image=cam&state=&prompt=task&blank=a&blank=b&tls=1"
    )
    assert policy._urls == ["wss://[::1]:81"]
    assert policy._keys == ObservationKeys({"cam": "pixels"}, None, "task", (180, 320), ("a", "b"))
    assert policy._contract is not None and policy._contract.name == "libero"
    assert remote_policy("openpi://lab")._urls == ["ws://lab:8000", "wss://lab:8000"]


def test_nothing_is_sent_before_the_reset() -> None:
    policy = make_policy("roboarena://nobody.invalid?blank=observation/wrist_image_left&horizon=8&tls=1")
    assert policy.name.startswith("roboarena://nobody.invalid")
    with pytest.raises(UserError, match="0 were reset"):
        policy.act({"agent_pos": np.zeros((1, 7))})


def _hear_ctrl_c() -> None:
    """What a shell starts in the background ignores SIGINT, and so would its children: these tests, say."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_the_command_serves_and_stops() -> None:
    command = [sys.executable, "-m", "wfm_sim.cli", "serve-policy", "expert-noise0.2", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_hear_ctrl_c
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            found = re.fullmatch(r"serving policy 'expert-noise0.2' at ws://127.0.0.1:(\d+) \(Ctrl-C stops\)\n", line)
            assert found, line
            policy = make_policy(f"openpi://127.0.0.1:{found[1]}")
            np.testing.assert_array_equal(rollout(policy, [1, 2], 3), rollout(ScriptedExpert(0.2), [1, 2], 3))
            process.send_signal(signal.SIGINT)  # with a client connected
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "stopped after 4 requests\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["exprt"], "unknown policy 'exprt'; did you mean 'expert'?"),
        (["expert", "--host", "0.0.0.0"], "it needs an API key"),
        (["expert", "--port", "70000"], "port must be 0..65535, not 70000"),
    ],
)
def test_the_command_refuses(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    from wfm_sim.cli import main

    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["serve-policy", *arguments]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert said in capsys.readouterr().err
    assert "WFM_SIM_POLICY_API_KEY" not in os.environ
