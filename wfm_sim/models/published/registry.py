"""Every published network by name: its configuration, its files, what it takes and needs, and where it is described.

The nano models that ship with the package are in presets.py; `wfm-sim models` lists both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from wfm_sim.errors import unknown
from wfm_sim.models.published import presets_autoregressive as ar
from wfm_sim.models.published import presets_dit as dit
from wfm_sim.models.published.families import family
from wfm_sim.models.published.network_files import parameter_count
from wfm_sim.models.published.presets_tokenizer import TOKENIZERS
from wfm_sim.models.wan_vae import WanConfig

NVIDIA = "NVIDIA Open Model License"
_720P1 = (16, 88, 160)  # latent frames, rows, columns of 121 frames of 704 x 1280 (CV8x8x8)
_720P2 = (24, 88, 160)  # of 93 frames (WAN 2.1)
_AR = (5, 40, 64)  # of 33 frames of 640 x 1024 (DV8x16x16)
_BF16 = 2  # bytes
# Numbers alive at once per token and channel in a transformer's pass: the stream, its norm, q, k, v, two hidden
# layers of the MLP (4 each); and in a tokenizer's finest level.
_ALIVE = 12
_ALIVE_TOKENIZER = 4


@dataclass(frozen=True)
class Preset:
    """A published network.

    Attributes:
        family: Key of `families.FAMILIES`.
        config: Makes its configuration.
        repository: On the Hugging Face hub; "" where no weights were published.
        files: In it, that together hold the network.
        other_names: Of one file that can stand for `files` (renamed, another revision, diffusers' layout).
        inputs: What it is conditioned on.
        text: Which encoder its text is from: "t5", "reason1", or "" (see text.py).
        size: Latent frames, rows and columns it was made for; of a tokenizer, pixels.
        paper: The table (or section) of its paper with its sizes or results.
        parity: The reference cases that cover its class.
        licence: Of the weights.
    """

    family: str
    config: Callable[[], Any]
    repository: str
    files: tuple[str, ...]
    inputs: str
    size: tuple[int, int, int]
    paper: str
    parity: tuple[str, ...]
    text: str = ""
    other_names: tuple[str, ...] = ()
    licence: str = NVIDIA

    @cached_property
    def parameters(self) -> int:
        """Counted on the meta device."""
        return parameter_count(lambda: family(self.family).build(self.config()))

    @property
    def memory(self) -> int:
        """Bytes of GPU memory for one pass in bfloat16, estimated: weights, activations and KV cache.

        Text encoder and tokenizer come on top (T5-11B 9.5 GB for its encoder, Reason1 16.6 GB), unless embeddings are
        computed beforehand.
        """
        cfg, (t, h, w) = self.config(), self.size
        if self.family == "dit":
            working = t * h * w // cfg.patch_volume * cfg.model_channels * _ALIVE
        elif self.family == "autoregressive":
            cache = 2 * cfg.layers * cfg.kv_heads * cfg.head_dim * cfg.max_len
            working = cache + cfg.max_len * cfg.dim * _ALIVE
        elif self.family == "wan":  # works through a clip in pieces of one latent frame
            working = cfg.temporal_compression * h * w * cfg.dim * _ALIVE_TOKENIZER
        else:
            patches = t * h * w // cfg.patch_size ** (2 if cfg.is_image else 3)
            working = patches * cfg.channels * cfg.channels_mult[0] * _ALIVE_TOKENIZER
        return int(_BF16 * (self.parameters + working))


def _predict1(name: str, config: Callable[[], Any], inputs: str, **more: Any) -> Preset:
    fields = {"size": _720P1, "text": "t5", "paper": "2501.03575 tables 19 and 20", **more}
    return Preset("dit", config, f"nvidia/Cosmos-Predict1-{name}", ("model.pt",), inputs, **fields)


def _autoregressive(name: str, config: Callable[[], Any], inputs: str, **more: Any) -> Preset:
    fields = {"size": _AR, "paper": "2501.03575 tables 18 to 20", **more}
    return Preset("autoregressive", config, f"nvidia/{name}", ("model.pt",), inputs, **fields)


def _predict2(name: str, config: Callable[[], Any], inputs: str, *files: str, **more: Any) -> Preset:
    first, *others = files
    diffusers = tuple(f"transformer/diffusion_pytorch_model.safetensors{end}" for end in ("", ".index.json"))
    fields = {"size": _720P2, "text": "t5", "paper": "cosmos-predict2 model cards", **more}
    repository = f"nvidia/Cosmos-Predict2-{name}"
    return Preset("dit", config, repository, (first,), inputs, other_names=(*others, *diffusers), **fields)


def _predict25(scale: str, folder: str, uuid: str, config: Callable[[], Any], inputs: str, **more: Any) -> Preset:
    fields = {"size": _720P2, "text": "reason1", "paper": "2511.00062 table 3", **more}
    return Preset(
        "dit",
        config,
        f"nvidia/Cosmos-Predict2.5-{scale}",
        (f"{folder}/{uuid}_ema_bf16.pt",),
        inputs,
        other_names=(f"{folder}/{uuid}/model_ema_bf16.pt",),
        **fields,
    )


def _tokenizer(name: str, inputs: str, case: str) -> Preset:
    image, size = name[1] == "i", (121, 704, 1280) if name.endswith("720p") else (49, 360, 640)
    return Preset(
        "tokenizer",
        TOKENIZERS[name],
        f"nvidia/Cosmos-Tokenize1-{name.split('-')[0].upper().replace('X', 'x')}-{name.split('-')[1]}",
        ("encoder.jit", "decoder.jit"),
        inputs,
        (1, *size[1:]) if image else size,
        "2501.03575 section 4",
        (case,),
        other_names=("autoencoder.jit", "model.pt"),
    )


_VIDEO_FILES = tuple(f"model-{size}-{fps}.pt" for size in ("720p", "480p") for fps in ("16fps", "10fps"))
_TEXT, _FRAMES = "text", "text, first frames"
_AUTO = "text per view, first frames per view"

_MULTIVIEW = {"size": (6 * 8, 60, 106), "paper": "2501.03575 tables 24 and 25"}
_V2W, _P2, _P25 = ("p1_dit_v2w",), ("p2_dit_v2w", "p2_dit_v2w_pertime"), ("p25_dit_v2w",)
_BRIDGE = (4, 32, 40)  # 13 frames of 256 x 320
_EXPERIMENTAL = "nvidia/Cosmos-Experimental"

PRESETS: dict[str, Preset] = {
    "predict1-7b-text2world": _predict1("7B-Text2World", dit.predict1_7b, _TEXT, parity=("p1_dit_t2w",)),
    "predict1-14b-text2world": _predict1("14B-Text2World", dit.predict1_14b, _TEXT, parity=("p1_dit_t2w_14b_ratios",)),
    "predict1-7b-video2world": _predict1("7B-Video2World", dit.predict1_7b_video, _FRAMES, parity=_V2W),
    "predict1-14b-video2world": _predict1(
        "14B-Video2World", dit.predict1_14b_video, _FRAMES, parity=(*_V2W, "p1_dit_t2w_14b_ratios")
    ),
    "predict1-7b-text2world-sample-av-multiview": _predict1(
        "7B-Text2World-Sample-AV-Multiview",
        dit.predict1_7b_multiview,
        "text per view",
        parity=("p1_dit_multiview_t2w",),
        **_MULTIVIEW,
    ),
    "predict1-7b-video2world-sample-av-multiview": _predict1(
        "7B-Video2World-Sample-AV-Multiview",
        dit.predict1_7b_multiview_video,
        _AUTO,
        parity=("p1_dit_multiview_v2w",),
        **_MULTIVIEW,
    ),
    "predict1-7b-decoder-dv8x16x16-to-cv8x8x8": _predict1(
        "7B-Decoder-DV8x16x16ToCV8x8x8-720p",
        dit.predict1_7b_decoder,
        "video tokens",
        size=(8, 80, 128),
        paper="2501.03575 section 5.2",
        parity=("p1_dit_diffusion_decoder",),
    ),
    "predict1-7b-action": replace(
        _predict1(
            "7B-Video2World_action_post-trained",
            dit.predict1_7b_action,
            "one action, one frame",
            text="",
            size=(2, 32, 40),
            paper="2501.03575 table 23",
            parity=("p1_dit_action",),
        ),
        repository="",
    ),
    "predict1-7b-camera": replace(
        _predict1(
            "7B-Video2World-Sample-Camera",
            dit.predict1_7b_camera,
            "text, first frame, camera path",
            size=(8, 88, 160),
            paper="2501.03575 table 22",
            parity=("p1_dit_v2w_camera_plucker",),
        ),
        repository="",
    ),
    "predict1-4b": _autoregressive("Cosmos-Predict1-4B", ar.predict1_4b, "first frames", parity=("p1_ar_base",)),
    "predict1-5b-video2world": _autoregressive(
        "Cosmos-Predict1-5B-Video2World",
        ar.predict1_5b_video2world,
        _FRAMES,
        text="t5",
        parity=("p1_ar_video2world",),
    ),
    "predict1-12b": _autoregressive(
        "Cosmos-Predict1-12B", ar.predict1_12b, "first frames", parity=("p1_ar_headdim", "p1_ar_yarn")
    ),
    "predict1-13b-video2world": _autoregressive(
        "Cosmos-Predict1-13B-Video2World",
        ar.predict1_13b_video2world,
        _FRAMES,
        text="t5",
        parity=("p1_ar_video2world", "p1_ar_yarn"),
    ),
    "prompt-upsampler-12b": _autoregressive(
        "Cosmos-UpsamplePrompt1-12B-Text2World",
        ar.prompt_upsampler_12b,
        "a short prompt",
        size=(1, 1, 1024),
        paper="2501.03575 section 5.1",
        parity=("p1_ar_rope1d",),
    ),
    "predict2-2b-video2world": _predict2("2B-Video2World", dit.predict2_2b, _FRAMES, *_VIDEO_FILES, parity=_P2),
    "predict2-14b-video2world": _predict2("14B-Video2World", dit.predict2_14b, _FRAMES, *_VIDEO_FILES, parity=_P2),
    **{
        f"predict2-{size.lower()}-text2image": _predict2(
            f"{size}-Text2Image",
            partial(dit.predict2_image, size.lower()),
            _TEXT,
            "model.pt",
            size=(1, 96, 128),
            parity=_P2,
        )
        for size in ("0.6B", "2B", "14B")
    },
    "predict2-2b-action": _predict2(
        "2B-Sample-Action-Conditioned",
        dit.predict2_2b_action,
        "12 actions, first frame",
        "model-480p-4fps.pt",
        size=(4, 60, 80),
        text="",
        parity=("p25_dit_action_whole_chunk",),
    ),
    **{
        f"predict2-14b-sample-gr00t-dreams-{robot.lower()}": _predict2(
            f"14B-Sample-GR00T-Dreams-{robot}",
            dit.predict2_14b,
            _FRAMES,
            "model-480p-16fps.pt",
            "model-720p-16fps.pt",
            size=(24, 54, 96),
            paper="2505.12705",
            parity=_P2,
        )
        for robot in ("GR1", "DROID")
    },
    "predict2.5-2b": _predict25(
        "2B", "base/post-trained", "81edfebe-bd6a-4039-8c1d-737df1a790bf", dit.predict25_2b, _FRAMES, parity=_P25
    ),
    "predict2.5-2b-pre-trained": _predict25(
        "2B", "base/pre-trained", "d20b7120-df3e-4911-919d-db6e08bad31c", dit.predict25_2b, _FRAMES, parity=_P25
    ),
    "predict2.5-2b-distilled": _predict25(
        "2B",
        "base/distilled",
        "575edf0f-d973-4c74-b52c-69929a08d0a5",
        dit.predict25_2b_distilled,
        _FRAMES,
        paper="2511.00062 tables 7 and 8",
        parity=_P25,
    ),
    "predict2.5-14b": _predict25(
        "14B",
        "base/post-trained",
        "e21d2a49-4747-44c8-ba44-9f6f9243715f",
        dit.predict25_14b,
        _FRAMES,
        parity=("p25_dit_v2w", "p25_dit_14b_ratios"),
    ),
    "predict2.5-14b-pre-trained": _predict25(
        "14B",
        "base/pre-trained",
        "54937b8c-29de-4f04-862c-e67b04ec41e8",
        dit.predict25_14b,
        _FRAMES,
        parity=("p25_dit_v2w", "p25_dit_14b_ratios"),
    ),
    "predict2.5-2b-action": _predict25(
        "2B",
        "robot/action-cond",
        "38c6c645-7d41-4560-8eeb-6f4ddc0e6574",
        dit.predict25_2b_action,
        "12 actions, first frame",
        size=_BRIDGE,
        paper="2511.00062 table 19",
        parity=("p25_dit_action_chunk", "p25_dit_action_chunk_2cond"),
    ),
    "predict2.5-2b-action-interactive": Preset(
        "dit",
        dit.predict25_2b_interactive,
        _EXPERIMENTAL,
        ("7bbc8d06-2bc9-448d-94ee-b48b4ab7189c/model_ema_bf16.pt",),
        "4 actions per latent frame, first frame; frame by frame",
        _BRIDGE,
        "cosmos-predict2.5 release 1.5",
        ("p25_dit_action_causal_kv",),
        "reason1",
        other_names=("bedc35da-1a54-4144-83db-6072c29b0fd9/model_ema_bf16.pt",),
    ),
    **{
        f"predict2.5-2b-action-interactive-{robot}": Preset(
            "dit",
            partial(dit.predict25_2b_interactive, width),
            "",
            ("model_ema_bf16.pt",),
            f"4 actions of {width} numbers per latent frame, first frame; frame by frame",
            _BRIDGE,
            "cosmos-predict2.5 release 1.5",
            ("p25_dit_action_causal_kv",),
            "reason1",
        )
        for robot, width in (("gr1", 29), ("g1", 43))
    },
    "predict2.5-2b-camera": _predict25(
        "2B",
        "robot/multiview-agibot",
        "f740321e-2cd6-4370-bbfe-545f4eca2065",
        dit.predict25_2b_camera,
        "text, video of one camera, paths of the cameras",
        size=(2 * 24, 54, 96),
        paper="2511.00062 table 17",
        parity=("p25_dit_camera",),
    ),
    "predict2.5-2b-multiview": _predict25(
        "2B",
        "auto/multiview",
        "524af350-2e43-496c-8590-3646ae1325da",
        dit.predict25_2b_multiview,
        _AUTO,
        size=(7 * 8, 88, 160),
        paper="2511.00062",
        parity=("p25_dit_multiview",),
    ),
    "predict2.5-2b-multiview-cross": Preset(
        "dit",
        dit.predict25_2b_multiview_cross,
        "",
        ("model_ema_bf16.pt",),
        _AUTO,
        (7 * 8, 88, 160),
        "cosmos-predict2.5 release 1.5",
        ("p25_dit_multiview_cross",),
        "reason1",
    ),
    "cosmos-tokenize1-cv8x8x8-720p": _tokenizer("cv8x8x8-720p", "video", "p1_tok_cv8x8x8"),
    "cosmos-tokenize1-cv4x8x8-360p": _tokenizer("cv4x8x8-360p", "video", "p1_tok_cv4x8x8"),
    "cosmos-tokenize1-dv8x16x16-720p": _tokenizer("dv8x16x16-720p", "video", "p1_tok_dv8x16x16"),
    "cosmos-tokenize1-dv4x8x8-360p": _tokenizer("dv4x8x8-360p", "video", "p1_tok_dv4x8x8"),
    "cosmos-tokenize1-ci8x8-360p": _tokenizer("ci8x8-360p", "images", "p1_tok_ci8x8"),
    "cosmos-tokenize1-ci16x16-360p": _tokenizer("ci16x16-360p", "images", "p1_tok_ci8x8"),
    "cosmos-tokenize1-di8x8-360p": _tokenizer("di8x8-360p", "images", "p1_tok_di16x16"),
    "cosmos-tokenize1-di16x16-360p": _tokenizer("di16x16-360p", "images", "p1_tok_di16x16"),
    "wan2.1-vae": Preset(
        "wan",
        WanConfig,
        "nvidia/Cosmos-Predict2.5-2B",
        ("tokenizer.pth",),
        "video",
        (93, 704, 1280),
        "2503.20314",
        ("p25_wan_vae",),
        other_names=("tokenizer/tokenizer.pth", "vae/diffusion_pytorch_model.safetensors"),
        licence="Apache-2.0",
    ),
}


def preset(name: str) -> Preset:
    """By name. UserError, with the nearest one, where there is none."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
