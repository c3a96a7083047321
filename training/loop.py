"""The training loop: data-parallel, resumable bit for bit, with metrics and sample strips while it runs.

Everything random in step s comes from a generator seeded by (seed, s, rank), so a run killed at any moment and started
again continues exactly as if it had not been killed.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from wfm_sim.errors import UserError
from wfm_sim.models.checkpoint import fast_dtype
from wfm_sim.training.muon import Float32Muon


def _bfloat16() -> bool:
    """Whether this machine multiplies it natively."""
    return fast_dtype("cuda" if torch.cuda.is_available() else "cpu") == torch.bfloat16


@dataclass(frozen=True)
class LoopConfig:
    """How long, how fast and how often.

    Attributes:
        steps: Optimiser steps in all.
        lr: Peak learning rate of Muon (matrices of the blocks; its updates are scaled to AdamW's size). AdamW, which
            trains everything else, has `adamw_scale` times that; where it trains all, it has `lr`.
        warmup, decay: Steps of linear rise, and share of the run that falls linearly to zero at its end.
        ema: Decay of the averaged weights that are evaluated and exported.
        checkpoint_every, sample_every, log_every: In steps.
        ranks: Processes; on a CPU one per core, on GPUs one per card.
        bf16: Autocast, where the machine multiplies bfloat16 natively (GPUs, CPUs with AMX or AVX512-BF16); elsewhere
            it would be many times slower, and is switched off.
        compile: torch.compile (needs a C++ compiler on the CPU).
    """

    steps: int
    lr: float = 1e-3
    weight_decay: float = 0.02
    warmup: int = 100
    decay: float = 0.3
    ema: float = 0.999
    grad_clip: float = 1.0
    seed: int = 0
    ranks: int = 1
    bf16: bool = False
    compile: bool = False
    checkpoint_every: int = 200
    sample_every: int = 500
    log_every: int = 20
    muon: bool = True
    adamw_scale: float = 0.4

    def __post_init__(self) -> None:
        object.__setattr__(self, "bf16", self.bf16 and _bfloat16())

    def lr_at(self, step: int) -> float:
        """Warm-up, constant, linear decay (WSD): the constant part can be prolonged in a later run."""
        tail = max(1, int(self.steps * self.decay))
        return self.lr * min(1.0, (step + 1) / max(1, self.warmup), (self.steps - step) / tail)


class Task(Protocol):
    """What is trained. `model` holds the parameters; buffers of the task that change are its `state_dict`."""

    @property
    def model(self) -> nn.Module: ...

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]: ...

    def sample(self, step: int, out: Path) -> dict[str, float]:
        """Validation with the averaged weights in place: metrics, and a picture written to `out`."""

    def export(self, path: Path, about: dict[str, Any]) -> None:
        """Write the finished model, averaged weights in place."""

    def extra_state(self) -> dict[str, Tensor]: ...

    def load_extra_state(self, state: dict[str, Tensor]) -> None: ...


def optimisers(model: nn.Module, cfg: LoopConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the transformer blocks, AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        inner = ".blocks." in f".{name}" and p.ndim == 2 and "modulation" not in name
        (matrices if inner and cfg.muon else others).append(p)
    out: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=cfg.lr, weight_decay=cfg.weight_decay, betas=(0.9, 0.98))
    ]
    if matrices and _bfloat16():
        out.append(torch.optim.Muon(matrices, lr=cfg.lr, weight_decay=cfg.weight_decay, adjust_lr_fn="match_rms_adamw"))
    elif matrices:
        out.append(Float32Muon(matrices, lr=cfg.lr, weight_decay=cfg.weight_decay))
    return out


def generator_for(seed: int, step: int, rank: int) -> torch.Generator:
    """The source of all randomness of one step on one rank."""
    words = np.random.SeedSequence([seed, step, rank]).generate_state(2, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


class _Averaged:
    """Exponential moving average of the parameters; `swapped()` puts it in place for evaluation."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.params]
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.params], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        for p, a in zip(self.params, self.average, strict=True):
            kept = p.detach().clone()
            p.copy_(a)
            a.copy_(kept)


def _checkpoint_path(out: Path) -> Path:
    return out / "checkpoint.pt"


def _save(out: Path, step: int, task: Task, opts: list[Any], ema: _Averaged, extras: list[dict[str, Tensor]]) -> None:
    payload = {
        "step": step,
        "model": task.model.state_dict(),
        "optimisers": [o.state_dict() for o in opts],
        "average": ema.average,
        "extras": extras,
    }
    temporary = out / "checkpoint.pt.tmp"
    torch.save(payload, temporary)
    temporary.replace(_checkpoint_path(out))


def _saved_step(out: Path) -> int:
    path = _checkpoint_path(out)
    return int(torch.load(path, weights_only=True, map_location="cpu", mmap=True)["step"]) if path.is_file() else 0


def _load(out: Path, rank: int, task: Task, opts: list[Any], ema: _Averaged) -> int:
    path = _checkpoint_path(out)
    if not path.is_file():
        return 0
    try:
        payload = torch.load(path, weights_only=True, map_location="cpu")
        task.model.load_state_dict(payload["model"])
        for o, s in zip(opts, payload["optimisers"], strict=True):
            o.load_state_dict(s)
    except (RuntimeError, KeyError, ValueError, EOFError, OSError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: a checkpoint that does not fit this recipe, or is damaged ({first})") from None
    for a, b in zip(ema.average, payload["average"], strict=True):
        a.copy_(b)
    if payload["extras"]:
        task.load_extra_state(payload["extras"][rank % len(payload["extras"])])
    return int(payload["step"])


def _reduce(params: list[nn.Parameter], world: int) -> None:
    """Average the gradients over the ranks, as one flat tensor."""
    grads = [p.grad for p in params if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads])
    dist.all_reduce(flat)
    flat /= world
    offset = 0
    for g in grads:
        g.copy_(flat[offset : offset + g.numel()].view_as(g))
        offset += g.numel()


def train(make_task: Callable[[int], Task], cfg: LoopConfig, out: Path, about: dict[str, Any], rank: int = 0) -> None:
    """Run one rank to the end (or to Ctrl-C, or SIGTERM, which write a checkpoint first)."""
    world = cfg.ranks
    torch.manual_seed(cfg.seed)
    torch.set_flush_denormal(True)  # the tails of softmax and GELU would make a step on a CPU 40 % slower
    task = make_task(rank)
    model = task.model
    params = [p for p in model.parameters() if p.requires_grad]
    opts = optimisers(model, cfg)
    ema = _Averaged(model, cfg.ema)
    step = _load(out, rank, task, opts, ema)
    device = next(model.parameters()).device
    stop = torch.zeros(1)
    if rank == 0:
        print(f"{sum(p.numel() for p in params) / 1e6:.2f}M parameters, step {step} of {cfg.steps}, {out}", flush=True)

    def ask_to_stop(*_: Any) -> None:
        stop.fill_(1)

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    running: dict[str, list[float]] = {}
    began = time.perf_counter()
    while step < cfg.steps:
        for o in opts:
            scale = cfg.adamw_scale if len(opts) > 1 and isinstance(o, torch.optim.AdamW) else 1.0
            for group in o.param_groups:
                group["lr"] = scale * cfg.lr_at(step)
        autocast = torch.autocast(device.type, torch.bfloat16) if cfg.bf16 else nullcontext()
        with autocast:
            loss, metrics = task.loss(step, generator_for(cfg.seed, step, rank), rank)
        loss.backward()
        if world > 1:
            _reduce(params, world)
        norm = torch.nn.utils.clip_grad_norm_(params, cfg.grad_clip)
        for o in opts:
            o.step()
            o.zero_grad(set_to_none=True)
        ema.update(step)
        step += 1
        for k, v in {**metrics, "loss": float(loss.detach()), "grad_norm": float(norm)}.items():
            running.setdefault(k, []).append(v)
        if world > 1:
            dist.all_reduce(stop, op=dist.ReduceOp.MAX)
        if rank == 0 and (step % cfg.log_every == 0 or step == cfg.steps):
            means = {k: float(np.mean(v)) for k, v in running.items()}
            running.clear()
            row = {"step": step, "seconds": round(time.perf_counter() - began, 1), "lr": cfg.lr_at(step - 1), **means}
            _log(out, row)
        # The checkpoint comes last: killed in between, the run samples and exports again instead of never.
        sampling = step == cfg.steps or step % cfg.sample_every == 0
        if rank == 0 and (sampling or stop):
            ema.swap()
            model.eval()
            if sampling:
                _log(out, {"step": step, **task.sample(step, out)})
            task.export(out / "model.safetensors", {**about, "steps": step})
            model.train()
            ema.swap()
        done = step == cfg.steps or bool(stop)
        if done or step % cfg.checkpoint_every == 0:
            extras: list[Any] = [task.extra_state()]
            if world > 1:
                extras = [None] * world
                dist.all_gather_object(extras, task.extra_state())
            if rank == 0:
                _save(out, step, task, opts, ema, extras)
        if stop:
            raise KeyboardInterrupt


def _log(out: Path, row: dict[str, Any]) -> None:
    with (out / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print("  ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def _rank_main(rank: int, make_task: Callable[[int], Task], cfg: LoopConfig, out: Path, about: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    rendezvous = out / "rendezvous"
    dist.init_process_group("gloo", init_method=f"file://{rendezvous.resolve()}", rank=rank, world_size=cfg.ranks)
    try:
        train(make_task, cfg, out, about, rank)
    except KeyboardInterrupt:
        pass
    finally:
        dist.destroy_process_group()


def launch(make_task: Callable[[int], Task], cfg: LoopConfig, out: Path, about: dict[str, Any]) -> None:
    """Train with `cfg.ranks` processes; `make_task(rank)` must be picklable when there are several."""
    out.mkdir(parents=True, exist_ok=True)
    if cfg.ranks == 1:
        train(make_task, cfg, out, about)
        return
    (out / "rendezvous").unlink(missing_ok=True)
    # The ranks keep freed memory: giving it back and taking it again costs 15 % of a step on a CPU.
    for name, value in {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**40),
        "MALLOC_TOP_PAD_": str(2**28),
    }.items():
        os.environ.setdefault(name, value)
    context = torch.multiprocessing.spawn(_rank_main, (make_task, cfg, out, about), nprocs=cfg.ranks, join=False)
    try:
        while not context.join():
            pass
    except KeyboardInterrupt:  # the ranks got it too; they write a checkpoint and end
        for process in context.processes:
            process.join()
        raise
    if _saved_step(out) < cfg.steps:  # stopped by SIGTERM
        raise KeyboardInterrupt
