"""The command line: fast help, one sentence for bad input, no tracebacks."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from wfm_sim import cli


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wfm_sim.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_help_is_fast_and_imports_no_network_library() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert "collect" in done.stdout
    # Processor seconds, not those on the clock: the machine may be busy.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
    code = (
        "import sys; from wfm_sim.cli import main; main(['--help'])\n"
        "print([name for name in ('torch', 'mujoco', 'cv2') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip().endswith("[]")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["colect"], "No such command 'colect'. Did you mean 'collect'?"),
        (["collect"], "Missing option '--out'"),
        (["collect", "--out", "x", "--episodes", "many"], "'--episodes'"),
        (["collect", "--out", "x", "--episodes", "0"], "episodes must be at least 1, not 0"),
        (["collect", "--out", "x", "--split", "trian"], "unknown split 'trian'; did you mean 'train'?"),
        (["collect", "--out", "x", "--image-size", "8"], "image_size must be"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in done.stderr + done.stdout


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wfm_sim.training.collect.collect", interrupted)
    assert cli.main(["collect", "--out", "x"]) == 130
    assert capsys.readouterr().err.strip().endswith("stopped; run the same command to resume")


def test_info_names_environments_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    said = capsys.readouterr().out
    assert "wfm_sim/TabletopMuJoCo-v0" in said
    assert "real data:" in said
