"""Compile the graphs of a bundle with TensorRT-RTX, without a GPU, and say what came out: verdict, weights, kernels.

    python benchmarks/compile.py BUNDLE --device sm86 --device sm89 [--component llm] [--json]

The bundle has to be one for TensorRT (``vita-edge export --target tensorrt``); the profiles are those of ``vita-edge
build``. Nothing is executed, so nothing is said
of speed. Each graph is compiled in a process of its own, whose peak memory is told. Exit status 1 if one is refused.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import onnx
from kernels import Refused, compile_graph

from vita_edge.engines.bundle.component_spec import COMPONENTS
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.onnx_file.graph_inputs import graph_interface
from vita_edge.engines.tensorrt.build.profiles import EngineLimits, axis_lengths, fixed_lengths


def report(bundle_path: Path, name: str, device: str) -> dict[str, Any]:
    """One graph, compiled for one device."""
    bundle = Bundle.open(bundle_path)
    graph = bundle.components[name].graph
    limits, inputs = EngineLimits.of(bundle.model), graph_interface(graph).inputs
    known = axis_lengths(name, bundle.model, limits)
    named = {axis for spec in inputs.values() for axis in spec.axes if isinstance(axis, str)}
    lengths = [{axis: span for axis, span in spans.items() if axis in named} for spans in known.values()]
    fixed = fixed_lengths(name, bundle.model, limits)
    facts: dict[str, Any] = {"component": name, "device": device, "planned_weight_bytes": planned_bytes(graph)}
    try:
        made = compile_graph(graph, lengths, devices=[device], fixed=fixed)
    except Refused as refusal:
        return {**facts, "verdict": "refused", "reason": str(refusal)}
    described = [
        {
            "axes": {axis: list(span) for axis, span in profile.items()},
            "kernels": len(made.of(i)),
            "attention": dict(Counter(k.name.split("_myl")[0] for k in made.of(i) if k.attends)),
            "products": {dtype: len(made.reading(dtype, i)) for dtype in ("Int4", "Int8", "Half", "Float")},
            "widened_matrices": sum(k.widens for k in made.of(i)),
            "activation_bytes": made.activation_bytes[i],
        }
        for i, profile in enumerate(lengths)
    ]
    return {
        **facts,
        "verdict": "compiled",
        "seconds": round(made.seconds, 1),
        "plan_bytes": made.plan_bytes,
        "weight_bytes": made.weight_bytes,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "profiles": described,
    }


def planned_bytes(graph: Path) -> int:
    """Bytes of the weights that the graph names."""
    model = onnx.load(str(graph), load_external_data=False)
    return sum(int(e.value) for t in model.graph.initializer for e in t.external_data if e.key == "length")


def line(facts: dict[str, Any]) -> str:
    head = f"{facts['component']:<15} {facts['device']}"
    if facts["verdict"] == "refused":
        return f"{head}  refused: {facts['reason']}"
    head += (
        f"  {facts['seconds']:6.1f} s, peak {facts['peak_memory_bytes'] / 2**30:4.1f} GiB, weights "
        f"{facts['weight_bytes'] / 1e6:,.1f} MB of {facts['planned_weight_bytes'] / 1e6:,.1f} planned"
    )
    rows = [head]
    for profile in facts["profiles"]:
        axes = ", ".join(f"{axis} {'…'.join(map(str, dict.fromkeys(span)))}" for axis, span in profile["axes"].items())
        attention = ", ".join(f"{count} {kernel}" for kernel, count in profile["attention"].items()) or "no attention"
        products = ", ".join(f"{count} {dtype}" for dtype, count in profile["products"].items() if count)
        rows.append(
            f"    {axes}: {profile['kernels']} kernels, {attention}; matrices read: {products}; "
            f"{profile['widened_matrices']} widened; activations {profile['activation_bytes'] / 1e6:,.1f} MB"
        )
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device", action="append", metavar="SM", help="sm86 (default), sm89, …; may be repeated")
    parser.add_argument("--component", action="append", choices=COMPONENTS, help="only these; may be repeated")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    arguments = parser.parse_args()
    found = []
    for name in arguments.component or COMPONENTS:
        for device in arguments.device or ["sm86"]:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                facts = pool.submit(report, arguments.bundle, name, device).result()
            found.append(facts)
            if not arguments.json:
                print(line(facts), flush=True)
    if arguments.json:
        bundle = Bundle.open(arguments.bundle)
        print(json.dumps({"target": bundle.target, "precision": bundle.precision, "compiled": found}, indent=1))
    return int(any(facts["verdict"] == "refused" for facts in found))


if __name__ == "__main__":
    sys.exit(main())
