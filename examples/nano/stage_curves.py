"""Pictures of how the losses of the stages fell: ``out/nano/NAME.png`` from ``out/nano/NAME.jsonl``.

python examples/nano/stage_curves.py
"""

from __future__ import annotations

import json

from matplotlib.figure import Figure

from vocabulary import OUT


def main() -> None:
    for file in sorted(OUT.glob("*.jsonl")):
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot(xlabel="step", ylabel="loss; share that is wrong", yscale="log", title=file.stem)
        names = dict.fromkeys(name for line in lines for name in line if name not in ("step", "seconds_a_step"))
        for name in names:
            points = [(line["step"], max(line[name], 1e-3)) for line in lines if name in line]
            axes.plot(*zip(*points), marker="." if name.startswith("wrong") else "", label=name)
        if names:
            axes.legend()
        axes.grid(alpha=0.3)
        figure.savefig(file.with_suffix(".png"), dpi=110)
        print(file.with_suffix(".png"))


if __name__ == "__main__":
    main()
