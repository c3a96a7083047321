"""Runs over files and folders: what is read, resumed, counted, summed up and submitted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from wfm_sim.camera import Intrinsics
from wfm_sim.cli import main
from wfm_sim.data.video import write_video
from wfm_sim.errors import UserError
from wfm_sim.evals.consistency import ConsistencySettings, corruptions, run, validation
from wfm_sim.evals.consistency.clips import NamedClip, ReadOptions, open_clips
from wfm_sim.evals.consistency.run import evaluate, failed
from wfm_sim.evals.consistency.sampson import CAP
from wfm_sim.evals.consistency.summary import METRICS, estimates
from wfm_sim.evals.leaderboard_sources import read_folder


def write_images(folder: Path, frames: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{i + 1}.png"), frame[..., ::-1])
    return folder


@dataclass
class Clips:
    """A source that is not files, and counts how often a clip is made."""

    clips: list[NamedClip]
    portable: bool = False
    loads: int = 0

    @property
    def names(self) -> Sequence[str]:
        return [c.name for c in self.clips]

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"source": "test"}

    def load(self, index: int) -> NamedClip:
        self.loads += 1
        if self.clips[index].name == "broken":
            raise UserError("the model would not start")
        return self.clips[index]


def test_files_become_clips(tmp_path: Path, clean: NamedClip) -> None:
    frames = np.concatenate([clean.frames, clean.frames[:5]])  # 12: names 1.png to 12.png
    one = open_clips(write_images(tmp_path / "one", frames))
    assert (one.names, len(one.load(0).frames)) == (["one"], 12)
    assert np.array_equal(one.load(0).frames, frames)  # 2.png comes before 10.png
    some = open_clips(tmp_path / "one", ReadOptions(every=2, frames=3, fov=50)).load(0)
    assert np.array_equal(some.frames, frames[[0, 4, 10]])
    assert some.intrinsics == clean.intrinsics
    write_images(tmp_path / "many/b", frames[:3])
    write_video(tmp_path / "many/a.mp4", frames, 10)
    write_video(tmp_path / "many/deep/c.mp4", frames, 10)
    many = open_clips(tmp_path / "many", ReadOptions(frames=4))
    assert list(many.names) == ["a", "b", "deep/c"]
    video = many.load(0)
    assert len(video.frames) == 4
    assert np.abs(video.frames[-1].astype(int) - frames[-1]).mean() < 6
    assert open_clips(tmp_path / "many/a.mp4").names == ["a"]


def test_masks_belong_to_frames(tmp_path: Path, clean: NamedClip, moving_mask: np.ndarray) -> None:
    moving_mask[2, 10:20, 30:40] = True
    write_images(tmp_path / "clip", clean.frames)
    masks = write_images(tmp_path / "masks", np.repeat(moving_mask[..., None] * np.uint8(7), 3, axis=-1))
    found = open_clips(tmp_path / "clip", ReadOptions(masks=masks)).load(0).masks
    assert np.array_equal(found, moving_mask)
    write_video(tmp_path / "clip.mp4", clean.frames, 10)
    found = open_clips(tmp_path / "clip.mp4", ReadOptions(frames=3, masks=masks)).load(0).masks
    assert np.array_equal(found, moving_mask[[0, 3, 6]])
    (masks / "3.png").unlink()
    for path in ("clip", "clip.mp4"):
        with pytest.raises(UserError, match=r"no mask for frame 3|6 masks for a clip of 7 frames"):
            open_clips(tmp_path / path, ReadOptions(masks=masks)).load(0)


def test_a_data_set_with_cameras_brings_poses(tmp_path: Path, clean: NamedClip) -> None:
    k = clean.intrinsics
    assert k is not None and clean.commanded is not None
    names = [f"images/{i + 1}.png" for i in range(len(clean.frames))]
    write_images(tmp_path / "set/room/images", clean.frames)
    flip = np.diag([1, -1, -1, 1])
    shots = [{"file_path": n, "transform_matrix": (p @ flip).tolist()}
             for n, p in zip(names, clean.commanded, strict=True)]  # fmt: skip
    camera = {
        "fl_x": k.fx,
        "fl_y": k.fy,
        "cx": k.cx,
        "cy": k.cy,
        "w": k.width,
        "h": k.height,
        "camera_model": "PINHOLE",
    }
    (tmp_path / "set/room/transforms.json").write_text(json.dumps({**camera, "frames": shots}))
    source = open_clips(tmp_path / "set", ReadOptions(frames=4))
    clip = source.load(0)
    assert list(source.names) == ["room"]
    assert np.allclose(clip.commanded, clean.commanded[[0, 2, 4, 6]])
    assert clip.intrinsics is not None and clip.intrinsics.fx == pytest.approx(k.fx)
    with pytest.raises(UserError, match="says its cameras itself"):
        open_clips(tmp_path / "set", ReadOptions(fov=50))


def test_bad_input_is_one_sentence(tmp_path: Path, clean: NamedClip, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    write_images(tmp_path / "single", clean.frames[:1])
    write_images(tmp_path / "good", clean.frames)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "sizes").mkdir()
    cv2.imwrite(str(tmp_path / "sizes/1.png"), clean.frames[0])
    cv2.imwrite(str(tmp_path / "sizes/2.png"), clean.frames[0][:50])
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    good = str(tmp_path / "good")
    for arguments, said in (
        ([str(tmp_path / "absent")], "no such file or folder"),
        ([str(tmp_path / "empty")], "holds no images and no videos"),
        ([str(tmp_path / "single")], "holds one image"),
        ([str(tmp_path / "single/1.png")], "is one image"),
        ([str(tmp_path / "notes.txt")], "expected a video"),
        ([good, "--intrinsics", "1,2,3"], "expected fx,fy,cx,cy"),
        ([good, "--fov", "200"], "expected 1 to 170"),
        ([good, "--fov", "50", "--intrinsics", "1,1,1,1"], "one of them is enough"),
        ([good, "--masks", str(tmp_path / "absent")], "no such folder of masks"),
        ([good, "--floor", str(tmp_path / "absent")], "no such file or folder"),
        ([good, "--strides", "0"], "whole numbers from 1"),
        ([good, "--frames", "1"], "frames 2 or more"),
        ([good, "--intrinsics", "900,900,960,540"], "principal point"),
        ([str(tmp_path / "sizes")], "expected frames of one size"),
        ([str(tmp_path / "bad.mp4")], "not a readable video"),
        ([], "name a video or a folder"),
        ([good, "--validate"], "makes its own clips"),
    ):
        assert main(["eval", "consistency", *arguments, "--out", str(tmp_path / "out")]) == 2, arguments
        error = capsys.readouterr().err
        assert said in error and error.startswith("error: ") and error.count("\n") == 1, (arguments, error)


def test_a_run_counts_failures_resumes_and_joins_the_leaderboard(
    tmp_path: Path, clean: NamedClip, other: NamedClip, quick: ConsistencySettings
) -> None:
    still = replace(clean, name="still", frames=corruptions.frozen(clean.frames))
    free = replace(still, name="free", commanded=None)
    source = Clips([clean, still, free, replace(other, name="broken")])
    floor = Clips([replace(clean, name="truth")])
    seen: list[tuple[int, int]] = []
    summary = evaluate(source, tmp_path / "run", quick, floor=floor, name="a model", progress=lambda *a: seen.append(a))
    assert (seen[0], seen[-1]) == ((0, 5), (5, 5))
    assert source.loads == 4
    clips = summary["clips"]
    assert {k: clips[k] for k in ("all", "counted", "succeeded", "not_applicable", "failed")} == {
        "all": 4, "counted": 3, "succeeded": 1, "not_applicable": 2, "failed": 1,
    }  # fmt: skip
    assert "failed: the model would not start" in clips["reasons"]
    success = summary["metrics"]["pose_success"]
    assert (success["value"], success["n"]) == (pytest.approx(1 / 3), 3)
    assert summary["floor"]["metrics"]["pose_success"]["value"] == 1
    # what stood still though told to move is not rewarded for its perfect error
    assert summary["metrics"]["sampson_capped"]["value"] > CAP / 3
    assert summary["metrics"]["fvd"]["unscored"]
    assert (tmp_path / "run/reconstructions/clean.npz").is_file()
    assert "pose success, strict" in (tmp_path / "run/table.md").read_text()

    # the same command again does nothing; one record fewer, and that clip alone is scored; half a line is no harm
    path = tmp_path / "run/records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:20])
    again = evaluate(source, tmp_path / "run", quick, floor=floor, name="a model")
    assert again == summary
    assert source.loads == 5
    with pytest.raises(UserError, match="was made with"):
        evaluate(source, tmp_path / "run", replace(quick, seed=1))

    found = read_folder(tmp_path / "run")
    assert found is not None
    assert found.submission.kind == "consistency"
    metrics = {m.name: m for m in found.submission.metrics}
    assert set(metrics) == set(METRICS)
    assert metrics["score"].estimate.value == pytest.approx(1 / 3)
    assert metrics["rotation_error_mean"].baselines["true video (floor)"].value is not None
    assert metrics["lpips"].estimate.unscored == "view synthesis was not asked for"


def test_workers_give_the_same_records(tmp_path: Path, clean: NamedClip, quick: ConsistencySettings) -> None:
    for name in ("a", "b"):
        write_video(tmp_path / f"clips/{name}.mp4", corruptions.noise(corruptions.frozen(clean.frames), 3), 10)
    (tmp_path / "clips/c.mp4").write_bytes(b"not a video")
    one = evaluate(tmp_path / "clips", tmp_path / "one", quick)
    two = evaluate(tmp_path / "clips", tmp_path / "two", quick, workers=2)
    for summary in (one, two):
        del summary["cpu_seconds"]
    assert one == two
    assert one["clips"]["failed"] == 1
    assert one["clips"]["not_applicable"] == 2


def test_frames_made_in_this_process_reach_the_workers(clean: NamedClip) -> None:
    source = Clips([clean, replace(clean, name="broken")])
    jobs = list(run._Loaded(source, [0, 1]))
    assert jobs[0] is clean
    assert jobs[1] == failed("broken", "the model would not start")


def test_names_must_differ_and_there_must_be_clips(tmp_path: Path, clean: NamedClip) -> None:
    with pytest.raises(UserError, match="two clips are called 'clean'"):
        evaluate(Clips([clean, clean]), tmp_path)
    with pytest.raises(UserError, match="no clips"):
        evaluate(Clips([]), tmp_path)


def test_backends_are_never_mixed() -> None:
    base = {"counted": True, "applicable": True, "status": "scored", "pose_success": True, "pose_success_loose": True}
    base |= {"score": 1.0, "coverage": 0.5, "frames": 8, "registered": 8, "sampson_capped": 0.1, "psnr": 30.0}
    records = [{**base, "synthesis_backend": b} for b in ("numba", "gsplat")]
    assert estimates(records[:1], True, ["numba"])["psnr"].value == 30
    assert estimates(records[:1], True, ["numba"])["psnr_covered"].value == 15
    assert "never mixed" in estimates(records, True, ["gsplat", "numba"])["psnr"].unscored


def test_the_validation_sees_what_breaks(
    tmp_path: Path, clean: NamedClip, other: NamedClip, panned: NamedClip, quick: ConsistencySettings
) -> None:
    """Broken evals would break promises: with the pan's record in the clean clip's place, four of them."""
    scene = validation.Scene(clean, other, panned)
    source = validation.Corrupted(scene)
    assert [source.load(i).name for i in range(len(validation.NAMES))] == list(validation.NAMES)
    k: Intrinsics | None = source.load(1).intrinsics
    assert k == clean.intrinsics
    records = []
    for name in ("clean", "swap", "frozen", "pan"):
        clip = source.load(validation.NAMES.index(name))
        records.append(run.Scorer(None, quick, tmp_path, set())(clip))
    sheets = [{**records[0], "clip": n, "sampson_median": 1.0 + i, "sampson_capped": 1.0 + i, "reprojection": 1.0 + i}
              for i, n in enumerate(validation.SHEETS[1:])]  # fmt: skip
    promises = validation.check([*records, *sheets])
    broken = [p.name for p in promises if not p.holds]
    # the tiny frames' own floors: in pixels of the canvas and of the path they are not those of 320 x 240
    assert [b for b in broken if "sampson_median <" not in b and "ate <" not in b] == []
    wrong = [{**records[0], "clip": r["clip"]} for r in records[1:]]
    assert sum(not p.holds for p in validation.check([records[0], *wrong, *sheets])) == len(broken) + 3
    assert validation.format_table([*records, *sheets]).count("\n") == 2 + len(records) + len(sheets) + 1
