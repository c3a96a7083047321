"""The house rules: who may import whom, what `import wfm_sim` costs, and what a wheel holds."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOMS = ("envs", "evals", "policies", "training", "assets")
# CONTRIBUTING.md has the same table in words.
MAY_IMPORT = {
    "core": {"core"},
    "assets": {"core", "assets"},
    "policies": {"core", "policies"},
    "envs": {"core", "assets", "envs"},
    "training": {"core", "policies", "training"},
    "evals": {"core", "envs", "policies", "assets", "evals"},
}
HEAVY = ("torch", "mujoco", "cv2", "av", "mink", "rerun", "pycolmap", "matplotlib", "moviepy", "scipy", "typer", "rich")


def room_of_module(name: str) -> str | None:
    """The room that a dotted import leads to, None when it is not ours."""
    parts = name.split(".")
    if parts[0] != "wfm_sim":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "core"


def imported_rooms(source: str, package: str) -> set[str]:
    """The rooms that a module imports, anywhere in it; `package` is the dotted package it lies in."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], base]).rstrip(".")
            names += [f"{base}.{alias.name}" for alias in node.names]
    rooms = {room for name in names if (room := room_of_module(name))}
    return rooms | {f"bare {name}" for name in names if name.split(".")[0] in ROOMS}


def python_files(root: Path) -> list[tuple[str, str, Path]]:
    """(room, package, file) of every module that is part of the package."""
    found = []
    for folder in ("wfm_sim", *ROOMS):
        for path in sorted((root / folder).rglob("*.py")):
            inside = path.parent.relative_to(root).parts
            package = ".".join(inside if folder == "wfm_sim" else ("wfm_sim", *inside))
            found.append(("core" if folder == "wfm_sim" else folder, package, path))
    return found


def command_line(root: Path) -> list[Path]:
    """wfm_sim/cli.py and its parts, which may import anything, but inside functions."""
    return sorted((root / "wfm_sim").glob("cli*.py"))


def test_every_import_is_allowed(root: Path) -> None:
    wrong = []
    files = python_files(root)
    for room, package, path in files:
        if path in command_line(root):
            continue
        for target in imported_rooms(path.read_text(), package) - MAY_IMPORT[room]:
            wrong.append(f"{path.relative_to(root)} ({room}) imports {target}")
    assert len(files) > 20
    assert not wrong, "\n".join(wrong)


def test_the_command_line_imports_rooms_inside_functions_only(root: Path) -> None:
    for path in command_line(root):
        tree = ast.parse(path.read_text())
        top = ast.Module([node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
        assert imported_rooms(ast.unparse(top), "wfm_sim") <= {"core"}, path


@pytest.mark.parametrize(
    ("source", "package", "expected"),
    [
        ("import wfm_sim.envs.twin", "wfm_sim", {"envs"}),
        ("from wfm_sim import evals", "wfm_sim", {"evals"}),
        ("def f():\n    from wfm_sim.policies.base import Policy", "wfm_sim", {"policies"}),
        ("from ..training import collect", "wfm_sim.evals", {"training"}),
        ("from . import actions", "wfm_sim", {"core"}),
        ("import envs", "wfm_sim", {"bare envs"}),
        ("import torch, numpy.linalg", "wfm_sim", set()),
    ],
)
def test_the_import_parser_sees_through(source: str, package: str, expected: set[str]) -> None:
    assert imported_rooms(source, package) == expected


def test_importing_the_package_stays_light(tmp_path: Path) -> None:
    # Gymnasium itself is the one thing needed to register the environments.
    code = f"import sys, wfm_sim; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"


def test_one_class_whichever_way_it_is_imported() -> None:
    import wfm_sim.policies.base
    from wfm_sim.policies import base

    assert base is wfm_sim.policies.base
    assert "policies" not in sys.modules


@pytest.mark.slow
def test_the_wheel_holds_the_rooms_inside_the_package(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling is not installed: make setup")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for room in ROOMS:
        assert f"wfm_sim/{room}/__init__.py" in names
        assert f"{room}/__init__.py" not in names
    assert {"wfm_sim/cli.py", "wfm_sim/py.typed", "wfm_sim/data/episode.py"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "typings/", "wfm_sim/tests"))]
    # Unpacked far from the source tree it must find its rooms without the __path__ line.
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = "import wfm_sim.training.collect, wfm_sim.policies, wfm_sim.envs; print(wfm_sim.policies.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path / "installed"
    )
    assert found.stdout.startswith(str(tmp_path / "installed"))
