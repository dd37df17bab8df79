"""Memory of the GPU, taken and given back: blocks, the lanes that share them, and tensors that lie in them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vita_edge.engines.outputs import DeviceOutputs
from vita_edge.engines.tensors import Array

from .cuda import Cuda, pinned_array

__all__ = ["DeviceBlock", "DeviceTensor", "Lane", "Mirror", "Scratch", "TensorRtOutputs"]


class DeviceBlock:
    """So many bytes of the GPU; given back when nobody has it any more."""

    def __init__(self, cuda: Cuda, nbytes: int) -> None:
        self.nbytes = nbytes
        self.address = cuda.allocate(nbytes)
        self._give_back = weakref.finalize(self, cuda.free, self.address)

    def close(self) -> None:
        self._give_back()


class Scratch:
    """A block that is replaced by a larger one when more is wanted; what was in it is lost then."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._block: DeviceBlock | None = None

    @property
    def nbytes(self) -> int:
        return self._block.nbytes if self._block else 0

    def block(self, nbytes: int) -> DeviceBlock:
        """A block of at least that size.

        Raises:
            InferenceFailed: there is no room; the smaller one has been given back all the same.
        """
        if self._block is None or self._block.nbytes < nbytes:
            self.close()
            self._block = DeviceBlock(self._cuda, nbytes)
        return self._block

    def close(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.close()


class Mirror:
    """A block of the GPU and one of the same size in pinned memory of the host: one copy moves all that is in it."""

    def __init__(self, cuda: Cuda, nbytes: int) -> None:
        self.nbytes = nbytes
        self.device = DeviceBlock(cuda, nbytes)
        self._cuda = cuda
        self._host = cuda.allocate_pinned(nbytes)
        self._give_back = weakref.finalize(self, cuda.free_pinned, self._host)

    def array(self, offset: int, dtype: str, shape: tuple[int, ...]) -> Array:
        """A part of the host's side; whoever has the array has the memory."""
        return pinned_array(self._host + offset, dtype, shape, owner=self)

    def upload(self, stream: int) -> None:
        self._cuda.upload(self.device.address, self._host, self.nbytes, stream)

    def download(self, stream: int) -> None:
        self._cuda.download(self._host, self.device.address, self.nbytes, stream)

    def close(self) -> None:
        """Give the GPU's side back; the host's goes when nobody has an array in it any more."""
        self.device.close()


class Lane:
    """A stream, and one block for the activations of all that runs on it, one after the other.

    The lock is there for whoever uses two components of a lane from two threads: the second waits.
    """

    def __init__(self, cuda: Cuda, name: str) -> None:
        self.name, self.cuda = name, cuda
        self.lock = threading.RLock()
        self.stream = cuda.new_stream()
        self._scratch = Scratch(cuda)
        self._give_back = weakref.finalize(self, cuda.destroy_stream, self.stream)

    @property
    def activation_bytes(self) -> int:
        """Of the block that is held now."""
        return self._scratch.nbytes

    def activations(self, nbytes: int) -> DeviceBlock:
        """The block, at least that large; another one than before where it was smaller. Nothing may be running on the
        lane.

        Raises:
            InferenceFailed: there is no room; whoever needs less is served as before.
        """
        return self._scratch.block(nbytes)

    def close(self) -> None:
        self._scratch.close()
        self._give_back()


@dataclass(frozen=True)
class DeviceTensor:
    """A tensor on the GPU."""

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def read(self, lane: Lane) -> Array:
        """A copy on the host, of what it is when the stream gets there."""
        array = np.empty(self.shape, self.dtype)
        if array.size:
            with lane.lock:  # a copy in the middle of another thread's capture would become a part of it
                lane.cuda.download(array.ctypes.data, self.address, self.nbytes, lane.stream)
                lane.cuda.wait(lane.stream)
        return array


class TensorRtOutputs(DeviceOutputs):
    """Outputs of an engine: read when they are looked at, or used where they lie.

    Args:
        here: outputs that are on the host already.
        keep: what owns the memory of the tensors, if it can be forgotten before they are read.
    """

    def __init__(
        self,
        tensors: Mapping[str, DeviceTensor],
        lane: Lane,
        here: Mapping[str, Array] | None = None,
        *,
        keep: object = None,
    ) -> None:
        def reader(tensor: DeviceTensor) -> Callable[[], Array]:
            return lambda: tensor.read(lane)

        readers: dict[str, Callable[[], Array]] = {name: reader(tensor) for name, tensor in tensors.items()}
        super().__init__(readers)
        self.tensors = tensors
        self._keep = keep
        self._read.update(here or {})
