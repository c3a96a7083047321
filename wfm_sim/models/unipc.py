"""UniPC on flow times: the multistep predictor-corrector that Predict2.5 samples with (arXiv 2302.04867).

The B2 variant for networks that predict x0. h is the step in lambda = log((1 - t) / t); the history of x0 is
interpolated over lambda, and the corrector reuses the next step's evaluation, so that a step costs one evaluation.
"""

import math

import torch
from torch import Tensor

from wfm_sim.models.schedules import Denoiser
from wfm_sim.models.solvers import Callback


def unipc(denoiser: Denoiser, x: Tensor, times: Tensor, callback: Callback | None = None, *, order: int = 2) -> Tensor:
    """Solve from times[0] to times[-1]; a last step to 0 is of first order.

    Args:
        denoiser: (x, flow time) -> x0.
        x: [B, ...] sample at times[0].
        times: [steps + 1] flow times below 1, descending; the last may be 0.
        order: Of the predictor (Predict2.5: 2); the corrector reaches one more.
    """
    steps = len(times) - 1
    level = times.tolist()
    state = x.double()
    history: list[tuple[float, Tensor]] = []  # (flow time, x0), newest last
    start, used = state, 0  # where the last step began, and its order
    for i in range(steps):
        x0 = denoiser(state.to(x.dtype), level[i]).double()
        if i:
            state = _step(start, history[-used:], level[i], corrector=x0)
        history = [*history[-order:], (level[i], x0)]
        start, used = state, min(order, i + 1, steps - i)
        state = _step(start, history[-used:], level[i + 1])
        if callback is not None:
            callback(i + 1, steps, x0)
    return state.to(x.dtype)


def _log_snr(t: float) -> float:
    return math.log((1 - t) / t)


def _step(x: Tensor, history: list[tuple[float, Tensor]], following: float, corrector: Tensor | None = None) -> Tensor:
    """x at `following` from x at the newest time of the history (paper, equations 3 and 8).

    corrector: x0 evaluated at `following`, where it is known already.
    """
    t, x0 = history[-1]
    if following == 0:
        return x0
    h = _log_snr(following) - _log_snr(t)
    points = [((_log_snr(s) - _log_snr(t)) / h, value) for s, value in reversed(history[:-1])]
    if corrector is not None:
        points.append((1.0, corrector))
    estimate = x0
    for weight, (ratio, value) in zip(_weights(h, [r for r, _ in points]), points, strict=True):
        estimate = estimate + weight / ratio * (value - x0)
    return following / t * x - (1 - following) * math.expm1(-h) * estimate


def _weights(h: float, ratios: list[float]) -> list[float]:
    """Weights of the differences at `ratios` (in units of h) that make the step exact for polynomials in lambda."""
    if len(ratios) < 2:
        return [0.5] * len(ratios)  # to leading order in h, as published
    moment, factorial, right = math.expm1(-h) / -h - 1, 1, []
    for i in range(len(ratios)):
        right.append(moment * factorial / math.expm1(-h))
        factorial *= i + 2
        moment = moment / -h - 1 / factorial
    matrix = torch.tensor([[r**i for r in ratios] for i in range(len(ratios))], dtype=torch.float64)
    solution: list[float] = torch.linalg.solve(matrix, torch.tensor(right, dtype=torch.float64)).tolist()
    return solution
