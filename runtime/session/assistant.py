"""An opened bundle: everything that sessions share, weights above all."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from types import TracebackType

from vita_edge.engines.backends import open_backend
from vita_edge.engines.background_session import OpenedBeside
from vita_edge.engines.bundle.component_spec import (
    AUDIO,
    CODEC,
    COMPONENT_SPECS,
    COMPONENTS,
    LLM,
    LLM_PREFILL,
    SPEECH_DECODER,
    SPEECH_PREFILL,
    VISION,
)
from vita_edge.engines.bundle.format import Bundle, sha256_of
from vita_edge.engines.errors import BadBundle, Misuse
from vita_edge.engines.memory import available_memory
from vita_edge.engines.session import GraphSession

from ..decoding.language_model import LanguageModel
from ..encoders.encoders import Encoders
from ..metrics.feed_recorder import FeedRecorder
from ..speech.clause_synthesis import Synthesizer
from ..text.tokenizer import Tokenizer
from .opened_model import OpenedModel, session_cache_bytes
from .options import SessionOptions
from .prompt_layout import PromptLayout
from .session import Session

__all__ = ["Assistant", "demo_folder"]

MEMORY_RESERVE_BYTES = 2 << 30
"""Left for the KV cache, activations and everybody else on the machine."""


def demo_folder() -> Path:
    """What comes along: ``bundle``, ``question.wav`` and ``picture.png``."""
    return Path(str(files("vita_edge") / "demo"))


class Assistant:
    """Opens a bundle; any number of sessions hold conversations over it.

    Where prompts have a graph of their own, the one that decodes, which takes longest to open, is opened beside: a
    prompt can be heard, seen and read meanwhile, and only the first token of a reply waits for it.

    ::

        with Assistant("bundle") as assistant:
            session = assistant.session()
            for event in session.answer(Turn(sounds=[read_sound("question.wav")])):
                ...

    Args:
        bundle: a folder that `vita-edge export` wrote, or an opened :class:`Bundle`.
        threads: threads of the CPU backend; 0 takes one per usable core, and more are never taken.
        fast_prefill: open the second graph of the language model that reads prompts, if the bundle has one; None
            opens it when there is memory for it.
        repack: copy int8 weights into the order of the kernels at load: slower load, more memory, faster prefill
            (docs/decisions/0012).
        backend: ``cpu``, ``cuda`` or ``tensorrt`` (docs/decisions/0021).
        engine_dir: folder of the engines that `vita-edge build` has built; None takes the user's cache.
        record: a folder for what every graph is fed, to calibrate with; it is there once the assistant is closed.

    Raises:
        BadBundle: the bundle is damaged, incomplete, or of another version.
        Misuse: the backend does not run bundles of this target.
        EngineUnavailable: the backend cannot run here.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        *,
        threads: int = 0,
        fast_prefill: bool | None = None,
        repack: bool = False,
        backend: str = "cpu",
        engine_dir: str | Path | None = None,
        record: str | Path | None = None,
    ) -> None:
        if threads < 0:
            raise Misuse(f"threads is {threads}.", why="It must be 0 or more.", fix="0 takes one per core.")
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        _check_small_files(self.bundle)
        facts = self.bundle.model
        self.tokenizer = Tokenizer.from_file(self.bundle.tokenizer_file)
        self.embeddings = self.bundle.embedding_table()
        with ExitStack() as stack:
            recorder = stack.enter_context(FeedRecorder(record, self.bundle)) if record else None
            self.backend = stack.enter_context(
                open_backend(self.bundle, backend, threads=threads, engine_dir=Path(engine_dir) if engine_dir else None)
            )
            int8_as_it_lies = self.bundle.target == "onnxruntime"  # elsewhere int8 weights are widened before a product

            def session_of(name: str) -> GraphSession:
                int8 = COMPONENT_SPECS[name].many_rows and self.bundle.components[name].precision == "int8"
                rearrange = repack or not (int8 and int8_as_it_lies)
                session = self.backend.session(name, rearrange=rearrange)
                return recorder.watch(LLM.name if name == LLM_PREFILL.name else name, session) if recorder else session

            def opened(name: str) -> GraphSession:
                return stack.enter_context(session_of(name))

            self._prefill: GraphSession | None = None
            if LLM_PREFILL.name in self.bundle.components and self._wants_prefill(fast_prefill):
                self._prefill = opened(LLM_PREFILL.name)
            session = {name: opened(name) for name in COMPONENTS if name != LLM.name}
            # last, since a question can be encoded as soon as the others are open, and they would share the cores
            self._llm: GraphSession = (
                stack.enter_context(OpenedBeside(LLM.name, lambda: session_of(LLM.name)))
                if self._prefill
                else opened(LLM.name)
            )
            self.encoders = Encoders(session[AUDIO.name], session[VISION.name], facts)
            self._speech = session[SPEECH_PREFILL.name], session[SPEECH_DECODER.name], session[CODEC.name]
            self.model = OpenedModel(
                facts=facts,
                prompts=self.bundle.prompts,
                tokenizer=self.tokenizer,
                encoders=self.encoders,
                new_language_model=lambda context_tokens: self.language_model(context_tokens),
                context_tokens=lambda requested, max_new_tokens: self.context_tokens(requested, max_new_tokens),
                new_synthesizer=lambda: self.new_synthesizer(),
            )
            self._stack = stack.pop_all()

    def language_model(self, context_tokens: int | None = None) -> LanguageModel:
        """A fresh KV cache over the language model."""
        return LanguageModel(self._llm, self.embeddings, self.bundle.model.llm, context_tokens, prefill=self._prefill)

    def context_tokens(self, requested: int | None, max_new_tokens: int) -> int:
        """Positions of a KV cache: as many as are ``wanted``, or room for the longest prompt and the longest reply."""
        llm = self.bundle.model.llm
        maximum = (self._prefill or self._llm).max_tokens or llm.context_tokens
        return requested or min(llm.context_tokens, maximum, llm.prompt_limit_tokens + max_new_tokens)

    @property
    def fast_prefill(self) -> bool:
        """Whether prompts are read by a graph of their own."""
        return self._prefill is not None

    def _wants_prefill(self, requested: bool | None) -> bool:
        if requested is not None:
            return requested
        weights = sum(file.stat().st_size for file in self.bundle.components[LLM_PREFILL.name].weights)
        free = available_memory()
        return free is None or weights + MEMORY_RESERVE_BYTES < free

    def new_synthesizer(self) -> Synthesizer:
        """A fresh cache of the speech decoder over the graphs of speech."""
        return Synthesizer(*self._speech, self.bundle.model, self.embeddings, self.tokenizer)

    @cached_property
    def voice(self) -> Synthesizer:
        """A synthesizer of no session, for measurements and comparisons."""
        return self.new_synthesizer()

    def session(
        self,
        options: SessionOptions | None = None,
        *,
        instructions: str | None = None,
        layout: PromptLayout | None = None,
    ) -> Session:
        """A new session with an empty history; see :class:`Session`.

        Raises:
            Misuse: an option makes no sense.
            ContextOverflow: the context is larger than the model's.
            BadBundle: the bundle cannot speak, and ``options.speak`` asks for it.
        """
        options = options or SessionOptions()
        if options.style not in self.bundle.prompts:
            raise Misuse(
                f"There is no style {options.style}.",
                why=f"Known: {', '.join(self.bundle.prompts)}.",
                fix="Choose one.",
            )
        return Session(self.model, options, instructions=instructions, layout=layout)

    def session_bytes(self, options: SessionOptions | None = None) -> int:
        """Memory that one more session takes beside the weights, once its context is full; nothing is opened.

        On a CPU pages are taken as positions are written, on a GPU all at once.
        """
        options = options or SessionOptions()
        tokens = self.context_tokens(options.context_tokens, options.max_new_tokens)
        return session_cache_bytes(self.bundle.model, tokens)

    def close(self) -> None:
        """Give all graphs back."""
        self._stack.close()

    def __enter__(self) -> Assistant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_small_files(bundle: Bundle) -> None:
    """Refuse damaged graphs and a damaged tokenizer: what a backend makes of them is anybody's guess.

    They are read in a moment. Weights are not: `vita-edge inspect --check` is for those.
    """
    for file in (bundle.tokenizer_file, *(component.graph for component in bundle.components.values())):
        name = file.relative_to(bundle.path).as_posix()
        if name not in bundle.files or sha256_of(file) != bundle.files[name][1]:
            raise BadBundle(
                f"{name} of the bundle {bundle.path} is damaged.",
                why="Its sha256 is not the one of the manifest.",
                fix="Copy the bundle again, or export the checkpoint again.",
            )
