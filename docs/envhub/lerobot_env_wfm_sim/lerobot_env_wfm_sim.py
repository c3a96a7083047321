"""The environment type `wfm_sim` of LeRobot: lerobot-eval --env.type=wfm_sim --env.suites=tabletop,tabletop_twin ..."""

from dataclasses import dataclass, field
from typing import Any

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_IMAGE, OBS_IMAGES, OBS_STATE

from wfm_sim.envs.hub import make_env


@EnvConfig.register_subclass("wfm_sim")
@dataclass
class WfmSimEnv(EnvConfig):
    """Fields of wfm_sim.envs.hub.HubConfig, where they are described; None has its default."""

    task: str | None = "push,pick,place"
    fps: int = 5
    suites: str = "tabletop"
    world_model: str | None = None
    judge: str | None = None
    trust: str | None = None
    camera: str | None = None
    image_size: int = 64
    max_episode_steps: int = 32
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """What a policy is given and gives, and LeRobot's names for it."""
        pixels = f"pixels/{self.camera}" if self.camera else "pixels"
        self.features = {
            ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(7,)),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=(7,)),
            pixels: PolicyFeature(type=FeatureType.VISUAL, shape=(self.image_size, self.image_size, 3)),
        }
        image = f"{OBS_IMAGES}.{self.camera}" if self.camera else OBS_IMAGE
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE, pixels: image}

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Not used: `create_envs` makes the environments."""
        return {}

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        """{suite: {task_id: vector environment}}."""
        return make_env(n_envs, use_async_envs, cfg=self)
