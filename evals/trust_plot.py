"""Trust at a glance: does it come true (reliability), what it says, and how long imagined episodes last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wfm_sim.data.files import atomic_path


def write_plot(path: Path, summary: dict[str, Any], name: str) -> None:
    """A PNG of three panels: reliability of both outputs with intervals, and survival within tolerance."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    horizon, headline = summary["horizon"], summary["headline"]
    for panel, key, title in (
        (panels[0], "now", "within tolerance now"),
        (panels[1], "ahead", f"within tolerance for the next {horizon} steps"),
    ):
        bins = summary["reliability"][key]
        x = [b["predicted"] for b in bins]
        y = [b["observed"]["value"] for b in bins]
        spread = [
            [max(0.0, v - b["observed"].get("low", v)) for v, b in zip(y, bins, strict=True)],
            [max(0.0, b["observed"].get("high", v) - v) for v, b in zip(y, bins, strict=True)],
        ]
        panel.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1, label="perfect")
        panel.errorbar(x, y, yerr=spread, marker="o", markersize=4, linewidth=1.4, capsize=2, color="#1f6fb2")
        error, rank = headline[f"ece_{key}"]["value"], headline[f"auroc_{key}"]["value"]
        said = [f"{label} {value:.3f}" for label, value in (("ECE", error), ("AUROC", rank)) if value is not None]
        panel.set(xlim=(0, 1), ylim=(0, 1), xlabel="trust (mean of bin)", ylabel="share that came true", title=title)
        panel.text(0.03, 0.95, "\n".join(said), transform=panel.transAxes, va="top")
        panel.set_aspect("equal")
    curve = summary["collapse"]["survival"]
    steps = [p["step"] for p in curve] + [summary["collapse"]["horizon"]]
    last = panels[2]
    for field, style in (("survival", {"color": "#1f6fb2"}), ("low", {"color": "0.7"}), ("high", {"color": "0.7"})):
        values = [p[field] for p in curve]
        last.step(steps, [*values, values[-1]], where="post", linewidth=1.4, **style)
    last.set(ylim=(0, 1.02), xlabel="step", ylabel="share of episodes not collapsed", title="steps to collapse")
    figure.suptitle(f"{name}: {summary['episodes']} held-out episodes", fontsize=11)
    with atomic_path(path) as partial, partial.open("wb") as file:
        figure.savefig(file, format="png", dpi=110)
