"""A scene of 3D Gaussians, and how one begins from the points of SfM.

Kerbl et al. 2023 (3D Gaussian splatting, arXiv 2308.04079), with one colour per Gaussian for all directions: a clip is
short and a room is mostly matt. What renders and fits them: gaussians_numba.py or gaussians_cuda.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import Intrinsics
from wfm_sim.errors import UserError

# columns of `Gaussians.table`
MEANS, LOG_SCALES, QUATERNIONS, OPACITY_LOGITS, COLOURS = (
    slice(0, 3),
    slice(3, 6),
    slice(6, 10),
    slice(10, 11),
    slice(11, 14),
)
COLUMNS = 14

# what all backends render alike (Kerbl et al. 2023, their code)
NEAR = 0.01  # units of the scene: nothing nearer to the camera's plane is drawn
BLUR = 0.3  # px^2, added to every splat's variance: no splat falls between the pixels
MIN_ALPHA, MAX_ALPHA = 1 / 255, 0.99  # of a splat at a pixel: less is nothing, more is cut

MIN_POINTS = 20  # from fewer no surface can be guessed
NEIGHBOURS = 4  # new Gaussians are set between a point and its nearest ones
SPACING = 0.5  # first standard deviation, in mean distances to the three nearest
FIRST_OPACITY = 0.5


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians in the world's frame.

    Attributes:
        table: float32 [N, 14], what is fitted: centre (x, y, z), natural logarithms of the three standard deviations,
            quaternion (w, x, y, z; of any length), logit of the opacity, red, green, blue (0..1).
    """

    table: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or self.table.shape[1] != COLUMNS:
            raise UserError(f"Gaussians are [N, {COLUMNS}] numbers, got {list(self.table.shape)}")

    def __len__(self) -> int:
        """N."""
        return len(self.table)

    @property
    def means(self) -> NDArray[np.float32]:
        """Centres, [N, 3]."""
        return self.table[:, MEANS]

    @property
    def scales(self) -> NDArray[np.float32]:
        """Standard deviations along the Gaussians' own axes, [N, 3]."""
        return np.exp(self.table[:, LOG_SCALES])

    @property
    def quaternions(self) -> NDArray[np.float32]:
        """Of length 1, w x y z, [N, 4]: own axes to world."""
        q = self.table[:, QUATERNIONS]
        return (q / np.linalg.norm(q, axis=1, keepdims=True)).astype(np.float32)

    @property
    def opacities(self) -> NDArray[np.float32]:
        """At the centre, [N], 0..1."""
        return np.asarray(1 / (1 + np.exp(-self.table[:, OPACITY_LOGITS][:, 0])), np.float32)

    @property
    def colours(self) -> NDArray[np.float32]:
        """[N, 3], 0..1."""
        return np.clip(self.table[:, COLOURS], 0, 1)

    def scaled(self, factor: float) -> Gaussians:
        """In another unit of length: 1000 makes millimetres of metres."""
        table = self.table.copy()
        table[:, MEANS] *= factor
        table[:, LOG_SCALES] += np.log(factor)
        return replace(self, table=table)

    def moved(self, scale: float, rotation: NDArray[np.float64], translation: NDArray[np.float64]) -> Gaussians:
        """By a similarity, x -> scale * rotation @ x + translation."""
        from scipy.spatial.transform import Rotation

        out = self.scaled(scale)
        out.table[:, MEANS] = out.means @ rotation.T + translation
        turned = Rotation.from_matrix(rotation) * Rotation.from_quat(self.quaternions, scalar_first=True)
        out.table[:, QUATERNIONS] = turned.as_quat(scalar_first=True)
        return out


@dataclass(frozen=True)
class FitSettings:
    """How Gaussians are fitted; the same for every backend. Chosen on ray-traced rooms at 160 x 120.

    Attributes:
        iterations: Steps of Adam, each on one view, which take turns in random order.
        seed: Of that order and of where Gaussians begin.
        dssim: Share of the structural term in the loss, the rest is |difference|.
        rates: First step sizes of centres (in units of the scene, see `scene_unit`), log scales, quaternions, opacity
            logits, colours.
        final: What remains of the rates at the end; they fall geometrically.
        betas, epsilon: Of Adam. The second moment forgets fast: the fit is short.
    """

    iterations: int = 600
    seed: int = 0
    dssim: float = 0.2
    rates: tuple[float, float, float, float, float] = (2e-3, 2e-2, 1e-2, 5e-2, 1e-2)
    final: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    epsilon: float = 1e-15

    def column_rates(self) -> NDArray[np.float32]:
        """float32 [14], of the table's columns."""
        return np.repeat(np.array(self.rates, np.float32), [3, 3, 4, 1, 3])

    def order_of_views(self, views: int) -> NDArray[np.int64]:
        """Which of `views` views each iteration takes: int64 [iterations]."""
        rng = np.random.default_rng([self.seed, 1])
        rounds = -(-self.iterations // views)
        return np.concatenate([rng.permutation(views) for _ in range(rounds)])[: self.iterations]


@dataclass(frozen=True)
class Views:
    """What Gaussians are fitted to.

    Attributes:
        frames: float32 [T, H, W, 3], 0..1.
        poses: float64 [T, 4, 4], camera to world, OpenCV axes.
        intrinsics: Of all frames.
        masks: bool [T, H, W], True where the picture is not to be explained (things that move), or None.
    """

    frames: NDArray[np.float32]
    poses: NDArray[np.float64]
    intrinsics: Intrinsics
    masks: NDArray[np.bool_] | None = None

    def background(self) -> NDArray[np.float32]:
        """What is seen where nothing is: the mean colour, float32 [3]."""
        return self.frames.mean(axis=(0, 1, 2), dtype=np.float64).astype(np.float32)

    def taken(self, rows: NDArray[np.bool_]) -> Views:
        """Some of the views, by bool [T]."""
        masks = None if self.masks is None else self.masks[rows]
        return Views(self.frames[rows], self.poses[rows], self.intrinsics, masks)

    def rescaled(self, factor: float) -> Views:
        """With another unit of length."""
        poses = self.poses.copy()
        poses[:, :3, 3] *= factor
        return replace(self, poses=poses)


def scene_unit(points: NDArray[np.float64], poses: NDArray[np.float64]) -> float:
    """The median depth of the points in the views, in which fits measure lengths: SfM's own scale means nothing.

    Raises:
        UserError: most points lie behind the cameras.
    """
    ahead = np.einsum("tpi,ti->tp", points[None] - poses[:, None, :3, 3], poses[:, :3, 2])
    unit = float(np.median(ahead))
    if not unit > 0:
        raise UserError("most points lie behind the cameras: are the poses camera to world, with OpenCV's axes?")
    return unit


def seed_gaussians(
    points: NDArray[np.float64], colours: NDArray[np.uint8], count: int, *, unit: float, seed: int = 0
) -> Gaussians:
    """`count` Gaussians (or one per point, where there are more points): on the points of SfM and between neighbours.

    Those in between lie at random on triangles of a point and two of its nearest ones, so they follow the surface as
    far as the points show it, and have a colour in between. That replaces densification, which a fit of some hundred
    iterations has no time for.

    Args:
        points: float64 [P, 3].
        colours: uint8 [P, 3].
        unit: Of the scene, see `scene_unit`.

    Raises:
        UserError: fewer than 20 points.
    """
    from scipy.spatial import cKDTree

    if len(points) < MIN_POINTS:
        raise UserError(f"view synthesis begins from at least {MIN_POINTS} points, SfM found {len(points)}")
    rng = np.random.default_rng([seed, 0])
    _, near = cKDTree(points).query(points, NEIGHBOURS + 1)
    more = max(count - len(points), 0)
    corner = rng.integers(0, len(points), more)
    others = near[corner[:, None], rng.integers(1, NEIGHBOURS + 1, (more, 2))]
    corners = np.concatenate([corner[:, None], others], axis=1)
    weights = rng.dirichlet([1.0, 1.0, 1.0], more)
    between = np.einsum("nk,nkd->nd", weights, np.concatenate([points, colours / 255.0], axis=1)[corners])
    placed = np.concatenate([np.concatenate([points, colours / 255.0], axis=1), between])
    distance = cKDTree(placed[:, :3]).query(placed[:, :3], 4)[0][:, 1:].mean(1)
    low, high = np.percentile(distance, [2, 98])  # a lone outlier shall not begin as a cloud before everything
    distance = np.clip(distance, low, high) + 1e-4 * unit
    table = np.zeros((len(placed), COLUMNS), np.float32)
    table[:, MEANS] = placed[:, :3]
    table[:, LOG_SCALES] = np.log(SPACING * distance)[:, None]
    table[:, QUATERNIONS] = [1, 0, 0, 0]
    table[:, OPACITY_LOGITS] = np.log(FIRST_OPACITY / (1 - FIRST_OPACITY))
    table[:, COLOURS] = placed[:, 3:]
    return Gaussians(table)
