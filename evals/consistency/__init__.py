"""3D consistency of videos: is what the camera sees one rigid scene, and did the camera go where it was told to?

from wfm_sim.evals.consistency import score_clip
score = score_clip(frames, intrinsics=intrinsics, commanded=poses)      # uint8 [T, H, W, 3], float64 [T, 4, 4]
"""

from wfm_sim.evals.consistency.score import ClipScore, ConsistencySettings, score_clip
from wfm_sim.evals.consistency.sfm import Reconstruction, SfmSettings

__all__ = ["ClipScore", "ConsistencySettings", "Reconstruction", "SfmSettings", "score_clip"]
