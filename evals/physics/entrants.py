"""From what a user names to something that can be scored: a predictor, a folder of videos, another data set, the truth.

truth               the ground truth itself: what the metrics give for a perfect model (the tracker's floor)
truth:64            the ground truth seen through frames of 64 px: the floor of a model of that size
repeat-last, flow   the baselines
data:DIR            the same episodes from another data set: PhysX instead of MuJoCo
a folder            videos that you made: FOLDER/<scene>/<00000>/view0_seed0.mp4, context and prediction together
module:function     yours: a Predictor, what makes one without arguments, or a function (context, frames, seed)
nano-tabletop       a simulator or a Video2World model of ours, by name or by its .safetensors file
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.physics import PhysicsData, PhysicsEpisode, episode_folder, open_physics
from wfm_sim.data.video import read_video
from wfm_sim.errors import UserError, unknown
from wfm_sim.evals.physics.predictors import (
    FlowExtrapolation,
    FromFunction,
    Predictor,
    RepeatLast,
    SteppedWorld,
    VideoWorld,
    predict,
    resize,
)

Frames = NDArray[np.uint8]
BASELINES: dict[str, Callable[[], Predictor]] = {"repeat-last": RepeatLast, "flow": FlowExtrapolation}
_CUSTOM = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True)
class Query:
    """What is asked for: the frames of some views of one episode that follow the context.

    Attributes:
        episode: Which.
        views: B of its cameras.
        context: uint8 [B, T, H, W, 3], its first T frames.
        frames: How many to predict.
        seed: 0, 1, ...: which of several predictions.
    """

    episode: PhysicsEpisode
    views: tuple[int, ...]
    context: Frames
    frames: int
    seed: int

    def number(self) -> int:
        """A seed for a random generator, of this episode and this prediction; below 2^31."""
        words = f"{self.episode.scene}/{self.episode.seed}/{self.seed}".encode()
        return int.from_bytes(hashlib.sha256(words).digest()[:4], "big") >> 1


@dataclass(frozen=True)
class Entrant:
    """Something to be scored.

    Attributes:
        name: For tables.
        deterministic: The seed changes nothing: one is scored.
        identity: JSON-able; what else decides its predictions (a hash of weights, of a data set), kept in the results.
        predict: Query -> uint8 [B, frames, H, W, 3].
    """

    name: str
    deterministic: bool
    predict: Callable[[Query], Frames]
    identity: dict[str, Any] = field(default_factory=dict)


def load_entrant(name: str, data: PhysicsData, device: str = "cpu") -> Entrant:
    """The entrant of a name (see the module).

    Args:
        name: As above.
        data: The data set that it will be scored on.
        device: Where a model of ours computes.

    Raises:
        UserError: no such thing, or nothing that can be scored.
    """
    if name == "truth" or name.startswith("truth:"):
        return _truth(name)
    if name in BASELINES:
        return of_predictor(BASELINES[name]())
    if name.startswith("data:"):
        return _other_data(Path(name.removeprefix("data:")), data)
    if Path(name).is_dir():
        return _videos(Path(name))
    if _CUSTOM.fullmatch(name):
        return _custom(name)
    return _model(name, device)


def of_predictor(predictor: Predictor, identity: dict[str, Any] | None = None) -> Entrant:
    """A Predictor as an entrant."""
    return Entrant(
        predictor.name,
        bool(getattr(predictor, "deterministic", False)),
        lambda query: predict(predictor, query.context, query.frames, query.number()),
        identity or {},
    )


def _truth(name: str) -> Entrant:
    _, _, size = name.partition(":")
    if size and not (size.isdigit() and int(size) >= 8):
        raise UserError(f"{name!r}: expected truth or truth:PIXELS, such as truth:64")

    def read(query: Query) -> Frames:
        given = query.context.shape[1]
        clips = np.stack([query.episode.frames(v, given + query.frames)[given:] for v in query.views])
        if not size:
            return clips
        scale = int(size) / min(clips.shape[2:4])
        return resize(resize(clips, tuple(round(side * scale) for side in clips.shape[2:4])), clips.shape[2:4])

    return Entrant(name, True, read)


def _other_data(root: Path, data: PhysicsData) -> Entrant:
    other = open_physics(root)
    missing = [scene for scene in data.scenes if scene not in other.scenes]
    if missing:
        raise UserError(f"{root}: has no episodes of {missing[0]}, which {data.root} has")

    def read(query: Query) -> Frames:
        theirs = other.episode(query.episode.scene, query.episode.index)
        if theirs.seed != query.episode.seed or theirs.size != query.episode.size or theirs.fps != query.episode.fps:
            raise UserError(
                f"{theirs.path}: seed {theirs.seed}, size {list(theirs.size)}, {theirs.fps:g} fps do not match those "
                f"of {query.episode.path} (seed {query.episode.seed}, {list(query.episode.size)}, "
                f"{query.episode.fps:g}); generate it with the same settings but another --backend"
            )
        given = query.context.shape[1]
        return np.stack([theirs.frames(v, given + query.frames)[given:] for v in query.views])

    engine = other.manifest.get("engine", {})
    name = f"{engine.get('name', 'data')} rerun"
    return Entrant(name, True, read, {"data": other.hash or str(root), "engine": engine})


def _videos(root: Path) -> Entrant:
    found = sorted(root.glob("*/[0-9]*/view*.mp4"))
    if not found:
        raise UserError(f"{root}: no videos; expected {root.name}/<scene>/<00000>/view0_seed0.mp4 and so on")
    deterministic = not any("_seed" in path.stem for path in found)

    def one(query: Query, view: int) -> Frames:
        folder = root / episode_folder(query.episode.scene, query.episode.index)
        path = folder / (f"view{view}.mp4" if deterministic else f"view{view}_seed{query.seed}.mp4")
        clip = read_video(path)
        given = query.context.shape[1]
        expected = (given + query.frames, *query.episode.size, 3)
        if clip.shape != expected:
            raise UserError(
                f"{path}: {len(clip)} frames of {clip.shape[2]}x{clip.shape[1]}, expected {expected[0]} ({given} given "
                f"and {query.frames} predicted) of {expected[2]}x{expected[1]}"
            )
        return clip[given:]

    def read(query: Query) -> Frames:
        return np.stack([one(query, view) for view in query.views])

    return Entrant(root.name, deterministic, read, {"folder": str(root)})


def _custom(name: str) -> Entrant:
    module_name, _, function = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # as `python -m` does; a console script does not
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(f"{name}: {error}; it must be installed, or lie in {here} or on PYTHONPATH") from None
    except Exception as error:
        raise UserError(f"importing {module_name} failed: {type(error).__name__}: {error}") from error
    if not hasattr(module, function):
        raise unknown(f"function of {module_name}", function, [n for n in dir(module) if not n.startswith("_")])
    thing = getattr(module, function)
    if inspect.isclass(thing) or (callable(thing) and not _required(thing)):
        try:
            thing = thing()
        except Exception as error:
            raise UserError(f"{name}() failed: {type(error).__name__}: {error}") from error
    file = getattr(module, "__file__", None)
    identity = {"code": hashlib.sha256(Path(file).read_bytes()).hexdigest()} if file else {}
    if isinstance(thing, Predictor):
        return of_predictor(thing, identity)
    if callable(thing) and len(_required(thing)) == 3:
        return of_predictor(FromFunction(thing, name), identity)
    raise UserError(
        f"{name} is a {type(thing).__name__}: expected a function (context, frames, seed), or an object with name, "
        "size and predict(context, frames, seed)"
    )


def _required(function: Any) -> list[str]:
    """Names of the arguments without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in plain and p.default is inspect.Parameter.empty]


def _model(name: str, device: str) -> Entrant:
    from wfm_sim.models.checkpoint import FORMAT, has_format, is_path, load, shipped_weights
    from wfm_sim.models.video_world import load_video
    from wfm_sim.weights import weights_hash

    path = shipped_weights().get(name) or (Path(name) if is_path(name) else None)
    if path is not None and has_format(path, FORMAT):
        world = load(name, device=device)
        return of_predictor(SteppedWorld(world), {"weights": weights_hash(world)})
    try:
        model = load_video(name, device=device)
    except UserError as error:
        others = f"{', '.join(('truth', *BASELINES))}, data:DIR, a folder of videos, module:function"
        raise UserError(f"{error} (other entrants: {others})") from None
    return of_predictor(VideoWorld(model), {"weights": weights_hash(model)})
