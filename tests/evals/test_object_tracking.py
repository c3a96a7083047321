import cv2
import numpy as np
import pytest

from wfm_sim.evals.object_tracking import appearances, locate, locate_all

RED, BLUE, WOOD, BLACK = (200, 40, 35), (40, 70, 190), (170, 125, 80), (25, 25, 28)


def scene(red: tuple[float, float], blue: tuple[float, float], light: float = 1.0, finger: bool = False) -> tuple:
    """A rendered stand-in at 64 px, 8x super-sampled: frame and the true (x, y, area) of both blocks."""
    scale, size = 8, 64
    rng = np.random.default_rng(0)
    big = np.empty((size * scale, size * scale, 3), np.float32)
    big[:] = WOOD
    big += rng.normal(0, 6, (size * scale, 1, 1))  # grain
    owner = np.zeros(big.shape[:2], np.uint8)
    for index, (centre, colour) in enumerate(((red, RED), (blue, BLUE)), start=1):
        x0, y0 = ((np.array(centre) - 3.5 + 0.5) * scale).astype(int)
        side = 7 * scale
        owner[y0 : y0 + side, x0 : x0 + side] = index
        big[y0 : y0 + side // 2, x0 : x0 + side] = colour  # a lit top face
        big[y0 + side // 2 : y0 + side, x0 : x0 + side] = np.array(colour) * 0.6  # and a shaded front
    if finger:
        x = int((red[0] + 0.5) * scale)
        big[:, x - scale : x + scale], owner[:, x - scale : x + scale] = BLACK, 0
    frame = cv2.resize(np.clip(big * light, 0, 255), (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)
    rows, columns = np.mgrid[: owner.shape[0], : owner.shape[1]]
    truth = []
    for index in (1, 2):
        mask = owner == index
        centre = [(v[mask].sum() / max(mask.sum(), 1) + 0.5) / scale - 0.5 for v in (columns, rows)]
        truth.append((*centre, mask.sum() / scale**2))
    return frame, truth


@pytest.mark.parametrize("light", [0.6, 1.0, 1.2])
@pytest.mark.parametrize("finger", [False, True])
def test_sub_pixel_position_of_moved_blocks(light: float, finger: bool) -> None:
    first, objects = scene((20.0, 20.0), (45.0, 30.0), light)
    looks = appearances(first, objects)
    for red in ((20.0, 20.0), (33.3, 41.6), (50.5, 12.25)):
        frame, truth = scene(red, (45.0, 30.0), light, finger)
        for found, (x, y, area) in zip(locate_all(frame, looks), truth, strict=True):
            assert found is not None
            assert np.hypot(found.x - x, found.y - y) < 0.6
            assert 0.6 * area < found.area < 1.5 * area


def test_a_blurred_block_is_found_and_a_faded_one_is_lost() -> None:
    first, objects = scene((20.0, 20.0), (45.0, 30.0))
    red, blue = appearances(first, objects)
    moved, truth = scene((30.0, 40.0), (45.0, 30.0))
    blurred = locate(cv2.GaussianBlur(moved, (0, 0), 1.5), red)
    assert blurred is not None and np.hypot(blurred.x - truth[0][0], blurred.y - truth[0][1]) < 0.8
    empty, _ = scene((45.0, 30.0), (45.0, 30.0))  # the red block is hidden under the blue one
    assert locate(empty, red) is None
    faint = (0.2 * moved.astype(float) + 0.8 * empty.astype(float)).astype(np.uint8)
    assert locate(faint, red) is None
    strong = (0.75 * moved.astype(float) + 0.25 * empty.astype(float)).astype(np.uint8)
    assert locate(strong, red) is not None
    assert locate(strong, blue) is not None


def test_a_plain_colour_works_and_the_unseen_stay_unseen() -> None:
    frame, truth = scene((20.0, 20.0), (45.0, 30.0))
    found = locate(frame, RED)
    assert found is not None and np.hypot(found.x - truth[0][0], found.y - truth[0][1]) < 2
    assert appearances(frame, [(20.0, 20.0, 0.0)]) == [None]
    assert locate_all(frame, [None]) == [None]
    assert locate(np.zeros((64, 64, 3), np.uint8), RED) is None


def test_a_finger_before_the_block_in_the_first_frame() -> None:
    first, objects = scene((20.0, 20.0), (45.0, 30.0))
    first[:, 18:22] = BLACK
    objects[0] = (20.0, 20.0, 21.0)  # little is left to see on either side of it
    red, _ = appearances(first, objects, [RED, BLUE])
    frame, truth = scene((40.0, 45.0), (45.0, 20.0))
    found = locate(frame, red)
    assert found is not None and np.hypot(found.x - truth[0][0], found.y - truth[0][1]) < 0.7


def test_a_shade_that_the_scene_has_too_is_given_up() -> None:
    first, objects = scene((20.0, 20.0), (45.0, 30.0))
    floor = (np.array(BLUE) * 0.6).astype(np.uint8)  # as the blue block's shaded face
    first[54:] = floor
    _, blue = appearances(first, objects)
    frame, truth = scene((20.0, 20.0), (30.0, 40.0))
    frame[54:] = floor
    found = locate(frame, blue)
    assert found is not None and np.hypot(found.x - truth[1][0], found.y - truth[1][1]) < 3
