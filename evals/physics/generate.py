"""Episodes of the physics benchmark, rendered and written in parallel. `generate` is the entry point.

Episode i of a scene follows from (scene, i, settings) alone, and exists when its folder does. So a run that was stopped
or killed at any moment is completed by the same call again, with any number of workers, to exactly the same set: the
manifest, which has the hash of every file, is then the same to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from wfm_sim.data.files import atomic_path, exclusive, read_json, remove_partial_files
from wfm_sim.data.physics import FORMAT, MANIFEST, VERSION, Frame, View, episode_folder
from wfm_sim.data.physics_writer import write_physics_episode
from wfm_sim.errors import UserError, unknown
from wfm_sim.workers import leave_if_orphaned, run_jobs

BACKENDS = {"mujoco": "mujoco", "physx": "ovphysx", "isaac": "isaacsim"}  # name -> the package that has the engine
SEEDS_PER_SET = 1_000_000
# A frame in which nothing has moved by more than this since the last one drawn is that one again. At 256 px and two
# metres across, 10 micrometres are a thousandth of a pixel.
STILL_METRES, STILL_RADIANS = 1e-5, 1e-4


@dataclass(frozen=True)
class GenerateSettings:
    """What decides the content of a data set; kept in its manifest and compared when a run is resumed.

    Attributes:
        scenes: Names of wfm_sim.assets.physics.
        episodes: Per scene.
        views: Cameras per episode, the first so many of the scene's.
        frames: Per video.
        fps: Frames per second.
        size: (height, width) in pixels.
        backend: mujoco, physx or isaac: what moves the bodies.
        seed: Of the set. Episode i is built from seed * 1,000,000 + i: sets of different seeds share no episode.
    """

    scenes: tuple[str, ...]
    episodes: int = 100
    views: int = 4
    frames: int = 100
    fps: int = 24
    size: tuple[int, int] = (256, 256)
    backend: str = "mujoco"
    seed: int = 0

    def jobs(self) -> list[tuple[str, int]]:
        """(scene, episode number) of every episode; all scenes grow together."""
        return [(scene, index) for index in range(self.episodes) for scene in self.scenes]


@dataclass(frozen=True)
class GenerateResult:
    """Episodes there now, how many of them this run wrote, in how many seconds, and the manifest's hash."""

    episodes: int
    written: int
    seconds: float
    hash: str


def choose_scenes(names: str, extensions: bool = False) -> tuple[str, ...]:
    """'all' or names with commas between -> scene names. `extensions` adds the extension set to 'all'.

    Raises:
        UserError: a name that is no scene.
    """
    from wfm_sim.assets.physics import EXTENSIONS, SCENES

    if names == "all":
        return (*SCENES, *EXTENSIONS) if extensions else tuple(SCENES)
    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in chosen:
        if name not in (*SCENES, *EXTENSIONS):
            raise unknown("scene", name, (*SCENES, *EXTENSIONS, "all"))
    if not chosen:
        raise UserError("no scene named; `--scenes all` takes all")
    return chosen


def generate(
    root: str | Path,
    settings: GenerateSettings,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> GenerateResult:
    """Write the episodes that are not there yet, then the manifest.

    Args:
        root: The data set's folder; made if need be.
        settings: What to generate. A set may be completed with more episodes; everything else must stay.
        workers: Processes, each with one thread.
        progress: Called with (episodes there, episodes wanted) after each one.

    Raises:
        UserError: a number out of range, an engine that is not there, a folder made with other settings or with
            something else in it, another run at work in it, or a worker that died.
    """
    _check(settings, workers)
    root = Path(root).expanduser()
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: exists and is not a folder")
    fresh = _manifest(settings)
    root.mkdir(parents=True, exist_ok=True)
    with exclusive(root / ".generate.lock", f"{root}: another run is generating there"):
        settings = _resume(root, settings, fresh)
        remove_partial_files(root)
        jobs = settings.jobs()
        missing = [job for job in jobs if not (root / episode_folder(*job)).is_dir()]
        begun, done = time.monotonic(), len(jobs) - len(missing)
        # A set that was completed by another version of the scenes says so: one entry per version that wrote.
        before = read_json(root / MANIFEST).get("code", []) if len(missing) < len(jobs) else []
        code = [*before, *(c for c in fresh["code"] if missing and c not in before)]
        if missing or not read_json(root / MANIFEST)["complete"]:
            _write(root / MANIFEST, _manifest(settings) | {"code": code})
        if progress is not None:
            progress(done, len(jobs))
        try:
            for _ in run_jobs(partial(_make_worker, root, settings), missing, workers):
                done += 1
                if progress is not None:
                    progress(done, len(jobs))
        finally:
            remove_partial_files(root)
        seconds = time.monotonic() - begun
        manifest = (
            _manifest(settings) | {"code": code} | _hashes(root, [root / episode_folder(*job) for job in sorted(jobs)])
        )
        _write(root / MANIFEST, manifest)
        return GenerateResult(len(jobs), len(missing), seconds, manifest["hash"])


def verify(root: str | Path) -> list[str]:
    """Paths (relative to the folder) of files that are missing or not as the manifest says; [] when all are.

    Raises:
        UserError: no data set there, or one that is not complete.
    """
    from wfm_sim.data.physics import open_physics

    data = open_physics(root)
    if not data.complete:
        raise UserError(f"{root}: is not complete; run the same `wfm-sim physics generate` again")
    wrong = []
    for name, digest in data.manifest["files"].items():
        path = data.root / name
        if not path.is_file() or _sha256(path) != digest:
            wrong.append(name)
    return wrong


def _check(settings: GenerateSettings, workers: int) -> None:
    least = {"episodes": 1, "frames": 1, "fps": 1, "seed": 0}
    numbers = [(name, getattr(settings, name), low) for name, low in least.items()]
    for name, value, low in (*numbers, ("workers", workers, 1), ("size", min(settings.size), 16)):
        if value < low:
            raise UserError(f"{name} must be at least {low}, not {value}")
    if not 1 <= settings.views <= 4:
        raise UserError(f"a scene has 4 cameras: views must be 1 to 4, not {settings.views}")
    if settings.episodes > SEEDS_PER_SET:
        raise UserError(f"a set holds at most {SEEDS_PER_SET} episodes per scene, not {settings.episodes}")
    if max(settings.size) > 4096:
        raise UserError(f"frames of at most 4096 px a side, not {settings.size[1]}x{settings.size[0]}")
    if settings.backend not in BACKENDS:
        raise unknown("backend", settings.backend, BACKENDS)


def _manifest(settings: GenerateSettings) -> dict[str, Any]:
    """The manifest before there are hashes. No date and no machine: the same set has the same manifest anywhere."""
    package = BACKENDS[settings.backend]
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        if settings.backend == "isaac":
            from wfm_sim.envs.physics.isaac import INSTALL

            raise UserError(INSTALL) from None
        extra = "" if package == "mujoco" else f"; install it with `pip install 'wfm-sim[{settings.backend}]'`"
        raise UserError(f"backend {settings.backend!r} needs the package {package!r}, which is absent{extra}") from None
    wanted = asdict(settings)
    about = {"format": FORMAT, "version": VERSION, "complete": False, "settings": wanted}
    about["engine"] = {"name": package, "version": version}
    about["renderer"] = {"name": "mujoco", "version": metadata.version("mujoco")}
    about |= {"code": [_code()], "hash": "", "files": {}}
    read: dict[str, Any] = json.loads(json.dumps(about))  # as it will be read: tuples are lists
    return read


def _code() -> str:
    """Changes with the sources of scenes, engines, renderer and writer, which settings and versions do not tell."""
    from wfm_sim.assets import physics as assets
    from wfm_sim.data import physics_writer, video
    from wfm_sim.envs import physics as envs

    folders = [Path(str(module.__file__)).parent for module in (assets, envs)]
    files = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    files += [Path(str(module.__file__)) for module in (physics_writer, video)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _resume(root: Path, settings: GenerateSettings, fresh: dict[str, Any]) -> GenerateSettings:
    """The settings, checked against those of the manifest that is there; the larger number of episodes of the two."""
    path = root / MANIFEST
    if not path.exists():
        if any(not p.name.startswith(".") for p in root.iterdir()):
            raise UserError(f"{root} holds files but no {MANIFEST}: name an empty or a new folder")
        _write(path, fresh)
        return settings
    there = read_json(path)
    if there.get("format") != FORMAT or there.get("version") != VERSION:
        raise UserError(f"{path}: not a manifest of {FORMAT} {VERSION}; choose another folder")
    pairs = [(f"{k} {v!r}", f"{there['settings'].get(k)!r}", k) for k, v in fresh["settings"].items()
             if k != "episodes" and v != there["settings"].get(k)]  # fmt: skip
    pairs += [(f"{fresh[k]['name']} {fresh[k]['version']}", f"{there[k]['name']} {there[k]['version']}", k)
              for k in ("engine", "renderer") if fresh[k] != there[k]]  # fmt: skip
    for wanted, found, name in pairs:
        raise UserError(f"{root}: was generated with {name} {found}, not with {wanted}; choose another folder")
    episodes = max(settings.episodes, int(there["settings"]["episodes"]))
    return GenerateSettings(**{**asdict(settings), "episodes": episodes})


def _hashes(root: Path, folders: Iterable[Path]) -> dict[str, Any]:
    files = {}
    for folder in folders:
        for path in sorted(folder.iterdir()):
            files[path.relative_to(root).as_posix()] = _sha256(path)
    whole = hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in files.items()).encode())
    return {"complete": True, "hash": f"sha256:{whole.hexdigest()}", "files": files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, manifest: dict[str, Any]) -> None:
    with atomic_path(path) as partial_path:
        partial_path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def write_one(root: Path, settings: GenerateSettings, scene_name: str, index: int) -> None:
    """Simulate, render and write one episode."""
    from wfm_sim.assets.physics import build, scene_to_dict
    from wfm_sim.envs.physics import Renderer, simulate

    seed = settings.seed * SEEDS_PER_SET + index
    height, width = settings.size
    scene = build(scene_name, seed)
    trajectory = simulate(scene, frames=settings.frames, fps=settings.fps, backend=settings.backend)
    cameras = [View(c.name, c.intrinsics(width, height), c.extrinsics()) for c in scene.cameras[: settings.views]]
    with Renderer(scene, width, height) as renderer:
        write_physics_episode(
            root,
            scene_name,
            index,
            seed=seed,
            fps=settings.fps,
            size=settings.size,
            cameras=cameras,
            scene=scene_to_dict(scene),
            motion=trajectory,
            render=_Still(renderer, trajectory),
            before_done=leave_if_orphaned,
        )


class _Still:
    """Renders, except where nothing has moved since the frame that was rendered last."""

    def __init__(self, renderer: Any, trajectory: Any) -> None:
        self.renderer, self.trajectory = renderer, trajectory
        self.view, self.frame = -1, -1
        self.last: tuple[Frame, Frame] | None = None

    def __call__(self, view: int, frame: int) -> tuple[Frame, Frame]:
        if self.last is None or view != self.view or not self._still(self.frame, frame):
            self.last = self.renderer.render(self.trajectory, frame, view)
            self.view, self.frame = view, frame
        return self.last

    def _still(self, a: int, b: int) -> bool:
        p, q, nodes = self.trajectory.positions, self.trajectory.quaternions, self.trajectory.nodes
        for points in (p, p if nodes is None else nodes):
            if np.abs(points[a] - points[b]).max(initial=0) > STILL_METRES:
                return False
        turned = np.minimum(np.abs(q[a] - q[b]).max(-1), np.abs(q[a] + q[b]).max(-1))  # q and -q are one rotation
        return bool(turned.max(initial=0) < STILL_RADIANS / 2)


def _make_worker(root: Path, settings: GenerateSettings) -> Callable[[tuple[str, int]], tuple[str, int]]:
    def work(job: tuple[str, int]) -> tuple[str, int]:
        write_one(root, settings, *job)
        return job

    return work
