"""Text to token ids and back: byte-level BPE read from the bundle's ``tokenizer.json``."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from pathlib import Path

import tokenizers

from vita_edge.engines.errors import BadBundle
from vita_edge.engines.reading.file_kind import FileKind, read_text

__all__ = ["StreamDecoder", "Tokenizer"]

TOKENIZER = FileKind(BadBundle, "the tokenizer", fix="Export the bundle again from a whole checkpoint.")


class Tokenizer:
    """A byte-level BPE tokenizer. It has no state: one may be shared by every stage and thread."""

    def __init__(self, library: tokenizers.Tokenizer) -> None:
        library.no_truncation()
        library.no_padding()
        added = library.get_added_tokens_decoder()
        contents = sorted((token.content for token in added.values()), key=len, reverse=True)
        self._library = library
        self._special = frozenset(i for i, token in added.items() if token.special)
        self._added = re.compile("|".join(map(re.escape, contents)) if contents else r"(?!)")

    @classmethod
    def from_file(cls, path: Path | str) -> Tokenizer:
        """Read a ``tokenizer.json``.

        Raises:
            BadBundle: the file is missing, is not a tokenizer, or is not a byte-level one.
        """
        text = read_text(Path(path), TOKENIZER)
        try:
            library = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise TOKENIZER.refusal(path, f"{error}.") from error
        if not isinstance(library.decoder, tokenizers.decoders.ByteLevel):
            raise BadBundle(
                f"Cannot use the tokenizer {path}.",
                why="Its decoder is not byte-level, as Qwen2's is; replies would be decoded wrongly.",
                fix=TOKENIZER.fix,
            )
        return cls(library)

    def __len__(self) -> int:
        """The number of ids, added tokens included. The model must never produce an id beyond it."""
        return int(self._library.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Tokenise ``text`` with nothing put in front; added tokens such as ``<|im_end|>`` are matched in it."""
        return list(self._library.encode(text, add_special_tokens=False).ids)

    def fragments(self, text: str) -> list[str]:
        """Cut ``text`` behind the first character of every added token that is spelled out in it.

        No added token fires when the fragments are encoded one by one, so that ``<|im_end|>`` typed by a user is text
        and does not end the turn. Text without such a spelling is one fragment, and is tokenised as ever.
        """
        fragments, start = [], 0
        while found := self._added.search(text, start):
            fragments.append(text[start : found.start() + 1])
            start = found.start() + 1
        return [*fragments, text[start:]]

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """Join the bytes of ``ids``; bytes that are not UTF-8 become U+FFFD, ids beyond the vocabulary nothing."""
        return b"".join(self.bytes_of(i, skip_special) for i in ids).decode("utf-8", "replace")

    def bytes_of(self, token_id: int, skip_special: bool = False) -> bytes:
        """The bytes that one id stands for; they need not be whole characters."""
        token = self._library.id_to_token(token_id)
        if token is None or (skip_special and token_id in self._special):
            return b""
        try:
            return bytes(_BYTE_OF[character] for character in token)
        except KeyError:  # an added token with characters outside the byte alphabet, such as a space
            return str(token).encode()


class StreamDecoder:
    """Ids to text, one at a time. The pieces joined equal :meth:`Tokenizer.decode` of all ids.

    A piece never ends inside a character: its bytes are held back until the rest has come.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def step(self, token_id: int) -> str:
        """The text that this id completes; empty while a character is incomplete."""
        return self._utf8.decode(self._tokenizer.bytes_of(token_id, self._skip_special))

    def flush(self) -> str:
        """What is held back, as U+FFFD, at the end of a reply; afterwards the decoder is as new."""
        rest = self._utf8.decode(b"", final=True)
        self.reset()
        return rest

    def reset(self) -> None:
        """As before the first id."""
        self._utf8.reset()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the 68 others for U+0100 and on, in order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
