"""Which format a folder of recordings is in."""

from __future__ import annotations

from pathlib import Path

from wfm_sim.data.bridge import BridgeDataset, choose_split, splits
from wfm_sim.data.camera_episodes import CameraEpisodes
from wfm_sim.data.ctrl_world import CtrlWorldDataset
from wfm_sim.data.episode import EpisodeDataset
from wfm_sim.data.files import read_json
from wfm_sim.data.physics_clips import PhysicsClips, is_physics
from wfm_sim.data.rlds import TFRecordBridge, UnpackedBridge
from wfm_sim.data.worldgym import WorldGymDataset
from wfm_sim.errors import UserError

_FORMATS = (
    "annotation/<split>/*.json (Bridge/IRASim, Ctrl-World), *.tfrecord* (RLDS), */episode.json (unpacked RLDS) "
    "pairs of .mp4 and .npz (WorldGym), */transforms.json (DL3DV, wfm-sim rooms generate) or manifest.json "
    "(wfm-sim physics generate)"
)


def open_dataset(path: str | Path, split: str | None = None, camera: int = 0) -> EpisodeDataset:
    """The episodes of a folder, in whichever known format it is; nothing but file names is read yet.

    Args:
        path: The data set's root folder.
        split: One of its splits. Without it 'train', or the only one; formats without splits take none.
        camera: Which camera, where there are several.

    Raises:
        UserError: no such folder, an empty one, an unknown format or split.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise UserError(f"{path}: no such folder")
    if is_physics(root):
        return PhysicsClips(root, split)
    if any(any(root.glob(pattern)) for pattern in ("transforms.json", "*/transforms.json", "*/*/transforms.json")):
        return CameraEpisodes(root, split)
    available = splits(root)
    if available:
        chosen = choose_split(root, available, split)
        first = next((file for file in sorted(available[chosen].glob("*.json")) if file.name[0] != "."), None)
        is_ctrl_world = first is not None and {"states", "state"} & set(read_json(first)) == {"states"}
        return (CtrlWorldDataset if is_ctrl_world else BridgeDataset)(root, chosen, camera)
    if any(root.glob("*.tfrecord*")):
        return TFRecordBridge(root, split, camera)
    for unpacked in (root, root / (split or "train")):
        if any(unpacked.glob("*/episode.json")):
            return UnpackedBridge(unpacked, camera)
    if any(root.glob("*.npz")):
        if split is not None:
            raise UserError(f"{path}: this format (.mp4 and .npz) has no splits, but {split!r} was asked for")
        return WorldGymDataset(root)
    if not any(root.iterdir()):
        raise UserError(f"{path}: the folder is empty, expected {_FORMATS}")
    raise UserError(f"{path}: no known data set, expected {_FORMATS}")
