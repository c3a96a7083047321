"""Objects followed through any video, true or imagined, from the mask of its first frame. No weights, deterministic.

Frame by frame:
1. Every object's place is predicted from its last ones (constant acceleration) and corrected by sliding its last mask
   to where its colours explain the picture best, against the background's colours and those of the other objects.
2. Each pixel goes to the object, or to the background, that explains its colour best (appearance.py), at a price for
   being far from the predicted mask; that price keeps objects of one colour apart.
3. Stray patches go and small holes close. Patches that nobody took and that are surely no background go to an object
   of their colour: one that was hidden comes back so.

The video is looked at with at most WORK_SIZE pixels a side; masks come back in its own size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from wfm_sim.errors import UserError
from wfm_sim.evals.physics.appearance import (
    MOST,
    OBJECT_RANGE,
    Background,
    Bools,
    Floats,
    cost,
    distance,
    nearest,
    palette,
)

SAME = 0.4  # cost at which a pixel looks just like the background
IN_DOUBT = 0.3  # by so much the background is preferred
SMOOTH = 0.6  # pixels; of costs, before they are compared
NEVER = np.float32(MOST)  # cost of what is not worth comparing
LIKELY, SURE = 0.65, 3.0  # a patch found again: cost as the object, of that as background, and the least difference
NAME = "colour tracker (weight-free)"
WORK_SIZE = 256
Labels = NDArray[np.uint8]


def track(frames: NDArray[np.uint8], first_mask: Labels) -> Labels:
    """Follow every object of the first mask.

    Args:
        frames: uint8 [T, H, W, 3], a static camera.
        first_mask: uint8 [H, W], 0 background, i + 1 object i, of frames[0].

    Returns:
        uint8 [T, H, W] with the same numbers; the first is `first_mask`.

    Raises:
        UserError: shapes or types that do not fit.
    """
    check(frames, first_mask)
    height, width = first_mask.shape
    scale = min(1.0, WORK_SIZE / max(height, width))
    if scale == 1.0:
        return _track(frames, first_mask)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames]).astype(np.uint8)
    first = np.asarray(cv2.resize(first_mask, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    found = _track(small, first)
    out = np.stack([_enlarge(mask, (width, height)) for mask in found])
    out[0] = first_mask
    return out


def check(frames: NDArray[np.uint8], first_mask: Labels) -> None:
    """UserError unless frames are uint8 [T, H, W, 3] and the mask is uint8 [H, W] of the same size."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise UserError(f"tracking: frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]")
    if first_mask.dtype != np.uint8 or first_mask.shape != frames.shape[1:3]:
        raise UserError(
            f"tracking: the first mask is {first_mask.dtype} {list(first_mask.shape)}, expected uint8 "
            f"{list(frames.shape[1:3])} as the frames"
        )


@dataclass
class _Object:
    """One object's colours and where it has been."""

    label: int
    colours: Floats  # [K, 3]
    mask: Bools  # [H, W], the last one it was seen with
    area: float  # pixels it usually has
    radius: float
    path: list[NDArray[np.float64]] = field(default_factory=list)  # centroids (x, y), the last few
    unseen: int = 0  # frames since it was seen

    def predicted(self) -> NDArray[np.float64]:
        """Shift (x, y) in pixels from the last mask to the coming frame, by constant acceleration."""
        if len(self.path) < 2:
            return np.zeros(2)
        velocity = self.path[-1] - self.path[-2]
        acceleration = np.zeros(2)
        if len(self.path) >= 3:
            acceleration = velocity - (self.path[-2] - self.path[-3])
            limit = 0.5 * self.radius + 0.3 * float(np.hypot(*velocity))
            acceleration *= min(1.0, limit / max(float(np.hypot(*acceleration)), 1e-9))
        ahead = self.unseen + 1
        return np.asarray(ahead * velocity + 0.5 * ahead * (ahead + 1) * acceleration)


def _track(frames: NDArray[np.uint8], first_mask: Labels) -> Labels:
    image = frames[0].astype(np.float32) / 255
    background = Background.of(frames[0], first_mask > 0)
    objects = [_begin(image, first_mask, int(label)) for label in np.unique(first_mask[first_mask > 0])]
    out = np.zeros((len(frames), *first_mask.shape), np.uint8)
    out[0] = first_mask
    for t in range(1, len(frames)):
        image = frames[t].astype(np.float32) / 255
        out[t] = _step(image, background, objects)
        free = cv2.dilate((out[t] > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
        background.learn(image, free)
    return out


def _begin(image: Floats, first_mask: Labels, label: int) -> _Object:
    mask = first_mask == label
    core = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(bool)
    chosen = core if core.sum() >= max(6, 0.25 * mask.sum()) else mask
    area = float(mask.sum())
    return _Object(label, palette(image[chosen]), mask, area, float(np.sqrt(area / np.pi)), [_centroid(mask)])


def _step(image: Floats, background: Background, objects: list[_Object]) -> Labels:
    """The mask of the next frame; objects are moved on."""
    scene = background.cost(image)
    # What looks just like the background is never worth a price: only the other pixels are compared with the objects.
    rows, columns = np.nonzero(scene > SAME)
    own = np.full((len(objects), *scene.shape), NEVER)
    for i, thing in enumerate(objects):
        own[i, rows, columns] = cost(nearest(image[rows, columns], thing.colours, OBJECT_RANGE))
    expected = []
    for i, thing in enumerate(objects):
        others = [own[j] for j in range(len(objects)) if j != i and _apart(objects[j], thing)]
        expected.append(_place(scene, others, own[i], thing))
    labels = _label(scene, own, expected, objects)
    for i, (mask, thing) in enumerate(zip(expected, objects, strict=True)):
        _clean(labels, i + 1, mask, thing)
    _find_again(labels, scene, own, objects)
    for i, thing in enumerate(objects):
        _move_on(thing, labels == i + 1)
    values = np.array([0, *(o.label for o in objects)], np.uint8)
    return values[labels]


def _apart(a: _Object, b: _Object) -> bool:
    """Whether their colours differ enough to tell them apart."""
    between = distance(a.colours[:, None], b.colours[None], OBJECT_RANGE)
    return bool(cost(between.min(0)).max() > 3.0)


def _place(scene: Floats, others: list[Floats], own: Floats, thing: _Object) -> Bools:
    """The last mask, bool [H, W], slid to where the object's colours explain the picture best."""
    rows, columns = np.nonzero(thing.mask)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    template = thing.mask[top:bottom, left:right].astype(np.float32)
    guess = thing.predicted()
    reach = round(2 + 0.75 * thing.radius + 0.5 * float(np.hypot(*guess)))
    # The window may reach over the edges: an object may be partly, or wholly, out of the frame.
    y0, x0 = int(top + round(guess[1])) - reach, int(left + round(guess[0])) - reach
    size = (bottom - top + 2 * reach, right - left + 2 * reach)
    rest = np.min([_window(costs, y0, x0, *size) for costs in (scene, *others)], axis=0)
    evidence = np.maximum(rest - _window(own, y0, x0, *size), -4.5)
    score = cv2.matchTemplate(evidence, template, cv2.TM_CCORR)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    score = score - 1.5 * float(template.sum()) * (dy**2 + dx**2) / reach**2
    best_y, best_x = np.unravel_index(int(score.argmax()), score.shape)
    out = np.zeros(scene.shape, bool)
    _paste(out, template > 0, y0 + int(best_y), x0 + int(best_x))
    return out


def _window(image: Floats, y0: int, x0: int, height: int, width: int) -> Floats:
    """A part of an image that may reach over its edges, where it is 0."""
    out = np.zeros((height, width), np.float32)
    ya, xa = max(y0, 0), max(x0, 0)
    yb, xb = min(y0 + height, image.shape[0]), min(x0 + width, image.shape[1])
    if ya < yb and xa < xb:
        out[ya - y0 : yb - y0, xa - x0 : xb - x0] = image[ya:yb, xa:xb]
    return out


def _paste(image: Bools, patch: Bools, y0: int, x0: int) -> None:
    """Put a patch into an image; what falls over the edges is lost."""
    ya, xa = max(y0, 0), max(x0, 0)
    yb, xb = min(y0 + patch.shape[0], image.shape[0]), min(x0 + patch.shape[1], image.shape[1])
    if ya < yb and xa < xb:
        image[ya:yb, xa:xb] = patch[ya - y0 : yb - y0, xa - x0 : xb - x0]


def _label(scene: Floats, own: Floats, expected: list[Bools], objects: list[_Object]) -> NDArray[np.uint8]:
    """0 background, i + 1 object i, for each pixel [H, W]."""
    labels = np.zeros(scene.shape, np.uint8)
    best = cv2.GaussianBlur(scene, (3, 3), SMOOTH) - IN_DOUBT
    for i, (mask, thing) in enumerate(zip(expected, objects, strict=True)):
        if not mask.any():
            continue
        slope, margin = 4.0 / max(0.5 * thing.radius, 2.0), 1.0 + 0.15 * thing.radius
        rows, columns = np.nonzero(mask)
        reach = int(margin + 14 / slope) + 2  # farther away no pixel can be the object's
        part = np.s_[max(rows.min() - reach, 0) : rows.max() + reach + 1,
                     max(columns.min() - reach, 0) : columns.max() + reach + 1]  # fmt: skip
        away = cv2.distanceTransform((~mask[part]).astype(np.uint8), cv2.DIST_L2, 3)
        price = np.minimum(np.maximum(away - margin, 0) * slope, 4 * MOST)
        costs = cv2.GaussianBlur(own[i][part] + price, (3, 3), SMOOTH)
        better = costs < best[part]
        labels[part][better], best[part][better] = i + 1, costs[better]
    return labels


def _clean(labels: NDArray[np.uint8], label: int, expected: Bools, thing: _Object) -> None:
    """Take out patches that are neither where the object is expected nor large, and close small holes; in place."""
    rows, columns = np.nonzero(labels == label)
    if not len(rows):
        return
    part = np.s_[max(rows.min() - 1, 0) : rows.max() + 2, max(columns.min() - 1, 0) : columns.max() + 2]
    inside, mine = labels[part], (labels[part] == label).astype(np.uint8)
    count, patches, stats, _ = cv2.connectedComponentsWithStats(mine, connectivity=8)
    sizes = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    sizes[0] = 0
    overlapping = np.unique(patches[expected[part]])
    for patch in range(1, count):
        if sizes[patch] < (0.05 if patch in overlapping else 0.3) * sizes.max():
            inside[patches == patch] = 0
    mine = (inside == label).astype(np.uint8)
    count, holes, stats, _ = cv2.connectedComponentsWithStats(1 - mine, connectivity=4)
    for hole in range(1, count):
        x, y, w, h, size = stats[hole]
        enclosed = x > 0 and y > 0 and x + w < mine.shape[1] and y + h < mine.shape[0]
        if enclosed and size < 0.2 * thing.area and not inside[holes == hole].any():
            inside[holes == hole] = label


def _find_again(labels: NDArray[np.uint8], scene: Floats, own: Floats, objects: list[_Object]) -> None:
    """Give patches that nobody took, and that are surely not background, to an object of their colour; in place.

    So an object comes back that was hidden, and one that something stands before keeps its far side.
    """
    for i in sorted(range(len(objects)), key=lambda i: -objects[i].unseen):
        thing = objects[i]
        patch_least = max(6.0, 0.06 * thing.area)
        likely = (labels == 0) & (own[i] < LIKELY * scene) & (scene - own[i] > SURE)
        if likely.sum() < patch_least:
            continue
        _, patches, stats, centres = cv2.connectedComponentsWithStats(likely.astype(np.uint8), connectivity=8)
        there = thing.path[-1] if labels.max(initial=0) and (labels == i + 1).any() else None
        for patch in np.argsort(-stats[1:, cv2.CC_STAT_AREA]) + 1:
            here = patches == patch
            if stats[patch, cv2.CC_STAT_AREA] < patch_least:
                break
            rivals = [own[j][here].mean() for j in range(len(objects)) if j != i]
            if rivals and min(rivals) < own[i][here].mean():
                continue
            if there is None or np.hypot(*(centres[patch] - there)) < 3 * thing.radius:
                labels[here] = i + 1
                there = centres[patch] if there is None else there


def _move_on(thing: _Object, mask: Bools) -> None:
    """Remember where the object was found; one that all but vanished keeps its last mask."""
    size = int(np.count_nonzero(mask))
    if size < max(3.0, 0.04 * thing.area):
        thing.unseen += 1
        return
    if thing.unseen:  # the path is one of single frames
        thing.path, thing.unseen = [], 0
    thing.path = [*thing.path, _centroid(mask)][-3:]
    thing.mask = mask
    thing.area = max(0.98 * thing.area, float(size))


def _centroid(mask: Bools) -> NDArray[np.float64]:
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


def _enlarge(mask: Labels, size: tuple[int, int]) -> Labels:
    """A label image at another (width, height): each label as a smooth field, the largest wins."""
    values = np.unique(mask)
    fields = [cv2.resize((mask == v).astype(np.float32), size, interpolation=cv2.INTER_LINEAR) for v in values]
    return np.asarray(values[np.argmax(fields, axis=0)], dtype=np.uint8)
