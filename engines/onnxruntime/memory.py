"""Where ONNX Runtime's tensors lie: arrays of the host, or values of a device. Bound by address either way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort

from ..errors import InferenceFailed
from ..outputs import DeviceOutputs
from ..tensors import Array

__all__ = ["Block", "DeviceMemory", "HostMemory", "Memory"]


@dataclass(frozen=True)
class Block:
    """A tensor's memory: an address, and what keeps it alive."""

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    owner: Any
    """The array, or the OrtValue."""

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


class Memory(Protocol):
    """One kind of memory."""

    device: str
    """ONNX Runtime's name of it."""
    readable: bool
    """What a graph writes is what a caller reads; else it is copied first."""
    capacity_step: int
    """Positions of a cache are a multiple of it."""

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Block:
        """A tensor of zeros. Never of what was there before: behind a mask, zero times NaN is NaN."""
        ...

    def hold(self, array: Array) -> Block:
        """``array`` as a tensor of this memory, for one call."""
        ...

    def write(self, block: Block, array: Array) -> None:
        """Replace the whole content of ``block``."""
        ...

    def write_prefix(self, block: Block, array: Array) -> None:
        """Replace the first positions of a cache: block [1, heads, capacity, width], array [1, heads, n, width]."""
        ...

    def outputs(self, blocks: Mapping[str, Block], values: Mapping[str, ort.OrtValue]) -> Mapping[str, Array]:
        """What a call has written into ``blocks`` and handed out as ``values``, for whoever called."""
        ...


class HostMemory:
    """Arrays; what a graph writes is what a caller reads."""

    device = "cpu"
    readable = True
    capacity_step = 1

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Block:
        return self._block(_zeros_page_by_page(shape, np.dtype(dtype)))

    def hold(self, array: Array) -> Block:
        return self._block(np.asarray(array, order="C"))

    def write(self, block: Block, array: Array) -> None:
        block.owner[...] = array

    def write_prefix(self, block: Block, array: Array) -> None:
        block.owner[:, :, : array.shape[2]] = array

    def outputs(self, blocks: Mapping[str, Block], values: Mapping[str, ort.OrtValue]) -> Mapping[str, Array]:
        return {name: block.owner for name, block in blocks.items()} | {n: v.numpy() for n, v in values.items()}

    def _block(self, array: Array) -> Block:
        return Block(array.ctypes.data, array.dtype, array.shape, array)


class DeviceMemory:
    """Values of a device; they are copied to the host when they are read.

    Args:
        device: ``cuda``; or ``cpu``, which runs the same code where there is no GPU.

    Raises:
        InferenceFailed: the device has no room.
    """

    readable = False
    capacity_step = 64
    """Where rows of a mask were no multiple of 8 values long, attention in half precision ended on CUDA in
    cudaErrorMisalignedAddress (mended in ONNX Runtime in 2026, after 1.24)."""

    def __init__(self, device: str = "cuda") -> None:
        self.device = device

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Block:
        taken = shape if all(shape) else (1,)  # an empty tensor wants an address too
        try:
            value = ort.OrtValue.ortvalue_from_shape_and_type(list(taken), np.dtype(dtype).type, self.device, 0)
            value.update_inplace(np.zeros(taken, dtype))
        except RuntimeError as error:
            raise _no_room(shape, dtype, error) from error
        return self._block(value, np.dtype(dtype), shape)

    def hold(self, array: Array) -> Block:
        if not array.size:
            return self.zeros(array.shape, str(array.dtype))
        try:
            value = ort.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"), self.device, 0)
        except RuntimeError as error:
            raise _no_room(array.shape, str(array.dtype), error) from error
        return self._block(value, array.dtype, array.shape)

    def write(self, block: Block, array: Array) -> None:
        if array.size:
            block.owner.update_inplace(np.ascontiguousarray(array, block.dtype).reshape(block.shape))

    def write_prefix(self, block: Block, array: Array) -> None:
        whole = np.zeros(block.shape, block.dtype)  # the backend copies whole values only
        whole[:, :, : array.shape[2]] = array
        self.write(block, whole)

    def outputs(self, blocks: Mapping[str, Block], values: Mapping[str, ort.OrtValue]) -> Mapping[str, Array]:
        owners = {name: block.owner for name, block in blocks.items()} | dict(values)
        return DeviceOutputs({name: owner.numpy for name, owner in owners.items()})

    def _block(self, value: ort.OrtValue, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Block:
        return Block(int(value.data_ptr()), dtype, shape, value)


def _no_room(shape: tuple[int, ...], dtype: str, error: BaseException) -> InferenceFailed:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return InferenceFailed(
        f"The device has no room for a tensor of {size:,} bytes.",
        why=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
        fix="Close what else uses the device, or open the conversation with a smaller --context.",
    )


def _zeros_page_by_page(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Zeros of which the system takes a page when it is first written to. What numpy makes may be memory that was used
    before, and is then cleared, and so taken, as a whole."""
    size = int(np.prod(shape))
    if not size:
        return np.zeros(shape, dtype)
    pages = mmap(-1, size * dtype.itemsize, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype, size).reshape(shape)
