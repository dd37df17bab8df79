"""The whole model in torch, without the voice: a state dictionary of it has the names of the release's main shards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hearing import AudioEncoder
from language import Past, Qwen2
from sizes import checkpoint_config
from vision import VisionTower, merged
from vita_edge.export.config import CheckpointConfig
from vocabulary import open_tokenizer, read_embeddings

__all__ = ["Vita", "new_model"]


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
        if ("model.layers" in name or "lm_head" in name) and parameter.ndim == 2:
            nn.init.normal_(parameter, 0, 0.04)
        elif "model.layers" in name and name.endswith("bias"):
            nn.init.zeros_(parameter)
    model.model.embed_tokens.weight.data.copy_(torch.from_numpy(table))
    model.model.embed_tokens.weight.requires_grad_(False)
    return model
