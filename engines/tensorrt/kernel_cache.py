"""Kernels that TensorRT-RTX compiles on the GPU when an engine is first used, kept beside the engine for the next
start.

An engine of TensorRT-RTX holds kernels for a family of GPUs in a form that is finished on the GPU itself: NVIDIA says
that this takes seconds. What was finished is handed out as bytes by ``IRuntimeCache``, and taken back only by the same
version on the same GPU. The full TensorRT has nothing to finish.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from vita_edge.engines.errors import OutputFailed

from ..bundle.atomic_file import write_whole

__all__ = ["KernelCache"]

_DIGEST_BYTES = sha256().digest_size


class KernelCache:
    """The kernels of one engine, shared by its contexts.

    It never stands in the way: what cannot be read is compiled again, what cannot be written is compiled at the next
    start, and :attr:`problem` says why.

    Args:
        file: sha256 of what follows, then what the library has handed out.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._cache: Any = None
        self._stored_bytes = 0
        """Kernels in the file; there are only ever more of them."""
        self.found = False
        """Whether the library took the kernels of an earlier start."""
        self.problem = ""
        """Why kernels are not kept, or were not found; empty if all is well."""

    @property
    def used(self) -> bool:
        """Whether the engine has been used."""
        return self._cache is not None

    def __str__(self) -> str:
        """What became of them, for a measurement."""
        return self.problem or ("of an earlier start" if self.found else "compiled")

    def join(self, config: Any) -> None:
        """Let contexts of that ``IRuntimeConfig`` take kernels from here, and leave here what they compile."""
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            if kernels := self._read():
                self.found = bool(self._cache.deserialize(kernels))
                if self.found:
                    self._stored_bytes = len(kernels)
                else:
                    self.problem = f"{self._file} is of another GPU, driver or version; its kernels are compiled again"
        config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Write what has been compiled, if there is anything new."""
        if self._cache is None:
            return
        handed_out = self._cache.serialize()
        if handed_out is None:
            self.problem = "the library does not hand its kernels out"
            return
        kernels = memoryview(handed_out)
        if kernels.nbytes == self._stored_bytes:
            return
        try:
            write_whole(self._file, sha256(kernels).digest() + bytes(kernels))
        except OutputFailed as error:
            self.problem = f"{error.what} {error.why}"
        else:
            self._stored_bytes, self.problem = kernels.nbytes, ""

    def _read(self) -> bytes:
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            self.problem = f"{self._file} cannot be read: {error.strerror}"
            return b""
        digest, kernels = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if sha256(kernels).digest() != digest:
            self.problem = f"{self._file} is damaged; its kernels are compiled again"
            return b""
        return kernels
