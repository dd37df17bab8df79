"""The tokenizer as one JSON text: as the checkpoint has it, or built from vocab.json, merges.txt and added tokens."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from vita_edge.engines.errors import BadCheckpoint
from vita_edge.engines.reading.file_kind import is_file, read_text

from ..checkpoint.config_file import CONFIG, ConfigFile, as_table, read_json

__all__ = ["added_tokens", "byte_level_tokenizer", "tokenizer_json"]

MAX_SPARE_IDS = 4096
"""Ids that a vocabulary may leave out: a table as long as the largest id is made of it."""
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer_json(folder: Path, notes: list[str]) -> str:
    """The text of ``tokenizer.json``; built from its parts when the file is absent, or cannot be read by this version
    of the tokenizers library and the parts are whole.

    Raises:
        BadCheckpoint: there is no tokenizer that can be read.
    """
    file = folder / "tokenizer.json"
    if not is_file(file):
        return _from_parts(folder)
    settings = as_table(file, read_json(file))
    if why := _check_ids(settings) or _unreadable(read_text(file, CONFIG)):
        version = importlib.metadata.version("tokenizers")
        refusal = BadCheckpoint(
            f"Cannot read the tokenizer {file}.",
            why=f"tokenizers {version}: {why}.",
            fix="If a newer version has written it, upgrade: pip install --upgrade tokenizers. Else download it again.",
        )
        if not (is_file(folder / "vocab.json") and is_file(folder / "merges.txt")):
            raise refusal
        try:
            text = _from_parts(folder)
        except BadCheckpoint as error:
            raise refusal from error
        _note(
            notes,
            f"tokenizer.json cannot be read by tokenizers {version} ({why}); vocab.json and merges.txt were taken.",
        )
        return text
    return _plain(settings, notes)


def _plain(settings: ConfigFile, notes: list[str]) -> str:
    """Without padding and truncation: prompts are spliced from texts as they are."""
    values = dict(settings.values)
    for key, does in (("padding", "pads texts"), ("truncation", "cuts texts off")):
        if values.get(key) is not None:
            _note(notes, f"tokenizer.json {does} ({json.dumps(values[key])}); the bundle's does not.")
            values[key] = None
    return json.dumps(values, ensure_ascii=False) if values != settings.values else read_text(settings.file, CONFIG)


def _check_ids(settings: ConfigFile) -> str:
    """Why the vocabulary cannot be: ids that would take memory out of proportion."""
    model = settings.values.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        return _strange_ids(vocabulary)
    return ""


def _strange_ids(vocabulary: dict[str, Any]) -> str:
    for token, number in vocabulary.items():
        if type(number) is not int or not 0 <= number < len(vocabulary) + MAX_SPARE_IDS:
            return f"the id of {token[:40]!r} is {number!r:.40}, of {len(vocabulary)} tokens"
    return ""


def _unreadable(text: str) -> str:
    """Why the library cannot read it; empty when it can."""
    try:
        Tokenizer.from_str(text)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # the library raises plain Exception, and panics of Rust that are none
        return f"{error}"[:300]
    return ""


def _from_parts(folder: Path) -> str:
    vocabulary = as_table(folder / "vocab.json", read_json(folder / "vocab.json")).values
    if why := _strange_ids(dict(vocabulary)):
        raise _unusable(folder, f"vocab.json: {why}.")
    added, special = added_tokens(folder)
    if not added:
        raise _unusable(folder, "Neither added_tokens.json nor tokenizer_config.json lists the added tokens.")
    lines = read_text(folder / "merges.txt", CONFIG).splitlines()
    merges = [_pair(line) for line in lines if line.strip() and not line.startswith("#version")]
    try:
        return byte_level_tokenizer(dict(vocabulary), merges, added, special)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # plain Exception for merges that are not in the vocabulary, and panics
        raise _unusable(folder, f"{error}.") from error


def byte_level_tokenizer(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], added: dict[str, int], special: set[str]
) -> str:
    """Qwen2's tokenizer: NFC, its split pattern, bytes as printable characters, merges by rank, added tokens by id."""
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    for token, expected in sorted(added.items(), key=lambda entry: entry[1]):
        tokenizer.add_tokens([AddedToken(token, normalized=False, special=token in special)])
        if tokenizer.token_to_id(token) != expected:
            raise ValueError(f"{token} has id {expected} and would get {tokenizer.token_to_id(token)}")
    return str(tokenizer.to_str())


def added_tokens(folder: Path) -> tuple[dict[str, int], set[str]]:
    """Added tokens with their ids as added_tokens.json or tokenizer_config.json lists them, and which are special.

    Raises:
        BadCheckpoint: an entry is no token, or its id is no number.
    """
    described: dict[str, int] = {}
    special: set[str] = set()
    config = folder / "tokenizer_config.json"
    settings = as_table(config, read_json(config)) if is_file(config) else ConfigFile(config, {})
    if "added_tokens_decoder" in settings:
        for number, entry in settings.section("added_tokens_decoder").values.items():
            content = entry.get("content") if isinstance(entry, dict) else None
            if not number.isdecimal() or len(number) > 9 or not isinstance(content, str):
                raise settings.refusal("added_tokens_decoder", f"Its entry {number!r:.40} has no token as its content.")
            described[content] = int(number)
            special |= {content} if entry.get("special") else set()
    file = folder / "added_tokens.json"
    if not is_file(file):
        return described, special
    table = as_table(file, read_json(file))
    listed = {token: table.integer(token, minimum=0) for token in table.values}
    return listed, special if described else {token for token in listed if token.startswith("<|")}


def _note(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)


def _pair(line: str) -> tuple[str, str]:
    left, _, right = line.rstrip("\r\n").partition(" ")
    return left, right


def _unusable(folder: Path, why: str) -> BadCheckpoint:
    return BadCheckpoint(
        f"{folder} has no usable tokenizer.",
        why=f"tokenizer.json is missing, and it cannot be built from vocab.json and merges.txt: {why}",
        fix="Download tokenizer.json into the checkpoint folder.",
    )
