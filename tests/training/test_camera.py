"""`wfm-sim train camera` on tiny scenes: all stages, resuming bit for bit, rays alone, a published network's way."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wfm_sim.camera import Intrinsics, move
from wfm_sim.data.camera_clip import CameraClip
from wfm_sim.data.camera_writer import write_camera_scene
from wfm_sim.errors import UserError
from wfm_sim.models import load, save
from wfm_sim.models.camera_published import with_rays
from wfm_sim.models.camera_world import CameraWorldModel
from wfm_sim.models.dit import DiT, DiTConfig
from wfm_sim.models.generators import Parts
from wfm_sim.models.wan_vae import WanConfig, WanVAE
from wfm_sim.training.camera import CameraTask
from wfm_sim.training.camera_recipe import CameraRecipe, prepare, take_over
from wfm_sim.training.depth import DepthRecipe, DepthTask
from wfm_sim.training.loop import launch
from wfm_sim.training.recipes import camera_recipe

SIZE, T = (32, 48), 9


def _scene(seed: int, depth: bool = True) -> CameraClip:
    """A textured wall at 2 m, ray-traced along a sideways walk."""
    rng = np.random.default_rng(seed)
    k = Intrinsics.of_fov(60, SIZE)
    phase, wave = rng.uniform(0, 6, 3), rng.uniform(3, 8, (3, 2))
    v, u = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5, indexing="ij")
    pose, poses, frames = np.eye(4), [], []
    for _ in range(T):
        x = (u - k.cx) / k.fx * 2 + pose[0, 3]
        y = (v - k.cy) / k.fy * 2 + pose[1, 3]
        frames.append(np.stack([127 + 100 * np.sin(wave[c, 0] * x + wave[c, 1] * y + phase[c]) for c in range(3)], -1))
        poses.append(pose)
        pose = move(pose, [0.05, 0.01, 0, 0, 0, 0])
    known = np.full((T, *SIZE), 2.0, np.float32) if depth else None
    return CameraClip(
        np.stack(frames).astype(np.uint8), np.stack(poses), k, known, metric=True, fps=10.0, id=f"s{seed}"
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    for i in range(3):
        write_camera_scene(root / f"scene{i}", _scene(i))
    return root


def _recipe(data: Path, out: Path, name: str = "debug") -> CameraRecipe:
    recipe = camera_recipe(name)(data, out)
    small = camera_recipe("debug")(data, out)
    world = replace(
        recipe.world,
        frame_size=SIZE,
        window=3,
        dit=replace(recipe.world.dit, model_channels=48, num_blocks=1, num_heads=2),
    )
    kept = {
        n: getattr(small, n) for n in ("loop", "tokenizer", "depth", "clip", "batch", "pool", "fresh", "fresh_every")
    }
    return replace(recipe, **kept, world=world, own_after=0.0)


def _run(recipe: CameraRecipe) -> Path:
    torch.set_num_threads(1)
    recipe = prepare(recipe)
    launch(partial(_task, recipe), recipe.loop, recipe.out, {})
    return recipe.out / "model.safetensors"


def _task(recipe: CameraRecipe, rank: int) -> CameraTask:
    return CameraTask(recipe)


def test_all_stages_make_a_world_that_walks(data: Path, tmp_path: Path) -> None:
    path = _run(_recipe(data, tmp_path / "run"))
    world = load(path)
    assert isinstance(world, CameraWorldModel) and world.metadata["steps"] == 4
    begun = load(tmp_path / "run" / "start.safetensors", dtype=torch.float32)
    tuned = load(tmp_path / "run" / "tokenizer" / "model.safetensors", dtype=torch.float32)
    with_depth = load(tmp_path / "run" / "depth" / "model.safetensors", dtype=torch.float32)
    assert isinstance(begun, CameraWorldModel) and isinstance(with_depth, CameraWorldModel)
    assert not torch.equal(begun.tokenizer.quant_conv.weight, tuned.tokenizer.quant_conv.weight)
    assert begun.depth is not None and with_depth.depth is not None
    assert not torch.equal(begun.depth.head.weight, with_depth.depth.head.weight)
    _, frames = world.step(world.start(np.zeros((1, 1, *SIZE, 3), np.uint8)), np.zeros((1, 1, 6), np.float32))
    assert frames.shape == (1, 1, *SIZE, 3)
    assert list((tmp_path / "run").glob("samples_*.png")) and list((tmp_path / "run" / "depth").glob("depth_*.png"))


def test_resuming_changes_nothing(data: Path, tmp_path: Path) -> None:
    whole = load_file(_run(_recipe(data, tmp_path / "whole")))
    recipe = _recipe(data, tmp_path / "parts")
    half = prepare(recipe)
    # as a run that is stopped half-way: its schedule is the whole run's
    stopped = _Stops(half, 2)
    with pytest.raises(KeyboardInterrupt):
        launch(lambda rank: stopped, half.loop, half.out, {})
    again = load_file(_run(recipe))
    assert whole.keys() == again.keys() and all(torch.equal(whole[k], again[k]) for k in whole)


class _Stops(CameraTask):
    def __init__(self, recipe: CameraRecipe, after: int) -> None:
        super().__init__(recipe)
        self.after = after

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[torch.Tensor, dict[str, float]]:
        if step == self.after:  # killed: the checkpoint of this step is on the disk
            raise KeyboardInterrupt
        return super().loss(step, generator, rank)


def test_rays_alone_need_no_depth(tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    for i in range(2):
        write_camera_scene(root / f"scene{i}", _scene(i, depth=False))
    for name in ("rays", "rays-block"):
        world = load(_run(_recipe(root, tmp_path / name, name)))
        assert isinstance(world, CameraWorldModel) and world.depth is None and world.camera.points == 0


def test_depth_is_learnt(data: Path, tmp_path: Path) -> None:
    recipe = prepare(
        replace(_recipe(data, tmp_path / "run"), tokenizer=replace(_recipe(data, tmp_path).tokenizer, steps=0))
    )
    stage = DepthRecipe(data, tmp_path / "depth", tmp_path / "cache", Path(recipe.init), batch=4)
    task = DepthTask(stage)
    optimiser = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
    errors = []
    for step in range(30):
        loss, metrics = task.loss(step, torch.Generator().manual_seed(step), 0)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        errors.append(metrics["log_error"])
    assert np.mean(errors[-5:]) < 0.5 * np.mean(errors[:5])


def test_a_published_network_starts_as_it_was(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = WanConfig(dim=8, z_dim=4, num_res_blocks=1, mean=(0.0,) * 4, std=(1.0,) * 4)
    cfg = DiTConfig(
        in_channels=4,
        out_channels=4,
        model_channels=48,
        num_blocks=2,
        num_heads=2,
        adaln_lora_dim=16,
        context_channels=16,
    )
    old = DiT(cfg).eval()
    for p in old.parameters():
        p.data += 0.05 * torch.randn_like(p)
    for rays in ("concat", "block"):
        world = with_rays(Parts(old, WanVAE(vae)), "tiny-camera", rays, (32, 48)).eval()  # type: ignore[arg-type]
        x, t, text = torch.randn(1, 4, 2, 4, 6), torch.rand(1, 2), torch.zeros(1, 1, 16)
        told: dict[str, torch.Tensor] = {"extra": torch.randn(1, 6, 2, 4, 6)} if rays == "concat" else {}
        if rays == "block":
            told["camera"] = torch.randn(1, 2, 6, world.cfg.dit.camera_channels)
        with torch.no_grad():
            assert torch.allclose(world.net(x, t, context=text, **told), old(x, t, context=text), atol=1e-5)
        path = tmp_path / f"{rays}.safetensors"
        save(world, path, about={})
        recipe = replace(camera_recipe("published")(data, tmp_path / rays), init=path, clip=3, batch=1, pool=2, fresh=2)
        small = replace(recipe.loop, steps=2, warmup=1, bf16=False, sample_every=2, checkpoint_every=2, lr=1e-3)
        trained = load(_run(replace(recipe, loop=small)), dtype=torch.float32)
        assert isinstance(trained, CameraWorldModel) and trained.spec.frames_per_step == 4
        assert any(not torch.equal(a, b) for a, b in zip(trained.net.parameters(), world.net.parameters(), strict=True))


def test_wrong_recipes_get_one_sentence(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the longest has 9"):
        prepare(replace(_recipe(data, tmp_path / "a"), clip=30))
    with pytest.raises(UserError, match="goes with a published network"):
        prepare(replace(_recipe(data, tmp_path / "b"), checkpoint="random"))
    with pytest.raises(UserError, match="did you mean 'nano'"):
        camera_recipe("nnao")
    recipe = _recipe(data, tmp_path / "c")
    big = CameraWorldModel(replace(recipe.world, tokenizer=replace(recipe.world.tokenizer, channels=96)))
    with pytest.raises(UserError, match="does not fit"):
        take_over(big, load("nano-tabletop"))
