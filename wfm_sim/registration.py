"""The Gymnasium ids of this project: versioned, with lazy string entry points, so that importing costs nothing."""

import gymnasium as gym

# id -> (entry point, vector entry point or None, default keyword arguments)
ENVIRONMENTS: dict[str, tuple[str, str | None, dict[str, object]]] = {
    "wfm_sim/TabletopMuJoCo-v0": ("wfm_sim.envs.twin:TabletopMuJoCoEnv", None, {}),
    "wfm_sim/Tabletop-v0": ("wfm_sim.envs.tabletop:TabletopEnv", "wfm_sim.envs.tabletop:TabletopVectorEnv", {}),
    "wfm_sim/ActionWorld-v0": (
        "wfm_sim.envs.action_world:ActionWorldEnv",
        "wfm_sim.envs.action_world:ActionWorldVectorEnv",
        {},
    ),
    "wfm_sim/CameraWorldMuJoCo-v0": ("wfm_sim.envs.camera_twin:CameraWorldMuJoCoEnv", None, {}),
    "wfm_sim/CameraWorld-v0": (
        "wfm_sim.envs.camera_world:CameraWorldEnv",
        "wfm_sim.envs.camera_world:CameraWorldVectorEnv",
        {},
    ),
}


def register_environments() -> None:
    """Register every id once; a second import does nothing."""
    for env_id, (entry_point, vector_entry_point, kwargs) in ENVIRONMENTS.items():
        if env_id not in gym.registry:
            gym.register(env_id, entry_point=entry_point, vector_entry_point=vector_entry_point, kwargs=kwargs)
