"""The spatial memory against a place whose pictures are known exactly: a textured wall with a box before it."""

import numpy as np
import pytest
import torch

from wfm_sim.camera import Intrinsics, inverse, move
from wfm_sim.models.spatial_memory import Drawn, SpatialMemory, draw, fitted, remember

SIZE = (48, 64)
K = torch.tensor(Intrinsics.of_fov(60, SIZE).array, dtype=torch.float32)[None]


def _seen_by(c2w: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """A wall at z = 3 with a smooth pattern, and a red square of 1 m at z = 2, ray-traced: image, depth."""
    h, w = SIZE
    v, u = np.meshgrid(np.arange(h) + 0.5, np.arange(w) + 0.5, indexing="ij")
    fx, fy, cx, cy = K[0].numpy()
    rays = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones((h, w))], -1) @ c2w[:3, :3].T
    o = c2w[:3, 3]
    image, depth = np.zeros((h, w, 3)), np.zeros((h, w))
    for z, half in ((3.0, 50.0), (2.0, 0.5)):
        s = (z - o[2]) / rays[..., 2]
        p = o + s[..., None] * rays
        hit = (np.abs(p[..., 0]) < half) & (np.abs(p[..., 1]) < half) & (s > 0)
        wall = 128 + 60 * np.stack([np.sin(2 * p[..., 0]), np.cos(2 * p[..., 1]), np.sin(p[..., 0] + p[..., 1])], -1)
        colour = wall if half > 1 else np.broadcast_to([220.0, 30, 30], p.shape)
        image, depth = np.where(hit[..., None], colour, image), np.where(hit, s, depth)
    return torch.tensor(image, dtype=torch.float32).permute(2, 0, 1)[None], torch.tensor(depth, dtype=torch.float32)[
        None
    ]


def _memory(rows: int = 1) -> SpatialMemory:
    image, depth = _seen_by(np.eye(4))
    eye = torch.eye(4).repeat(rows, 1, 1)
    everything = torch.ones(rows, *SIZE, dtype=torch.bool)
    empty = SpatialMemory.empty(rows, 2 * SIZE[0] * SIZE[1])
    return remember(
        empty, image.repeat(rows, 1, 1, 1), depth.repeat(rows, 1, 1), eye, K.repeat(rows, 1), everything, fixed=True
    )


def _draw(memory: SpatialMemory, c2w: np.ndarray) -> Drawn:
    w2c = torch.tensor(inverse(c2w), dtype=torch.float32)[None].repeat(len(memory.points), 1, 1)
    return draw(memory, w2c, K.repeat(len(memory.points), 1), SIZE)


def test_from_where_it_was_taken_it_is_the_picture_itself() -> None:
    image, depth = _seen_by(np.eye(4))
    drawn = _draw(_memory(), np.eye(4))
    assert drawn.seen.all()
    assert (drawn.image - image).abs().max() < 0.1
    assert (drawn.depth - depth).abs().max() < 1e-3


@pytest.mark.parametrize("motion", [(0.2, 0, 0, 0, 0, 0), (0, 0, 0.4, 0, 0, 0), (0, 0.1, 0.1, 0.05, -0.1, 0.1)])
def test_from_elsewhere_it_is_what_is_seen_there(motion: tuple[float, ...]) -> None:
    c2w = move(np.eye(4), motion)
    image, depth = _seen_by(c2w)
    drawn = _draw(_memory(), c2w)
    inner = drawn.seen.clone()
    edges = (depth.diff(dim=2, prepend=depth[..., :1]).abs() > 0.2) | (
        depth.diff(dim=1, prepend=depth[:, :1]).abs() > 0.2
    )
    near = torch.nn.functional.max_pool2d(edges[:, None].float(), 7, stride=1, padding=3)[:, 0] > 0
    inner &= ~near  # at outlines, a pixel has something of both
    assert inner.float().mean() > 0.5
    off = (drawn.image - image).abs().amax(dim=1)[inner]
    assert off.median() < 3 and off.quantile(0.98) < 12
    assert ((drawn.depth - depth).abs()[inner] / depth[inner]).quantile(0.98) < 0.02


def test_what_was_hidden_or_outside_is_not_seen() -> None:
    c2w = move(np.eye(4), (0.5, 0, 0, 0, 0, 0))
    drawn = _draw(_memory(), c2w)
    _, depth = _seen_by(c2w)
    assert not drawn.seen[0, :, -3:].any()  # came in from the right
    behind = (_seen_by(np.eye(4))[1] < 2.5)[0]
    assert behind.any() and 0.05 < (~drawn.seen).float().mean() < 0.5
    assert (depth[drawn.seen] - drawn.depth[drawn.seen]).abs().quantile(0.9) < 0.1  # nothing shines through the box


def test_coming_nearer_leaves_no_gaps() -> None:
    assert _draw(_memory(), move(np.eye(4), (0, 0, 0.9, 0, 0, 0))).seen.float().mean() > 0.97


def test_given_points_stay_and_the_oldest_others_go() -> None:
    memory = _memory()
    n = SIZE[0] * SIZE[1]
    assert int(memory.fixed) == n and int(memory.known.sum()) == n
    image, depth = _seen_by(np.eye(4))
    new = torch.ones(1, *SIZE, dtype=torch.bool)
    for colour in (10.0, 20.0, 30.0):  # more than there is room for
        memory = remember(memory, torch.full_like(image, colour), depth + 1, torch.eye(4)[None], K, new)
    assert torch.equal(memory.colours[0, :n], _memory().colours[0, :n])
    assert (memory.colours[0, n:] == 30).all() and memory.known.all()
    part = torch.zeros_like(new)
    part[:, :2] = True
    memory = remember(memory, torch.full_like(image, 40.0), depth, torch.eye(4)[None], K, part)
    assert (memory.colours[0, n:] == 40).all(dim=-1).sum() == 2 * SIZE[1]


def test_new_depth_is_fitted_to_what_is_known() -> None:
    _, depth = _seen_by(np.eye(4))
    drawn = _draw(_memory(), np.eye(4))
    seen = drawn.seen.clone()
    seen[:, :, 40:] = False
    guess = depth * 1.3  # right but for its scale
    out = fitted(guess, Drawn(drawn.image, drawn.depth, seen))
    assert (out / depth - 1).abs().max() < 0.02
    nothing = Drawn(drawn.image, drawn.depth, torch.zeros_like(seen))
    assert torch.allclose(fitted(guess, nothing), guess, rtol=1e-4)


def test_rows_do_not_know_of_each_other() -> None:
    two = _memory(2)
    other = remember(
        two[[1]], torch.zeros(1, 3, *SIZE), torch.ones(1, *SIZE), torch.eye(4)[None], K, torch.ones(1, *SIZE) > 0
    )
    mixed = SpatialMemory.cat([two[[0]], other])
    c2w = move(np.eye(4), (0.1, 0, 0.2, 0, 0.1, 0))
    both, alone = _draw(mixed, c2w), _draw(two[[0]], c2w)
    assert torch.equal(both.image[0], alone.image[0]) and torch.equal(both.seen[0], alone.seen[0])
    assert not torch.equal(both.image[0], both.image[1])
    assert torch.equal(two[[0]].colours, _memory().colours)  # `remember` changed nothing that it was given
