"""Structure from motion of one clip by pycolmap, in a process of its own: `python -m ...sfm_worker FOLDER`.

FOLDER holds job.json (see `sfm.py`), images/ and perhaps masks/; result.json and result.npz appear there. pycolmap may
abort the whole process, which is why nothing else runs in this one.

The same job gives the same bytes: one thread, and a seed for every step that draws random numbers.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FILTER_PX = 4.0  # as the incremental mapper
_EXHAUSTIVE = 13  # up to so many frames, every pair is matched


def main(folder: Path) -> None:
    """Do the job in a folder."""
    job = json.loads((folder / "job.json").read_text())
    _leave_with_the_parent()
    _limit_cpu(float(job["seconds"]))
    import pycolmap

    pycolmap.logging.minloglevel = 2  # errors only: they are the reason when it aborts
    pycolmap.set_random_seed(job["seed"])
    database = folder / "database.db"
    _match(pycolmap, folder, database, job)
    spent = {"features": round(time.process_time(), 3)}
    arrays: dict[str, NDArray[Any]] = {}
    result: dict[str, Any] = {}
    for mapper in ("global", "incremental") if job["incremental"] else ("global",):
        began = time.process_time()
        run = _global if mapper == "global" else _incremental
        (folder / mapper).mkdir()
        models = list(run(pycolmap, folder, database, job).values())
        models.sort(key=lambda m: (-m.num_reg_images(), min(i.name for i in m.images.values() if i.has_pose)))
        result[mapper] = {"models": [int(m.num_reg_images()) for m in models]}
        if models:
            about, found = _describe(models[0])
            result[mapper] |= about
            arrays |= {f"{mapper}_{name}": array for name, array in found.items()}
        spent[mapper] = round(time.process_time() - began, 3)
    np.savez(folder / "result.npz", **arrays)  # type: ignore[arg-type]
    (folder / "result.json").write_text(json.dumps({**result, "seconds": spent}))


def _match(pycolmap: Any, folder: Path, database: Path, job: dict[str, Any]) -> None:
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = "SIMPLE_PINHOLE" if job["intrinsics"] is None else "PINHOLE"
    if job["intrinsics"] is not None:
        reader.camera_params = ",".join(repr(float(v)) for v in job["intrinsics"])
    if (folder / "masks").is_dir():
        reader.mask_path = str(folder / "masks")
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.num_threads = 1
    extraction.use_gpu = False
    extraction.sift.max_num_features = job["max_features"]
    names = sorted(p.name for p in (folder / "images").iterdir())
    pycolmap.extract_features(
        database, folder / "images", names, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader,
        extraction_options=extraction, device=pycolmap.Device.cpu,
    )  # fmt: skip
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = 1
    matching.use_gpu = False
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = job["seed"]
    if len(names) <= _EXHAUSTIVE:
        pycolmap.match_exhaustive(
            database, matching_options=matching, verification_options=verification, device=pycolmap.Device.cpu
        )
    else:
        pairing = pycolmap.SequentialPairingOptions()
        pairing.overlap = job["overlap"]
        pairing.num_threads = 1
        pycolmap.match_sequential(
            database, matching_options=matching, pairing_options=pairing, verification_options=verification,
            device=pycolmap.Device.cpu,
        )  # fmt: skip
    if job["intrinsics"] is None:
        options = pycolmap.ViewGraphCalibrationOptions() if hasattr(pycolmap, "ViewGraphCalibrationOptions") else None
        if options is not None and hasattr(options, "random_seed"):
            options.random_seed = job["seed"]
        pycolmap.calibrate_view_graph(database, *([options] if options is not None else []))


def _global(pycolmap: Any, folder: Path, database: Path, job: dict[str, Any]) -> dict[int, Any]:
    options = pycolmap.GlobalPipelineOptions()
    mapper = options.mapper
    for part in (options, mapper):
        part.num_threads = 1  # bit-identical with one thread only
        part.random_seed = job["seed"]
    for name in ("rotation_averaging", "global_positioning", "retriangulation"):
        getattr(mapper, name).random_seed = job["seed"]
    mapper.bundle_adjustment.refine_focal_length = job["intrinsics"] is None
    mapper.bundle_adjustment.refine_extra_params = False
    if job["intrinsics"] is not None:
        # The default, a hundredth of the focal length, is 2 px of a small frame: a warp of more would be filtered away.
        mapper.max_normalized_reproj_error = max(0.01, _FILTER_PX / job["intrinsics"][0])
    mapper.bundle_adjustment.ceres.use_gpu = False
    mapper.global_positioning.use_gpu = False
    found: dict[int, Any] = pycolmap.global_mapping(database, folder / "images", folder / "global", options)
    return found


def _incremental(pycolmap: Any, folder: Path, database: Path, job: dict[str, Any]) -> dict[int, Any]:
    options = pycolmap.IncrementalPipelineOptions()
    for part in (options, options.mapper, options.triangulation):
        part.random_seed = job["seed"]
    options.num_threads = 1
    options.mapper.num_threads = 1
    options.min_model_size = 3
    # video has narrow baselines: 16 degrees, the default, is for photographs. It is relaxed twice, by half.
    options.mapper.init_min_tri_angle = 4.0
    options.ba_refine_focal_length = job["intrinsics"] is None
    options.ba_refine_extra_params = False
    found: dict[int, Any] = pycolmap.incremental_mapping(database, folder / "images", folder / "incremental", options)
    return found


def _describe(model: Any) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What is said of a model, and its arrays, in an order that does not depend on anything but the model."""
    images = sorted((i for i in model.images.values() if i.has_pose), key=lambda i: i.name)
    world_to_camera = np.stack([np.asarray(image.cam_from_world().matrix(), np.float64) for image in images])
    points = [model.points3D[i] for i in sorted(model.points3D)]
    centres = {image.image_id: np.asarray(image.projection_center()) for image in images}
    angles = [_widest(p.xyz, [centres[e.image_id] for e in p.track.elements if e.image_id in centres]) for p in points]
    camera = model.cameras[images[0].camera_id]
    fx, fy = (camera.focal_length_x, camera.focal_length_y) if camera.model.name == "PINHOLE" else (
        camera.focal_length, camera.focal_length)  # fmt: skip
    about = {
        "registered": len(images),
        "points": len(points),
        "reprojection": float(model.compute_mean_reprojection_error()) if points else None,
        "triangulation_angle": float(np.median(angles)) if angles else None,
        "intrinsics": [fx, fy, camera.principal_point_x, camera.principal_point_y],
    }
    return about, {
        "world_to_camera": world_to_camera,
        "frame_index": np.array([int(Path(image.name).stem) for image in images]),
        "points": np.array([p.xyz for p in points], np.float64).reshape(-1, 3),
        "colours": np.array([p.color for p in points], np.uint8).reshape(-1, 3),
    }


def _widest(point: NDArray[np.float64], centres: list[NDArray[np.float64]]) -> float:
    """The widest angle under which two of the cameras see a point, in degrees."""
    rays = np.asarray(centres) - point
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    return float(np.degrees(np.arccos(np.clip((rays @ rays.T).min(), -1, 1))))


def _leave_with_the_parent() -> None:
    """End this process soon after its parent has gone, however the parent went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _limit_cpu(seconds: float) -> None:
    import resource

    limit = max(1, round(seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))  # SIGXCPU, then SIGKILL
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
