"""Reference cases of noise schedules and solvers, run on the closed-form networks written in their configuration."""

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

from wfm_sim.models.parity.case import Case, Comparison, Runner, Tensors, compare
from wfm_sim.models.schedules import (
    Denoiser,
    Scaling,
    append_zero,
    edm_scaling,
    flow_scaling,
    flow_times,
    flow_timesteps,
    karras_flow_times,
    karras_sigmas,
    make_denoiser,
    rectified_flow_scaling,
)
from wfm_sim.models.solvers import Solver, euler, res_2ab, res_2mid
from wfm_sim.models.unipc import unipc

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def formula(text: str, **names: Any) -> Any:
    """The value of an arithmetic expression with +, -, *, /, ^, max() and the given names; nothing else is run."""

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=number):
                return number
            case ast.Name(id=name):
                return names[name]
            case ast.BinOp(left=left, op=op, right=right):
                return _OPERATORS[type(op)](value(left), value(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.Call(func=ast.Name(id="max"), args=args):
                return max(value(a) for a in args)
        raise ValueError(f"not an arithmetic expression: {ast.unparse(node)!r} in {text!r}")

    return value(ast.parse(text.replace("^", "**"), mode="eval").body)


def _toy_denoiser(case: Case) -> Denoiser:
    """The denoiser that the reference was given; its sigma is called t or s."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        out: Tensor = formula(case.config["denoiser"], x=x, mu=case.given["mu"], t=sigma, s=sigma)
        return out

    return denoise


def _scaling_outputs(scaling: Scaling) -> Tensors:
    return {f"scaling_{'in' if k == 'input' else k}": v for k, v in scaling._asdict().items()}


_RES: dict[str, tuple[Solver, int]] = {"1euler": (euler, 1), "2ab": (res_2ab, 1), "2mid": (res_2mid, 2)}


def _res(case: Case) -> list[Comparison]:
    config = case.config
    out = _scaling_outputs(edm_scaling(case.given["sigmas"], config.get("sigma_data", 0.5)))
    for name in case.expected:
        if name.startswith("x_"):
            solver, evaluations = _RES[name.removeprefix("x_")]
            count = config["num_steps"] // evaluations + 1
            sigmas = karras_sigmas(count, config["sigma_max"], config["sigma_min"], config["rho"])
            out[name] = solver(_toy_denoiser(case), case.given["x_init"], append_zero(sigmas))
    return compare(case, out)


def _ab2(case: Case) -> list[Comparison]:
    config = case.config
    out = _scaling_outputs(rectified_flow_scaling(case.given["sigmas"]))
    sigmas = karras_sigmas(config["steps"] + 1, config["sigma_max"], config["sigma_min"], config["order"])
    out["sigmas"] = sigmas
    out["x"] = res_2ab(_toy_denoiser(case), case.given["x_init"], sigmas)  # the scheduler alone, without the clean pass
    return compare(case, out)


_RUN_NAME = re.compile(r"x_n(?P<steps>\d+)_shift(?P<shift>[\d.]+)_k(?P<karras>[01])")


def _unipc(case: Case) -> list[Comparison]:
    config, mu = case.config, case.given["mu"]
    train_steps = config["num_train_timesteps"]

    def velocity(x: Tensor, timesteps: Tensor) -> Tensor:
        out: Tensor = formula(config["velocity"], x=x, mu=mu, t=float(timesteps[0, 0]))
        return out

    denoiser = make_denoiser(velocity, lambda t: flow_scaling(t, train_steps))
    out: Tensors = {}
    for name in case.expected:
        if match := _RUN_NAME.fullmatch(name):
            steps = int(match["steps"])
            if match["karras"] == "1":
                times = karras_flow_times(steps)
            else:
                times = flow_times(steps, float(match["shift"]), config["shift_init"], train_steps)
            out[name] = unipc(denoiser, case.given["x_init"], times)
            run = name.removeprefix("x_")
            out[f"sigmas_{run}"] = times
            out[f"timesteps_{run}"] = flow_timesteps(times[:-1], train_steps)
    return compare(case, out)


RUNNERS: dict[str, Runner] = {
    "res_sampler.Sampler/EDMScaling": _res,
    "RectifiedFlowAB2Scheduler/RectifiedFlowScaling": _ab2,
    "FlowUniPCMultistepScheduler": _unipc,
}
