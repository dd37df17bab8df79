"""Train the runtime's own turn detector on the tuning half of a labelled set; needs scikit-learn:

    python benchmarks/turn_training.py FOLDER [-o runtime/turns/turn_weights.json]

A small network over prosody; it is the mean of several trainings. It is held against speakers that it has not heard,
one left out after the other.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from turn_points import Point, points_of

from vita_edge.runtime.turns.prosody import FEATURES
from vita_edge.runtime.turns.smart_turn import SmartTurn, installed_model

HIDDEN, SEEDS, PENALTY = 12, 5, 3.0
PLACES = 4
"""Decimals of a weight."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("runtime/turns/turn_weights.json"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # training is stopped early on purpose
    model = installed_model()
    points = points_of(arguments.folder / "tuning", SmartTurn(model) if model else None)
    labels = np.array([point.complete for point in points])
    inputs = np.array([point.features for point in points])
    print(f"{len(points)} silences; AUC of speakers left out: {left_out(points, inputs, labels):.3f}")
    facts = {"format": 1, "features": list(FEATURES), **trained(inputs, labels)}
    arguments.output.write_text(json.dumps(facts) + "\n", "utf-8")


def left_out(points: list[Point], inputs: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    speakers = np.array([point.speaker for point in points])
    reported = np.zeros(len(points))
    for speaker in sorted(set(speakers)):
        there = speakers == speaker
        reported[there] = said(trained(inputs[~there], labels[~there]), inputs[there])
    return float(roc_auc_score(labels, reported))


def trained(inputs: NDArray[np.float64], labels: NDArray[np.bool_]) -> dict[str, Any]:
    mean, scale = inputs.mean(0), inputs.std(0) + 1e-6
    members = []
    for seed in range(SEEDS):
        net = MLPClassifier(
            (HIDDEN,), activation="tanh", alpha=PENALTY, solver="lbfgs", max_iter=400, random_state=seed
        )
        net.fit(np.clip((inputs - mean) / scale, -3, 3), labels)
        (first, second), (bias, last) = net.coefs_, net.intercepts_
        parts = {"first": first, "bias": bias, "second": second[:, 0], "last": last[0]}
        members.append({name: np.round(value, PLACES).tolist() for name, value in parts.items()})
    return {"mean": np.round(mean, 6).tolist(), "scale": np.round(scale, 6).tolist(), "members": members}


def said(network: dict[str, Any], inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.clip((inputs - np.array(network["mean"])) / np.array(network["scale"]), -3, 3)
    reported = [
        np.tanh(x @ np.array(m["first"]) + np.array(m["bias"])) @ np.array(m["second"]) + m["last"]
        for m in network["members"]
    ]
    return np.asarray(1 / (1 + np.exp(-np.mean(reported, 0))))


if __name__ == "__main__":
    main()
