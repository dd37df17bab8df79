"""The tokenizer as one JSON text: as the checkpoint has it, or built from vocab.json, merges.txt and added tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from vita_edge.engines.errors import BadCheckpoint

from .config_file import as_table, read_json

__all__ = ["byte_level_tokenizer", "tokenizer_json"]

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer_json(folder: Path) -> str:
    """The text of ``tokenizer.json``; built from its parts when the file is absent."""
    file = folder / "tokenizer.json"
    if file.is_file():
        read_json(file)
        return file.read_text(encoding="utf-8")
    vocabulary = as_table(folder / "vocab.json", read_json(folder / "vocab.json")).values
    special, added = _added_tokens(folder)
    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        merges = [_pair(line) for line in lines if line.strip() and not line.startswith("#version")]
        return byte_level_tokenizer(dict(vocabulary), merges, added, special)
    except OSError as error:
        raise _unusable(folder, f"merges.txt: {error.strerror or error}.") from error
    except Exception as error:  # the library raises plain Exception for merges that are not in the vocabulary
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


def _added_tokens(folder: Path) -> tuple[set[str], dict[str, int]]:
    """Which added tokens are special, and all of them with their ids."""
    settings: dict[str, Any] = {}
    if (folder / "tokenizer_config.json").is_file():
        settings = read_json(folder / "tokenizer_config.json")
    described = settings.get("added_tokens_decoder", {})
    special = {str(entry["content"]) for entry in described.values() if entry.get("special")}
    if (folder / "added_tokens.json").is_file():
        added = as_table(folder / "added_tokens.json", read_json(folder / "added_tokens.json")).values
        if not described:
            special = {token for token in added if token.startswith("<|")}
        return special, {token: int(number) for token, number in added.items()}
    if not described:
        raise _unusable(folder, "Neither added_tokens.json nor tokenizer_config.json lists the added tokens.")
    return special, {str(entry["content"]): int(number) for number, entry in described.items()}


def _pair(line: str) -> tuple[str, str]:
    left, _, right = line.rstrip("\r\n").partition(" ")
    return left, right


def _unusable(folder: Path, why: str) -> BadCheckpoint:
    return BadCheckpoint(
        f"{folder} has no usable tokenizer.",
        why=f"tokenizer.json is missing, and it cannot be built from vocab.json and merges.txt: {why}",
        fix="Download tokenizer.json into the checkpoint folder.",
    )
