"""The env.py of a LeRobot EnvHub repository: put this one file at the root of a repository on the hub.

    from lerobot.envs.factory import make_env
    envs = make_env("you/tabletop", n_envs=8, trust_remote_code=True)

Whoever loads it needs `pip install wfm-sim`.
"""

from typing import Any

from wfm_sim.envs.hub import make_env as make_tabletop

# What this repository offers; the fields are those of wfm_sim.envs.hub.HubConfig. Add "tabletop_twin" to the suites,
# and lerobot-eval reports the same policy and seeds in the physics twin beside the learned simulator.
OFFER = {"suites": "tabletop", "task": "push,pick,place"}


def make_env(n_envs: int = 1, use_async_envs: bool = False, cfg: Any = None) -> dict[str, dict[int, Any]]:
    """{suite: {task_id: VectorEnv}}. LeRobot passes its own config as `cfg` where there is one."""
    return make_tabletop(n_envs=n_envs, use_async_envs=use_async_envs, cfg=OFFER if cfg is None else cfg)
