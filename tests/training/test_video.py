"""Video2World models: data, training of tokenizer and denoiser, the finished file, and what it predicts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from wfm_sim.data.video import write_video
from wfm_sim.errors import UserError
from wfm_sim.models.presets import nano_rigid, nano_tokenizer
from wfm_sim.models.video_world import VideoConfig, VideoModel, load_video, save_video
from wfm_sim.training.clips import load_clips, split_videos
from wfm_sim.training.loop import LoopConfig, launch
from wfm_sim.training.recipes import video_recipe
from wfm_sim.training.video import VideoRecipe, VideoTask, prepare


def _moving_square(seed: int, frames: int = 17, size: int = 64) -> np.ndarray:
    """A red square that moves in a straight line on grey."""
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform(10, 30, 2), rng.uniform(-1, 1.5, 2)
    clip = np.full((frames, size, size, 3), 120, np.uint8)
    for k in range(frames):
        x, y = (place + k * speed).astype(int)
        clip[k, y : y + 12, x : x + 12] = (200, 40, 40)
    return clip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for i in range(24):
        write_video(folder / f"{i:03d}" / "view0.mp4", _moving_square(i), 24)
    return folder


def _tiny() -> VideoConfig:
    tokenizer = replace(nano_tokenizer(), channels=32)
    return replace(nano_rigid("tiny", 64, 2), tokenizer=tokenizer, frames=12)


def _recipe(videos: Path, out: Path, steps: int = 6) -> VideoRecipe:
    loop = LoopConfig(steps=steps, warmup=2, lr=2e-3, checkpoint_every=3, sample_every=100, log_every=3)
    return replace(
        video_recipe("debug")(videos, out),
        world=_tiny(),
        loop=loop,
        tokenizer=replace(loop, steps=4),
        tokenizer_init=None,
    )


def test_whole_folders_are_held_out(videos: Path) -> None:
    train, val = split_videos(videos)
    assert len(train) + len(val) == 24 and len(val) == 1
    assert not {p.parent for p in train} & {p.parent for p in val}


def test_clips_begin_where_asked(videos: Path, tmp_path: Path) -> None:
    train, _ = split_videos(videos)
    clips = load_clips(train[:2], (32, 32), 13, (0, 4, 9), tmp_path)
    assert clips.shape == (4, 13, 32, 32, 3)  # start 9 does not fit into 17 frames
    np.testing.assert_array_equal(clips[0, 4:], clips[1, :9])


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_no_videos_is_one_sentence(what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such folder of videos|no \.mp4"):
        split_videos(tmp_path / "nowhere" if what == "missing" else tmp_path)


def test_too_short_videos(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no video of 40 frames"):
        load_clips(split_videos(videos)[0][:2], (32, 32), 40, (0,), tmp_path)


def test_training_goes_on_where_it_was_stopped(videos: Path, tmp_path: Path) -> None:
    whole = prepare(_recipe(videos, tmp_path / "a" / "run"))
    launch(partial(_task, whole), whole.loop, whole.out, {})
    parts = replace(whole, out=tmp_path / "b" / "run", cache=whole.kept)
    with pytest.raises(_StopError):
        launch(partial(_Stopping, parts, 4), parts.loop, parts.out, {})
    launch(partial(_task, parts), parts.loop, parts.out, {})
    a, b = (load_video(r.out / "model.safetensors") for r in (whole, parts))
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


def _task(recipe: VideoRecipe, rank: int) -> VideoTask:
    return VideoTask(recipe)


class _Stopping(VideoTask):
    """Ends a run after so many steps, as a kill between checkpoint and next step would."""

    def __init__(self, recipe: VideoRecipe, stop: int, rank: int) -> None:
        super().__init__(recipe)
        self.stop = stop

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[torch.Tensor, dict[str, float]]:
        if step >= self.stop:
            raise _StopError
        return super().loss(step, generator, rank)


class _StopError(Exception):
    pass


def test_a_compiled_network_says_the_same(videos: Path, tmp_path: Path) -> None:
    recipe = prepare(_recipe(videos, tmp_path / "run"))
    task = VideoTask(recipe)
    plain, _ = task.loss(0, torch.Generator().manual_seed(0), 0)
    task.network = torch.compile(task.model, backend="eager")
    compiled, _ = task.loss(0, torch.Generator().manual_seed(0), 0)
    assert torch.allclose(plain, compiled)


def test_it_learns_a_batch_by_heart(videos: Path, tmp_path: Path) -> None:
    recipe = prepare(replace(_recipe(videos, tmp_path / "run"), batch=2, one_step=1.0))
    task = VideoTask(recipe)
    optimiser = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss, _metrics = task.loss(0, torch.Generator().manual_seed(0), 0)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.fixture(scope="module")
def model() -> VideoModel:
    torch.manual_seed(0)
    model = VideoModel(replace(_tiny(), times=(1.0, 0.5))).eval()
    torch.nn.init.normal_(model.net.final_layer.linear.weight, std=0.02)
    return model


class TestModel:
    def test_given_frames_come_back(self, model: VideoModel) -> None:
        context = np.stack([_moving_square(i, 9) for i in range(2)])
        clip = model.predict(context, seeds=[0, 1])
        assert clip.shape == (2, 12, 64, 64, 3)
        np.testing.assert_array_equal(clip[:, :9], context)

    def test_a_network_that_moves_nothing_repeats_the_frame(self) -> None:
        still = VideoModel(_tiny()).eval()  # its last layer begins at zero
        context = np.stack([_moving_square(i, 9) for i in range(2)])
        clip = still.predict(context, seeds=[0, 1])
        assert np.abs(clip[:, 9:].astype(int) - context[:, -1:]).max() <= 1

    def test_a_row_depends_on_its_seed_alone(self, model: VideoModel) -> None:
        context = np.stack([_moving_square(3, 9)] * 3)
        clips = model.predict(context, seeds=[5, 6, 5])
        assert np.abs(clips[0].astype(int) - clips[2]).max() <= 1
        assert (clips[0] != clips[1]).any()

    @pytest.mark.parametrize(
        "context, seeds, message",
        [
            (np.zeros((1, 2, 64, 64, 3), np.uint8), [0], "conditioned on 1 or 9 frames, got 2"),
            (np.zeros((1, 1, 32, 64, 3), np.uint8), [0], r"expected context frames uint8 \[B, T, 64, 64, 3\]"),
            (np.zeros((1, 1, 64, 64, 3), np.float32), [0], "got float32"),
            (np.zeros((2, 1, 64, 64, 3), np.uint8), [0], "expected 2 seeds"),
        ],
    )
    def test_wrong_input(self, model: VideoModel, context: np.ndarray, seeds: list[int], message: str) -> None:
        with pytest.raises(UserError, match=message):
            model.predict(context, seeds=seeds)

    def test_file_and_back(self, model: VideoModel, tmp_path: Path) -> None:
        save_video(model, tmp_path / "m.safetensors", about={"seed": 3})
        again = load_video(tmp_path / "m.safetensors", dtype=torch.float32)
        assert again.cfg == model.cfg and again.metadata == {"seed": 3}
        context = np.stack([_moving_square(1, 1)])
        np.testing.assert_array_equal(again.predict(context, seeds=[1]), model.predict(context, seeds=[1]))

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="but no video model"):
            load_video(next(Path(__file__).parents[2].glob("assets/weights/nano-tabletop.safetensors")))
        with pytest.raises(UserError, match="unknown video model"):
            load_video("nano-rigit")
