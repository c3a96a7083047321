import sys
from pathlib import Path

import pytest

from wfm_sim.errors import UserError
from wfm_sim.evals.policy_loading import code_hash, is_custom, make_policy

CODE = """
from wfm_sim.policies.simple import ZeroPolicy
class Mine(ZeroPolicy):
    name = "mine"
def make_policy(): return Mine()
def make_nothing(): return object()
def make_trouble(): raise RuntimeError("no weights")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my_policies_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "mine.py").write_text(CODE)
    (folder / "needy.py").write_text("import a_module_that_is_not_there")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield folder
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def test_your_own_policy(package: Path) -> None:
    name = "my_policies_of_a_test.mine:make_policy"
    assert is_custom(name) and make_policy(name).name == "mine"
    before = code_hash(name)
    assert before is not None and before.startswith("sha256:")
    (package / "mine.py").write_text(CODE + "\n")
    assert code_hash(name) != before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_policies_of_a_test.mine:make_polciy", "did you mean 'make_policy'"),
        ("my_policies_of_a_test.yours:make_policy", "no module 'my_policies_of_a_test.yours'"),
        ("my_policies_of_a_test.needy:make_policy", "No module named 'a_module_that_is_not_there'"),
        ("my_policies_of_a_test.mine:make_nothing", r"returned a object without reset\(\)"),
        ("my_policies_of_a_test.mine:make_trouble", "RuntimeError: no weights"),
        ("expret", "did you mean 'expert'"),
    ],
)
def test_what_is_wrong_is_said(package: Path, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_policy(name)


@pytest.mark.parametrize(
    "name", ["expert", "bc:runs/bc/stage.safetensors", "replay:data#3", "openpi://host:8000", "a:b:c"]
)
def test_names_of_ours_are_not_taken_for_modules(name: str) -> None:
    assert not is_custom(name) and code_hash(name) is None
