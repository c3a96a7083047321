"""Does trust come true? Records of imagined episodes: what trust said at each step, and what was so.

Two kinds: held-out episodes of the physics twin, imagined under their recorded actions (as in `eval nano`), and
exploits, whose actions were chosen inside the model to please the judge (policies/exploiter.py), with the truth from
the twin under the same actions. evals/trust_summary.py makes numbers of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.tabletop import PALETTE, WORKSPACE
from wfm_sim.envs.core import Judges, Trusts
from wfm_sim.envs.twin import TabletopMuJoCoEnv
from wfm_sim.evals.heldout import HeldOut
from wfm_sim.evals.nano import Verdict, imagine_with_doubts
from wfm_sim.policies.exploiter import Scene, Shooting, exploit
from wfm_sim.tolerance import Tolerance, diverged
from wfm_sim.world_model import WorldModel

HELD_OUT, EXPLOIT = "held-out", "exploit"


def held_out_records(
    model: WorldModel,
    trust: Trusts,
    judge: Judges | None,
    episodes: Sequence[HeldOut],
    tolerance: Tolerance,
    verdict: Verdict,
) -> list[dict[str, Any]]:
    """Records of one batch of held-out episodes."""
    imagined, doubts = imagine_with_doubts(model, episodes)
    actions, poses = np.stack([e.actions for e in episodes]), np.stack([e.poses for e in episodes])
    told = trust_along(trust, imagined, actions, poses, doubts)
    records = []
    for row, e in enumerate(episodes):
        out = diverged(e.frames, imagined[row], e.objects, _paints(e.colours), tolerance)
        records.append(
            {
                "kind": HELD_OUT,
                "seed": e.seed,
                "policy": e.policy,
                "task": e.task,
                **{name: values[row].round(5).tolist() for name, values in told.items()},
                "diverged": out.tolist(),
                "success": bool(e.success.any()),
                **_judged(judge, imagined[row], e.task, e.target_colour, verdict),
            }
        )
    return records


def exploit_record(
    model: WorldModel,
    trust: Trusts,
    judge: Judges,
    twin: TabletopMuJoCoEnv,
    seed: int,
    task: str,
    shooting: Shooting,
    tolerance: Tolerance,
    verdict: Verdict,
) -> dict[str, Any]:
    """The record of the rollout that pleases the judge most, in the scene of this seed."""
    observation, info = twin.reset(seed=seed, options={"task": task})
    scene = Scene(seed, observation["pixels"], observation["agent_pos"], task, info["target_colour"])
    shot = exploit(model, judge, scene, WORKSPACE, shooting)[0]
    frames, views, success = [observation["pixels"]], [twin.object_views()], False
    for action in shot.actions:
        observation, _, _, _, info = twin.step(action)
        frames.append(observation["pixels"])
        views.append(twin.object_views())
        success |= bool(info["is_success"])
    objects = np.array(
        [[(*v.centroid, v.visible_area) if v.visible_area else (0.0, 0.0, 0.0) for v in now] for now in views]
    )
    colours = [v.colour for v in views[0]]
    told = trust_along(trust, shot.frames[None], shot.actions[None], shot.poses[None], shot.doubts[None])
    return {
        "kind": EXPLOIT,
        "seed": seed,
        "policy": f"best of {shooting.candidates}",
        "task": task,
        **{name: values[0].round(5).tolist() for name, values in told.items()},
        "diverged": diverged(np.stack(frames), shot.frames, objects, _paints(colours), tolerance).tolist(),
        "success": success,
        **_judged(judge, shot.frames, task, scene.colour, verdict),
    }


def trust_along(
    trust: Trusts,
    frames: NDArray[np.uint8],
    actions: NDArray[np.float32],
    poses: NDArray[np.floating],
    doubts: NDArray[np.floating],
) -> dict[str, NDArray[np.float64]]:
    """ "trust" and "horizon", float64 [B, T + 1], of whole rollouts: frames uint8 [B, T + 1, H, W, 3], the first given,
    executed actions [B, T, 7], poses [B, T + 1, 7], the model's own doubts [B, T + 1, 2] in metres. Doubts that are 0
    throughout are not passed: a trust that does not take them goes with every model that has none."""
    at = np.asarray(poses, dtype=np.float64)
    told = [{"doubts": now.astype(np.float64)} if doubts.any() else {} for now in np.moveaxis(doubts, 1, 0)]
    state = trust.start(frames[:, 0], at[:, 0], **told[0])
    states = [state]
    for t in range(actions.shape[1]):
        state = trust.step(state, frames[:, t + 1], actions[:, t], at[:, t + 1], **told[t + 1])
        states.append(state)
    return {name: np.stack([getattr(s, name) for s in states], axis=1) for name in ("trust", "horizon")}


def _judged(
    judge: Judges | None, frames: NDArray[np.uint8], task: str, colour: str, verdict: Verdict
) -> dict[str, Any]:
    if judge is None:
        return {}
    n = len(frames)
    probability, _ = judge(frames, np.repeat(frames[:1], n, axis=0), [task] * n, [colour] * n)
    return {"judged": verdict.ever(np.asarray(probability))}


def _paints(colours: Sequence[str]) -> list[NDArray[np.float64] | None]:
    return [None if c not in PALETTE else np.array(PALETTE[c]) * 255 for c in colours]
