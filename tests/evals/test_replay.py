import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wfm_sim.data import Episode, write_episode
from wfm_sim.errors import UserError
from wfm_sim.evals import replay


@pytest.fixture
def folder(tmp_path: Path, make_episode: Callable[..., Any]) -> Path:
    source = make_episode(2)
    for name in ("a", "b"):
        states = np.zeros((len(source.frames), 7), np.float32)
        states[:, 0] = np.concatenate([[0], np.cumsum(source.actions[:, 0])])
        episode = Episode(source.frames, source.actions, states, "push the red block", id=name)
        write_episode(tmp_path / "data", "train", name, episode)
    return tmp_path / "data"


def test_models_are_held_to_the_recording(folder: Path, tmp_path: Path, make_model: Callable[..., Any]) -> None:
    out = tmp_path / "out"
    result = replay.main(
        [make_model(gain=0), make_model(gain=1)], folder, episode="b", horizon=4, labels=["still", "moves"], out=out
    )
    assert sorted(p.name for p in out.iterdir()) == ["replay.rrd", "strip.png", "summary.json"]
    assert json.loads((out / "summary.json").read_text()) == result
    assert result["episode"] == "b" and result["models"]["still"]["windows"] == 2
    still, moves = result["models"]["still"], result["models"]["moves"]
    assert still["whole_episode"]["psnr"]["model"] == pytest.approx(still["whole_episode"]["psnr"]["repeat"], abs=1.5)
    assert moves["whole_episode"]["psnr"]["model"][-1] > moves["whole_episode"]["psnr"]["repeat"][-1] + 5
    assert len(moves["per_horizon"]["psnr"]["model"]) == 4
    gain = moves["last_step"]["moving_psnr"]["gain"]
    assert gain["value"] > 5 and gain["n"] == 2
    assert moves["actions_clipped"] == 0


def test_nothing_moved_is_unscored() -> None:
    still = np.full((2, 3, 16, 16, 3), 90, np.uint8)
    found = replay._estimates(still, still, 0)
    assert found["moving_psnr"]["model"]["unscored"] == "nothing moved in any window"
    assert found["psnr"]["model"]["value"] == 100


def test_bad_input_is_one_sentence(folder: Path, tmp_path: Path, make_model: Callable[..., Any]) -> None:
    model = make_model()
    with pytest.raises(UserError, match="did you mean"):
        replay.main([model], folder, episode="bb", out=tmp_path)
    with pytest.raises(UserError, match=r"episodes 0\.\.1, not 7"):
        replay.main([model], folder, episode=7, out=tmp_path)
    with pytest.raises(UserError, match=r"1\.\.8 steps"):
        replay.main([model], folder, horizon=9, out=tmp_path)
    with pytest.raises(UserError, match="at least one"):
        replay.main([], folder, out=tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        replay.main([model], folder / "nowhere", out=tmp_path)
