"""The whole model in torch, without the voice: a state dictionary of it has the names of the release's main shards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hearing import AudioEncoder
from language import Attention, Past, Qwen2
from sizes import checkpoint_config
from vision import VisionTower, merged
from vita_edge.export.checkpoint.config import CheckpointConfig
from vocabulary import open_tokenizer, read_embeddings

__all__ = ["Vita", "new_model"]

SOUGHT, HANDED_ON = 0.06, 0.06
"""Deviations of what a head is begun with; an RMS-normed row has a length of sqrt(width)."""


class _Tower(nn.Module):
    def __init__(self, c: CheckpointConfig) -> None:
        super().__init__()
        self.vision_tower = VisionTower(c.vision)


class _Model(Qwen2):
    def __init__(self, c: CheckpointConfig, dropout: float) -> None:
        super().__init__(c.llm)
        self.vision_tower = _Tower(c)
        self.mm_projector = nn.Sequential(
            nn.Linear(4 * c.vision.hidden_size, c.llm.hidden_size),
            nn.GELU(),
            nn.Linear(c.llm.hidden_size, c.llm.hidden_size),
        )
        self.audio_encoder = AudioEncoder(c.audio, c.llm.hidden_size, dropout)


class Vita(nn.Module):
    def __init__(self, c: CheckpointConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = c
        self.model = _Model(c, dropout)
        self.lm_head = nn.Linear(c.llm.hidden_size, c.llm.vocab_rows, bias=False)

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [n, 3, S, S] → rows [n, 16, hidden]."""
        return self.model.mm_projector(merged(self.model.vision_tower.vision_tower(pixels)))

    def embed(self, ids: Tensor) -> Tensor:
        return self.model.embed_tokens(ids)

    def read(self, ids: list[int]) -> Past:
        """Keys and values of the system prompt."""
        return self.model(self.embed(torch.tensor([ids])))[1]


def new_model(dropout: float = 0.0, seed: int = 0) -> Vita:
    """With the frozen embedding table, everything else random."""
    torch.manual_seed(seed)
    table = read_embeddings()
    end = open_tokenizer().encode("<|im_end|>")[0]
    model = Vita(checkpoint_config(len(table), end), dropout)
    for name, parameter in model.named_parameters():
        if "model.layers" in name and parameter.ndim == 2:
            nn.init.normal_(parameter, 0, 0.04)
        elif "model.layers" in name and name.endswith("bias"):
            nn.init.zeros_(parameter)
    for layer in model.model.layers:
        _seek_alike(layer.self_attn)
    model.lm_head.weight.data.copy_(torch.from_numpy(table))
    model.model.embed_tokens.weight.data.copy_(torch.from_numpy(table))
    model.model.embed_tokens.weight.requires_grad_(False)
    return model


def _seek_alike(attention: Attention) -> None:
    """Let every head look for rows like its own, and hand on what it finds.

    Trained attention looks like that, and learns to find the thing that is asked for many times sooner from here than
    from chance (mimetic initialisation, arXiv:2305.09828).
    """
    c = attention.c
    group, width, of_head = c.heads // c.kv_heads, c.hidden_size, c.head_dim
    for i in range(c.kv_heads):
        sought, handed_on = (torch.randn(of_head, width) for _ in range(2))
        rows = slice(i * of_head, (i + 1) * of_head)
        attention.k_proj.weight.data[rows] = SOUGHT * (sought + 0.3 * torch.randn(of_head, width))
        attention.v_proj.weight.data[rows] = HANDED_ON * handed_on
        for head in range(i * group, (i + 1) * group):
            columns = slice(head * of_head, (head + 1) * of_head)
            attention.q_proj.weight.data[columns] = SOUGHT * (sought + 0.3 * torch.randn(of_head, width))
            attention.o_proj.weight.data[:, columns] = HANDED_ON / group * handed_on.T
