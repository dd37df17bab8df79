"""A recording of feeds on disk: what its writer in the runtime and its reader in the calibration agree on."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from .format import Bundle

__all__ = ["FEEDS_FORMAT", "FEEDS_MANIFEST", "FEEDS_VERSION", "model_identity"]

FEEDS_FORMAT = "vita-edge-feeds"
FEEDS_VERSION = 2
FEEDS_MANIFEST = "manifest.json"
TABLE_ROWS = 64
"""Of the token table, which tell one checkpoint from another."""


def model_identity(bundle: Bundle) -> dict[str, Any]:
    """What bundles of one checkpoint have in common, whatever their precision: its facts and its token table.

    A float32 table lies as float16 in some bundles, so its rows are compared as that.
    """
    table, count = bundle.embedding_table(), int(bundle.embeddings["rows"])
    rows = table.rows(np.linspace(0, count - 1, min(count, TABLE_ROWS), dtype=np.int64))
    with np.errstate(over="ignore"):
        half = rows.astype("<f2")
    return {
        "name": bundle.model.name,
        "facts": bundle.model.to_json(),
        "embeddings": hashlib.sha256(half.tobytes()).hexdigest(),
    }
