"""Any of our policies as a model server of vla-eval: the other end of `vla-eval run`.

    python -m wfm_sim.evals.vla_eval_server --args.policy=expert --address=127.0.0.1:8000

The environments' actions are canonical, so a policy's answer is sent as it is. For a policy of your own, subclass
vla_eval's PredictModelServer; this file shows all that it takes.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from wfm_sim.errors import UserError
from wfm_sim.evals.policy_loading import make_policy
from wfm_sim.evals.vla_eval_benchmark import ACTION_SPEC, PRIVILEGED_SPEC, STATE_SPEC
from wfm_sim.policies.base import Policy, batch_of_one

from vla_eval.model_servers.predict import PredictModelServer  # isort: skip - after the import that says how to get it
from vla_eval.model_servers.serve import run_server  # isort: skip


class PolicyServer(PredictModelServer):  # type: ignore[misc]
    """Serves a policy by the name that `wfm-sim eval` knows it by, one instance per connection.

    It asks the benchmark for the commanded pose and, since scripted experts need it, for what is known of the scene.
    """

    def __init__(self, policy: str = "random") -> None:
        """Args: policy: A policy's name. Raises UserError for an unknown one."""
        super().__init__()
        make_policy(policy)
        self.policy = policy
        self._running: dict[str, Policy] = {}

    def predict(self, obs: dict[str, Any], ctx: Any) -> dict[str, Any]:
        """One action, {"actions": float32 [7]}; the policy is reset at an episode's first observation."""
        for name in ("states", "privileged"):
            if name not in obs:
                raise UserError(f"the observation has no {name!r}: these policies play wfm-sim's TabletopBenchmark")
        if ctx.is_first or ctx.session_id not in self._running:
            runner = self._running[ctx.session_id] = make_policy(self.policy)
            info = {**obs["privileged"], "instruction": obs["task_description"]}
            runner.reset(batch_of_one(info), [int(obs["seed"])])
        images = {"pixels": next(iter(obs["images"].values())), "agent_pos": np.asarray(obs["states"], np.float32)}
        return {"actions": self._running[ctx.session_id].act(batch_of_one(images))[0]}

    async def on_episode_end(self, result: dict[str, Any], ctx: Any) -> None:
        """Forget the episode's policy."""
        await super().on_episode_end(result, ctx)
        self._running.pop(ctx.session_id, None)

    def get_action_spec(self) -> dict[str, Any]:
        """That of the benchmark."""
        return dict(ACTION_SPEC)

    def get_observation_spec(self) -> dict[str, Any]:
        """What the policies read."""
        return {"state": STATE_SPEC, "privileged": PRIVILEGED_SPEC}

    def get_observation_params(self) -> dict[str, Any]:
        """Parameters of the benchmark that vla-eval sets when it connects."""
        return {"send_state": True, "send_layout": True}


def main() -> int:
    """Serve until stopped; options are those of vla-eval's servers. Returns the exit code."""
    try:
        run_server(PolicyServer)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
