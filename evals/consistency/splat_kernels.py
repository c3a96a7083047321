"""The kernels of gaussians_numba.py, compiled by numba: EWA splats and their hand-written derivative.

Zwicker et al. 2001 (EWA splatting) in the form of Kerbl et al. 2023 (3D Gaussian splatting, arXiv 2308.04079): each
Gaussian's covariance is carried into the picture by the projection's Jacobian at its centre, and the splats are
composited front to back in order of depth. There are no tiles, which are for GPUs: every splat walks over just the
pixels it reaches. One thread, no fast-math: a result repeats bit for bit on one machine.

Compiled once per machine (about a minute), then read from numba's cache.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from wfm_sim.evals.consistency.gaussians import BLUR, MAX_ALPHA, MIN_ALPHA, NEAR

OPAQUE = 1e-4  # a pixel through which less than this is seen takes no further splats
FIELD_MARGIN = 1.3  # the projection is linearised no further out than this many half fields of view
SPLAT = 9  # columns of a splat: x, y (px), conic a, b, c (px^-2), opacity, red, green, blue


@njit(cache=True, error_model="numpy")
def _rotation_matrix(w, x, y, z):  # type: ignore[no-untyped-def]
    """Of a quaternion of length 1: its nine entries, row by row."""
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )


@njit(cache=True, error_model="numpy")
def _frame(table, i, rotation, translation, pinhole, size):  # type: ignore[no-untyped-def]
    """One Gaussian before the camera: its centre there, P = J W (the projection linearised there, on world vectors),
    M = R diag(scale) with the Gaussian's covariance M M^T, and what of the field of view was clamped."""
    fx, fy, cx, cy = pinhole
    px, py, pz = table[i, 0], table[i, 1], table[i, 2]
    x = rotation[0, 0] * px + rotation[0, 1] * py + rotation[0, 2] * pz + translation[0]
    y = rotation[1, 0] * px + rotation[1, 1] * py + rotation[1, 2] * pz + translation[1]
    z = rotation[2, 0] * px + rotation[2, 1] * py + rotation[2, 2] * pz + translation[2]
    u, v = x / z, y / z
    # far outside of the picture the linearisation explodes
    u_low, u_high = -FIELD_MARGIN * cx / fx, FIELD_MARGIN * (size[1] - cx) / fx
    v_low, v_high = -FIELD_MARGIN * cy / fy, FIELD_MARGIN * (size[0] - cy) / fy
    u_held, v_held = min(max(u, u_low), u_high), min(max(v, v_low), v_high)
    P = np.empty((2, 3))
    M = np.empty((3, 3))
    for k in range(3):
        P[0, k] = fx / z * (rotation[0, k] - u_held * rotation[2, k])
        P[1, k] = fy / z * (rotation[1, k] - v_held * rotation[2, k])
    w0, x0, y0, z0 = table[i, 6], table[i, 7], table[i, 8], table[i, 9]
    length = math.sqrt(w0 * w0 + x0 * x0 + y0 * y0 + z0 * z0)
    R = _rotation_matrix(w0 / length, x0 / length, y0 / length, z0 / length)
    for k in range(3):
        s = math.exp(table[i, 3 + k])
        M[0, k] = R[0][k] * s
        M[1, k] = R[1][k] * s
        M[2, k] = R[2][k] * s
    return x, y, z, u_held, v_held, u_held == u, v_held == v, P, M


@njit(cache=True, error_model="numpy")
def project(table, rotation, translation, pinhole, size):  # type: ignore[no-untyped-def]
    """Splats [N, 9] and their depths [N], infinite where nothing is to be seen."""
    fx, fy, cx, cy = pinhole
    height, width = size
    n = len(table)
    splats = np.zeros((n, SPLAT), table.dtype)
    depth = np.full(n, np.inf)
    for i in range(n):
        px, py, pz = table[i, 0], table[i, 1], table[i, 2]
        z = rotation[2, 0] * px + rotation[2, 1] * py + rotation[2, 2] * pz + translation[2]
        opacity = 1 / (1 + math.exp(-table[i, 10]))
        if z < NEAR or opacity <= MIN_ALPHA:
            continue
        x, y, z, _, _, _, _, P, M = _frame(table, i, rotation, translation, pinhole, size)
        a, b, c = BLUR, 0.0, BLUR
        for k in range(3):
            first = P[0, 0] * M[0, k] + P[0, 1] * M[1, k] + P[0, 2] * M[2, k]
            second = P[1, 0] * M[0, k] + P[1, 1] * M[1, k] + P[1, 2] * M[2, k]
            a += first * first
            b += first * second
            c += second * second
        column, row = fx * x / z + cx, fy * y / z + cy
        reach = 2 * math.log(opacity / MIN_ALPHA)  # squared, in standard deviations
        wide, high = math.sqrt(reach * a), math.sqrt(reach * c)
        if column + wide < 0 or column - wide > width or row + high < 0 or row - high > height:
            continue
        determinant = a * c - b * b
        splats[i, 0], splats[i, 1] = column, row
        splats[i, 2], splats[i, 3], splats[i, 4] = c / determinant, -b / determinant, a / determinant
        splats[i, 5] = opacity
        splats[i, 6], splats[i, 7], splats[i, 8] = table[i, 11], table[i, 12], table[i, 13]
        depth[i] = z
    return splats, depth


@njit(cache=True, error_model="numpy")
def _rows(splat, height):  # type: ignore[no-untyped-def]
    """The rows a splat reaches, [first, last), and its squared reach in standard deviations."""
    a, b, c = splat[2], splat[3], splat[4]
    reach = 2 * math.log(splat[5] / MIN_ALPHA)
    high = math.sqrt(reach * a / (a * c - b * b))
    return max(math.ceil(splat[1] - high - 0.5), 0), min(math.floor(splat[1] + high - 0.5) + 1, height), reach


@njit(cache=True, error_model="numpy")
def _columns(splat, dy, reach, width):  # type: ignore[no-untyped-def]
    """The columns a splat reaches in the row `dy` below its centre, [first, last)."""
    a, b, c = splat[2], splat[3], splat[4]
    inside = (b * dy) ** 2 - a * (c * dy * dy - reach)
    if inside <= 0:
        return 0, 0
    half, middle = math.sqrt(inside) / a, splat[0] - b * dy / a
    return max(math.ceil(middle - half - 0.5), 0), min(math.floor(middle + half - 0.5) + 1, width)


@njit(cache=True, error_model="numpy")
def composite(splats, order, height, width, background):  # type: ignore[no-untyped-def]
    """Kerbl et al. 2023, eq. 3."""
    image = np.zeros((height, width, 3), splats.dtype)
    through = np.ones((height, width), splats.dtype)
    for i in order:
        splat = splats[i]
        x, y, a, b, c, opacity, red, green, blue = splat
        first, last, reach = _rows(splat, height)
        for row in range(first, last):
            dy = row + 0.5 - y
            begin, end = _columns(splat, dy, reach, width)
            for column in range(begin, end):
                t = through[row, column]
                if t < OPAQUE:
                    continue
                dx = column + 0.5 - x
                alpha = min(opacity * math.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy), MAX_ALPHA)
                weight = alpha * t
                image[row, column, 0] += weight * red
                image[row, column, 1] += weight * green
                image[row, column, 2] += weight * blue
                through[row, column] = t - weight
    for row in range(height):
        for column in range(width):
            for k in range(3):
                image[row, column, k] += through[row, column] * background[k]
    return image


@njit(cache=True, error_model="numpy")
def composite_backward(splats, order, image, upstream):  # type: ignore[no-untyped-def]
    """Derivatives by the splats [N, 9], front to back like the picture itself: what lies behind a splat is the picture
    less what has been composited up to it, so nothing need be kept from the forward pass."""
    height, width = image.shape[:2]
    out = np.zeros_like(splats)
    behind = image.copy()
    through = np.ones((height, width), splats.dtype)
    for i in order:
        splat = splats[i]
        x, y, a, b, c, opacity, red, green, blue = splat
        first, last, reach = _rows(splat, height)
        by_x, by_y, by_a, by_b, by_c, by_opacity, by_red, by_green, by_blue = (
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
        )
        for row in range(first, last):
            dy = row + 0.5 - y
            begin, end = _columns(splat, dy, reach, width)
            for column in range(begin, end):
                t = through[row, column]
                if t < OPAQUE:
                    continue
                dx = column + 0.5 - x
                falloff = math.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
                alpha = min(opacity * falloff, MAX_ALPHA)
                weight = alpha * t
                g0, g1, g2 = upstream[row, column, 0], upstream[row, column, 1], upstream[row, column, 2]
                by_red += weight * g0
                by_green += weight * g1
                by_blue += weight * g2
                r0 = behind[row, column, 0] - weight * red
                r1 = behind[row, column, 1] - weight * green
                r2 = behind[row, column, 2] - weight * blue
                behind[row, column, 0], behind[row, column, 1], behind[row, column, 2] = r0, r1, r2
                through[row, column] = t - weight
                if opacity * falloff > MAX_ALPHA:
                    continue
                back = 1 / (1 - alpha)
                by_alpha = g0 * (t * red - r0 * back) + g1 * (t * green - r1 * back) + g2 * (t * blue - r2 * back)
                by_opacity += by_alpha * falloff
                by_power = -by_alpha * alpha
                by_a += by_power * dx * dx
                by_b += by_power * dx * dy
                by_c += by_power * dy * dy
                by_x -= by_power * (a * dx + b * dy)
                by_y -= by_power * (b * dx + c * dy)
        out[i, 0], out[i, 1] = by_x, by_y
        out[i, 2], out[i, 3], out[i, 4] = 0.5 * by_a, by_b, 0.5 * by_c
        out[i, 5], out[i, 6], out[i, 7], out[i, 8] = by_opacity, by_red, by_green, by_blue
    return out


@njit(cache=True, error_model="numpy")
def project_backward(table, rotation, translation, pinhole, size, by_splat):  # type: ignore[no-untyped-def]
    """Derivatives by the table [N, 14] from those by the splats [N, 9]: the chain rule through `project`."""
    fx, fy = pinhole[0], pinhole[1]
    out = np.zeros_like(table)
    for i in range(len(table)):
        reached = False
        for k in range(SPLAT):
            reached |= by_splat[i, k] != 0
        if not reached:
            continue
        x, y, z, u, v, u_free, v_free, P, M = _frame(table, i, rotation, translation, pinhole, size)
        A = np.empty((2, 3))
        a, b, c = BLUR, 0.0, BLUR
        for k in range(3):
            for j in range(2):
                A[j, k] = P[j, 0] * M[0, k] + P[j, 1] * M[1, k] + P[j, 2] * M[2, k]
            a += A[0, k] * A[0, k]
            b += A[0, k] * A[1, k]
            c += A[1, k] * A[1, k]
        determinant = a * c - b * b
        k0, k1, k2 = c / determinant, -b / determinant, a / determinant  # the conic Q = (A A^T + blur)^-1
        # dQ = -Q dC Q, so the derivative by the covariance C is G = -Q dL/dQ Q, symmetric
        q0, q1, q2 = by_splat[i, 2], 0.5 * by_splat[i, 3], by_splat[i, 4]
        m0, m1, m2, m3 = k0 * q0 + k1 * q1, k0 * q1 + k1 * q2, k1 * q0 + k2 * q1, k1 * q1 + k2 * q2
        g0, g1, g2 = -(m0 * k0 + m1 * k1), -(m0 * k1 + m1 * k2), -(m2 * k1 + m3 * k2)
        by_A = np.empty((2, 3))
        for k in range(3):
            by_A[0, k] = 2 * (g0 * A[0, k] + g1 * A[1, k])
            by_A[1, k] = 2 * (g1 * A[0, k] + g2 * A[1, k])
        by_P = np.empty((2, 3))
        by_M = np.empty((3, 3))
        for j in range(3):
            for k in range(2):
                by_P[k, j] = by_A[k, 0] * M[j, 0] + by_A[k, 1] * M[j, 1] + by_A[k, 2] * M[j, 2]
            for k in range(3):
                by_M[j, k] = P[0, j] * by_A[0, k] + P[1, j] * by_A[1, k]
        # through P = [fx / z (w0 - u w2), fy / z (w1 - v w2)] with the rows w of the rotation
        by_u, by_v, by_z = 0.0, 0.0, 0.0
        for k in range(3):
            by_u -= by_P[0, k] * fx / z * rotation[2, k]
            by_v -= by_P[1, k] * fy / z * rotation[2, k]
            by_z -= (by_P[0, k] * P[0, k] + by_P[1, k] * P[1, k]) / z
        by_x, by_y = by_splat[i, 0] * fx / z, by_splat[i, 1] * fy / z
        by_z -= (by_splat[i, 0] * fx * x + by_splat[i, 1] * fy * y) / (z * z)
        if u_free:
            by_x += by_u / z
            by_z -= by_u * u / z
        if v_free:
            by_y += by_v / z
            by_z -= by_v * v / z
        for k in range(3):
            out[i, k] = rotation[0, k] * by_x + rotation[1, k] * by_y + rotation[2, k] * by_z
        # through M = R diag(exp(log scale)); M itself over the scale is R
        for k in range(3):
            by_scale = 0.0
            s = math.exp(table[i, 3 + k])
            for j in range(3):
                by_scale += by_M[j, k] * M[j, k]
                by_M[j, k] *= s  # now the derivative by R
            out[i, 3 + k] = by_scale
        w0, x0, y0, z0 = table[i, 6], table[i, 7], table[i, 8], table[i, 9]
        length = math.sqrt(w0 * w0 + x0 * x0 + y0 * y0 + z0 * z0)
        w, x, y, z = w0 / length, x0 / length, y0 / length, z0 / length
        D = by_M
        d0 = 2 * (x * (D[2, 1] - D[1, 2]) + y * (D[0, 2] - D[2, 0]) + z * (D[1, 0] - D[0, 1]))
        d1 = 2 * (
            w * (D[2, 1] - D[1, 2]) + y * (D[0, 1] + D[1, 0]) + z * (D[0, 2] + D[2, 0]) - 2 * x * (D[1, 1] + D[2, 2])
        )
        d2 = 2 * (
            w * (D[0, 2] - D[2, 0]) + x * (D[0, 1] + D[1, 0]) + z * (D[1, 2] + D[2, 1]) - 2 * y * (D[0, 0] + D[2, 2])
        )
        d3 = 2 * (
            w * (D[1, 0] - D[0, 1]) + x * (D[0, 2] + D[2, 0]) + y * (D[1, 2] + D[2, 1]) - 2 * z * (D[0, 0] + D[1, 1])
        )
        along = d0 * w + d1 * x + d2 * y + d3 * z  # a longer quaternion is the same rotation
        out[i, 6], out[i, 7] = (d0 - along * w) / length, (d1 - along * x) / length
        out[i, 8], out[i, 9] = (d2 - along * y) / length, (d3 - along * z) / length
        opacity = 1 / (1 + math.exp(-table[i, 10]))
        out[i, 10] = by_splat[i, 5] * opacity * (1 - opacity)
        out[i, 11], out[i, 12], out[i, 13] = by_splat[i, 6], by_splat[i, 7], by_splat[i, 8]
    return out
