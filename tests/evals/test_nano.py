import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wfm_sim.errors import UserError
from wfm_sim.evals import heldout, nano
from wfm_sim.evals.nano_summary import format_table, summarise


@pytest.fixture
def episodes(make_episode: Callable[..., Any]) -> list[Any]:
    return [make_episode(seed, succeed=seed % 2 == 0) for seed in range(6)]


def run(model: Any, episodes: list[Any], judge: Any) -> dict[str, Any]:
    records, pairs = nano.evaluate(model, episodes, judge, batch=4)
    assert [r["seed"] for r in records] == [e.seed for e, _ in pairs] == list(range(6))
    return summarise(records)


def value(summary: dict[str, Any], metric: str, method: str = "model") -> Any:
    return summary["headline"][metric][method]["value"]


def test_a_perfect_model_meets_every_gate(episodes: list[Any], make_model: Callable[..., Any], judge: Any) -> None:
    summary = run(make_model(), episodes, judge)
    assert all(gate["met"] for gate in summary["gates"].values())
    assert value(summary, "psnr") == 100 and value(summary, "ssim") == pytest.approx(1)
    assert value(summary, "moved_error") == value(summary, "moved_error", "truth") < 0.3
    assert value(summary, "agreement") == value(summary, "agreement", "truth") == 1
    assert summary["success_rate"] == 0.5
    assert value(summary, "agreement", "repeat") == 0.5


def test_repeating_the_first_frame_is_off_by_what_the_block_moved(
    episodes: list[Any], make_model: Callable[..., Any], judge: Any
) -> None:
    summary = run(make_model(gain=0), episodes, judge)
    # 12 and 4 px of 32 are 24 and 8 px of 64
    assert value(summary, "moved_error") == pytest.approx(16, abs=0.5)
    assert value(summary, "moved_error") == value(summary, "moved_error", "repeat")
    assert value(summary, "still_error") < 0.3
    assert value(summary, "placed") == 0
    assert summary["gates"]["moved_error"]["met"] is False
    assert summary["per_step"]["moved_error"]["model"][3] < summary["per_step"]["moved_error"]["model"][7]


def test_a_vanished_block_is_lost_and_unscored_in_position(
    episodes: list[Any], make_model: Callable[..., Any], judge: Any
) -> None:
    summary = run(make_model(erase=True), episodes, judge)
    assert value(summary, "lost") == pytest.approx(0.5)  # red of red and blue
    assert value(summary, "lost", "truth") == 0
    assert value(summary, "moved_error") is None
    assert summary["headline"]["moved_error"]["model"]["unscored"]
    assert summary["gates"]["moved_error"]["met"] is None and summary["gates"]["lost"]["met"] is False
    assert value(summary, "placed") == 0  # a lost block is not placed
    text = format_table(summary, "fake")
    assert "unscored" in text and "**not met**" in text and "NaN" not in text and "nan" not in text


def test_without_a_judge_success_is_unscored(episodes: list[Any], make_model: Callable[..., Any]) -> None:
    summary = run(make_model(), episodes, None)
    assert summary["headline"]["agreement"]["model"]["unscored"] == "no judge was given"


def test_chunked_models_are_padded_to_whole_steps(episodes: list[Any], make_model: Callable[..., Any]) -> None:
    one = nano.imagine(make_model(gain=0.5), episodes)
    three = nano.imagine(make_model(gain=0.5, frames_per_step=3), episodes)
    assert one.shape == (6, 9, 32, 32, 3)
    np.testing.assert_array_equal(one, three)


def test_records_are_json_lines_and_the_worst_comes_first(
    episodes: list[Any], make_model: Callable[..., Any], judge: Any, tmp_path: Path
) -> None:
    path = tmp_path / "out" / "records.jsonl"
    records, _ = nano.evaluate(make_model(gain=0.9), episodes, judge, batch=4, records_file=path)
    assert [json.loads(line) for line in path.read_text().splitlines()] == records
    assert records[nano.worst_first(records)[0]]["success"]  # the faster block is 10 % off by more pixels


def test_a_model_of_another_size_is_refused(make_episode: Callable[..., Any], make_model: Callable[..., Any]) -> None:
    model = make_model()
    object.__setattr__(model.spec, "frame_size", (64, 64))
    with pytest.raises(UserError, match=r"imagines frames of \(64, 64\)"):
        nano.imagine(model, [make_episode()])


def test_verdict_needs_successive_frames() -> None:
    verdict = nano.Verdict(threshold=0.5, frames=2)
    assert not verdict.ever(np.array([0.9, 0.1, 0.9, 0.2]))
    assert verdict.ever(np.array([0.1, 0.6, 0.7, 0.2]))


def test_episodes_are_recorded_once_and_read_back(make_episode: Callable[..., Any], tmp_path: Path) -> None:
    plan = heldout.Plan(tasks=("push", "pick"), policies=("expert", "noisy"))
    asked: list[tuple[int, str, str]] = []

    def record(seed: int, task: str, policy: str) -> heldout.HeldOut:
        asked.append((seed, task, policy))
        return make_episode(seed % 10, succeed=policy == "expert")

    first = list(heldout.held_out(plan, 4, tmp_path, record))
    assert asked == [
        (10_000_000, "push", "expert"),
        (10_000_001, "pick", "expert"),
        (10_000_002, "push", "noisy"),
        (10_000_003, "pick", "noisy"),
    ]
    again = list(heldout.held_out(plan, 4, tmp_path, record))
    assert len(asked) == 4
    for a, b in zip(first, again, strict=True):
        assert a.seed == b.seed and a.colours == b.colours == ("red", "blue")
        np.testing.assert_array_equal(a.frames, b.frames)
    assert plan.key() != heldout.Plan(tasks=("push",), policies=("expert",)).key()
    broken = next(tmp_path.glob("heldout-*/*.npz"))
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(UserError, match="delete it and run again"):
        list(heldout.held_out(plan, 4, tmp_path, record))
    with pytest.raises(UserError, match="at least 1"):
        next(heldout.held_out(plan, 0, tmp_path, record))
