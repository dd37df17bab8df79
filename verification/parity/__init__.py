"""Compare a bundle with recorded arrays of the reference, stage by stage. The gate that no bundle is shipped past."""

from .compare import Check
from .folder import GoldenFolder
from .verify import verify

__all__ = ["Check", "GoldenFolder", "verify"]
