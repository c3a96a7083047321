from pathlib import Path

import pytest

from wfm_sim.evals import policy_run
from wfm_sim.evals.policy_run_ray import shard_size, shards


def test_shards_hold_every_job_once() -> None:
    assert shards(range(7), 3) == [range(3), range(3, 6), range(6, 7)] and shards([], 3) == []
    assert shard_size(3000, 16, 4) == 128  # never more than eight batches
    assert shard_size(300, 16, 4) == 38  # two shards per slot
    assert shard_size(20, 16, 64) == 16  # never less than a batch


@pytest.mark.slow
def test_ray_gives_the_same_records_as_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'wfm-sim[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    folders = []
    for name, ray in (("here", None), ("ray", "local")):
        options = {"tasks": ("push",), "episodes": 1, "num_envs": 2, "workers": 0, "clips": 1}
        policy_run.main(("zero", "expert"), **options, ray=ray, out=tmp_path / name)
        folders.append(tmp_path / name)
    here, there = (sorted((f / "records.jsonl").read_text().splitlines()) for f in folders)
    assert here == there and len(here) == 4
    assert (folders[1] / "run.rrd").is_file() and len(list((folders[1] / "clips").glob("*.mp4"))) == 2
