import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def speed() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "world_model_speed.py"
    spec = importlib.util.spec_from_file_location("world_model_speed", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_sound_model_passes_its_checks(speed: ModuleType, way_model: Any) -> None:
    numbers = speed.measure(way_model, seconds=0, late=12, repeats=3, say=lambda text: None)
    assert numbers["fork_exact"] is True and numbers["neighbour_pixels"] == 0
    assert numbers["neighbour_latents"] is None  # no tensors in this state
    assert numbers["fps_batch_1"] > 0 and numbers["late_ratio"] > 0
    lines = "\n".join(speed.table(numbers))
    assert "unscored" in lines and "bit-identical | yes | yes | met" in lines


def test_a_leaky_model_is_caught(speed: ModuleType, way_model: Any) -> None:
    class Leaky(type(way_model)):  # type: ignore[misc]
        calls = 0

        def step(self, state: Any, condition: np.ndarray) -> Any:
            state, frames = super().step(state, condition)
            Leaky.calls += 1
            return state, frames + np.uint8(len(state) * 3 + Leaky.calls % 5)

    numbers = speed.measure(Leaky(), seconds=0, late=12, repeats=3, say=lambda text: None)
    assert numbers["fork_exact"] is False and numbers["neighbour_pixels"] > 1
    met: dict[str, Callable[..., Any] | None] = {what: ok for what, _, _, ok in speed.rows(numbers)}
    assert met["fork and replay bit-identical"] is False


def test_bad_input_has_exit_code_2(speed: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(["--world-model", "nano-tabeltop"]) == 2
    assert speed.main(["--threads", "0"]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
