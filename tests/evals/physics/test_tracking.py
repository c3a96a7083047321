"""The tracker on drawn and rendered videos, sharp and spoilt; SAM 2's adapter on a tiny random model."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.evals.physics.conftest import draw
from wfm_sim.data.physics import PhysicsData
from wfm_sim.errors import UserError
from wfm_sim.evals.physics.metrics import frame_iou, object_iou
from wfm_sim.evals.physics.tracking import track


def clip_of(data: PhysicsData, scene: str, index: int = 0, view: int = 0) -> tuple[np.ndarray, np.ndarray]:
    episode = data.episode(scene, index)
    return episode.frames(view), episode.masks(view)


def iou(masks: np.ndarray, found: np.ndarray) -> float:
    return float(np.nanmean(object_iou(masks, found, int(masks.max()))[1:]))


@pytest.mark.parametrize("scene", ["fall", "cross"])
def test_discs_are_followed_through_fast_motion_and_occlusion(drawn: PhysicsData, scene: str) -> None:
    for index in range(2):
        for view in range(2):
            frames, masks = clip_of(drawn, scene, index, view)
            found = track(frames, masks[0])
            assert np.array_equal(found[0], masks[0])
            assert iou(masks, found) > 0.9
            assert np.array_equal(found, track(frames, masks[0]))  # deterministic


def test_an_object_that_leaves_is_gone_and_one_that_comes_back_is_found(drawn: PhysicsData) -> None:
    xs = [40, 50, 60, 70, 80, 90, 100, 90, 80, 70, 60, 50]
    drawn_frames = [draw([(float(x), 30.0)]) for x in xs]
    frames, masks = (np.stack([d[i] for d in drawn_frames]) for i in range(2))
    found = track(frames, masks[0])
    assert not found[6].any() and not masks[6].any()
    assert iou(masks, found) > 0.85


def test_a_deleted_object_is_not_found_elsewhere(drawn: PhysicsData) -> None:
    frames, masks = clip_of(drawn, "fall")
    background = np.median(frames, axis=0).astype(np.uint8)
    spoilt = frames.copy()
    for t in range(7, len(frames)):
        spoilt[t][masks[t] == 1] = background[masks[t] == 1]
    found = track(spoilt, masks[0])
    assert (found[8:] == 1).sum() == 0
    assert object_iou(masks, found, 2)[1:, 1].mean() > 0.9


@pytest.mark.parametrize("how", ["blur", "noise", "fade", "coarse"])
def test_imagined_frames_are_blurred_noisy_and_pale(drawn: PhysicsData, how: str) -> None:
    frames, masks = clip_of(drawn, "cross")
    rng = np.random.default_rng(0)
    spoilt = frames.copy()
    for t in range(1, len(frames)):
        image = frames[t]
        if how == "blur":
            spoilt[t] = cv2.GaussianBlur(image, (0, 0), 1.2)
        elif how == "noise":
            spoilt[t] = np.clip(image + rng.normal(0, 10, image.shape), 0, 255)
        elif how == "fade":
            spoilt[t] = 0.7 * image + 0.3 * 128
        else:
            spoilt[t] = cv2.resize(cv2.resize(image, (40, 32), interpolation=cv2.INTER_AREA), (80, 64))
    assert iou(masks, track(spoilt, masks[0])) > 0.8


def test_the_same_colour_twice_keeps_its_identity() -> None:
    drawn_frames = [draw([(15.0 + 3 * t, 20.0), (60.0, 90.0), (65.0 - 3 * t, 45.0)]) for t in range(12)]
    frames, masks = (np.stack([d[i] for d in drawn_frames]) for i in range(2))
    found = track(frames, masks[0])
    values = object_iou(masks, found, 3)
    assert np.nanmin(values[:, [0, 2]]) > 0.8  # both are red


def test_large_frames_are_tracked_small_and_come_back_large(drawn: PhysicsData) -> None:
    frames, masks = clip_of(drawn, "fall")
    big = np.stack([cv2.resize(f, (480, 384), interpolation=cv2.INTER_CUBIC) for f in frames])
    big_masks = np.stack([cv2.resize(m, (480, 384), interpolation=cv2.INTER_NEAREST) for m in masks])
    found = track(big, big_masks[0])
    assert found.shape == big_masks.shape
    assert iou(big_masks, found) > 0.88


def test_wrong_input_is_told() -> None:
    frames = np.zeros((3, 20, 30, 3), np.uint8)
    with pytest.raises(UserError, match=r"first mask is uint8 \[20, 20\], expected uint8 \[20, 30\]"):
        track(frames, np.zeros((20, 20), np.uint8))
    with pytest.raises(UserError, match=r"frames are float64 \[3, 20, 30, 3\]"):
        track(frames.astype(float), np.zeros((20, 30), np.uint8))  # type: ignore[arg-type]
    assert not track(frames, np.zeros((20, 30), np.uint8)).any()


@pytest.mark.slow
def test_the_floor_on_rendered_scenes() -> None:
    """Two scenes at 128 px; docs/physics_scoring.md has all eight at 256 px."""
    from wfm_sim.assets.physics import build
    from wfm_sim.envs.physics import Renderer, simulate

    for name in ("free_fall", "dominoes"):
        scene = build(name, 77_000_001)
        trajectory = simulate(scene, frames=20)
        with Renderer(scene, 128, 128) as renderer:
            pairs = [renderer.render(trajectory, t, 0) for t in range(20)]
        frames, masks = np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])
        values = frame_iou(masks, track(frames, masks[0]), len(scene.names))
        assert np.mean([v for v in values[1:] if v is not None]) > 0.85


def test_sam2_without_weights_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra 'cosmos')")
    from wfm_sim.evals.physics.sam2 import load_sam2

    monkeypatch.setenv("WFM_SIM_SAM2", str(tmp_path / "nowhere"))
    reason = load_sam2()
    assert isinstance(reason, str) and "no weights of SAM 2" in reason and "\n" not in reason


def test_sam2_adapter_runs_on_a_tiny_random_model(drawn: PhysicsData) -> None:
    """What it finds is nonsense; that every object keeps its label and its shape through transformers' calls is not."""
    pytest.importorskip("transformers", reason="transformers is not installed (extra 'cosmos')")
    import torch
    from transformers import Sam2VideoConfig, Sam2VideoModel

    from wfm_sim.evals.physics.sam2 import sam2_track

    torch.manual_seed(0)
    backbone = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1}
    backbone |= {"image_size": [128, 128], "blocks_per_stage": [1, 1, 2, 1], "global_attention_blocks": [3]}
    backbone |= {"embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 2, 4, 8]}
    backbone |= {"window_size_per_stage": [8, 4, 4, 4], "window_positional_embedding_background_size": [4, 4]}
    vision = {"backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 128}
    vision["backbone_feature_sizes"] = [[32, 32], [16, 16], [8, 8]]
    decoder = {"hidden_size": 128, "mlp_dim": 32, "iou_head_hidden_dim": 16, "num_attention_heads": 2}
    memory = {"hidden_size": 128, "num_layers": 1, "feed_forward_hidden_size": 32, "rope_feat_sizes": [8, 8]}
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 128, "image_size": 128},
        mask_decoder_config=decoder,
        image_size=128,
        memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=32,
        **{f"memory_attention_{name}": value for name, value in memory.items()},
    )
    model = Sam2VideoModel(config).eval()
    frames, masks = clip_of(drawn, "cross")
    found = sam2_track(model, frames[:3], masks[0])
    assert found.shape == (3, *masks[0].shape) and found.dtype == np.uint8
    assert np.array_equal(found[0], masks[0]) and set(np.unique(found)) <= {0, 1, 2}
    assert not sam2_track(model, frames[:2], np.zeros_like(masks[0])).any()
