"""check-actions names every injected mismatch, keeps quiet about what is right, and says how to mend what is wrong.

The full count, 20 seeds each, is benchmarks/action_mismatches.py, whose mismatches these are.
"""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wfm_sim.action_contract import CANONICAL, CONTRACTS, ActionContract, load_contract, normalised
from wfm_sim.action_conversion import convert
from wfm_sim.actions import ACTION_HIGH, ACTION_LOW, apply_action
from wfm_sim.assets.tabletop import WORKSPACE, layout_of, sample_scene
from wfm_sim.cli import main
from wfm_sim.errors import UserError
from wfm_sim.evals import check_actions_policy
from wfm_sim.evals.check_actions import check_actions, check_data, check_policy, fix_code
from wfm_sim.evals.check_actions_gripper import first_events
from wfm_sim.evals.check_actions_model import check_model
from wfm_sim.evals.check_actions_probes import Answers, estimate_frame
from wfm_sim.evals.check_actions_report import Finding
from wfm_sim.evals.check_actions_rollouts import Bench
from wfm_sim.evals.check_actions_scale import TABLETOP
from wfm_sim.evals.check_actions_view import Recording
from wfm_sim.evals.contestants import make_policy
from wfm_sim.policies.base import Policy
from wfm_sim.policies.scripted import ScriptedExpert
from wfm_sim.policies.simple import RandomPolicy
from wfm_sim.policies.wrappers import Converted

ROOT = Path(__file__).resolve().parents[2]


def load_benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("action_mismatches", ROOT / "benchmarks" / "action_mismatches.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


BENCHMARK = load_benchmark()
NAMES = list(BENCHMARK.MISMATCHES)
NAMED_BLIND = (
    "none", "gripper inverted", "x20 missing", "x20 twice", "15 Hz into 5 Hz", "absolute poses", "millimetres",
)  # fmt: skip


def recordings(seed: int, count: int = 16, steps: int = 26) -> list[Recording]:
    """Episodes of exact and of noisy experts by dead reckoning, without physics: poses are where the actions lead."""
    rng = np.random.default_rng(seed)
    return [
        dead_reckoned(
            ScriptedExpert(float(rng.uniform(0.05, 0.3)) if index % 2 else 0.0), [1000 * seed + index], steps
        )[0]
        for index in range(count)
    ]


def dead_reckoned(policy: Policy, scenes: list[int], steps: int) -> list[Recording]:
    found = []
    for scene in scenes:
        layout = layout_of(sample_scene(scene))
        policy.reset({"layout": {key: np.asarray(value)[None] for key, value in layout.items()}}, [scene])
        poses, actions = [layout["start"].astype(np.float64)], []
        for _ in range(steps):
            action = policy.act({"agent_pos": poses[-1][None].astype(np.float32)})[0]
            actions.append(np.clip(action, ACTION_LOW, ACTION_HIGH))
            poses.append(apply_action(poses[-1], actions[-1], WORKSPACE))
        found.append(Recording(np.stack(actions).astype(np.float64), np.stack(poses)))
    return found


@pytest.fixture(scope="module", params=[0, 1])
def episodes(request: Any) -> list[Recording]:
    return recordings(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_data_with_poses(name: str, episodes: list[Recording]) -> None:
    contract, expected = BENCHMARK.MISMATCHES[name]
    report = check_data(BENCHMARK.misread(episodes, contract), CANONICAL, fps=5.0)
    assert report.codes == ([expected] if expected else [])
    assert report.clean == (not expected)
    if expected not in ("", "rate"):
        # What it names mends: converted back, the actions are the ones that were written wrongly.
        wrong = BENCHMARK.misread(episodes, contract)
        states = [r.states for r in wrong]
        for row, state, truth in zip(wrong, states, episodes, strict=True):
            mended = convert(row.actions, report.source, CANONICAL, state[:-1])
            np.testing.assert_allclose(mended, truth.actions, atol=1e-4)


@pytest.mark.parametrize("name", NAMED_BLIND)
def test_data_without_poses(name: str, episodes: list[Recording]) -> None:
    contract, expected = BENCHMARK.MISMATCHES[name]
    bare = [Recording(r.actions) for r in BENCHMARK.misread(episodes, contract)]
    report = check_data(bare, CANONICAL)
    assert report.codes == ([expected] if expected else [])
    if not expected:
        assert {c.name: c.verdict for c in report.checks}["frame"] == "cannot tell"


def test_the_gripper_of_play_is_not_told_from_actions_alone() -> None:
    """Random play opens first as often as it closes first: no alarm, whichever way its gripper is written."""
    verdicts = []
    for seed in range(6):
        play = dead_reckoned(RandomPolicy(), [1000 * seed + index for index in range(24)], 26)
        for source in (CANONICAL, BENCHMARK.MISMATCHES["gripper inverted"][0]):
            report = check_data([Recording(convert(r.actions, CANONICAL, source)) for r in play], CANONICAL)
            verdicts.append({check.name: check.verdict for check in report.checks}.get("gripper", "mismatch"))
    assert verdicts.count("mismatch") == 0 and verdicts.count("cannot tell") >= 0.9 * len(verdicts)


def test_first_events_at_the_low_point() -> None:
    down_up = np.concatenate([np.linspace(0.08, 0.02, 6), np.linspace(0.02, 0.08, 6)])[:, None]
    heights = [down_up[:, 0], down_up[:, 0], np.full(12, 0.02), down_up[::-1, 0]]
    closing = np.array([1.0] * 5 + [0.0] * 6)
    early = np.array([1.0] * 2 + [0.0] * 9)
    openings = [closing, early, closing, closing]  # a grasp, one in mid-air, one without any way, a grasp
    assert first_events(openings) == (4, 0)
    assert first_events(openings, heights) == (2, 0)
    assert first_events([1 - o for o in openings], heights) == (0, 2)
    assert first_events([np.ones(11)], heights[:1]) == (0, 0)


def test_several_mismatches_are_found_one_after_the_other(episodes: list[Recording]) -> None:
    contract = CONTRACTS["worldgym"]
    wrong = [Recording(convert(r.actions, CANONICAL, contract, r.states[:-1]), r.states) for r in episodes]  # type: ignore[index]
    assert check_data(wrong, CANONICAL, contract).clean  # as declared it is right
    twisted = replace(CANONICAL, frame="base", rotation="ypr", gripper_open=-1.0, gripper_closed=1.0)
    wrong = [Recording(convert(r.actions, CANONICAL, twisted, r.states[:-1]), r.states) for r in episodes]  # type: ignore[index]
    report = check_data(wrong, CANONICAL)
    assert set(report.codes) == {"base-frame", "rotation-order", "gripper-range", "gripper-inverted"}
    mended = convert(wrong[0].actions, report.source, CANONICAL, episodes[0].states[:-1])  # type: ignore[index]
    np.testing.assert_allclose(mended[:, :6], episodes[0].actions[:, :6], atol=1e-4)
    np.testing.assert_allclose(mended[:, 6], episodes[0].actions[:, 6], atol=1e-4)


def test_units_and_normalisations(episodes: list[Recording]) -> None:
    bounds = normalised(CANONICAL, "bounds", [*ACTION_LOW[:6], 0.0], [*ACTION_HIGH[:6], 0.0])
    rows = np.concatenate([r.actions for r in episodes])
    deviation = np.append(rows[:, :6].std(axis=0), 0.0)
    standard = normalised(CANONICAL, "mean_std", rows.mean(axis=0), deviation)
    cases: list[tuple[ActionContract, str]] = [
        (bounds, "normalised"),
        (standard, "normalised"),
        (replace(CANONICAL, rotation_unit="deg"), "degrees"),
        (replace(CANONICAL, translation_unit="cm"), "centimetres"),
        (replace(CANONICAL, translation_scale=7.0, rotation_scale=0.3), "normalised"),
    ]
    for contract, expected in cases:
        wrong = [Recording(convert(r.actions, CANONICAL, contract), r.states) for r in episodes]
        report = check_data(wrong, CANONICAL)
        assert report.codes == [expected], contract
        # Whatever it was normalised by is estimated from the poses.
        mended = convert(wrong[1].actions, report.source, CANONICAL)
        np.testing.assert_allclose(mended, episodes[1].actions, atol=5e-3)
    bare = [Recording(r.actions) for r in wrong]  # a factor of 7 and one of 0.3: without poses nobody can say why
    report = check_data(bare, CANONICAL)
    assert report.codes == ["unknown-scale"] and not fix_code(report)


def test_shifted_and_still_and_other_data(episodes: list[Recording]) -> None:
    late = [Recording(r.actions[:-1], r.states[1:]) for r in episodes]  # type: ignore[index]
    assert check_data(late, CANONICAL).codes == ["shifted"]
    still = [Recording(np.zeros((10, 7)))]
    report = check_data(still, CANONICAL)
    assert report.codes == ["near-zero-motion"] and not fix_code(report)
    assert check_data([Recording(np.zeros((10, 8)))], CANONICAL).codes == ["dimension"]
    assert check_data([Recording(np.ones((10, 8)))], CANONICAL, CONTRACTS["openpi-droid"]).codes == ["dimension"]
    with pytest.raises(UserError, match="two actions"):
        check_data([Recording(np.zeros((1, 7)))], CANONICAL)
    with pytest.raises(UserError, match="finite"):
        check_data([Recording(np.full((5, 7), np.nan))], CANONICAL)


def test_a_declared_rate_is_compared(episodes: list[Recording]) -> None:
    report = check_data(episodes, CANONICAL, fps=15.0)
    assert report.codes == ["rate"] and report.source.rate_hz == 15.0
    assert check_data(episodes, CANONICAL, fps=4.0).clean  # Ctrl-World's DROID: near enough


def test_real_recordings_raise_no_alarm(real_data: Path) -> None:
    for folder in ("bridge_octo", "bridge_worldgym", "droid_ctrlworld"):
        report = check_actions(real_data / folder, probe_model=False)
        assert report.clean, (folder, report.lines())
        verdicts = {check.name: check.verdict for check in report.checks}
        assert verdicts["size"] == "ok" and verdicts["gripper"] == "ok"
        if folder != "bridge_worldgym":
            assert verdicts["frame"] == verdicts["rotation"] == "ok"


def test_real_bridge_misread_is_noticed(real_data: Path) -> None:
    """The stored numbers of RLDS Bridge are base-frame differences: taken for canonical ones they are found out."""
    from wfm_sim.data.rlds import UnpackedBridge

    episodes = list(UnpackedBridge(real_data / "bridge_octo" / "train", relabel=False))
    stored = CONTRACTS["bridge-rlds"]
    raw = [Recording(convert(e.actions, CANONICAL, stored, e.states[:-1]), e.states) for e in episodes]  # type: ignore[index]
    assert check_data(raw, CANONICAL).codes == ["base-frame"]
    assert check_data(raw, CANONICAL, stored).clean


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_policies(name: str, seed: int) -> None:
    contract, expected = BENCHMARK.MISMATCHES[name]
    policy = Converted(ScriptedExpert(0.05 + 0.05 * seed), CANONICAL, contract)
    report = check_policy(policy, episodes=6, scenes=4, seed=seed)
    assert report.codes == ([expected] if expected else []), report.lines()
    if expected:
        assert "Converted(policy, " in fix_code(report)


@pytest.mark.parametrize("name", ["random", "expert-flawed"])
def test_bad_policies_are_no_mismatch(name: str) -> None:
    assert check_policy(make_policy(name), episodes=6, scenes=4).clean


class _Recorded:
    """Plays back what an expert did, whatever happens."""

    name = "recorded"

    def __init__(self) -> None:
        self._expert, self._pose = ScriptedExpert(), np.zeros((1, 7))

    def reset(self, info: Any, seeds: Any, mask: Any = None) -> None:
        self._expert.reset(info, seeds)
        self._pose = np.asarray(info["layout"]["start"], dtype=np.float64)

    def act(self, observation: Any) -> np.ndarray:
        action = self._expert.act({"agent_pos": self._pose})
        self._pose = apply_action(self._pose, action, WORKSPACE)
        return action


def answers(share: float, noise: float, scenes: int = 12) -> Answers:
    """Of a policy whose displacements turn with its gripper by a share of its turn."""
    rng = np.random.default_rng(4)
    wanted = rng.normal(0.0, 0.03, (scenes, 1, 1, 3))
    rotations = np.zeros((scenes, 3, 2, 3))
    for axis, size in enumerate((0.24, 0.24, 0.48)):
        rotations[:, axis, 0, axis], rotations[:, axis, 1, axis] = size, -size
    turned = Rotation.from_rotvec(-share * rotations.reshape(-1, 3))
    moves = turned.apply(np.broadcast_to(wanted, rotations.shape).reshape(-1, 3)).reshape(rotations.shape)
    actions = np.concatenate(
        [moves + rng.normal(0.0, noise, moves.shape), -0.5 * rotations, rotations[..., :1]], axis=-1
    )
    return Answers(actions, rotations, rng.normal(0.0, 0.03, (scenes, 2, 2, 3)))


@pytest.mark.parametrize("share", [-0.6, 0.0, 0.4, 1.0, 1.8])
def test_the_share_of_a_turn_is_estimated(share: float) -> None:
    estimate = estimate_frame(answers(share, 0.0005))
    assert estimate.low <= share + 0.05 and estimate.high >= share - 0.05 and estimate.high - estimate.low < 0.2
    assert abs(estimate.value - share) < 0.05 and estimate.explained > 0.85


@pytest.mark.parametrize(
    ("share", "noise", "verdict"),
    [
        (1.0, 0.0005, "ok"),
        (0.0, 0.0005, "base-frame"),  # the numbers stay whatever the turn
        (0.0, 0.006, "cannot tell"),  # they nearly stay: a policy that does not heed its gripper may do that
        (-0.6, 0.003, "base-frame"),  # they turn the wrong way
        (0.3, 0.001, "cannot tell"),
    ],
)
def test_what_an_unskilled_policy_does_is_not_a_frame(
    share: float, noise: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_actions_policy, "probe", lambda *_: answers(share, noise))
    bench = Bench(None, lambda _: None, (), (), TABLETOP, CANONICAL)  # type: ignore[arg-type,return-value]
    found = check_actions_policy._frame_and_rotation(bench, CANONICAL, [])[-1]
    assert (found.code if isinstance(found, Finding) else found.verdict) == verdict


def test_the_frame_of_a_recording_is_not_told_from_its_playback() -> None:
    """It does not answer to turns of the gripper, which must not be taken for a base-frame policy's constancy."""
    report = check_policy(_Recorded(), episodes=3, scenes=4)
    assert report.clean
    verdicts = {check.name: check.verdict for check in report.checks}
    assert verdicts["frame"] == verdicts["rotation"] == "cannot tell"


def test_a_policy_that_stands_still_is_told() -> None:
    assert check_policy(make_policy("zero"), episodes=3, scenes=4).codes == ["near-zero-motion"]


def test_a_declared_contract_is_believed_and_checked() -> None:
    libero = replace(CONTRACTS["libero"], rate_hz=5.0)
    policy = Converted(ScriptedExpert(), CANONICAL, libero)
    assert check_policy(policy, libero, episodes=6, scenes=4).clean
    wrong = replace(libero, gripper_open=1.0, gripper_closed=-1.0)
    assert check_policy(policy, wrong, episodes=6, scenes=4).codes == ["gripper-inverted"]


class _Turned:
    """A world model that takes left for right."""

    def __init__(self, model: Any) -> None:
        self.spec, self.start, self._model = model.spec, model.start, model

    def step(self, state: Any, condition: np.ndarray) -> Any:
        condition = condition.copy()
        condition[..., 1] *= -1
        return self._model.step(state, condition)


def test_the_shipped_model_obeys_and_a_turned_one_does_not() -> None:
    from wfm_sim.models import load

    model = load("nano-tabletop")
    (check,) = check_model(model, scenes=3)
    assert check.verdict == "ok"
    (check,) = check_model(_Turned(model), scenes=3)
    assert check.verdict == "mismatch" and "left looks like right" in check.says


def save(path: Path, found: list[Recording], contract: ActionContract = CANONICAL) -> Path:
    actions = [convert(r.actions, CANONICAL, contract, r.states[:-1]) for r in found]  # type: ignore[index]
    np.savez(path, actions=np.stack(actions), states=np.stack([r.states for r in found]), fps=5.0)  # type: ignore[arg-type]
    return path


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = recordings(3)
    right = save(tmp_path / "right.npz", found)
    assert main(["check-actions", str(right), "--no-probe-model"]) == 0
    assert "No mismatch found." in capsys.readouterr().out

    wrong = save(tmp_path / "wrong.npz", found, replace(CANONICAL, frame="base", gripper_open=0.0, gripper_closed=1.0))
    contract, report = tmp_path / "found.json", tmp_path / "report.json"
    arguments = ["check-actions", str(wrong), "--no-probe-model", "--fix"]
    assert main([*arguments, "--save-contract", str(contract), "--json", str(report)]) == 1
    text = capsys.readouterr().out
    assert "base-frame" in text and "gripper inverted" in text
    assert load_contract(contract).frame == "base" and load_contract(contract).gripper_open == 0.0
    assert [f["code"] for f in json.loads(report.read_text())["findings"]] == ["base-frame", "gripper-inverted"]
    # The contract that was found makes it clean, and so does the printed code.
    assert main([*arguments, "--contract", str(contract)]) == 0
    code = text[text.index("from dataclasses") :]
    scope: dict[str, Any] = {"actions": np.load(wrong)["actions"][0], "states": found[0].states}
    exec(code, scope)
    np.testing.assert_allclose(scope["actions"], found[0].actions, atol=1e-5)


BAD = {
    "nothing": ([], "name a policy or a data set"),
    "unknown policy": (["exprt"], "did you mean 'expert'"),
    "unknown contract": (["expert", "--contract", "irasim"], "unknown action contract"),
    "no file": (["nowhere.npz"], "no such file"),
    "no module file": (["nowhere.py:make"], "no such file"),
    "no episodes": (["expert", "--episodes", "0"], "at least 1"),
    "joints": (["expert", "--contract", "openpi-droid"], "kinematics"),
    "unknown model": (["expert", "--world-model", "nano-tabeltop"], "did you mean 'nano-tabletop'"),
    "no actions": (["empty.npz"], "missing array 'actions'"),
    "wrong states": (["states.npz"], "'states' has shape"),
    "not numpy": (["text.npz"], "not a readable numpy file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "empty.npz", other=np.zeros(3))
    np.savez(tmp_path / "states.npz", actions=np.zeros((2, 5, 7)), states=np.zeros((2, 5, 7)))
    (tmp_path / "text.npz").write_text("hello")
    arguments, wanted = BAD[name]
    assert main(["check-actions", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and wanted in error and error.count("\n") == 1


def test_a_policy_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my_checked_policy.py"
    lines = [
        "from wfm_sim.policies.scripted import ScriptedExpert",
        "def make():",
        "    return ScriptedExpert()",
        "def three():",
        "    return 3",
    ]
    path.write_text("\n".join(lines) + "\n")
    assert main(["check-actions", f"{path}:make", "--no-probe-model", "--episodes", "3"]) == 0
    assert main(["check-actions", f"{path}:three"]) == 2
    assert "returned a int" in capsys.readouterr().err
