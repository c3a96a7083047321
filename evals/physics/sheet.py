"""Contact sheets: every camera of a scene over time, to be looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from wfm_sim.assets.physics import AUTHORS, FPS, build
from wfm_sim.data.files import atomic_path
from wfm_sim.envs.physics import Renderer, simulate
from wfm_sim.errors import UserError, unknown

FRAMES = (0, 4, 8, 12, 16, 20, 24, 28, 32)
GAP, LABEL = 4, 14  # pixels between pictures, and above each row


def contact_sheets(
    out: Path,
    scenes: Sequence[str],
    seeds: Sequence[int],
    size: int = 192,
    backend: str = "mujoco",
    masks: bool = False,
    progress: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write OUT/<scene>.png: a row per seed and camera, a column per frame; returns the paths.

    `size`: height and width of a picture in pixels. `masks`: paint the outline of every object's mask white.

    Raises:
        UserError: unknown scene or backend, or a size that is not positive.
    """
    for name in scenes:
        if name not in AUTHORS:
            raise unknown("physics scene", name, AUTHORS)
    if not seeds:
        raise UserError("a contact sheet needs at least one seed")
    if size < 16:
        raise UserError(f"pictures of a contact sheet need 16 pixels or more, not {size}")
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in scenes:
        rows = [row for seed in seeds for row in _rows(name, seed, size, backend, masks)]
        width = max(row.width for row in rows)
        sheet = Image.new("RGB", (width, sum(row.height for row in rows)), "white")
        top = 0
        for row in rows:
            sheet.paste(row, (0, top))
            top += row.height
        path = out / f"{name}.png"
        with atomic_path(path) as temporary:
            sheet.save(temporary, format="PNG")
        paths.append(path)
        if progress:
            progress(path)
    return paths


def _rows(name: str, seed: int, size: int, backend: str, masks: bool) -> list[Image.Image]:
    """One picture per camera of a scene and seed."""
    scene = build(name, seed)
    trajectory = simulate(scene, max(FRAMES) + 1, FPS, backend)
    rows = []
    with Renderer(scene, size, size) as renderer:
        for view, camera in enumerate(scene.cameras):
            row = Image.new("RGB", (len(FRAMES) * (size + GAP), size + LABEL), "white")
            text = f"{name}, seed {seed}, {camera.name}, {backend}, frames {', '.join(map(str, FRAMES))}"
            ImageDraw.Draw(row).text((2, 1), text, fill="black")
            for column, frame in enumerate(FRAMES):
                picture, mask = renderer.render(trajectory, frame, view)
                if masks:
                    picture[_outlines(mask)] = 255
                row.paste(Image.fromarray(picture), (column * (size + GAP), LABEL))
            rows.append(row)
    return rows


def _outlines(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that touch another value: bool [H, W]."""
    edge = np.zeros(mask.shape, dtype=bool)
    edge[1:] |= mask[1:] != mask[:-1]
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    return edge
