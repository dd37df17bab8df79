"""Hold a tokenizer against the weights and every file that names its ids: with wrong ids a model talks nonsense."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from tokenizers import Tokenizer, decoders

from vita_edge.engines.errors import BadCheckpoint

from ..checkpoint.config_file import as_table, read_json
from .tokenizer_files import added_tokens

__all__ = ["checked_tokenizer", "words_that_end_replies"]

REQUIRED = ("<|im_start|>", "<|im_end|>")
_FIX = "Copy the tokenizer files of this checkpoint again: tokenizer.json, tokenizer_config.json, added_tokens.json."


def checked_tokenizer(text: str, folder: Path, rows: int, eos_token_ids: tuple[int, ...]) -> Tokenizer:
    """The tokenizer whose JSON is ``text``.

    Args:
        folder: the checkpoint, whose other files name ids too.
        rows: of the embedding.
        eos_token_ids: of config.json and generation_config.json.

    Raises:
        BadCheckpoint: it is not byte-level, lacks what prompts need, or two files give a token different ids.
    """
    tokenizer = Tokenizer.from_str(text)
    problems = list(_problems(tokenizer, text, folder, rows, eos_token_ids))
    if problems:
        raise BadCheckpoint(
            f"The tokenizer of {folder} does not fit the checkpoint.",
            why="\n".join(f"  {problem}" for problem in problems[:6]),
            fix=_FIX,
        )
    return tokenizer


def _problems(
    tokenizer: Tokenizer, text: str, folder: Path, rows: int, eos_token_ids: tuple[int, ...]
) -> Iterator[str]:
    if not isinstance(tokenizer.decoder, decoders.ByteLevel):
        kind = type(tokenizer.decoder).__name__ if tokenizer.decoder else "none"
        yield f"its decoder is {kind}, not the byte-level one of Qwen2: replies would be spelled wrongly"
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    if size > rows:
        yield f"the tokenizer knows {size} ids, and the embedding has {rows} rows"
    elif (last := max(vocabulary.values(), default=0)) != size - 1:
        yield f"its largest id is {last}, and it has {size} tokens: ids are left out"
    yield from (f"it has no {token}, which prompts need" for token in REQUIRED if token not in vocabulary)
    declared = {entry["content"]: entry["id"] for entry in json.loads(text).get("added_tokens") or ()}
    yield from _different(vocabulary, declared, "tokenizer.json itself")
    yield from _different(vocabulary, added_tokens(folder)[0], "added_tokens.json or tokenizer_config.json")
    with suppress(BadCheckpoint):  # nothing is taken from vocab.json beside a tokenizer.json, so it may be absent
        listed = as_table(folder / "vocab.json", read_json(folder / "vocab.json")).values
        yield from _different(vocabulary, listed, "vocab.json")
    special = tokenizer.get_added_tokens_decoder()
    named = _named_in_config(folder)
    for number in eos_token_ids:
        token, end = tokenizer.id_to_token(number), vocabulary.get("<|im_end|>")
        if token is None:
            yield f"eos_token_id is {number}, which the tokenizer does not know; <|im_end|> is {end}"
        elif number not in special and any(other in special for other in named):
            yield f"eos_token_id is {number}, the word {token!r}; config.json says {named}, and <|im_end|> is {end}"


def _named_in_config(folder: Path) -> list[object]:
    """What config.json calls eos_token_id, as a list."""
    with suppress(BadCheckpoint):
        named = as_table(folder / "config.json", read_json(folder / "config.json")).values.get("eos_token_id")
        return named if isinstance(named, list) else [named]
    return []


def words_that_end_replies(tokenizer: Tokenizer, eos_token_ids: tuple[int, ...]) -> Iterator[str]:
    """A note for each eos_token_id that is an ordinary word: it may be meant, and is odd enough to say."""
    special = tokenizer.get_added_tokens_decoder()
    for number in eos_token_ids:
        if number not in special:
            end = tokenizer.token_to_id("<|im_end|>")
            yield (
                f"eos_token_id is {number}, which the tokenizer knows as the word {tokenizer.id_to_token(number)!r}: "
                f"replies end there. <|im_end|> is {end}."
            )


def _different(vocabulary: Mapping[str, int], listed: Mapping[str, object], file: str) -> Iterator[str]:
    """The first token to which ``listed`` gives another id."""
    wrong = [token for token, number in listed.items() if vocabulary.get(token) != number]
    if wrong:
        token = wrong[0]
        more = f"; {len(wrong) - 1} more differ" if wrong[1:] else ""
        yield f"{token!r:.60} is {vocabulary.get(token)} in the tokenizer, and {listed[token]!r:.40} in {file}{more}"
