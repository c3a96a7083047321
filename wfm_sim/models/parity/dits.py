"""Reference cases of the diffusion transformers."""

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wfm_sim.models.dit import DiT, DiTConfig, block_causal_mask
from wfm_sim.models.dit_conditions import given_channels
from wfm_sim.models.kv_cache import KVCache
from wfm_sim.models.parity.case import Case, Comparison, Runner, Tensors, compare, same
from wfm_sim.models.plucker import plucker_rays, ray_tokens
from wfm_sim.models.published.names_dit import DERIVED, state_to_ours


def dit_config(config: dict[str, Any], **changes: Any) -> DiTConfig:
    """From the published names of a network's settings; `changes` are what the settings do not say."""
    patch, temporal = config["patch_spatial"], config["patch_temporal"]
    sizes = config["max_frames"] // temporal, config["max_img_h"] // patch, config["max_img_w"] // patch
    absolute = config.get("extra_per_block_abs_pos_emb_type", "learnable")
    cfg = DiTConfig(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        patch=patch,
        patch_temporal=temporal,
        padding_mask=config["concat_padding_mask"],
        model_channels=config["model_channels"],
        num_blocks=config["num_blocks"],
        num_heads=config["num_heads"],
        mlp_ratio=config.get("mlp_ratio", 4.0),
        adaln_lora_dim=config["adaln_lora_dim"],
        context_channels=config["crossattn_emb_channels"],
        context_projection=config["crossattn_proj_in_channels"] if config.get("use_crossattn_projection") else None,
        timestep_scale=config.get("timestep_scale", 1.0),
        action_dim=config.get("action_dim", 0),
        actions_per_latent=config.get("temporal_compression_ratio", 4),
        rope_ratio=tuple(config[f"rope_{axis}_extrapolation_ratio"] for axis in "thw"),
        rope_fps=config.get("rope_enable_fps_modulation", True),
        absolute_positions=absolute if config["extra_per_block_abs_pos_emb"] else "none",
        max_positions=sizes,
        max_size=max(sizes),
    )
    return replace(cfg, **changes)


def _network(case: Case, **changes: Any) -> DiT:
    """The case's network with its weights, loaded strictly (buffers that we compute may be missing)."""
    model = DiT(dit_config(case.config, **changes))
    missing, unexpected = model.load_state_dict(state_to_ours(case.state), strict=False)
    wrong = [name for name in missing if not name.startswith(DERIVED)] + unexpected
    if wrong:
        raise KeyError(f"missing or unexpected: {', '.join(wrong)}")
    return model.eval()


# ------------------------------------------------------------------------------------------------------------ Predict1


def _predict1(case: Case) -> list[Comparison]:
    given, config = case.given, case.config
    x, mask, tokens = given["x"], given.get("condition_video_input_mask"), given.get("latent_condition")
    action = given.get("action")
    views = config.get("n_views", 0)
    model = _network(
        case,
        in_channels=x.shape[1],
        condition_mask=mask is not None,
        extra_channels=0 if mask is None else mask.shape[1] - 1,
        action_dim=0 if action is None else action.shape[2],
        action_chunk=0 if action is None else action.shape[1],
        action_adaln_only=True,
        num_views=views,
        view_channels=config["view_condition_dim"] if views else 0,
        frame_repeat=config.get("add_repeat_frame_embedding", False),
        token_vocabulary=0 if tokens is None else config["diffusion_decoder_token_condition_voc_size"],
        token_channels=0 if tokens is None else config["diffusion_decoder_token_condition_dim"],
    )
    fps, timesteps = given.get("fps"), given["timesteps"][:, None]
    out = {
        "y": model(
            x,
            timesteps,
            context=given["crossattn_emb"],
            condition_mask=None if mask is None else mask[:, :1],
            extra=None if mask is None else mask[:, 1:],
            padding_mask=given.get("padding_mask"),
            fps=fps,
            action=None if action is None else action.flatten(1)[:, None],
            frame_repeat=given.get("frame_repeat"),
            tokens=None if tokens is None else tokens[:, 0],
        )
    }
    if "rope" in case.expected:
        out |= _predict1_parts(model, case)
    return compare(case, out)


def _predict1_parts(model: DiT, case: Case) -> Tensors:
    """What the network computes before its blocks, in the reference's shapes."""
    given = case.given
    _, _, t, h, w = given["x"].shape
    grid = case.expected["x_embed"].shape[:3]
    emb, lora = model.time_embedding(given["timesteps"][:, None])
    positions = model.absolute_positions(t, h, w, "cpu")
    assert positions is not None
    frames = torch.arange(grid[0]) / given["fps"][0] * 24 if "fps" in given else torch.arange(grid[0])
    mask = given.get("condition_video_input_mask")
    inputs = given_channels(model.cfg, given["x"], mask, None, given.get("padding_mask"))
    embedded = model.patchify(torch.cat(inputs, dim=1)).unflatten(2, grid[1:])
    places = positions.unflatten(1, grid[1:])[..., None, :]
    return {
        "emb": emb[:, 0],
        "adaln_lora": lora[:, 0],
        "rope": model.pos_embedder.angles(frames, *grid[1:])[:, None, None],
        "x_embed": embedded.permute(1, 2, 3, 0, 4),
        "extra_pos": places.expand(case.expected["extra_pos"].shape),
    }


# ------------------------------------------------------------------------------------------------- Predict2, Predict2.5


def actions_per_latent_frame(action: Tensor, per_latent: int) -> Tensor:
    """[B, k * per_latent, A] -> [B, k, per_latent * A], for the latent frames after the first."""
    return action.unflatten(1, (-1, per_latent)).flatten(2)


def _predict2(case: Case, **changes: Any) -> list[Comparison]:
    given = case.given
    x = given["x_B_C_T_H_W"]
    model = _network(case, camera_channels=given["camera"].shape[-1] if "camera" in given else 0, **changes)
    cfg, action, camera, views = model.cfg, given.get("action"), given.get("camera"), given.get("view_indices_B_T")
    # A text has 512 tokens where there is one per view; the reference counts them so.
    context = model.text_keys(given["crossattn_emb"], 1 if views is None else given["crossattn_emb"].shape[1] // 512)
    out = {}
    if camera is not None:
        h, w = x.shape[3:]
        pixels = round((camera.shape[-1] / 6) ** 0.5)  # of the video, per token and axis
        size = h // cfg.patch * pixels, w // cfg.patch * pixels
        rays = plucker_rays(given["intrinsics_fxfycxcy"], given["extrinsics_w2c"], size, "moment-direction")
        out["plucker_tokens"] = ray_tokens(rays, pixels).view(camera.shape)
        camera = camera.flatten(2, 3)
    if action is not None:
        chunk = cfg.action_chunk
        action = action.flatten(1)[:, None] if chunk else actions_per_latent_frame(action, cfg.actions_per_latent)
    out["y"] = model(
        x,
        given["timesteps_B_T"],
        context=context,
        condition_mask=given["condition_video_input_mask_B_C_T_H_W"],
        padding_mask=given.get("padding_mask"),
        fps=given.get("fps"),
        action=action,
        camera=camera,
        views=None if views is None else views[:, :: case.config["state_t"]],
    )
    return compare(case, out)


def _whole_chunk(case: Case) -> list[Comparison]:
    return _predict2(case, action_chunk=case.given["action"].shape[1])


def _views(case: Case) -> list[Comparison]:
    config = case.config
    ids, seen = config.get("camera_to_view_id", {}), config.get("cross_view_attn_map_str", {})
    names = {view: name for name, view in ids.items()}
    number, apart = config["n_cameras_emb"], case.cls == "MultiViewCrossDiT"
    table = tuple(tuple(ids[other] for other in seen.get(names.get(view), ())) for view in range(number))
    return _predict2(
        case,
        num_views=number,
        view_channels=config["view_condition_dim"] if config["concat_view_embedding"] else 0,
        views_apart=apart,
        view_adaln=config.get("adaln_view_embedding", False),
        view_neighbours=table if config.get("enable_cross_view_attn") else (),
    )


def _causal(case: Case) -> list[Comparison]:
    """Frame by frame with a cache, against the reference and against the whole clip under a block-causal mask."""
    given = case.given
    model = _network(case)
    cfg, x, mask = model.cfg, given["x"], given["mask"]
    action = actions_per_latent_frame(given["action"], cfg.actions_per_latent)
    b, _, t, h, w = x.shape
    tokens = h * w // cfg.patch**2
    fixed = {"context": model.text_keys(given["crossattn_emb"]), "padding_mask": given.get("padding_mask")}

    def rollout(window: int) -> Tensor:
        cache = KVCache.empty(
            layers=cfg.num_blocks, batch=b, heads=cfg.num_heads, window=window, head_dim=cfg.head_dim, tokens=tokens
        )
        frames = []
        for i in range(t):
            cache = cache.extended()
            time = given["timesteps"][i].expand(b, 1)
            told = {"condition_mask": mask[:, :, i : i + 1], "action": action[:, i - 1 : i] if i else None}
            frames.append(model(x[:, :, i : i + 1], time, cache=cache, **told, **fixed))
        return torch.cat(frames, dim=2)

    def whole(window: int) -> Tensor:
        time = given["timesteps"].expand(b, t)
        seen = block_causal_mask(t, tokens, window)
        return model(x, time, condition_mask=mask, action=action, attention_mask=seen, **fixed)

    # The reference moves its window after use: a cache of n frames lets a frame see n + 1 earlier ones.
    windows = {name: int(n) + 1 for name in case.expected for n in re.findall(r"^y_window(\d+)$", name)}
    windows["y_full_cache"] = t
    out = {name: rollout(window) for name, window in windows.items()}
    streamed = [same(f"{name} = whole clip", out[name], whole(window)) for name, window in windows.items()]
    return compare(case, out) + streamed


RUNNERS: dict[str, Runner] = {
    "GeneralDIT": _predict1,
    "VideoExtendGeneralDIT": _predict1,
    "MultiviewGeneralDIT": _predict1,
    "MultiviewVideoExtendGeneralDIT": _predict1,
    "DiffusionDecoderGeneralDIT": _predict1,
    "ActionConditionalVideoExtendGeneralDIT": _predict1,
    "MinimalV1LVGDiT": _predict2,
    "ActionConditionedMinimalV1LVGDiT": _whole_chunk,
    "ActionChunkConditionedMinimalV1LVGDiT": _predict2,
    "CameraMiniTrainDITwithConditionalMask": _predict2,
    "MultiViewDiT": _views,
    "MultiViewCrossDiT": _views,
    "ActionChunkCausalDITwithConditionalMask.forward_seq": _causal,
}
