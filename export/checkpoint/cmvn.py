"""Feature statistics of the audio folder: sums over the training data, in JSON or as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import BadCheckpoint
from vita_edge.engines.reading.file_kind import FileKind, read_text
from vita_edge.engines.reading.json_file import parse_json

__all__ = ["read_cmvn"]

STATISTICS = FileKind(BadCheckpoint, "the feature statistics", fix="Download the audio folder again.")


def read_cmvn(file: Path, mel_bins: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and inverse deviation, float32 [mel_bins] each, computed in double.

    JSON: {"mean_stat": [..], "var_stat": [..], "frame_num": N}. Text: ``[ m_1 .. m_80 N v_1 .. v_80 0 ]``.
    """
    text = read_text(file, STATISTICS).strip()
    try:
        if text.startswith("{"):
            statistics = parse_json(text)
            sums, squares = statistics["mean_stat"], statistics["var_stat"]
            frames = float(statistics["frame_num"])
        else:
            numbers = text.strip("[]").split()
            sums, frames, squares = numbers[:mel_bins], float(numbers[mel_bins]), numbers[mel_bins + 1 : -1]
        total, total_of_squares = np.array(sums, np.float64), np.array(squares, np.float64)
        if total.shape != (mel_bins,) or total_of_squares.shape != (mel_bins,) or not frames > 0:
            raise ValueError(f"it does not hold {mel_bins} sums of each kind and the number of frames")
        if not (np.isfinite(total).all() and np.isfinite(total_of_squares).all() and np.isfinite(frames)):
            raise ValueError("it holds NaN or infinity")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise STATISTICS.refusal(file, f"Its content is not as expected: {error}.") from error
    mean = total / frames
    variance = np.maximum(total_of_squares / frames - mean**2, 1e-20)
    return mean.astype(np.float32), (1 / np.sqrt(variance)).astype(np.float32)
