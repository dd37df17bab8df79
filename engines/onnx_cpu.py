"""The embedded default: a graph on ONNX Runtime's CPU provider."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from weakref import WeakKeyDictionary

import onnxruntime as ort

from .errors import BadBundle, InferenceFailed, VitaEdgeError
from .mapped import forget_pages
from .onnx_kv_cache import PAST, PAST_LENGTH, TOTAL_LENGTH, CachedRun, OnnxCpuKvCache, axes_of, present
from .onnx_options import give_back, session_options
from .session import KvCache
from .taps import tapped_model
from .tensors import Array, TensorSpec, check_feeds

__all__ = ["OnnxCpuSession"]

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
        rearrange: copy the weights into the order of the kernels, which takes a while and as much memory again while
            it lasts. Else they are used as they are mapped: opened in a moment, but slower, 4-bit ones beyond use.
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
        rearrange: bool = True,
        taps: Iterable[str] = (),
        overrides: Mapping[str, int] | None = None,
    ) -> None:
        self.name = path.stem
        options = session_options(path, threads=threads, rearrange=rearrange)
        try:
            if taps or overrides:
                options.add_session_config_entry(
                    "session.model_external_initializers_file_folder_path", str(path.parent)
                )
                model: bytes | str = tapped_model(path.read_bytes(), taps, overrides or {})
            else:
                model = str(path)
            self._session: ort.InferenceSession | None = ort.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the backend raises classes of its own, and plain RuntimeError
            raise BadBundle(
                f"The graph {path.name} cannot be opened.",
                why=_first_line(error),
                fix="Run `vita-edge inspect BUNDLE --check`; export the bundle again if a file is damaged.",
            ) from error
        if rearrange:  # what was copied is not read again; a copy too many would count as memory of this process
            forget_pages(path.with_suffix(".bin"))
        self._give_back = give_back()
        specs = [_spec(node) for node in self._session.get_inputs()]
        self._cache_specs = {spec.name: spec for spec in specs if spec.name.startswith(PAST)}
        hidden = {*self._cache_specs, PAST_LENGTH, TOTAL_LENGTH}
        self.inputs = {spec.name: spec for spec in specs if spec.name not in hidden}
        outputs = [_spec(node) for node in self._session.get_outputs()]
        appended = self._cache_specs and {present(name) for name in self._cache_specs}
        self._runs: WeakKeyDictionary[OnnxCpuKvCache, CachedRun] = WeakKeyDictionary()
        self.outputs = {spec.name: spec for spec in outputs if spec.name not in appended}

    def infer(self, feeds: Mapping[str, Array], cache: KvCache | None = None) -> dict[str, Array]:
        if self._session is None:
            raise ValueError(f"{self.name} is closed")
        check_feeds(self.name, self.inputs, feeds)
        if not self._cache_specs:
            with _told_in_our_words(self.name):
                results = self._session.run(list(self.outputs), dict(feeds), self._give_back)
            return dict(zip(self.outputs, results))
        if not isinstance(cache, OnnxCpuKvCache):
            raise ValueError(f"{self.name} needs a cache that new_cache of an ONNX Runtime session has made")
        run = self._runs.get(cache)
        if run is None:
            if cache.axes != axes_of(self._cache_specs):
                raise ValueError(f"{self.name} and the cache have different layers: {cache.axes}")
            run = self._runs[cache] = CachedRun(self._session, self.inputs, self.outputs, cache)
        with _told_in_our_words(self.name):
            return run.append(feeds)

    def new_cache(self, capacity_tokens: int) -> OnnxCpuKvCache:
        return OnnxCpuKvCache(self._cache_specs, capacity_tokens)

    def close(self) -> None:
        """Give the graph and its weights back; the session cannot be used afterwards."""
        self._runs = WeakKeyDictionary()
        self._session = None

    def __enter__(self) -> OnnxCpuSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _told_in_our_words(graph: str) -> Iterator[None]:
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
