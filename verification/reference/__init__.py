"""VITA-1.5 in plain PyTorch, one file a part, from the files of a release: what every graph is held to."""

from .decoding import decode
from .model import DTYPES, Reference

__all__ = ["DTYPES", "Reference", "decode"]
