"""What an imagined episode gives must not depend on what else runs beside it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import VectorWrapper

from wfm_sim.evals.jobs import Job, Outcome, plan
from wfm_sim.evals.rollouts import PolicyPool, imagine_jobs, model_env, rows_of
from wfm_sim.judge import load_judge
from wfm_sim.models import load


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_episode_has_the_same_bits_whatever_runs_beside_it(dtype: torch.dtype) -> None:
    env = model_env(load("nano-tabletop", dtype=dtype), load_judge("nano-tabletop-judge"), 3)
    jobs = plan(["expert"], ["push", "pick"], 2) + plan(["expert"], ["push"], 2, seed=1)

    def run(chosen: list[Job]) -> dict[Job, Outcome]:
        return {o.job: o for o in imagine_jobs(env, chosen, chosen, rows_of(jobs, 3))}

    whole, resumed = run(jobs), run(jobs[5:] + jobs[1:3])  # other neighbours, another moment
    env.close()
    assert len(whole) == 6 and len(resumed) == 3
    for job, b in resumed.items():
        a = whole[job]
        assert a.trace is not None and b.trace is not None
        np.testing.assert_array_equal(a.trace.frames, b.trace.frames)
        assert (a.success, a.steps, a.reward, a.probability) == (b.success, b.steps, b.reward, b.probability)


class SaysTrust(VectorWrapper):
    """Trust falls by a tenth with every step; rows above `said` say nothing."""

    def __init__(self, env: Any, said: int) -> None:
        super().__init__(env)
        self.count, self.said = np.zeros(env.num_envs), said

    def reset(self, **kwargs: Any) -> Any:
        mask = kwargs.get("options", {}).get("reset_mask")
        self.count[slice(None) if mask is None else mask] = 0
        return super().reset(**kwargs)

    def step(self, actions: Any) -> Any:
        self.count += 1
        *rest, infos = super().step(actions)
        infos = {**infos, "trust": 1 - self.count / 10, "_trust": np.arange(len(self.count)) < self.said}
        return *rest, infos


def test_trust_is_recorded_where_it_is_said(way_model: Any, way_judge: Any) -> None:
    env = model_env(way_model, way_judge, 2)
    outcomes = list(imagine_jobs(SaysTrust(env, 1), plan(["expert"], ["push"], 2), ()))
    said = [o for o in outcomes if o.trust is not None]
    assert len(said) == 1 and len(said[0].trust) == said[0].steps
    assert said[0].to_json()["trust"] == [round(1 - (i + 1) / 10, 4) for i in range(said[0].steps)]
    assert all(o.probability == 1.0 for o in outcomes)  # the judge's, at the last frame
    assert Outcome.from_json(said[0].to_json()).to_json() == said[0].to_json()


def test_policies_are_made_once_per_row_and_name() -> None:
    pool = PolicyPool()
    first, second = pool.take("zero"), pool.take("zero")
    assert first is not second
    pool.give_back("zero", first)
    assert pool.take("zero") is first


def test_a_twin_process_that_dies_is_told(tmp_path: Path) -> None:
    import os
    import signal

    from wfm_sim.errors import UserError
    from wfm_sim.evals.twin_runner import TwinRunner

    with TwinRunner(1) as twin:
        twin.start(plan(["random"], ["push"], 3), (), lambda outcome: None)
        os.kill(twin._processes[0].pid, signal.SIGKILL)
        with pytest.raises(UserError, match="was killed"):
            twin.finish()


def test_a_twin_process_that_dies_while_idle_is_told_and_nothing_hangs() -> None:
    import os
    import signal
    import time

    from wfm_sim.errors import UserError
    from wfm_sim.evals.twin_runner import TwinRunner

    with TwinRunner(1) as twin:
        twin.start(plan(["zero"], ["push"], 1), (), lambda outcome: None)
        twin.finish()
        time.sleep(0.3)  # it now waits for a job, and holds the queue's lock
        os.kill(twin._processes[0].pid, signal.SIGKILL)
        twin.start(plan(["random"], ["push"], 3), (), lambda outcome: None)
        with pytest.raises(UserError, match="was killed"):
            twin.finish()
