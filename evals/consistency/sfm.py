"""Structure from motion of a clip: SIFT, the global mapper of pycolmap (GLOMAP), cross-checked by the incremental one.

    found = reconstruct(frames, intrinsics)        # never raises for what is in the frames
    found.reconstruction.poses                     # camera to world, up to a similarity; None where SfM gave nothing

pycolmap runs in a subprocess with a time limit: an abort in it (SIGABRT, which Python cannot catch) or a clip that it
never ends with is one failed clip, with its reason. Same frames, same settings: bit-identical results.

Pan, L. et al., "Global Structure-from-Motion Revisited", ECCV 2024; Schönberger, J. and Frahm, J.-M.,
"Structure-from-Motion Revisited", CVPR 2016.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import Intrinsics, inverse
from wfm_sim.data.files import atomic_path
from wfm_sim.evals.consistency.similarity import Similarity

WORKER = "wfm_sim.evals.consistency.sfm_worker"
MIN_FRAMES = 3  # a model of fewer is none
PATIENCE = 20


@dataclass(frozen=True)
class SfmSettings:
    """What decides a reconstruction.

    Attributes:
        max_features: SIFT features per frame.
        max_size: Frames whose longer side is more pixels than this are scaled down to it, for features only.
        min_size: Frames whose longer side is fewer pixels are scaled up by a whole factor, for features only.
        overlap: A frame is matched with so many that follow (and some farther on); up to 13 frames, all pairs are.
        incremental: Cross-check by the incremental mapper.
        seconds: Time limit of the subprocess, in CPU seconds, so that a busy machine fails no clip; by the clock it
            is `PATIENCE` times as long.
        seed: Of every random draw.
    """

    max_features: int = 2048
    max_size: int = 1600
    min_size: int = 240
    overlap: int = 6
    incremental: bool = True
    seconds: float = 300.0
    seed: int = 0


@dataclass(frozen=True)
class Reconstruction:
    """Cameras and points of the largest model, in its own scale and frame.

    Attributes:
        poses: float64 [R, 4, 4], camera to world, OpenCV axes.
        frame_index: int64 [R], which frames of the clip they are, rising.
        points: float64 [P, 3].
        colours: uint8 [P, 3], RGB.
        intrinsics: Known ones as given, else as found.
        aligned: The similarity that takes its positions to the commanded ones; None without a commanded path.
    """

    poses: NDArray[np.float64]
    frame_index: NDArray[np.int64]
    points: NDArray[np.float64]
    colours: NDArray[np.uint8]
    intrinsics: Intrinsics
    aligned: Similarity | None = None

    def with_alignment(self, aligned: Similarity | None) -> Reconstruction:
        """The same, with the similarity to the commanded path."""
        return replace(self, aligned=aligned)

    def save(self, path: Path) -> None:
        """As .npz; the file appears whole or not at all."""
        k = self.intrinsics
        more: dict[str, Any] = {} if self.aligned is None else {"aligned": self.aligned.matrix}
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(
                file, poses=self.poses, frame_index=self.frame_index, points=self.points, colours=self.colours,
                intrinsics=k.array, size=np.array([k.height, k.width]), **more,
            )  # fmt: skip


@dataclass(frozen=True)
class SfmResult:
    """What SfM made of a clip.

    Attributes:
        reconstruction: The largest model; None where there is none.
        reason: Why there is none.
        crashed: The subprocess died or took too long.
        mapper: Whose it is: "global", or "incremental" where the global mapper gave nothing.
        models: Frames in each model, the largest first.
        reprojection: Mean error in pixels of the given frames.
        triangulation_angle: Median over points of the widest angle between two of their rays, in degrees.
        incremental_registered: Frames in the incremental mapper's largest model; None where it was not asked.
        disagreement: Mean rotation in degrees by which the two mappers' cameras differ, over the frames of both.
        seconds: CPU seconds of each part.
    """

    reconstruction: Reconstruction | None = None
    reason: str = ""
    crashed: bool = False
    mapper: str = ""
    models: tuple[int, ...] = ()
    reprojection: float | None = None
    triangulation_angle: float | None = None
    incremental_registered: int | None = None
    disagreement: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def reconstruct(
    frames: NDArray[np.uint8],
    intrinsics: Intrinsics | None = None,
    masks: NDArray[np.bool_] | None = None,
    settings: SfmSettings | None = None,
) -> SfmResult:
    """SfM of a clip.

    Args:
        frames: uint8 [T, H, W, 3], RGB, undistorted, in the order in which they were taken.
        intrinsics: Known ones of these frames; None estimates one focal length for all, the centre being the image's.
        masks: bool [T, H, W], True where no features are wanted (things that move).
        settings: See SfmSettings.
    """
    settings = settings or SfmSettings()
    if len(frames) < MIN_FRAMES:
        return SfmResult(reason=f"{len(frames)} frames; SfM needs {MIN_FRAMES}")
    scale = feature_scale(frames.shape[1:3], settings)
    with tempfile.TemporaryDirectory(prefix="wfm-sim-sfm-") as name:
        folder = Path(name)
        _write_job(folder, frames, intrinsics, masks, settings, scale)
        reason = _run(folder, settings.seconds)
        if reason:
            return SfmResult(reason=reason, crashed=True)
        result = json.loads((folder / "result.json").read_text())
        with np.load(folder / "result.npz") as arrays:
            return _read(result, dict(arrays), frames, intrinsics, scale)


def feature_scale(size: tuple[int, ...], settings: SfmSettings) -> float:
    """By how much frames of `size` (height, width) are scaled for features."""
    longest = max(size)
    if longest > settings.max_size:
        return settings.max_size / longest
    return float(np.ceil(settings.min_size / longest)) if longest < settings.min_size else 1.0


def _write_job(
    folder: Path,
    frames: NDArray[np.uint8],
    intrinsics: Intrinsics | None,
    masks: NDArray[np.bool_] | None,
    settings: SfmSettings,
    scale: float,
) -> None:
    import cv2

    (folder / "images").mkdir()
    size = _scaled(frames.shape[1:3], scale)
    if masks is not None:
        (folder / "masks").mkdir()
    for i, frame in enumerate(frames):
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image: Any = frame if scale == 1 else cv2.resize(frame, size[::-1], interpolation=how)
        cv2.imwrite(str(folder / "images" / f"{i:06d}.png"), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if masks is not None:  # pycolmap: black is where no features are
            kept: Any = np.where(masks[i], 0, 255).astype(np.uint8)
            kept = cv2.resize(kept, size[::-1], interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(folder / "masks" / f"{i:06d}.png.png"), kept)
    known = None if intrinsics is None else intrinsics.resized(size).array.tolist()
    job = {"intrinsics": known, "max_features": settings.max_features, "overlap": settings.overlap,
           "incremental": settings.incremental, "seed": settings.seed, "seconds": settings.seconds}  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))


def _run(folder: Path, seconds: float) -> str:
    """Run the worker; '' when it ended well, else why it did not."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(folder)], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env={**os.environ, **threads},
        )  # fmt: skip
        try:
            code = process.wait(PATIENCE * seconds)
        except subprocess.TimeoutExpired:
            return f"SfM took longer than {PATIENCE * seconds:g} s"
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code == 0 and (folder / "result.json").exists():
        return ""
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"SfM was killed (after {seconds:g} s of CPU, or for want of memory)"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip() and "***" not in line]
    said = f": {_message(lines)}" if lines else ""
    return f"SfM died ({signal.Signals(-code).name if code < 0 else f'exit code {code}'}){said}"


def _message(lines: list[str]) -> str:
    """The first line that looks like an error, else the last one, without a log's prefix."""
    line = next((line for line in lines if "Error" in line or line.startswith(("E2", "F2"))), lines[-1])
    return line.split("] ", 1)[-1].strip()[:200]


def _read(
    result: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
    frames: NDArray[np.uint8],
    intrinsics: Intrinsics | None,
    scale: float,
) -> SfmResult:
    incremental = result.get("incremental")
    mapper = "global" if result["global"]["models"] else "incremental"
    found = result.get(mapper) or {"models": []}
    other = None if incremental is None else int(incremental.get("registered", 0))
    seconds = {**result["seconds"]}
    if not found["models"]:
        return SfmResult(reason="SfM found no model", incremental_registered=other, seconds=seconds)
    size = _scaled(frames.shape[1:3], scale)
    fx, fy, cx, cy = found["intrinsics"]
    estimated = Intrinsics(fx, fy, cx, cy, *size).resized((frames.shape[1], frames.shape[2]))
    poses = inverse(_square(arrays[f"{mapper}_world_to_camera"]))
    reconstruction = Reconstruction(
        poses, arrays[f"{mapper}_frame_index"], arrays[f"{mapper}_points"], arrays[f"{mapper}_colours"],
        intrinsics or estimated,
    )  # fmt: skip
    disagreement = None
    if mapper == "global" and other:
        disagreement = _disagreement(arrays)
    return SfmResult(
        reconstruction,
        mapper=mapper,
        models=tuple(found["models"]),
        reprojection=None if found["reprojection"] is None else found["reprojection"] / scale,
        triangulation_angle=found["triangulation_angle"],
        incremental_registered=other,
        disagreement=disagreement,
        seconds=seconds,
    )


def _disagreement(arrays: dict[str, NDArray[Any]]) -> float | None:
    from wfm_sim.evals.consistency.poses import rotation_errors

    _, a, b = np.intersect1d(arrays["global_frame_index"], arrays["incremental_frame_index"], return_indices=True)
    if len(a) < 2:
        return None
    one, two = (inverse(_square(arrays[f"{name}_world_to_camera"]))[rows]
                for name, rows in (("global", a), ("incremental", b)))  # fmt: skip
    return float(rotation_errors(one, two).mean())


def _square(world_to_camera: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.tile(np.eye(4), (len(world_to_camera), 1, 1))
    out[:, :3] = world_to_camera
    return out


def _scaled(size: tuple[int, ...], scale: float) -> tuple[int, int]:
    return round(size[0] * scale), round(size[1] * scale)
