"""Losses while a stage runs: kept in a file beside its state, drawn as a picture."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["Curves"]


class Curves:
    """Means of named losses over every so many steps; ``file`` is read again when a stage goes on."""

    def __init__(self, file: Path, every: int = 50) -> None:
        self._file, self._every = file, every
        self._rows: list[dict[str, float]] = json.loads(file.read_text()) if file.exists() else []
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, step: int, **losses: float) -> None:
        """Losses of one step; a row is printed and kept when enough have come."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if step % self._every == 0:
            self.row(step, **{name: value / self._count for name, value in self._sums.items()})
            self._sums, self._count = {}, 0

    def row(self, step: int, **values: float) -> None:
        """Something that is measured now and then."""
        self._rows = [row for row in self._rows if row["step"] < step or not values.keys() <= row.keys()]
        self._rows.append({"step": step, **values})
        print(f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()), flush=True)

    def save(self) -> None:
        """Write the rows, and the picture of the same name."""
        from matplotlib.figure import Figure

        self._file.write_text(json.dumps(self._rows))
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot(xlabel="step", ylabel="loss", yscale="log")
        for name in dict.fromkeys(name for row in self._rows for name in row if name != "step"):
            found = [(row["step"], row[name]) for row in self._rows if name in row]
            axes.plot(*zip(*found), label=name)
        axes.legend()
        axes.grid(alpha=0.3)
        figure.savefig(self._file.with_suffix(".png"), dpi=110)
