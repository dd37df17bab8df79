"""The speech decoder in PyTorch: the same function as the two exported graphs, for training it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from codes import CODES
from vita_edge.export.checkpoint.config import SpeechConfig
from vocabulary import HIDDEN

__all__ = ["BOS", "CONFIG", "END", "PADDING", "SOS", "SpeechModel", "release_tensors"]

CONFIG = SpeechConfig(width=HIDDEN, codes=CODES, layers=3, heads=4, intermediate_size=256)
BOS, SOS, END, PADDING = range(CODES, CODES + 4)
EPS, THETA = 1e-6, 10_000.0


class Layer(nn.Module):
    """A Llama layer with as many key heads as query heads."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.input_layernorm = nn.RMSNorm(width, EPS)
        self.post_attention_layernorm = nn.RMSNorm(width, EPS)
        self.self_attn = nn.ModuleDict({f"{name}_proj": nn.Linear(width, width, bias=False) for name in "qkvo"})
        shapes = {"gate": (width, inner), "up": (width, inner), "down": (inner, width)}
        self.mlp = nn.ModuleDict({f"{name}_proj": nn.Linear(*shape, bias=False) for name, shape in shapes.items()})
        self.dropout = nn.Dropout(0.05)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, past: Past | None) -> Tensor:
        """x [batch, n, width]; mask bool [n, all], None: everything is seen."""
        y = self.input_layernorm(x)
        q, k, v = (self.self_attn[f"{name}_proj"](y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in "qkv")
        q, k = _rotated(q, rotary), _rotated(k, rotary)
        if past is not None:
            k, v = past.joined(self, k, v)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.dropout(self.self_attn["o_proj"](y.transpose(1, 2).flatten(2)))
        y = self.post_attention_layernorm(x)
        y = functional.silu(self.mlp["gate_proj"](y)) * self.mlp["up_proj"](y)
        return x + self.dropout(self.mlp["down_proj"](y))


class Past:
    """Keys and values of every layer, for decoding code by code."""

    def __init__(self) -> None:
        self._held: dict[Layer, tuple[Tensor, Tensor]] = {}

    def joined(self, layer: Layer, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if layer in self._held:
            k, v = (torch.cat(pair, dim=2) for pair in zip(self._held[layer], (k, v)))
        self._held[layer] = k, v
        return k, v


class SpeechModel(nn.Module):
    """Token rows and codes in, logits of the codes out."""

    def __init__(self, config: SpeechConfig = CONFIG) -> None:
        super().__init__()
        ids, self.head_dim = config.codes + 4, config.head_dim
        self.width = config.width
        self.embedding = nn.Embedding(ids, config.width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        layer = (config.width, config.heads, config.intermediate_size)
        self.layers_pre_nn = nn.ModuleList(Layer(*layer) for _ in range(config.pre_layers))
        self.layers = nn.ModuleList(Layer(*layer) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, EPS)
        self.out_fnn = nn.Linear(config.width, ids)

    def forward(self, rows: Tensor, codes: Tensor) -> Tensor:
        """rows float32 [batch, tokens, hidden], codes int64 [batch, n] → logits [batch, n + 1, codes + 4]."""
        prefix = self._prefix(rows)
        start = torch.full_like(codes[:, :1], SOS)
        x = torch.cat([prefix, self.embedding(torch.cat([start, codes], dim=1))], dim=1)
        count, read = x.shape[1], prefix.shape[1]
        mask = torch.ones(count, count, dtype=torch.bool).tril()
        mask[:read, :read] = True
        rotary = self._rotary(0, count)
        for layer in self.layers:
            x = layer(x, rotary, mask, None)
        return self.out_fnn(self.norm(x[:, read:]))

    @torch.no_grad()
    def speak(self, rows: Tensor, top_k: int = 1, seed: int = 0, most: int = 400) -> list[int]:
        """Codes of one sentence, rows [tokens, hidden], as the runtime decodes them."""
        random = torch.Generator().manual_seed(seed)
        past, x = Past(), self._prefix(rows[None])
        for layer in self.layers:
            x = layer(x, self._rotary(0, x.shape[1]), None, past)
        codes, position, code = [], x.shape[1], SOS
        while len(codes) < most:
            x = self.embedding(torch.tensor([[code]]))
            for layer in self.layers:
                x = layer(x, self._rotary(position, 1), None, past)
            position += 1
            logits = self.out_fnn(self.norm(x))[0, 0]
            logits[[BOS, SOS, PADDING]] = -torch.inf
            best = logits.topk(top_k)
            code = int(best.indices[torch.multinomial(best.values.softmax(0), 1, generator=random)])
            if code == END:
                break
            codes.append(code)
        return codes

    def _prefix(self, rows: Tensor) -> Tensor:
        x = rows.reshape(len(rows), -1, self.width)
        rotary = self._rotary(0, x.shape[1])
        for layer in self.layers_pre_nn:
            x = layer(x, rotary, None, None)
        bos = self.embedding.weight[BOS].expand(len(rows), 1, -1)
        return torch.cat([bos, x], dim=1)

    def _rotary(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        frequencies = THETA ** (-torch.arange(0, self.head_dim, 2) / self.head_dim)
        angles = torch.arange(start, start + count)[:, None] * frequencies
        return angles.cos(), angles.sin()


def _rotated(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def release_tensors(model: SpeechModel) -> dict[str, Tensor]:
    """``decoder/final.pt``: the names of the modules are those of the release."""
    return dict(model.state_dict())
