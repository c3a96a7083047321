"""The judge's error: the rule of an episode, the tracker's word on true frames, the numbers, the sheets, the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from wfm_sim import judge as judges
from wfm_sim.assets.tabletop import BLOCK_HALF, TASKS, sample_scene
from wfm_sim.cli import main as command_line
from wfm_sim.envs import core
from wfm_sim.envs.starts import Start
from wfm_sim.errors import UserError
from wfm_sim.evals import judge_eval, judge_eval_run, judge_eval_sheet, judge_eval_summary, judge_eval_tracker
from wfm_sim.evals.heldout import FIRST_SEED, HeldOut
from wfm_sim.evals.judge_eval_episodes import judge_plan, record
from wfm_sim.evals.policy_run_summary import JudgeErrors
from wfm_sim.evals.proportions import wilson
from wfm_sim.evals.provenance import network_hash
from wfm_sim.weights import shipped
from wfm_sim.world_model import WorldModelSpec

CONFIG = judges.JudgeConfig(("pick", "place", "push"), ("blue", "cyan", "green", "purple", "red", "yellow"))


def network() -> judges.JudgeNetwork:
    torch.manual_seed(0)
    return judges.JudgeNetwork(CONFIG)


class Playback:
    """A world model that plays recorded frames, whatever the actions."""

    def __init__(self, clip: np.ndarray) -> None:
        self.clip = clip
        low = (-1.0,) * 7
        self.spec = WorldModelSpec(
            name="playback",
            frame_size=clip.shape[1:3],
            fps=5.0,
            condition="action",
            condition_low=low,
            condition_high=(1.0,) * 7,
            condition_units=("",) * 7,
            frames_per_step=1,
            context_frames=1,
            latent_shape=(3, *clip.shape[1:3]),
        )

    def start(self, frames: np.ndarray, *, seeds: Any = None) -> int:
        return 0

    def step(self, state: int, condition: np.ndarray) -> tuple[int, np.ndarray]:
        return state + 1, self.clip[None, state + 1 : state + 2]


class Told:
    """A judge that reads its answer off the first pixel: v / 255."""

    def __call__(self, frames: np.ndarray, *rest: Any) -> tuple[np.ndarray, np.ndarray]:
        found = frames[:, 0, 0, 0] / 255.0
        return found, found


@pytest.mark.parametrize("seed", range(40))
def test_an_episode_is_decided_as_the_imagined_environment_decides_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = np.zeros((33, 8, 8, 3), np.uint8)
    clip[:, 0, 0, 0] = 255 * (rng.random(33) < rng.choice([0.05, 0.2, 0.5]))
    clip[0, 0, 0, 0] = 255 * (seed % 3 == 0)  # the first frame counts as well
    world = core.World(Playback(clip), Told(), core.Rules(32))  # type: ignore[arg-type]
    start = Start(frame=clip[0], pose=np.zeros(7), seed=0, task="push", target_colour="red", instruction="")
    episodes, steps = core.begin(world, [start]), 0
    while not episodes.ended[0]:
        episodes, _ = core.advance(world, episodes, np.zeros((1, 1, 7), np.float32))
        steps += 1
    assert judge_eval.rule().ever(Told()(clip)[0]) == bool(episodes.success[0])
    assert steps <= 32


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[HeldOut]:
    """A push, a pick and a place of an expert, 32 steps each."""
    cache = tmp_path_factory.mktemp("cache")
    return list(record(judge_plan(policies=("expert",)), 3, cache))


def test_scenes_are_of_no_other_evaluation_and_every_policy_meets_every_task() -> None:
    plan = judge_plan()
    jobs = [plan.of(i) for i in range(36)]
    assert len({seed for seed, _, _ in jobs}) == 36 and min(seed for seed, _, _ in jobs) == 23_000_000 > FIRST_SEED
    assert len({(task, policy) for _, task, policy in jobs}) == 36


def test_the_tracker_sees_what_physics_knows(recorded: list[HeldOut]) -> None:
    assert [e.task for e in recorded] == ["push", "pick", "place"]
    right = []
    for episode in recorded:
        assert episode.success.any() and not episode.success.all()
        shown = judge_eval_tracker.shows_success(episode.frames, episode, judge_eval_tracker.target_look(episode))
        right.append(np.mean(shown == episode.success))
        repeated = np.repeat(episode.frames[:1], len(episode.frames), 0)  # nothing moves: nothing is done
        look = judge_eval_tracker.target_look(episode)
        assert not judge_eval_tracker.shows_success(repeated, episode, look).any()
    assert min(right) > 0.9


def test_pixels_and_places_are_inverse(recorded: list[HeldOut]) -> None:
    for episode in recorded:
        scene = sample_scene(episode.seed, episode.task)
        place = (*scene.blocks[0].xy, BLOCK_HALF)
        x, y = judge_eval_tracker.pixel_of(scene, place, 64)
        seen = episode.objects[0, episode.colours.index(episode.target_colour)]
        assert np.hypot(x - seen[0], y - seen[1]) < 1  # the renderer's segmentation agrees with the geometry
        ray, camera = judge_eval_tracker.ray_of(scene, x, y, 64), np.array(scene.camera_position)
        np.testing.assert_allclose(judge_eval_tracker.on_height(camera, ray, BLOCK_HALF), place, atol=1e-9)
        np.testing.assert_allclose(judge_eval_tracker.beside(camera, ray, np.array(place)), place, atol=1e-9)


def made(said: list[float], truth: list[int], tracker: list[int] | None, kind: str = "true", **more: Any) -> dict:  # type: ignore[type-arg]
    return {
        "frames": kind, "seed": 1, "policy": "expert", "task": "push", "target_colour": "red", "instruction": "push it",
        "truth": [bool(t) for t in truth], "probability": said, "tracker": tracker and [bool(t) for t in tracker],
        "success": any(truth[1:]), "judged": judge_eval.rule().ever(np.array(said)),
        "tracked": tracker and judge_eval.rule().ever(np.array(tracker)), **more,
    }  # fmt: skip


def test_counts_of_frames_and_of_episodes() -> None:
    records = [
        made([0, 0, 0.9, 0.9], [0, 0, 0, 1], [0, 0, 0, 1]),  # tp: two in succession
        made([0, 0.9, 0, 0.9], [0, 1, 1, 1], None),  # fn: never two in succession
        made([0, 0, 0.2, 0.5], [0, 0, 0, 0], [0, 0, 0, 0], task="pick"),  # tn: 0.5 is not above 0.5
        made([0, 0.6, 0.6, 0], [0, 0, 0, 0], [0, 0, 0, 0], task="pick"),  # fp
        made([0, 0.9, 0.9, 0.9], [0, 0, 0, 0], [0, 1, 1, 1], "imagined"),
    ]
    found = judge_eval_summary.summarise(records)
    name = "judge against the twin, true frames"
    row = found["frames"][name]["all"]
    assert [row[k] for k in ("tp", "fn", "tn", "fp")] == [3, 1, 9, 3]
    assert row["recall"]["value"] == 3 / 4 and row["precision"]["value"] == 3 / 6
    assert row["balanced_accuracy"]["value"] == pytest.approx((3 / 4 + 9 / 12) / 2)
    assert row["balanced_accuracy"]["n"] == 4  # episodes, not frames
    assert judge_eval_summary.confusion(found) == {"tp": 1, "fn": 1, "tn": 1, "fp": 1}
    assert judge_eval_summary.confusion(found, "pick") == {"tp": 0, "fn": 0, "tn": 1, "fp": 1}
    assert found["outcomes"][name]["pick"]["recall"]["unscored"] == "no true success"
    assert found["outcomes"]["tracker against the twin, true frames"]["all"]["tp"] == 0  # one hidden, one not two long
    imagined = found["frames"]["judge against the tracker, imagined frames"]["all"]
    assert [imagined[k] for k in ("tp", "fn", "tn", "fp")] == [3, 0, 1, 0]
    assert found["frames"]["judge against the twin, imagined frames"]["all"]["fp"] == 3
    assert "unscored (no true success)" in judge_eval_summary.format_tables(found)


def test_intervals_rest_on_episodes_and_cover() -> None:
    """Frames of an episode are all right or all wrong: only episodes tell anything. True balanced accuracy: 0.85."""
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        right = np.stack([rng.random(60) < 0.9, rng.random(60) < 0.8], axis=1)  # on a success, on a failure
        counts = np.zeros((60, 4), int)
        counts[:, 0], counts[:, 1] = 10 * right[:, 0], 10 * ~right[:, 0]
        counts[:, 2], counts[:, 3] = 20 * right[:, 1], 20 * ~right[:, 1]
        found = judge_eval_summary.balanced_accuracy(counts, seed)
        assert found.low is not None and found.high is not None
        inside += found.low <= 0.85 <= found.high
    assert 180 <= inside <= 199
    perfect = judge_eval_summary.balanced_accuracy(np.array([[5, 0, 5, 0]] * 10), 0)
    assert perfect.value == 1 and perfect.low is not None and 0.7 < perfect.low < 0.95  # ten episodes prove little


def test_frames_for_the_eye_are_balanced_and_disagreements_come_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = [made([0.0, *(rng.random(8) ** 3)], [0] * 9, [0, *rng.integers(0, 2, 8)], "imagined") for _ in range(30)]
    chosen = judge_eval_sheet.choose(records, 24)
    assert len(chosen) == 24 and sum(s.judged for s in chosen) == 12
    assert len({s.episode for s in chosen if s.judged}) == 12  # another episode as long as there is one
    odd = [s.disagree for s in chosen]
    assert odd == sorted(odd, reverse=True) and 0 < sum(odd) < 24
    assert all(s.step > 0 and s.judged == (records[s.episode]["probability"][s.step] > 0.5) for s in chosen)
    assert chosen == judge_eval_sheet.choose(records, 24) and chosen != judge_eval_sheet.choose(records, 24, seed=1)
    few = judge_eval_sheet.choose([made([0, 0.9], [0, 0], None, "imagined"), made([0, 0], [0, 0], None)], 10)
    assert [s.judged for s in few] == [True, False] and few[0].tracked is None
    clips = rng.integers(0, 255, (30, 9, 64, 64, 3), dtype=np.uint8)
    pages = judge_eval_sheet.write_sheets(tmp_path, chosen, records, list(clips))
    assert [p.name for p in pages] == ["sheet_01.png", "sheet_02.png"]
    image = cv2.cvtColor(cv2.imread(str(pages[0])), cv2.COLOR_BGR2RGB)
    gap, size = judge_eval_sheet.GAP, judge_eval_sheet.FRAME
    shown = cv2.resize(
        image[gap + 4 : gap + size - 4, gap + 4 : gap + size - 4], (62, 62), interpolation=cv2.INTER_AREA
    )
    wanted = clips[chosen[0].episode, chosen[0].step]
    assert np.corrcoef(shown.ravel(), wanted[1:-1, 1:-1].ravel())[0, 1] > 0.9


def test_the_confusion_matrix_goes_into_the_judges_file_and_leaves_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    judges.save_judge(path, network(), {"recall": 0.9})
    path.chmod(0o644)
    before, counts = network_hash(judges.load_judge(path)), {"tp": 9, "fn": 1, "tn": 8, "fp": 2}
    judges.write_quality(path, {"confusion": {**counts, "tasks": {"push": counts}, "rule": "two frames"}})
    after = judges.load_judge(path)
    assert network_hash(after) == before and path.stat().st_mode & 0o777 == 0o644
    assert after.quality["recall"] == 0.9
    assert JudgeErrors.of(after) == JudgeErrors(9, 1, 8, 2, {"push": JudgeErrors(9, 1, 8, 2)})
    assert [p.name for p in tmp_path.iterdir()] == ["mine.safetensors"]
    for name, value in network().state_dict().items():
        torch.testing.assert_close(after.network.state_dict()[name], value, rtol=0, atol=0)
    with pytest.raises(UserError, match="no judge at"):
        judges.write_quality(tmp_path / "none.safetensors", {})


def test_the_command_from_a_name_to_the_file(tmp_path: Path, make_model: Callable[..., Any]) -> None:
    path = tmp_path / "mine.safetensors"
    judges.save_judge(path, network(), {})
    model = make_model(gain=0)
    object.__setattr__(model.spec, "frame_size", (64, 64))
    how: Any = {"world_model": model, "episodes": 1, "imagined": 2, "sheet": 8, "batch": 2, "cache": tmp_path}
    summary = judge_eval_run.main(path, write=True, out=tmp_path / "out", **how)
    assert summary["episodes"] == {"true": 3, "imagined": 2}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "records.jsonl", "sheet_01.png", "summary.json", "table.md",
    ]  # fmt: skip
    written = judges.load_judge(path).quality["confusion"]
    assert sum(written[k] for k in ("tp", "fn", "tn", "fp")) == 3 and set(written["tasks"]) == {"push", "pick", "place"}
    assert (written["first_seed"], written["last_seed"]) == (23_000_000, 23_000_002)
    model.step = None  # what was imagined is kept: a second judge sees the same frames
    again = judge_eval_run.main(path, out=tmp_path / "again", **how)
    assert again["frames"] == summary["frames"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--episodes", "0"], "episodes must be at least 1"),
        (["--episodes", "1", "--imagined", "4"], "4 episodes cannot be imagined where 3 are recorded"),
        (["--judge", "none"], "none cannot be"),
        (["--judge", "nano-tabletop-jugde"], "no judge at nano-tabletop-jugde"),
        (["--judge", "openai:m@localhost"], "write openai:MODEL@http"),
        (["--judge", "openai:m@http://127.0.0.1:1/v1"], "up to 36300 requests are more than 5000"),
    ],
)
def test_bad_input(
    arguments: list[str],
    wanted: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command_line(["eval", "judge", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and wanted in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_shipped_judge_can_be_corrected_for() -> None:
    if "nano-tabletop-judge" not in shipped():
        pytest.skip("the weights of the judge are not there yet")
    judge = judges.load_judge("nano-tabletop-judge")
    errors = JudgeErrors.of(judge)
    assert errors is not None and set(errors.tasks) == set(TASKS)
    for one in (errors, *errors.tasks.values()):
        assert one.tp + one.fn >= 100 and one.tn + one.fp >= 100
    for name in ("tp", "fn", "tn", "fp"):
        assert getattr(errors, name) == sum(getattr(task, name) for task in errors.tasks.values())
    assert judge.quality["confusion"]["episodes"] == errors.tp + errors.fn + errors.tn + errors.fp
    found = errors.correct_tasks({task: wilson(50, 100) for task in TASKS})
    assert found.value is not None and found.low is not None and found.high is not None
    assert found.high - found.low > 0.1
