"""The embedded default: a graph on ONNX Runtime's CPU provider."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import onnxruntime as ort

from .errors import BadBundle, ContextOverflow
from .session import KvCache
from .taps import tapped_model
from .tensors import Array, TensorSpec, check_feeds

__all__ = ["OnnxCpuSession"]

PAST, PRESENT = "past_key_values.", "present."
PAST_LENGTH, TOTAL_LENGTH = "seqlens_k", "total_sequence_length"
"""The two lengths that com.microsoft.GroupQueryAttention asks for: last valid position, and number of positions."""

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
}


class OnnxCpuSession:
    """A graph opened on the CPU; see :class:`~vita_edge.engines.session.Session`.

    Args:
        path: the ONNX file; its weights lie beside it and are memory-mapped.
        threads: worker threads; 0 takes one per core.
        taps: names of inner tensors to hand out as further outputs (for comparisons; costs fusions).
        overrides: inner integer constants to replace by name (for comparisons).

    Raises:
        BadBundle: the file or its weights cannot be read as a graph.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 0,
        taps: Iterable[str] = (),
        overrides: Mapping[str, int] | None = None,
    ) -> None:
        self.name = path.stem
        options = ort.SessionOptions()
        options.log_severity_level = 4  # what fails is raised, and told in our words
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        try:
            if taps or overrides:
                options.add_session_config_entry(
                    "session.model_external_initializers_file_folder_path", str(path.parent)
                )
                model: bytes | str = tapped_model(path.read_bytes(), taps, overrides or {})
            else:
                model = str(path)
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the backend raises classes of its own, and plain RuntimeError
            raise BadBundle(
                f"The graph {path.name} cannot be opened.",
                why=_first_line(error),
                fix="Run `vita-edge inspect BUNDLE --check`; export the bundle again if a file is damaged.",
            ) from error
        specs = [_spec(node) for node in self._session.get_inputs()]
        self._cache_specs = {spec.name: spec for spec in specs if spec.name.startswith(PAST)}
        self._wants_lengths = any(spec.name == TOTAL_LENGTH for spec in specs)
        hidden = {*self._cache_specs, PAST_LENGTH, TOTAL_LENGTH}
        self.inputs = {spec.name: spec for spec in specs if spec.name not in hidden}
        outputs = [_spec(node) for node in self._session.get_outputs()]
        appended = self._cache_specs and {PRESENT + name[len(PAST) :] for name in self._cache_specs}
        self.outputs = {spec.name: spec for spec in outputs if spec.name not in appended}

    def infer(self, feeds: Mapping[str, Array], cache: KvCache | None = None) -> dict[str, Array]:
        check_feeds(self.name, self.inputs, feeds)
        if not self._cache_specs:
            return dict(zip(self.outputs, self._session.run(list(self.outputs), dict(feeds))))
        if not isinstance(cache, OnnxCpuKvCache) or cache.session is not self._session:
            raise ValueError(f"{self.name} needs a cache that its own new_cache has made")
        return cache.append(feeds, self.inputs, self.outputs)

    def new_cache(self, capacity_tokens: int) -> OnnxCpuKvCache:
        return OnnxCpuKvCache(self._session, self._cache_specs, capacity_tokens)

    def close(self) -> None:
        """Give the graph and its weights back; the session cannot be used afterwards."""
        self.__dict__.pop("_session", None)

    def __enter__(self) -> OnnxCpuSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OnnxCpuKvCache:
    """Keys and values in buffers of the full capacity; each is past and present of its layer at once.

    The attention operator sees that both are one address and writes new positions in place: nothing is copied or
    reallocated between steps.
    """

    def __init__(self, session: ort.InferenceSession, specs: Mapping[str, TensorSpec], capacity_tokens: int) -> None:
        if capacity_tokens < 1:
            raise ValueError(f"a cache for {capacity_tokens} tokens")
        self.session = session
        self.capacity_tokens = capacity_tokens
        self._length = 0
        self._buffers: dict[str, Array] = {}
        self._binding = session.io_binding()
        self._values: list[ort.OrtValue] = []
        self._step_feeds: dict[str, Array] = {}
        for spec in specs.values():
            batch, heads, _, head_dim = (int(axis) if isinstance(axis, int) else capacity_tokens for axis in spec.axes)
            buffer: Array = np.zeros((batch, heads, capacity_tokens, head_dim), spec.dtype)
            value = ort.OrtValue.ortvalue_from_numpy(buffer)  # shares the array's memory
            self._buffers[spec.name] = buffer
            self._values.append(value)
            self._binding.bind_ortvalue_input(spec.name, value)
            self._binding.bind_ortvalue_output(PRESENT + spec.name[len(PAST) :], value)
        self._lengths = {name: np.zeros(1, np.int32) for name in (PAST_LENGTH, TOTAL_LENGTH)}
        for name, array in self._lengths.items():
            self._bind_input(name, array)
        self._result: dict[str, Array] = {}

    @property
    def length_tokens(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def rewind(self, length_tokens: int) -> None:
        if not 0 <= length_tokens <= self._length:
            raise ValueError(f"cannot rewind a cache of {self._length} tokens to {length_tokens}")
        self._length = length_tokens

    def fill(self, prefix: Mapping[str, Array]) -> None:
        tokens = next(iter(prefix.values())).shape[2]
        if set(prefix) != set(self._buffers):
            raise ValueError(f"a prefix for {sorted(prefix)}, expected {sorted(self._buffers)}")
        self._check_room(0, tokens)
        for name, array in prefix.items():
            self._buffers[name][:, :, :tokens] = array
        self._length = tokens

    def append(
        self, feeds: Mapping[str, Array], inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
    ) -> dict[str, Array]:
        """Run the graph over this cache; the first input's second axis counts the new positions."""
        first = next(iter(inputs))
        tokens = feeds[first].shape[1]
        total = self._length + tokens
        self._check_room(self._length, tokens)
        self._lengths[PAST_LENGTH][0] = total - 1
        self._lengths[TOTAL_LENGTH][0] = total
        if tokens == 1:  # the decode loop: fixed addresses, nothing is bound or allocated again
            if not self._step_feeds:
                self._step_feeds = {name: np.array(array) for name, array in feeds.items()}
                self._bound_step = False
            for name, array in feeds.items():
                self._step_feeds[name][...] = array
            if not self._bound_step:
                for name, array in self._step_feeds.items():
                    self._bind_input(name, array)
                self._bound_step = True
        else:
            self._held = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
            for name, array in self._held.items():
                self._bind_input(name, array)
            self._bound_step = False
        if not self._result:
            self._result = {
                name: np.empty([axis if isinstance(axis, int) else 1 for axis in spec.axes], spec.dtype)
                for name, spec in outputs.items()
            }
            for name, array in self._result.items():
                self._binding.bind_output(name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)
        self.session.run_with_iobinding(self._binding)
        self._length = total
        return self._result

    def _bind_input(self, name: str, array: Array) -> None:
        self._binding.bind_input(name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)

    def _check_room(self, length: int, tokens: int) -> None:
        if length + tokens > self.capacity_tokens:
            raise ContextOverflow(
                f"{tokens} more positions do not fit: {length} of {self.capacity_tokens} are taken.",
                why="The KV cache has a fixed capacity.",
                fix="Ask for less, or open the conversation with a larger context.",
            )


def _spec(node: ort.NodeArg) -> TensorSpec:
    axes = tuple(axis if isinstance(axis, (int, str)) else f"axis{i}" for i, axis in enumerate(node.shape))
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), axes)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
