"""The report as one picture: signal to noise of every layer in the order of the graphs, and of every stage."""

from __future__ import annotations

import io

from .calibration_report import CalibrationReport

__all__ = ["picture_png"]

COLOURS = {"int8": "#1f77b4", "int8 weight": "#17becf", "int4 weight": "#ff7f0e"}
WIDE = "#7f7f7f"


def picture_png(report: CalibrationReport) -> bytes:
    """PNG; the same bytes for the same report and version of matplotlib.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    components = list(dict.fromkeys(layer.component for layer in report.layers))
    figure = Figure(figsize=(11, 1 + 1.7 * max(len(components), 1)), layout="constrained")
    axes = figure.subplots(max(len(components), 1), 1, squeeze=False)[:, 0]
    stages = {stage.component: stage for stage in report.stages}
    for axis, component in zip(axes, components):
        layers = [layer for layer in report.layers if layer.component == component]
        levels = [layer.snr_db or 0 for layer in layers]
        axis.bar(range(len(layers)), levels, color=[COLOURS.get(layer.stored_as, WIDE) for layer in layers])
        plain = [(i, layer.minmax_db) for i, layer in enumerate(layers) if layer.minmax_db is not None]
        if plain:
            axis.plot(*zip(*plain), "_", color="black", label="min-max alone")
        stage = stages.get(component)
        reported = f": {stage.output} {stage.snr_db:.1f} dB" if stage else ""
        axis.set_title(f"{component}{reported}", loc="left", fontsize=9)
        axis.set_ylabel("dB", fontsize=8)
        axis.set_xlim(-0.6, len(layers) - 0.4)
        axis.tick_params(labelsize=7)
        worst = min(range(len(layers)), key=levels.__getitem__)
        axis.annotate(layers[worst].name, (worst, levels[worst]), fontsize=7, ha="center", va="bottom")
    for axis in axes[len(components) :]:
        axis.set_axis_off()
    figure.suptitle(
        "Signal to noise of every layer (blue: int8, cyan and orange: weights alone in 8 and 4 bits, grey: stays wide; "
        "dashes: min-max alone)",
        fontsize=8,
    )
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100, metadata={"Software": None})
    return out.getvalue()
