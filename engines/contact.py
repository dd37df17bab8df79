"""Where faults are reported: named here, and nowhere else."""

from __future__ import annotations

import os

__all__ = ["ADDRESS", "report_to"]

ADDRESS = ""
"""An address of an issue tracker or of a person. Whoever publishes or ships vita-edge sets it; none is made up."""
VARIABLE = "VITA_EDGE_CONTACT"


def report_to() -> str:
    """The address, of the environment's ``VITA_EDGE_CONTACT`` first; without one, whoever handed the program out."""
    return os.environ.get(VARIABLE, "").strip() or ADDRESS or "the person who gave you vita-edge"
