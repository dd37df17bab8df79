"""One execution context of an engine: the calls of TensorRT that a session makes, with their refusals in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vita_edge.engines.errors import InferenceFailed

from .device_memory import DeviceBlock, Lane
from .kernel_cache import KernelCache

__all__ = ["Context", "Engine"]


class Engine:
    """A deserialised engine.

    Args:
        trt: TensorRT's module, either family.
        engine: its ``ICudaEngine``.
        told: what the library has said last, for errors.
        kernels: where TensorRT-RTX finds and leaves what it compiles when the engine is used; None for the full
        library. keep: what has to live as long as the engine.
    """

    def __init__(
        self,
        name: str,
        trt: Any,
        engine: Any,
        reported: Callable[[], str] | None = None,
        *,
        kernels: KernelCache | None = None,
        keep: tuple[Any, ...] = (),
    ) -> None:
        self.name, self.trt, self._engine = name, trt, engine
        self._reported, self.kernels, self._keep = reported, kernels, keep

    def activation_bytes(self, profile: int) -> int:
        return int(self._engine.get_device_memory_size_for_profile_v2(profile))

    def on_host(self, tensor: str) -> bool:
        """Whether the engine reads the tensor on the host: it decides about shapes."""
        return bool(self._engine.get_tensor_location(tensor) == self.trt.TensorLocation.HOST)

    def aliased(self, output: str) -> str | None:
        """The input in whose memory the engine writes ``output``; None too where the library cannot tell."""
        ask = getattr(self._engine, "get_aliased_input_tensor", None)
        return (ask(output) or None) if ask else None

    def context(self, profile: int, lane: Lane, *, steps: bool = False) -> Context:
        """A context for ``profile``; with ``steps``, for calls of one shape, which are to be captured."""
        lane.cuda.enter_thread()
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.kernels is None:
            context = self._engine.create_execution_context(strategy)
        else:
            config = self._engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(strategy)
            self.kernels.join(config)
            if steps:
                # Kernels for a shape are compiled in the background and changed over to later. What was captured before
                # would not be what the context runs any more, so they are compiled at the first call.
                kinds = self.trt.DynamicShapesKernelSpecializationStrategy
                config.dynamic_shapes_kernel_specialization_strategy = kinds.EAGER
            context = self._engine.create_execution_context(config)
        if context is None:
            raise self.failed("has no context")
        try:
            taken = context.set_optimization_profile_async(profile, lane.stream)
        except RuntimeError:  # it says so by raising, or not, depending on the version
            taken = False
        if not taken:
            raise self.failed(f"does not take its profile {profile}")
        return Context(self, context, lane, self.activation_bytes(profile))

    def keep_kernels(self) -> None:
        """Keep for the next start what has been compiled so far."""
        if self.kernels is not None:
            self.kernels.keep()

    def failed(self, what: str) -> InferenceFailed:
        reported = self._reported() if self._reported else ""
        return InferenceFailed(
            f"The engine of {self.name} {what}.",
            why=reported or "TensorRT did not say why.",
            fix="Free some memory of the GPU; if it stays, build the engine again: see `vita-edge build --help`.",
        )


class Context:
    """Shapes, addresses, and the call. Activations lie in the block of the lane.

    They are asked for when it is used, not when the engine is opened: a talk hears in pieces, and never takes the room
    for a whole recording.
    """

    def __init__(self, engine: Engine, context: Any, lane: Lane, activation_bytes: int) -> None:
        self._context = context  # first, so that it goes first: kernels have to outlive it
        self._engine, self._lane = engine, lane
        self._activation_bytes = activation_bytes
        self._activations: DeviceBlock | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}

    def prepare(self) -> bool:
        """Use the lane's block; returns whether it is another one than before."""
        block = self._lane.activations(self._activation_bytes)
        if block is self._activations:
            return False
        self._context.set_device_memory(block.address, block.nbytes)
        self._activations = block
        return True

    def shape(self, name: str, shape: tuple[int, ...]) -> None:
        if self._shapes.get(name) != shape:
            if not self._context.set_input_shape(name, shape):
                raise self._engine.failed(f"does not take {name} {list(shape)}")
            self._shapes[name] = shape

    def bind(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise self._engine.failed(f"has no tensor {name}")

    def output_shapes(self, outputs: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs, once those of all inputs are set."""
        try:
            missing = self._context.infer_shapes()
        except RuntimeError as error:
            raise self._engine.failed("cannot tell the shapes of its outputs") from error
        if missing:
            raise self._engine.failed(f"lacks {', '.join(missing)}")
        shapes = {name: tuple(int(n) for n in self._context.get_tensor_shape(name)) for name in outputs}
        if unknown := [name for name, shape in shapes.items() if min(shape, default=1) < 0]:
            raise self._engine.failed(f"cannot tell how long {', '.join(unknown)} will be")
        return shapes

    def enqueue(self) -> None:
        if not self._context.execute_async_v3(self._lane.stream):
            raise self._engine.failed("failed while it ran")

    def close(self) -> None:
        """Give up the library's context, whoever still holds this one; it cannot be used afterwards."""
        self._context = None

    def capturable(self) -> bool:
        """Whether the library says that the next call can become a part of a graph; true where it does not say."""
        ask = getattr(self._context, "is_stream_capturable", None)
        return ask is None or bool(ask(self._lane.stream))
