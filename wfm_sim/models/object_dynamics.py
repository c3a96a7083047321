"""How objects move when a gripper does: a small network over objects, in the robot's base frame.

Each object is seen from the gripper, with what the gripper does in this step and did in the last, and with its
neighbours (a message per pair, summed, as in interaction networks, arXiv 1612.00222). Out comes how far it moves and
how it turns, and how sure that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

OWN, ACT, PAIR, MESSAGE = 13, 21, 9, 64
STEP_SCALE = 0.02  # metres; about what moves in a step


@dataclass
class ObjectMemory:
    """Objects of B worlds, K slots each; see `Reading` for the first five.

    Attributes:
        gripper, before: float64 [B, 7], the commanded pose now and a step ago.
        present: [B, K], 1 where there is an object.
        place: [B, K, 2], pixels, where it was read off the given frame.
        given: [B, K, 3], its position then.
        position: [B, K, 3], now, metres.
        moved: [B, K, 3], in the last step.
        yaw: [B, K, 2], cosine and sine of four times its heading.
        doubt: [B, K], metres: expected error of its position, summed over the steps since it was seen.
        latest: [B, K], metres: that of the last step alone.
        frame: [B, 3, H, W] in -1..1, the given frame, from which objects get their look; or [B, 0] where nobody looks.
    """

    gripper: Tensor
    before: Tensor
    present: Tensor
    place: Tensor
    given: Tensor
    position: Tensor
    moved: Tensor
    yaw: Tensor
    doubt: Tensor
    latest: Tensor
    frame: Tensor

    def __len__(self) -> int:
        return len(self.gripper)

    def __getitem__(self, rows: Any) -> ObjectMemory:
        return ObjectMemory(**{f.name: getattr(self, f.name)[rows].clone() for f in fields(self)})

    @classmethod
    def at_rest(
        cls,
        gripper: Tensor,
        present: Tensor,
        place: Tensor,
        position: Tensor,
        yaw: Tensor,
        frame: Tensor | None = None,
    ) -> ObjectMemory:
        """What has just been seen, and nothing moves; arguments as the attributes."""
        still, sure = torch.zeros_like(position), torch.zeros_like(present)
        frame = position.new_zeros(len(position), 0) if frame is None else frame
        return cls(gripper, gripper, present, place, position, position, still, yaw, sure, sure, frame)

    @property
    def doubts(self) -> Tensor:
        """[B, 2], metres: the largest `doubt` and the largest `latest` of the objects that there are."""
        return torch.stack([(a * self.present).amax(dim=1) for a in (self.doubt, self.latest)], dim=1)

    @classmethod
    def cat(cls, memories: Sequence[ObjectMemory]) -> ObjectMemory:
        return cls(**{f.name: torch.cat([getattr(m, f.name) for m in memories]) for f in fields(cls)})


def _turned(v: Tensor, angle: Tensor) -> Tensor:
    """Vectors [..., 3] turned about the vertical by angles [...]."""
    c, s = angle.cos(), angle.sin()
    return torch.stack((c * v[..., 0] - s * v[..., 1], s * v[..., 0] + c * v[..., 1], v[..., 2]), dim=-1)


def _spun(yaw: Tensor, angle: Tensor) -> Tensor:
    """Headings [..., 2] (cosine and sine of four times them) turned by angles [...]."""
    c, s = (4 * angle).cos(), (4 * angle).sin()
    return torch.stack((c * yaw[..., 0] - s * yaw[..., 1], s * yaw[..., 0] + c * yaw[..., 1]), dim=-1)


class ObjectDynamics(nn.Module):
    """See the module docstring."""

    def __init__(self, hidden: int = 256) -> None:
        super().__init__()
        self.pair = nn.Sequential(nn.Linear(2 * OWN + PAIR, MESSAGE), nn.SiLU(), nn.Linear(MESSAGE, MESSAGE), nn.SiLU())
        self.enter = nn.Linear(OWN + ACT + MESSAGE, hidden)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
            for _ in range(3)
        )
        self.leave = nn.Sequential(nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, 6))

    def forward(self, memory: ObjectMemory, gripper: Tensor) -> tuple[ObjectMemory, Tensor]:
        """One step: the memory when the commanded pose is `gripper`, float64 [B, 7]; and the logarithm of how far off
        each position may be (of units of STEP_SCALE), [B, K]."""
        now, before = memory.gripper.float(), memory.before.float()
        after = gripper.float()
        own, seen, turn = self._objects(memory, now)
        k = own.shape[1]
        act = self._act(before, now, after, turn)[:, None].expand(-1, k, -1)
        way = seen[:, None] - seen[:, :, None]  # [B, i, j, 3], from i to j
        near = torch.cat((way * 10, (way * 30).clamp(-2, 2), own[:, None, :, -3:].expand(-1, k, -1, -1)), dim=-1)
        pairs = torch.cat((own[:, :, None].expand(-1, -1, k, -1), own[:, None].expand(-1, k, -1, -1), near), dim=-1)
        others = memory.present[:, None, :] * (1 - torch.eye(k).to(now))
        message = (self.pair(pairs) * others[..., None]).sum(dim=2)
        x = self.enter(torch.cat((own, act, message), dim=-1))
        for layer in self.layers:
            x = x + layer(x)
        step, spin, spread, gate = self.leave(x).split((3, 1, 1, 1), dim=-1)
        # an object that nothing touches stays where it is, and does not creep
        moves = gate.sigmoid()
        if not self.training:
            moves = torch.where(moves < 0.1, torch.zeros_like(moves), moves)
        step = _turned(step * moves * STEP_SCALE, turn[:, None])
        yaw = _spun(memory.yaw, spin[..., 0] * moves[..., 0] * 0.25)
        error = spread[..., 0].clamp(-6, 3)
        return (
            replace(
                memory,
                gripper=gripper,
                before=memory.gripper,
                position=memory.position + step,
                moved=step,
                yaw=yaw,
                doubt=memory.doubt + error.exp() * STEP_SCALE,
                latest=error.exp() * STEP_SCALE,
            ),
            error,
        )

    def _objects(self, memory: ObjectMemory, now: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Own numbers [B, K, OWN], positions seen from the gripper [B, K, 3], the gripper's heading [B]."""
        turn = now[:, 5]
        seen = _turned(memory.position - now[:, None, :3], -turn[:, None])
        moved = _turned(memory.moved, -turn[:, None]) / STEP_SCALE
        own = torch.cat(
            (
                seen * 10,
                (seen * 30).clamp(-2, 2),
                memory.position[..., 2:] * 20,
                (memory.given[..., 2:] - memory.position[..., 2:]) * 20,
                _spun(memory.yaw, -turn[:, None]),
                moved,
            ),
            dim=-1,
        )
        return own, seen, turn

    def _act(self, before: Tensor, now: Tensor, after: Tensor, turn: Tensor) -> Tensor:
        """What the gripper did and does, seen from itself, [B, ACT]."""
        return torch.cat(
            (
                _turned(after[:, :3] - now[:, :3], -turn) / STEP_SCALE,
                _turned(now[:, :3] - before[:, :3], -turn) / STEP_SCALE,
                (after[:, 5:6] - now[:, 5:6]) * 5,
                (now[:, 5:6] - before[:, 5:6]) * 5,
                now[:, 3:5] * 3,
                after[:, 3:5] * 3,
                torch.stack((before[:, 6], now[:, 6], after[:, 6]), dim=-1),
                now[:, 2:3] * 10,
                after[:, 2:3] * 10,
                (now[:, :2] - torch.tensor([0.29, 0.0]).to(now)) * 5,
                now[:, 5:6],
                (now[:, 2:3] * 60 - 2).clamp(-2, 2),
            ),
            dim=-1,
        )
