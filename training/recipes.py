"""Recipes: functions that return a typed configuration. A recipe derives from another by `dataclasses.replace`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from wfm_sim.errors import unknown
from wfm_sim.models.depth import DepthConfig
from wfm_sim.models.object_memory import ObjectConfig
from wfm_sim.models.presets import nano_dit, nano_rigid, nano_rooms, nano_tabletop, nano_tokenizer
from wfm_sim.training.action_recipe import ActionRecipe
from wfm_sim.training.camera_recipe import CameraRecipe
from wfm_sim.training.loop import LoopConfig
from wfm_sim.training.object_painting import Painting
from wfm_sim.training.objects import ObjectsRecipe
from wfm_sim.training.tokenizer import TokenizerRecipe
from wfm_sim.training.video import VideoRecipe


def tokenizer_nano(data: Path, out: Path) -> TokenizerRecipe:
    """The tokenizer of nano-tabletop."""
    loop = LoopConfig(steps=2500, lr=2e-3, weight_decay=0.0, decay=0.5, ema=0.995, bf16=True, compile=True)
    return TokenizerRecipe(data=data, out=out, loop=loop)


def tokenizer_debug(data: Path, out: Path) -> TokenizerRecipe:
    """Ten steps of a tiny tokenizer: a check of data and machine, offline and in seconds."""
    world = replace(nano_tabletop(), tokenizer=replace(nano_tokenizer(), channels=32))
    loop = LoopConfig(steps=10, warmup=2, checkpoint_every=5, sample_every=5, log_every=1)
    return TokenizerRecipe(data=data, out=out, world=world, loop=loop, batch=4)


def action_nano(data: Path, out: Path) -> ActionRecipe:
    """nano-tabletop, first part: one-step prediction from true predecessors, in clips that fill the window."""
    loop = LoopConfig(
        steps=12_000,
        lr=2.5e-3,
        decay=0.0001,
        ema=0.999,
        ranks=2,
        bf16=True,
        compile=True,
        checkpoint_every=250,
        sample_every=1000,
    )
    return ActionRecipe(data=data, out=out, init="nano-tabletop", loop=loop, clip=9, batch=8)


def action_nano_forcing(data: Path, out: Path) -> ActionRecipe:
    """nano-tabletop, second part: on its own frames (see wfm_sim.training.action), learning rate to zero."""
    base = action_nano(data, out)
    return replace(
        base,
        init_net=True,
        one_step=1.0,
        replay=0.5,
        prev_noise=0.0,
        presence=0.3,
        place=0.3,
        contact=6.0,
        loop=replace(base.loop, steps=4000, lr=1.5e-3, decay=0.8, sample_every=500),
    )


def objects_nano(data: Path, out: Path) -> ObjectsRecipe:
    """The memory of objects of nano-tabletop."""
    loop = LoopConfig(steps=2400, lr=2e-3, decay=0.6, ema=0.998, checkpoint_every=200, sample_every=400)
    return ObjectsRecipe(
        data,
        out,
        reader=loop,
        dynamics=replace(loop, steps=6000, lr=1.5e-3, sample_every=500),
        unseen=4000,
        painter=replace(loop, warmup=50, ema=0.995, checkpoint_every=96, sample_every=192),
    )


def objects_debug(data: Path, out: Path) -> ObjectsRecipe:
    """Ten steps of tiny networks."""
    loop = LoopConfig(steps=10, warmup=2, checkpoint_every=5, sample_every=5, log_every=1)
    small = ObjectConfig(width=16, hidden=32, painter=16)
    painting = Painting(groups=1, rows=2, steps=3, again=2)
    return ObjectsRecipe(
        data,
        out,
        objects=small,
        reader=loop,
        dynamics=loop,
        reader_batch=4,
        dynamics_batch=4,
        unroll=4,
        painter=replace(loop, checkpoint_every=3),
        painting=painting,
        split=None,
    )


def action_bridge(data: Path, out: Path) -> ActionRecipe:
    """Post-training on a handful of real episodes, from a simulator trained in the twin."""
    loop = LoopConfig(
        steps=400, lr=3e-4, warmup=20, decay=0.5, ema=0.99, bf16=True, sample_every=100, checkpoint_every=100
    )
    return ActionRecipe(
        data=data,
        out=out,
        init="nano-tabletop",
        loop=loop,
        init_net=True,
        tokenizer_steps=200,
        batch=8,
        clip=6,
        one_step=1.0,
        replay=0.5,
        pool=16,
        split=None,
        val_split=None,
        contact=1.0,
    )


def action_rigid(data: Path, out: Path) -> ActionRecipe:
    """nano-rigid: what the simulator of the tabletop knows of moving things, trained on in scenes without actions."""
    base = action_nano_forcing(data, out)
    return replace(
        base,
        presence=0.0,
        place=0.0,
        contact=3.0,
        tokenizer_steps=800,
        loop=replace(base.loop, steps=3000, lr=1e-3, sample_every=250, checkpoint_every=100),
    )


def action_debug(data: Path, out: Path) -> ActionRecipe:
    """Ten steps of a tiny network."""
    loop = LoopConfig(steps=10, warmup=2, checkpoint_every=5, sample_every=5, log_every=1)
    world = replace(nano_tabletop(), dit=nano_dit(48, 2, 2), window=3)
    return ActionRecipe(
        data=data,
        out=out,
        init="nano-tabletop",
        world=world,
        loop=loop,
        clip=4,
        batch=2,
        one_step=1.0,
        replay=0.5,
        pool=8,
        split=None,
        val_split=None,
    )


def video_nano(data: Path, out: Path) -> VideoRecipe:
    """nano-rigid: nano-tabletop's tokenizer is tuned on the pictures first, then the denoiser is trained."""
    loop = LoopConfig(
        steps=4000,
        lr=2e-3,
        decay=0.5,
        ema=0.998,
        ranks=2,
        bf16=True,
        compile=True,
        checkpoint_every=250,
        sample_every=500,
    )
    tokenizer = LoopConfig(
        steps=800,
        lr=2e-3,
        warmup=50,
        weight_decay=0.0,
        decay=0.4,
        ema=0.99,
        bf16=True,
        checkpoint_every=100,
        sample_every=200,
    )
    return VideoRecipe(data=data, out=out, loop=loop, tokenizer=tokenizer, tokenizer_init="nano-tabletop")


def video_nano_small(data: Path, out: Path) -> VideoRecipe:
    """nano-rigid-small: the same with 1.2M parameters instead of 5.9M."""
    return replace(video_nano(data, out), world=nano_rigid("nano-rigid-small", 128, 4))


def video_debug(data: Path, out: Path) -> VideoRecipe:
    """Ten steps of a tiny network."""
    loop = LoopConfig(steps=10, warmup=2, checkpoint_every=5, sample_every=5, log_every=1)
    world = replace(nano_rigid("debug", 64, 2), frames=12)
    return VideoRecipe(
        data=data, out=out, world=world, loop=loop, tokenizer=loop, tokenizer_init="nano-tabletop", batch=2
    )


def camera_nano(data: Path, out: Path) -> CameraRecipe:
    """nano-rooms: the tokenizer of nano-tabletop tuned on the rooms, depth, then the denoiser from nothing."""
    common = LoopConfig(steps=0, decay=0.5, bf16=True, ranks=2)
    return CameraRecipe(
        data=data,
        out=out,
        tokenizer=replace(common, steps=500, lr=1e-3, weight_decay=0.0, warmup=20, ema=0.98, sample_every=250),
        depth=replace(common, steps=1200, lr=1.5e-3, warmup=50, ema=0.99, sample_every=300),
        loop=replace(common, steps=3000, lr=2e-3, ema=0.998, compile=True, checkpoint_every=100, sample_every=250),
    )


def camera_rays(data: Path, out: Path) -> CameraRecipe:
    """The same network told nothing but its Plücker rays: as published, and what real clips without depth need."""
    return replace(camera_nano(data, out), world=nano_rooms("nano-rooms-rays", memory=False))


def camera_rays_block(data: Path, out: Path) -> CameraRecipe:
    """`camera_rays` with the rays added in every block."""
    return replace(camera_nano(data, out), world=nano_rooms("nano-rooms-block", memory=False, rays="block"))


def camera_published(data: Path, out: Path) -> CameraRecipe:
    """Post-training of a published Video2World network with Plücker rays: flow matching, on true predecessors."""
    loop = LoopConfig(steps=10_000, lr=3e-5, decay=0.3, warmup=500, bf16=True, checkpoint_every=500, sample_every=1000)
    return CameraRecipe(
        data=data, out=out, init="predict2.5-2b", loop=loop, clip=8, batch=1, pool=32, fresh=4, own=0.0, one_step=0.0
    )  # fmt: skip


def camera_debug(data: Path, out: Path) -> CameraRecipe:
    """A few steps of a tiny network: all three stages."""
    loop = LoopConfig(steps=4, warmup=1, checkpoint_every=2, sample_every=4, log_every=1)
    world = nano_rooms()
    small = nano_dit(48, 2, 2)
    dit = replace(world.dit, model_channels=48, num_blocks=2, num_heads=2, adaln_lora_dim=small.adaln_lora_dim)
    assert world.camera is not None
    camera = replace(world.camera, depth=DepthConfig((4, 8, 8, 8)))
    world = replace(world, name="debug", dit=dit, window=3, camera=camera)
    stage = replace(loop, steps=2, sample_every=2)
    return CameraRecipe(
        data=data, out=out, world=world, loop=loop, tokenizer=stage, depth=stage, clip=4, batch=2, pool=8, fresh=2,
        fresh_every=2,
    )  # fmt: skip


TOKENIZER: dict[str, Callable[[Path, Path], TokenizerRecipe]] = {"nano": tokenizer_nano, "debug": tokenizer_debug}
ACTION: dict[str, Callable[[Path, Path], ActionRecipe]] = {
    "nano": action_nano,
    "nano-forcing": action_nano_forcing,
    "bridge": action_bridge,
    "rigid": action_rigid,
    "debug": action_debug,
}


OBJECTS: dict[str, Callable[[Path, Path], ObjectsRecipe]] = {"nano": objects_nano, "debug": objects_debug}


VIDEO: dict[str, Callable[[Path, Path], VideoRecipe]] = {
    "nano": video_nano,
    "nano-small": video_nano_small,
    "debug": video_debug,
}


CAMERA: dict[str, Callable[[Path, Path], CameraRecipe]] = {
    "nano": camera_nano,
    "rays": camera_rays,
    "rays-block": camera_rays_block,
    "published": camera_published,
    "debug": camera_debug,
}


def tokenizer_recipe(name: str) -> Callable[[Path, Path], TokenizerRecipe]:
    """By name; UserError with a suggestion if there is none."""
    if name not in TOKENIZER:
        raise unknown("tokenizer recipe", name, TOKENIZER)
    return TOKENIZER[name]


def action_recipe(name: str) -> Callable[[Path, Path], ActionRecipe]:
    """By name; UserError with a suggestion if there is none."""
    if name not in ACTION:
        raise unknown("action recipe", name, ACTION)
    return ACTION[name]


def objects_recipe(name: str) -> Callable[[Path, Path], ObjectsRecipe]:
    """By name; UserError with a suggestion if there is none."""
    if name not in OBJECTS:
        raise unknown("objects recipe", name, OBJECTS)
    return OBJECTS[name]


def video_recipe(name: str) -> Callable[[Path, Path], VideoRecipe]:
    """By name; UserError with a suggestion if there is none."""
    if name not in VIDEO:
        raise unknown("video recipe", name, VIDEO)
    return VIDEO[name]


def camera_recipe(name: str) -> Callable[[Path, Path], CameraRecipe]:
    """By name; UserError with a suggestion if there is none."""
    if name not in CAMERA:
        raise unknown("camera recipe", name, CAMERA)
    return CAMERA[name]
