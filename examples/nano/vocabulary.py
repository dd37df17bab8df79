"""Stage 0: the tokenizer and the embedding table, which no later stage changes.

The table is random. A small model reads one of a thousand random directions as easily as a learned one, and the voice,
which reads the same table, can be trained beside everything else.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sizes import HIDDEN
from tokens import HANDS, tokenizer_files
from vita_edge.runtime.text.tokenizer import Tokenizer
from world import all_answers

__all__ = ["DEVIATION", "OUT", "open_tokenizer", "read_embeddings"]

OUT = Path("out/nano")
DEVIATION = 0.1


def open_tokenizer(out: Path = OUT) -> Tokenizer:
    return Tokenizer.from_file(out / "tokenizer" / "tokenizer.json")


def read_embeddings(out: Path = OUT) -> np.ndarray:
    return np.load(out / "embeddings.npy")


def main() -> None:
    folder = OUT / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tokenizer_files().items():
        (folder / name).write_text(text, encoding="utf-8")
    tokenizer = open_tokenizer()
    for hand in HANDS:
        assert len(tokenizer.encode(hand)) == 1, hand
    rows = -(-len(tokenizer) // 16) * 16
    table = np.random.default_rng(55).normal(0, DEVIATION, (rows, HIDDEN)).astype(np.float32)
    table = table.astype(np.float16).astype(np.float32)  # exact in every type of a checkpoint but bfloat16
    np.save(OUT / "embeddings.npy", table)
    (OUT / "answers.json").write_text(json.dumps(all_answers(), indent=0), encoding="utf-8")
    print(f"{len(tokenizer)} tokens, {rows} rows, {len(all_answers())} answers")


if __name__ == "__main__":
    main()
