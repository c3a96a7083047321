"""An Episode refuses what does not fit together."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from wfm_sim.data.episode import Episode
from wfm_sim.errors import UserError


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frames": np.zeros((6, 8, 8, 3), np.float32)}, "frames are float32"),
        ({"frames": np.zeros((6, 8, 8), np.uint8)}, "expected uint8"),
        ({"frames": np.zeros((5, 8, 8, 3), np.uint8)}, "expected [4, 7] for 5 frames"),
        ({"actions": np.zeros((5, 6), np.float32)}, "actions are [5, 6]"),
        ({"actions": np.full((5, 7), np.nan, np.float32)}, "actions hold a value that is not finite"),
        ({"states": np.zeros((5, 7), np.float32)}, "states are [5, 7]"),
        ({"fps": 0.0}, "fps is 0.0"),
    ],
)
def test_what_does_not_fit_is_refused(tiny_episode: Episode, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        replace(tiny_episode, **change)
    assert said in str(caught.value)


def test_one_frame_and_no_states_is_an_episode() -> None:
    assert len(Episode(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((0, 7), np.float32))) == 1
