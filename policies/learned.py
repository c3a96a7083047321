"""Policies learned by behaviour cloning, ready to act: state or pixels in, chunks of actions out.

    policy = load_policy("bc-state-300")                          # shipped, or the path of a file
    policy = load_policy("runs/bc/stage-300.safetensors", execute=1, temperature=1.0)
    policy.about["success"]                                       # as measured in the physics twin

They run wherever the observation is that of the tabletop: in the physics twin or on imagined frames. The pixel form
reads the frames, agent_pos, and of the info at reset the task and the target's colour (what the instruction says)
alone; the state form the layout at reset, as scripted experts do. training/cloning.py trains them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from wfm_sim.actions import ACTION_DIM, ACTION_HIGH, ACTION_LOW
from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError, unknown
from wfm_sim.policies.base import ready_rows, rows_to_reset
from wfm_sim.policies.cloning_network import (
    ActionChunk,
    CloningConfig,
    PixelNetwork,
    StateNetwork,
    make_network,
    to_network,
)
from wfm_sim.weights import shipped

FORMAT = "wfm-sim policy 1"
# Temporal ensembling weights the predictions for one step by exp(-DECAY * age rank), the oldest first (ACT, Zhao et al.
# 2023, arXiv:2304.13705, algorithm 2).
DECAY = 0.1


@dataclass
class _Row:
    """What one episode is about, and what is still to be carried out."""

    rng: np.random.Generator
    task: Tensor
    colour: Tensor
    layout: Tensor  # float32 [1, 7], state form
    first: Tensor | None = None  # keypoints of the first frame, pixel form
    start: Tensor | None = None
    chunks: deque[NDArray[np.float64]] = field(default_factory=deque)  # newest last; row 0 of each is for this step


class ClonedPolicy:
    """Acts by a cloned network.

    Every row is computed by itself, so that its actions do not depend, to the bit, on what else is in the batch.
    """

    def __init__(
        self,
        network: StateNetwork | PixelNetwork,
        about: dict[str, Any] | None = None,
        name: str = "bc",
        *,
        execute: int | None = None,
        ensemble: bool = False,
        temperature: float = 0.0,
    ) -> None:
        """Set up.

        Args:
            network: Trained.
            about: What its file tells of its training and measured success.
            name: What reports call it.
            execute: Actions of a chunk that are carried out before the network is asked again; None: the config's.
            ensemble: Ask at every step, and average what the last chunks say about it (then `execute` is not used).
            temperature: 0 takes medians; otherwise displacements are drawn from the predicted distribution with its
                scale times this, by the row's seed.

        Raises:
            UserError: a number out of range.
        """
        self.network = network.eval()
        self.config = network.config
        self.uses_pixels = self.config.form == "pixels"
        self.execute = self.config.execute if execute is None else execute
        if not 1 <= self.execute <= self.config.chunk:
            raise UserError(f"execute must be 1 to {self.config.chunk} (the policy's chunk), not {self.execute}")
        if not (np.isfinite(temperature) and temperature >= 0):
            raise UserError(f"temperature must be a number >= 0, not {temperature}")
        self.about, self.name = about or {}, name
        self.ensemble, self.temperature = ensemble, float(temperature)
        self._rows: list[_Row | None] = []

    def reset(self, info: dict[str, Any], seeds: Sequence[int], mask: NDArray[np.bool_] | None = None) -> None:
        """See Policy.reset.

        Raises:
            UserError: the info lacks what this form needs, or names a task or colour it was not trained on.
        """
        if len(self._rows) != len(seeds):
            self._rows = [None] * len(seeds)
        for i in rows_to_reset(len(seeds), mask):
            rng = np.random.default_rng([int(seeds[i]), 19])
            if self.config.form == "state":
                task, layout = self._layout(info, i)
                self._rows[i] = _Row(rng, torch.tensor([task]), torch.tensor([0]), layout)
            else:
                names = [str(_entry(info, key, i, self.name)) for key in ("task", "target_colour")]
                known = (("task", self.config.tasks), ("target colour", self.config.colours))
                at = [_index(kind, name, of) for name, (kind, of) in zip(names, known, strict=True)]
                self._rows[i] = _Row(rng, torch.tensor(at[:1]), torch.tensor(at[1:]), torch.zeros(1, 7))

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See Policy.act; frames of another size than the network's are resized.

        Raises:
            UserError: a row was not reset, or frames of another rank or dtype.
        """
        poses = np.asarray(observation["agent_pos"], dtype=np.float32)
        rows = ready_rows(self._rows, len(poses))
        frames: NDArray[Any] | None = None
        if self.config.form == "pixels":
            frames = np.asarray(observation["pixels"])
            if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
                raise UserError(f"pixels must be uint8 [B, H, W, 3], not {frames.dtype} {list(frames.shape)}")
        actions = np.empty((len(rows), ACTION_DIM), dtype=np.float32)
        for i, row in enumerate(rows):
            action = self._next(row, None if frames is None else frames[i : i + 1], poses[i : i + 1])
            actions[i] = np.clip(action, ACTION_LOW, ACTION_HIGH)
        return actions

    def _next(self, row: _Row, frame: NDArray[np.uint8] | None, pose: NDArray[np.float32]) -> NDArray[np.float64]:
        used = 0 if not row.chunks else self.config.chunk - len(row.chunks[-1])
        if self.ensemble or not row.chunks or used >= self.execute:
            if not self.ensemble:
                row.chunks.clear()
            row.chunks.append(self._ask(row, frame, pose))
        now = np.stack([chunk[0] for chunk in row.chunks])
        weights = np.exp(-DECAY * np.arange(len(now)))
        action = weights @ now / weights.sum()
        action[6] = float(action[6] >= 0.5)
        row.chunks = deque(chunk[1:] for chunk in row.chunks if len(chunk) > 1)
        return action

    @torch.inference_mode()
    def _ask(self, row: _Row, frame: NDArray[np.uint8] | None, pose: NDArray[np.float32]) -> NDArray[np.float64]:
        """The next chunk, float64 [chunk, 7] in canonical units."""
        here = torch.from_numpy(pose)
        if isinstance(self.network, StateNetwork):
            said: ActionChunk = self.network(here, row.layout, row.task)
        else:
            assert frame is not None
            pixels = to_network(torch.from_numpy(np.ascontiguousarray(frame)))
            if pixels.shape[-2:] != self.config.frame_size:
                pixels = F.interpolate(pixels, self.config.frame_size, mode="bilinear", antialias=True)
            if row.first is None or row.start is None:
                row.first, row.start = self.network.look(pixels, row.task, row.colour, 0), here.clone()
            now = self.network.look(pixels, row.task, row.colour, 1)
            said, _ = self.network(row.first, now, row.start, here, row.task)
        displacement = said.median[0].double().numpy()
        if self.temperature:
            drawn = row.rng.laplace(size=displacement.shape)
            displacement = displacement + self.temperature * said.scale[0].double().numpy() * drawn
        gripper = (said.gripper[0] > 0).double().numpy()
        return np.concatenate([displacement * ACTION_HIGH[:6], gripper[:, None]], axis=1)

    def _layout(self, info: dict[str, Any], i: int) -> tuple[int, Tensor]:
        layout = info.get("layout")
        if layout is None:
            raise UserError(
                f"{self.name}: the info at reset has no 'layout', which a state policy needs; "
                "start from a scene's seed, or take a pixel policy"
            )
        task = int(layout["task"][i])
        if not 0 <= task < len(self.config.tasks):
            raise UserError(f"{self.name}: task {task} of the layout, but trained on {len(self.config.tasks)} tasks")
        numbers = np.concatenate([np.asarray(layout["target"][i]), np.asarray(layout["goal"][i])])
        return task, torch.from_numpy(numbers.astype(np.float32))[None]


def _entry(info: dict[str, Any], key: str, i: int, name: str) -> Any:
    value = info[key][i] if key in info else None
    if value is None or value == "":
        raise UserError(f"{name}: the info at reset has no {key!r}, which a pixel policy needs to know what is wanted")
    return value


def _index(kind: str, name: str, known: tuple[str, ...]) -> int:
    if name not in known:
        raise unknown(kind, name, known)
    return known.index(name)


def save_policy(path: str | Path, network: StateNetwork | PixelNetwork, about: dict[str, Any]) -> None:
    """Write a self-describing safetensors file: weights as float16, and as metadata the config and `about`."""
    weights = {name: value.detach().half().contiguous() for name, value in network.state_dict().items()}
    metadata = {"format": FORMAT, "config": json.dumps(asdict(network.config)), "about": json.dumps(about)}
    with atomic_path(path) as partial:
        save_file(weights, partial, metadata)
        partial.chmod(0o644)  # safetensors makes files that nobody else may read


def shipped_policies() -> dict[str, Path]:
    """Name -> file of every cloned policy that ships with the package."""
    return {name: path for name, path in shipped().items() if name.startswith("bc-")}


def load_policy(
    name_or_path: str | Path,
    *,
    execute: int | None = None,
    ensemble: bool = False,
    temperature: float = 0.0,
    name: str | None = None,
) -> ClonedPolicy:
    """A cloned policy by shipped name ('bc-state-300') or from its file; options as ClonedPolicy.

    Raises:
        UserError: no such file, not one that `save_policy` wrote, or an option out of range.
    """
    path = shipped_policies().get(str(name_or_path)) or Path(name_or_path).expanduser()
    if not path.is_file():
        raise UserError(f"no policy file {path}; train one with `wfm-sim train policy`")
    stat = path.stat()
    network, about = _load(path, stat.st_mtime_ns, stat.st_size)
    options: dict[str, Any] = {"execute": execute, "ensemble": ensemble, "temperature": temperature}
    return ClonedPolicy(network, about, name or str(name_or_path), **options)


@lru_cache(maxsize=16)  # evaluations make a policy per episode; the network has no state of its own
def _load(path: Path, changed: int, size: int) -> tuple[StateNetwork | PixelNetwork, dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dict)
        if metadata.get("format") != FORMAT:
            raise UserError(f"{path} is not a policy: its metadata says {metadata.get('format')!r}, not {FORMAT!r}")
        network = make_network(CloningConfig(**_tuples(json.loads(metadata["config"]))))
        network.load_state_dict(weights)
        about = json.loads(metadata.get("about", "{}"))
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not a policy that can be read: {str(error).splitlines()[0]}") from None
    return network.eval().requires_grad_(False), about


def _tuples(value: Any) -> Any:
    """What json read, its lists made tuples again."""
    if isinstance(value, dict):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value


def parse_policy(name: str, prefix: str = "bc:") -> ClonedPolicy:
    """The policy of a name 'bc-state-300[@OPTION]...' or 'bc:PATH[@OPTION]...'.

    Options: '@ensemble', '@execute2', '@temperature0.5', see ClonedPolicy.

    Raises:
        UserError: unknown name or option, or an unreadable file.
    """
    where, *words = name.split("@")
    options: dict[str, Any] = {}
    for word in words:
        try:
            if word == "ensemble":
                options["ensemble"] = True
            elif word.startswith("execute"):
                options["execute"] = int(word.removeprefix("execute"))
            elif word.startswith("temperature"):
                options["temperature"] = float(word.removeprefix("temperature"))
            else:
                raise ValueError
        except ValueError:
            error = unknown("option", word, ["ensemble", "execute2", "temperature0.5"])
            raise UserError(f"policy {name!r}: {error}") from None
    if where.startswith(prefix):
        return load_policy(where.removeprefix(prefix), name=name, **options)
    if where not in shipped_policies():
        raise unknown("policy", where, shipped_policies())
    return load_policy(where, name=name, **options)
