"""A graph on ONNX Runtime, on whatever provider; what providers differ in is told from outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from weakref import WeakKeyDictionary

import onnxruntime as ort

from ..cache_layout import cache_layout_of
from ..errors import BadBundle, InferenceFailed, VitaEdgeError
from ..kv_length import PAST, present
from ..onnx_file.external_data import check_external_data
from ..onnx_file.linked_weights import graph_and_folder, has_links
from ..onnx_file.taps import tapped_model
from ..session import KvCache
from ..tensors import Array, TensorSpec, check_feeds
from .cached_run import CachedRun
from .kv_cache import OnnxKvCache, axes_of, new_cache
from .memory import Memory

__all__ = ["OnnxSession"]

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


class OnnxSession:
    """An opened graph; see :class:`~vita_edge.engines.session.GraphSession`.

    Args:
        path: the ONNX file; its weights lie beside it and are memory-mapped.
        options: how it is opened.
        providers: ONNX Runtime's names of them, with their options, the preferred one first.
        memory: where its tensors lie.
        give_back: how a call of many rows is run.
        taps: names of inner tensors to hand out as further outputs (for comparisons; costs fusions).
        overrides: inner integer constants to replace by name (for comparisons).

    Raises:
        BadBundle: the file or its weights cannot be read as a graph, or it names weights in another folder.
    """

    rows_at_once: int

    def __init__(
        self,
        path: Path,
        options: ort.SessionOptions,
        providers: list[str | tuple[str, dict[str, str]]],
        memory: Memory,
        give_back: ort.RunOptions,
        *,
        taps: Iterable[str] = (),
        overrides: Mapping[str, int] | None = None,
    ) -> None:
        self.name = path.stem
        self._memory, self._give_back = memory, give_back
        check_external_data(path)
        try:
            if taps or overrides or has_links(path):
                graph, folder = graph_and_folder(path)
                options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
                model: bytes | str = tapped_model(graph, taps, overrides or {})
            else:
                model = str(path)
            self._session: ort.InferenceSession | None = ort.InferenceSession(
                model,
                options,
                providers=providers,
                enable_fallback=0,  # else it opens all of it again for the CPU, and prints why
            )
        except BadBundle:
            raise
        except Exception as error:  # the backend raises classes of its own, and plain RuntimeError
            raise BadBundle(
                f"The graph {path.name} cannot be opened.",
                why=_first_line(error),
                fix="Run `vita-edge inspect BUNDLE --check`; export the bundle again if a file is damaged.",
            ) from error
        specs = [_spec(node) for node in self._session.get_inputs()]
        self._cache_specs = {spec.name: spec for spec in specs if spec.name.startswith(PAST)}
        self._cache_layout = cache_layout_of(spec.name for spec in specs)
        hidden = {*self._cache_specs, *self._cache_layout.inputs} if self._cache_specs else set()
        self.inputs = {spec.name: spec for spec in specs if spec.name not in hidden}
        outputs = [_spec(node) for node in self._session.get_outputs()]
        appended = {present(name) for name in self._cache_specs}
        self._runs: WeakKeyDictionary[OnnxKvCache, CachedRun] = WeakKeyDictionary()
        self.outputs = {spec.name: spec for spec in outputs if spec.name not in appended}

    @property
    def max_tokens(self) -> int | None:
        return None

    def infer(self, feeds: Mapping[str, Array], cache: KvCache | None = None) -> Mapping[str, Array]:
        if self._session is None:
            raise ValueError(f"{self.name} is closed")
        check_feeds(self.name, self.inputs, feeds)
        if not self._cache_specs:
            with _in_our_words(self.name):
                return self._run(self._session, feeds)
        if not isinstance(cache, OnnxKvCache):
            raise ValueError(f"{self.name} needs a cache that new_cache of an ONNX Runtime session has made")
        run = self._runs.get(cache)
        if run is None:
            if cache.axes != axes_of(self._cache_specs):
                raise ValueError(f"{self.name} and the cache have different layers: {cache.axes}")
            if cache.memory.device != self._memory.device:
                raise ValueError(f"{self.name} runs on {self._memory.device}, the cache lies on {cache.memory.device}")
            run = self._runs[cache] = CachedRun(
                self._session, self.inputs, self.outputs, cache, self._cache_layout, self._give_back
            )
        with _in_our_words(self.name):
            return run.append(feeds, cache)

    def new_cache(self, capacity_tokens: int) -> OnnxKvCache:
        return new_cache(self._cache_layout, self._cache_specs, capacity_tokens, self._memory)

    def close(self) -> None:
        """Give the graph and its weights back; the session cannot be used afterwards."""
        self._runs = WeakKeyDictionary()
        self._session = None

    def __enter__(self) -> OnnxSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, session: ort.InferenceSession, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run a graph that has no cache."""
        if self._memory.readable:
            return dict(zip(self.outputs, session.run(list(self.outputs), dict(feeds), self._give_back)))
        binding = session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)  # copied to where the graph wants it
        for name in self.outputs:
            binding.bind_output(name, self._memory.device)
        session.run_with_iobinding(binding, self._give_back)
        return self._memory.outputs({}, dict(zip(self.outputs, binding.get_outputs())))  # in the order of binding


@contextmanager
def _in_our_words(graph: str) -> Iterator[None]:
    """The backend raises classes of its own; our errors and callers' mistakes pass as they are."""
    try:
        yield
    except (VitaEdgeError, ValueError):
        raise
    except Exception as error:
        raise InferenceFailed(
            f"The graph {graph} failed while it ran.",
            why=_first_line(error),
            fix="Free some memory, or give a shorter input; check the bundle with `vita-edge inspect BUNDLE --check`.",
        ) from error


def _spec(node: ort.NodeArg) -> TensorSpec:
    axes = tuple(axis if isinstance(axis, (int, str)) else f"axis{i}" for i, axis in enumerate(node.shape))
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), axes)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
