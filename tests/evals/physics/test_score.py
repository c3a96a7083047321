"""Entrants, scoring and its folder, on drawn videos."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.evals.physics.conftest import H, W
from wfm_sim.cli import main
from wfm_sim.data.files import read_json
from wfm_sim.data.physics import PhysicsData
from wfm_sim.data.video import read_video, write_video
from wfm_sim.errors import UserError
from wfm_sim.evals.physics.entrants import Query, load_entrant, of_predictor
from wfm_sim.evals.physics.floor import measure
from wfm_sim.evals.physics.predictors import FlowExtrapolation, FromFunction, Predictor, RepeatLast, predict
from wfm_sim.evals.physics.score import ScoreSettings, Selection, score
from wfm_sim.evals.physics.trackers import load_tracker

SETTINGS = ScoreSettings(context=4, frames=10, seeds=2)


def noisy(context: np.ndarray, frames: int, seed: int) -> np.ndarray:
    """Repeats the last frame under noise that follows from the seed."""
    noise = np.random.default_rng(seed).normal(0, 8, (len(context), frames, *context.shape[2:]))
    return np.clip(context[:, -1:] + noise, 0, 255).astype(np.uint8)


def value(summary: dict, metric: str, scene: str | None = None) -> float:  # type: ignore[type-arg]
    return float((summary["scenes"][scene] if scene else summary["all"])[metric]["value"])


def test_the_truth_is_the_floor_and_the_order_is_right(drawn: PhysicsData, faster: PhysicsData, tmp_path: Path) -> None:
    runs = {
        name: score(
            name, drawn, tmp_path / name.replace(":", "_").replace("/", "_"), SETTINGS, cache=tmp_path / "cache"
        )
        for name in ("truth", f"data:{faster.root}", "flow", "repeat-last")
    }
    truth, rerun, flow, repeat = runs.values()
    assert value(truth, "psnr") == 100 and value(truth, "ssim") == 1
    assert value(truth, "iou") == value(truth, "floor") > 0.9
    assert value(rerun, "floor") == value(truth, "floor")
    assert value(truth, "iou") > value(rerun, "iou") > value(flow, "iou") > value(repeat, "iou")
    assert value(rerun, "psnr") > value(repeat, "psnr")
    assert rerun["entrant"] == "hasty rerun" and truth["seeds"] == 1  # nothing random in any of these
    assert "absent" in truth["all"]["dreamsim"]["unscored"] or "weights" in truth["all"]["dreamsim"]["unscored"]


def test_records_and_tables_say_what_was_done(drawn: PhysicsData, tmp_path: Path) -> None:
    out = tmp_path / "noisy"
    summary = score(of_predictor(FromFunction(noisy, "noisy")), drawn, out, SETTINGS)
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert len(records) == 2 * 2 * 2 * 2  # scenes, episodes, views, seeds
    assert {r["seed"] for r in records} == {0, 1}
    same = [r["psnr"] for r in records if (r["scene"], r["episode"], r["view"]) == ("fall", 0, 0)]
    assert same[0] != same[1]
    for record in records:
        assert len(record["psnr_by_frame"]) == len(record["iou_by_frame"]) == 6
        assert record["psnr"] == pytest.approx(np.mean(record["psnr_by_frame"]), abs=1e-3)
    fall = [np.mean([r["iou"] for r in records if (r["scene"], r["episode"]) == ("fall", i)]) for i in range(2)]
    assert value(summary, "iou", "fall") == pytest.approx(np.mean(fall))
    assert value(summary, "iou") == pytest.approx(np.mean([value(summary, "iou", s) for s in ("fall", "cross")]))
    table = (out / "table.md").read_text()
    for word in ("noisy", "4 frames", "Avg. IoU", "drawn 1", "colour tracker", "2 prediction(s)", "unscored", "cross"):
        assert word in table, word


def test_it_resumes_where_it_was_killed(drawn: PhysicsData, tmp_path: Path) -> None:
    calls: list[int] = []

    def counting(context: np.ndarray, frames: int, seed: int) -> np.ndarray:
        calls.append(seed)
        return noisy(context, frames, seed)

    entrant = of_predictor(FromFunction(counting, "counting"))
    whole = score(entrant, drawn, tmp_path / "a", SETTINGS)
    assert len(calls) == 8
    lines = (tmp_path / "a/records.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "a/records.jsonl").write_text("".join(lines[:5]) + lines[5][:40])
    again = score(entrant, drawn, tmp_path / "a", SETTINGS)
    assert len(calls) == 8 + 6  # two whole episodes were there, and half of a third
    assert again == whole
    with pytest.raises(UserError, match="was made with context 4, not with context 1"):
        score(entrant, drawn, tmp_path / "a", ScoreSettings(context=1, frames=10))
    more = score(entrant, drawn, tmp_path / "a", ScoreSettings(context=4, frames=10, seeds=3))
    assert more["videos"] == 24 and len(calls) == 14 + 4
    few = score(entrant, drawn, tmp_path / "a", SETTINGS, Selection(("fall",), episodes=1, views=1))
    assert (few["videos"], list(few["scenes"]), len(calls)) == (2, ["fall"], 18)


def test_workers_give_the_same(drawn: PhysicsData, tmp_path: Path) -> None:
    one = score("flow", drawn, tmp_path / "one", SETTINGS, Selection(episodes=1))
    two = score("flow", drawn, tmp_path / "two", SETTINGS, Selection(episodes=1), workers=2)
    assert one["all"] == two["all"] and one["scenes"] == two["scenes"]


def test_kept_videos_score_as_they_did(drawn: PhysicsData, tmp_path: Path) -> None:
    kept = ScoreSettings(**{**vars(SETTINGS), "videos": True})
    first = score(of_predictor(FromFunction(noisy, "noisy")), drawn, tmp_path / "a", kept, Selection(("fall",)))
    folder = tmp_path / "a/videos"
    assert read_video(folder / "fall/00000/view1_seed1.mp4").shape == (10, H, W, 3)
    second = score(str(folder), drawn, tmp_path / "b", SETTINGS, Selection(("fall",)))
    assert value(second, "iou") == pytest.approx(value(first, "iou"), abs=0.05)
    write_video(folder / "fall/00000/view0_seed0.mp4", np.zeros((7, H, W, 3), np.uint8), 24)
    with pytest.raises(UserError, match=r"view0_seed0.mp4: 7 frames of 80x64, expected 10 \(4 given and 6 predicted\)"):
        score(str(folder), drawn, tmp_path / "c", SETTINGS)
    write_video(folder / "fall/00000/view0_seed0.mp4", np.zeros((10, 32, 32, 3), np.uint8), 24)
    with pytest.raises(UserError, match=r"10 frames of 32x32, expected 10 .* of 80x64"):
        score(str(folder), drawn, tmp_path / "d", SETTINGS)


def test_flow_carries_on_what_moves_and_one_frame_is_repeated() -> None:
    rng = np.random.default_rng(0)
    floor = cv2.resize(rng.integers(90, 160, (24, 32, 3), dtype=np.uint8), (128, 96), interpolation=cv2.INTER_CUBIC)
    block = cv2.resize(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8), (32, 32), interpolation=cv2.INTER_CUBIC)
    clip = np.repeat(floor[None], 7, axis=0)
    for t in range(7):
        clip[t, 30:62, 10 + 4 * t : 42 + 4 * t] = block
    future = FlowExtrapolation().predict(clip[None, :4], 3, 0)
    still = RepeatLast().predict(clip[None, :4], 3, 0)
    assert future.shape == still.shape == (1, 3, 96, 128, 3)
    error = [np.abs(guess[0].astype(int) - clip[4:]).mean() for guess in (future, still)]
    assert error[0] < 0.5 * error[1]
    assert np.array_equal(FlowExtrapolation().predict(clip[None, :1], 2, 0)[0, 1], clip[0])


def test_predictors_of_another_size_are_scaled_and_checked(drawn: PhysicsData) -> None:
    class Small:
        name, size = "small", (16, 20)
        seen: tuple[int, ...] = ()

        def predict(self, context: np.ndarray, frames: int, seed: int) -> np.ndarray:
            Small.seen = context.shape
            return np.repeat(context[:, -1:], frames, axis=1)

    context = drawn.episode("fall", 0).frames(0, 4)[None]
    assert isinstance(Small(), Predictor)
    future = predict(Small(), context, 5, 0)
    assert Small.seen == (1, 4, 16, 20, 3) and future.shape == (1, 5, H, W, 3)
    with pytest.raises(UserError, match=r"wrong gave uint8 \[1, 3, 64, 80, 3\], expected uint8 \[1, 5, 64, 80, 3\]"):
        predict(FromFunction(lambda c, n, s: np.repeat(c[:, -1:], 3, 1), "wrong"), context, 5, 0)
    with pytest.raises(UserError, match="broken failed: ZeroDivisionError"):
        predict(FromFunction(lambda c, n, s: 1 // 0, "broken"), context, 5, 0)  # type: ignore[arg-type,return-value]


def test_a_function_of_your_own_by_name(
    drawn: PhysicsData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_physics_model.py").write_text(
        "import numpy as np\n"
        "def last(context, frames, seed):\n    return np.repeat(context[:, -1:], frames, axis=1)\n"
        "class Model:\n    name, size, deterministic = 'mine', (32, 40), True\n"
        "    def predict(self, context, frames, seed):\n        return last(context, frames, seed)\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    fixed = ["--data", str(drawn.root), "--context", "4", "--frames", "8", "--episodes", "1", "--views", "1"]
    fixed += ["--seeds", "1", "--workers", "1", "--cache", str(tmp_path / "cache")]
    assert main(["physics", "score", "my_physics_model:last", "--out", str(tmp_path / "a"), *fixed]) == 0
    assert main(["physics", "score", "my_physics_model:Model", "--out", str(tmp_path / "b"), *fixed]) == 0
    assert "| mine | 4 frames |" in capsys.readouterr().out
    assert read_json(tmp_path / "b/config.json")["settings"]["identity"]["code"]
    assert main(["physics", "table", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    said = capsys.readouterr().out
    assert "my_physics_model:last" in said and "| mine |" in said
    for name, message in (
        ("my_physics_model:lost", "did you mean 'last'?"),
        ("my_physics_model:number", "expected a function (context, frames, seed)"),
        ("no_such_module:last", "No module named 'no_such_module'"),
        ("nano-rigit", "nano-rigit"),
        ("truth:big", "expected truth or truth:PIXELS"),
        ("data:nowhere", "no such folder"),
    ):
        assert main(["physics", "score", name, "--out", str(tmp_path / "c"), *fixed]) == 2
        assert message in capsys.readouterr().err, name


@pytest.mark.parametrize(
    ("settings", "selection", "message"),
    [
        (ScoreSettings(context=9, frames=9), Selection(), "context 9 of 9 frames"),
        (ScoreSettings(context=9, frames=33), Selection(), "its videos have 14 frames, 33 are asked for"),
        (ScoreSettings(context=4, frames=10, seeds=0), Selection(), "seeds must be at least 1"),
        (SETTINGS, Selection(("fal",)), "did you mean 'fall'"),
        (SETTINGS, Selection(episodes=0), "episodes must be at least 1"),
        (SETTINGS, Selection(views=3), "has 2 views, not 3"),
        (ScoreSettings(context=4, frames=10, tracker="color"), Selection(), "did you mean 'colour'"),
    ],
)
def test_what_does_not_fit_is_told(
    drawn: PhysicsData, tmp_path: Path, settings: ScoreSettings, selection: Selection, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        score("repeat-last", drawn, tmp_path / "a", settings, selection)
    assert not (tmp_path / "a").exists()


def test_other_episodes_are_no_rerun(drawn: PhysicsData, tmp_path: Path) -> None:
    from tests.evals.physics.conftest import write_data

    other = write_data(tmp_path / "other", seed=5)
    with pytest.raises(UserError, match=r"seed 5, size .* do not match"):
        score(f"data:{other.root}", drawn, tmp_path / "a", SETTINGS)


def test_a_tracker_without_weights_leaves_the_iou_unscored(
    drawn: PhysicsData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WFM_SIM_SAM2", str(tmp_path / "nowhere"))
    settings = ScoreSettings(context=4, frames=10, tracker="sam2")
    summary = score("repeat-last", drawn, tmp_path / "a", settings, Selection(("fall",), episodes=1, views=1))
    assert "SAM 2" in summary["all"]["iou"]["unscored"] or "transformers" in summary["all"]["iou"]["unscored"]
    assert value(summary, "psnr") > 10 and "unscored" in (tmp_path / "a/table.md").read_text()
    with pytest.raises(UserError, match="unscored"):
        measure(drawn, tracker="sam2", frames=10)


def test_the_floor_is_measured_once(drawn: PhysicsData, tmp_path: Path) -> None:
    found = measure(drawn, frames=12, cache=tmp_path)
    assert set(found) == {"fall", "cross", "all"} and set(found["all"]) == {"from 1", "from 9"}
    assert all(v.value is not None and v.value > 0.85 for scene in found.values() for v in scene.values())
    (path,) = tmp_path.glob("physics-floor-*.jsonl")
    before = path.read_bytes()
    assert len(before.splitlines()) == 8
    assert measure(drawn, frames=12, cache=tmp_path) == found and path.read_bytes() == before
    assert load_tracker().version  # a part of the cache's name


def test_a_query_has_a_seed_of_its_own(drawn: PhysicsData) -> None:
    context = np.zeros((1, 4, H, W, 3), np.uint8)
    numbers = {
        Query(episode, (0,), context, 3, seed).number()
        for scene in drawn.scenes
        for episode in drawn.episodes(scene)
        for seed in range(3)
    }
    assert len(numbers) == 12 and max(numbers) < 2**31
    assert load_entrant("truth", drawn).deterministic
