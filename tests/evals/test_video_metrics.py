import numpy as np
import pytest

from wfm_sim import video_metrics as vm


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_psnr_known_values() -> None:
    black = np.zeros((2, 16, 16, 3), np.uint8)
    assert vm.psnr(black, black).tolist() == [100.0, 100.0]
    assert vm.psnr(black, black + 255) == pytest.approx([0.0, 0.0])
    assert vm.psnr(black, black + 16)[0] == pytest.approx(20 * np.log10(255 / 16))


def test_ssim_of_constant_images_is_the_luminance_term() -> None:
    a, b = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert float(vm.ssim(a, b)) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), abs=1e-6)


def test_ssim_is_the_direct_sum_over_windows() -> None:
    a, b = noise(14, 13, 3), noise(14, 13, 3, seed=1)
    axis = np.arange(11) - 5
    window = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for row in range(4):
        for column in range(3):
            for channel in range(3):
                x = a[row : row + 11, column : column + 11, channel].astype(float)
                y = b[row : row + 11, column : column + 11, channel].astype(float)
                mx, my = (window * x).sum(), (window * y).sum()
                vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
                cov = (window * (x - mx) * (y - my)).sum()
                index = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
                values.append(index)
    assert float(vm.ssim(a, b)) == pytest.approx(np.mean(values), abs=1e-9)


def test_ssim_shape_and_order() -> None:
    a = noise(2, 3, 24, 24, 3)
    assert vm.ssim(a, a) == pytest.approx(np.ones((2, 3)))
    slight = np.clip(a.astype(int) + 10, 0, 255).astype(np.uint8)
    assert (vm.ssim(a, slight) > vm.ssim(a, noise(2, 3, 24, 24, 3, seed=5))).all()


def test_moving_psnr_looks_only_where_the_truth_moved() -> None:
    truth = np.full((3, 32, 32, 3), 80, np.uint8)
    truth[2, 10:14, 10:14] = 200
    imagined = truth.copy()
    imagined[:, 25:, 25:] = 0  # wrong, but far from what moved
    found = vm.moving_psnr(truth, imagined)
    assert np.isnan(found[:2]).all() and found[2] == 100.0
    repeat = np.repeat(truth[:1], 3, 0)
    area = vm.moving_mask(truth)[2].sum()
    assert area == 36  # 4 x 4 grown by one pixel
    assert vm.moving_psnr(truth, repeat)[2] == pytest.approx(10 * np.log10(255**2 / (120**2 * 16 / 36)))


def test_bad_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        vm.psnr(noise(8, 8, 3), noise(8, 9, 3))
    with pytest.raises(ValueError, match="uint8"):
        vm.psnr(noise(8, 8, 3).astype(float), noise(8, 8, 3))
    with pytest.raises(ValueError, match="at least 11"):
        vm.ssim(noise(8, 8, 3), noise(8, 8, 3))
