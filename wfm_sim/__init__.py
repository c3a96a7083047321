"""wfm-sim: world foundation models as Gymnasium environments, and evals that say how far to trust them.

Importing this package registers the environments (by string entry point, nothing heavy is imported):

    import gymnasium as gym, wfm_sim
    env = gym.make("wfm_sim/Tabletop-v0")
"""

from pathlib import Path

# The owner's layout keeps envs/, evals/, policies/, training/ and assets/ at the top of the repository; in a wheel
# they lie inside this package. In a source tree this line makes `wfm_sim.envs` and the others importable all the same.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))

__version__ = "0.1.0"

from wfm_sim.registration import register_environments  # noqa: E402  (needs __path__ as extended above)

register_environments()
