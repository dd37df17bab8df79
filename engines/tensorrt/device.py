"""The GPU of this machine, asked through NVIDIA's cuda-python; whatever is missing is said in plain words.

Asked before TensorRT is given an engine: without a driver, some of its versions end the process instead of failing.
"""

from __future__ import annotations

import importlib
import platform
from dataclasses import dataclass
from typing import Any

from vita_edge.engines.errors import EngineUnavailable

__all__ = ["Gpu", "find_device", "host"]

MODULES = ("cuda.bindings.driver", "cuda.cuda")
"""Where the bindings are: since 12.6.1, and before."""


@dataclass(frozen=True)
class Gpu:
    """A GPU that CUDA can use."""

    name: str
    sm: str
    """Compute capability: ``sm87``."""
    driver: str
    """Newest CUDA version that the driver knows: ``12.6``."""
    memory_bytes: int
    shared_memory: bool
    """It has no memory of its own but the machine's, as on a Jetson."""

    def __str__(self) -> str:
        return f"{self.name} ({self.sm})"


def host() -> str:
    """System and processor that an engine is opened by: ``Linux aarch64``."""
    return f"{platform.system()} {platform.machine()}"


def find_device(index: int = 0) -> Gpu:
    """The GPU number ``index``.

    Raises:
        EngineUnavailable: cuda-python, the driver or the GPU is missing, or the driver is too old.
    """
    driver = _driver_module()
    try:
        _call(driver, driver.cuInit(0))
        count = int(_call(driver, driver.cuDeviceGetCount()))
        if index >= count:
            raise _NoAnswer("there is no GPU" if not count else f"there are {count} GPUs, and none has number {index}")
        gpu = _call(driver, driver.cuDeviceGet(index))
        ask = driver.CUdevice_attribute
        major, minor, integrated = (
            int(_call(driver, driver.cuDeviceGetAttribute(attribute, gpu)))
            for attribute in (
                ask.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                ask.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                ask.CU_DEVICE_ATTRIBUTE_INTEGRATED,
            )
        )
        version = int(_call(driver, driver.cuDriverGetVersion()))
        return Gpu(
            name=bytes(_call(driver, driver.cuDeviceGetName(128, gpu))).partition(b"\0")[0].decode(),
            sm=f"sm{major}{minor}",
            driver=f"{version // 1000}.{version % 1000 // 10}",
            memory_bytes=int(_call(driver, driver.cuDeviceTotalMem(gpu))),
            shared_memory=bool(integrated),
        )
    except _NoAnswer as error:
        why = f"CUDA says that {error}."
    except (ImportError, OSError, RuntimeError) as error:  # the loader's own classes: libcuda.so is not there
        why = "There is no NVIDIA driver." if "driver" in str(error).lower() else f"{str(error).splitlines()[0]}."
    raise EngineUnavailable(
        "There is no GPU that CUDA can use.",
        why=why,
        fix="Run on a machine with an NVIDIA GPU, install its driver, or use the backend cpu.",
    )


def _driver_module() -> Any:
    first: ImportError | None = None
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            first = first or error
    raise EngineUnavailable(
        "The GPU cannot be asked.",
        why=f"The package cuda-python is not installed ({first}).",
        fix="Install cuda-python of the CUDA version that the driver has: 12.x on JetPack 6, 13.x on JetPack 7.",
    ) from first


class _NoAnswer(Exception):
    """CUDA has refused; says so in words."""


def _call(driver: Any, answer: tuple[Any, ...]) -> Any:
    """The value of an answer of the driver, whose first part is an error code."""
    code, *values = answer
    if int(code) != 0:
        name = driver.cuGetErrorName(code)[1]
        raise _NoAnswer(f"it failed ({bytes(name).decode() if name else int(code)})")
    return values[0] if values else None
