"""A byte-level tokenizer without merges: one id per byte, then <|im_start|>, <|im_end|> and <tool_call>."""

from __future__ import annotations

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from vita_edge.runtime.text.tokenizer import Tokenizer

IM_START, IM_END, TOOL_CALL = 256, 257, 258


def library_tokenizer() -> tokenizers.Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = tokenizers.Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken(c, normalized=False) for c in ("<|im_start|>", "<|im_end|>")])
    library.add_tokens([AddedToken("<tool_call>", normalized=False)])
    return library


def toy_tokenizer() -> Tokenizer:
    return Tokenizer(library_tokenizer())
