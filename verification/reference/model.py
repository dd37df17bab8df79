"""VITA-1.5 as a whole, on the files of a release."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from vita_edge.engines.errors import BadCheckpoint, Misuse
from vita_edge.export.checkpoint.layout import AUDIO_TENSORS
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint

from .audio import AudioEncoder
from .codec import Codec
from .language import LanguageModel
from .prompts import IMAGE
from .speech import SpeechDecoder
from .vision import VisionTower
from .weights import Weights

__all__ = ["DTYPES", "Reference"]

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


class Reference:
    """The parts of the model; each reads its weights when it is first used.

    Args:
        checkpoint: an opened checkpoint, or its folder.
        dtype: what is computed in: float32, float64 or bfloat16.
        device: a device of PyTorch: cpu, cuda, cuda:1 …

    Raises:
        BadCheckpoint: the checkpoint cannot be read.
        Misuse: there is no such dtype or device.
    """

    def __init__(self, checkpoint: Checkpoint | Path | str, dtype: str = "float32", device: str = "cpu") -> None:
        self.checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint.open(checkpoint)
        self.config = self.checkpoint.config
        self.tokenizer: Tokenizer = Tokenizer.from_str(self.checkpoint.tokenizer_json())
        self.dtype, self.device = _dtype(dtype), _device(device)

    @cached_property
    def audio(self) -> AudioEncoder:
        return AudioEncoder(self.config.audio, self.config.llm.hidden_size, self._main.below(AUDIO_TENSORS))

    @cached_property
    def vision(self) -> VisionTower:
        return VisionTower(self.config.vision, self.config.llm.hidden_size, self._main)

    @cached_property
    def language(self) -> LanguageModel:
        return LanguageModel(self.config.llm, self.tokenizer.get_vocab_size(), self._main)

    @cached_property
    def speech(self) -> SpeechDecoder:
        return SpeechDecoder(self.config.speech, Weights(self.checkpoint.speech, self.dtype, self.device))

    @cached_property
    def codec(self) -> Codec:
        return Codec(self.config.codec, Weights(self.checkpoint.codec, self.dtype, self.device))

    @property
    def stop_tokens(self) -> set[int]:
        """Ids that end a reply."""
        return {self.token_id("<|im_end|>"), *self.config.llm.eos_token_ids}

    def token_id(self, token: str) -> int:
        """The id of a special token."""
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise BadCheckpoint(
                f"The tokenizer of {self.checkpoint.path} does not know {token}.",
                why="Prompts and the ends of replies are written with it.",
                fix="Download tokenizer.json of the release again.",
            )
        return int(found)

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def splice(self, ids: Sequence[int], images: Sequence[Tensor], sounds: Sequence[Tensor]) -> Tensor:
        """Embedding rows of a prompt, its marks replaced by the rows of tiles and clips, cut at the model's limit."""
        pictures, clips = iter(images), iter(sounds)
        rows, text = [], []
        for token in ids:
            if token >= 0:
                text.append(token)
                continue
            rows += [self.language.embed(text), next(pictures if token == IMAGE else clips)]
            text = []
        return torch.cat([*rows, self.language.embed(text)])[: self.config.llm.prompt_limit]

    @property
    def _main(self) -> Weights:
        return Weights(self.checkpoint.main, self.dtype, self.device)


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise Misuse(
            f"The reference does not compute in {name!r}.",
            why="It knows the floating types that the release can be trusted in.",
            fix=f"Choose one of {', '.join(DTYPES)}.",
        )
    return DTYPES[name]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise Misuse(
            f"PyTorch cannot compute on {name!r} here.",
            why=f"{str(error).splitlines()[0]}",
            fix="Choose cpu, or install a build of PyTorch for this device.",
        ) from error
    return device
