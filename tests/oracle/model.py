"""The networks of VITA-1.5 in plain numpy (specification 5.3 to 8.4), in float32 or float64."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np

from .reader import Array, Checkpoint, Tensors

Cache = dict[str, tuple[Array, Array]]


class Weights:
    """Tensors below a name prefix, in one floating type."""

    def __init__(self, tensors: Tensors, dtype: Any, prefix: str = "") -> None:
        self.tensors, self.dtype, self.prefix = tensors, dtype, prefix

    def below(self, prefix: str) -> Weights:
        """The tensors whose names continue `prefix`."""
        return Weights(self.tensors, self.dtype, f"{self.prefix}{prefix}.")

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.tensors

    def __getitem__(self, name: str) -> Array:
        return self.tensors[self.prefix + name].astype(self.dtype, copy=False)

    def linear(self, x: Array, name: str) -> Array:
        """x W^T + b, the bias only where it exists (spec 2.5)."""
        y = x @ self[f"{name}.weight"].T
        return y + self[f"{name}.bias"] if f"{name}.bias" in self else y

    def layer_norm(self, x: Array, name: str, eps: float) -> Array:
        """Layer norm over the last axis (spec 5.5, 6.6)."""
        x = x - x.mean(-1, keepdims=True)
        y = x / np.sqrt((x**2).mean(-1, keepdims=True) + x.dtype.type(eps))
        return y * self[f"{name}.weight"] + self[f"{name}.bias"]

    def rms(self, x: Array, name: str, eps: float) -> Array:
        """RMS norm over the last axis (spec 7)."""
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + x.dtype.type(eps)) * self[f"{name}.weight"]


def softmax(x: Array) -> Array:
    """Softmax over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu(x: Array) -> Array:
    """The exact error function form (spec 5.6, 6.6)."""
    erf = np.frompyfunc(math.erf, 1, 1)(x * x.dtype.type(math.sqrt(0.5))).astype(x.dtype)
    return x * (1 + erf) / 2


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def silu(x: Array) -> Array:
    """x sigmoid(x) (spec 7)."""
    return x / (1 + np.exp(-x))


def heads_first(x: Array, heads: int) -> Array:
    """(..., n, heads * d) to (..., heads, n, d)."""
    return np.swapaxes(x.reshape(*x.shape[:-1], heads, -1), -2, -3)


def heads_joined(x: Array) -> Array:
    """(..., heads, n, d) to (..., n, heads * d)."""
    x = np.swapaxes(x, -2, -3)
    return x.reshape(*x.shape[:-2], -1)


# --- audio (spec 5) ---------------------------------------------------------------------------------------------------


def conv2d_stride2(x: Array, weight: Array, bias: Array) -> Array:
    """3 x 3 convolution, stride 2, no padding, on channels x time x frequency (spec 5.4)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2]
    return np.tensordot(weight, windows, ((1, 2, 3), (0, 3, 4))) + bias[:, None, None]


class Audio:
    """Encoder and adapter, stage by stage (spec 5.3 to 5.7)."""

    def __init__(self, ck: Checkpoint, dtype: Any = np.float64) -> None:
        self.w = Weights(ck.main, dtype).below("model.audio_encoder")
        self.dtype, self.config = dtype, ck.audio["model_conf"]
        self.shape = ck.audio["encoder_conf"]["para_conf"]["transformer"]
        self.prompt = bool(ck.config.get("audio_prompt_finetune"))

    def mask(self, n: int, full: bool) -> Array:
        """Which keys (columns) a query (row) may see (spec 5.5)."""
        chunk, left = self.shape["transformer-chunk_size"], self.shape["transformer-left_chunks"]
        if full or chunk <= 0 or self.shape["transformer-dynamic-chunks"]:
            return np.ones((n, n), bool)
        own = np.arange(n)[:, None] // chunk
        key = np.arange(n)[None, :]
        first = np.maximum(own - left, 0) * chunk if left >= 0 else 0
        return (key >= first) & (key < (own + 1) * chunk)

    def encode(self, x: Array, full: bool) -> Array:
        """The transformer, from the output of `embed` (spec 5.5)."""
        w = self.w.below("encoder.enc.1")
        heads, (n, d) = self.shape["transformer-attention-heads"], x.shape
        x = x * self.dtype(math.sqrt(d))
        angle = np.arange(n)[:, None] * 10000.0 ** (-np.arange(0, d, 2) / d)
        positions = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(n, d).astype(self.dtype)
        seen = self.mask(n, full)
        for i in range(self.shape["transformer-num-blocks"]):
            layer = w.below(f"encoders.{i}")
            a, y = layer.below("self_attn"), layer.layer_norm(x, "norm1", 1e-5)
            q, k, v = (heads_first(a.linear(y, f"linear_{c}"), heads) for c in "qkv")
            p = heads_first(a.linear(positions, "linear_pos"), heads)
            by_key = (q + a["pos_bias_u"][:, None]) @ np.swapaxes(k, -1, -2)
            by_place = (q + a["pos_bias_v"][:, None]) @ np.swapaxes(p, -1, -2)
            score = np.where(seen, (by_key + by_place) / self.dtype(math.sqrt(d // heads)), self.dtype(-65504))
            x = x + a.linear(heads_joined((softmax(score) * seen) @ v), "linear_out")
            y = relu(layer.linear(layer.layer_norm(x, "norm2", 1e-5), "feed_forward.w_1"))
            x = x + layer.linear(y, "feed_forward.w_2")
        return w.layer_norm(x, "after_norm", 1e-5)

    def adapt(self, x: Array) -> Array:
        """The subsampling adapter (spec 5.6)."""
        w = self.w.below("adpter")
        kernel = w["conv1d2.weight"]
        x = np.concatenate([x, np.zeros((kernel.shape[2] - 1, x.shape[1]), x.dtype)])
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2], 0)[::2]
        x = np.tensordot(windows, kernel, ((1, 2), (1, 2))) + w["conv1d2.bias"]
        if self.config["norm"] == "batch":
            x = (x - w["bn2.running_mean"]) / np.sqrt(w["bn2.running_var"] + self.dtype(1e-3))
            x = x * w["bn2.weight"] + w["bn2.bias"]
        else:
            x = w.layer_norm(x, "bn2", 1e-3)
        return w.linear(gelu(x) if self.config["activation_func"] == "gelu" else relu(x), "project")

    def stages(self, fbank: Array, full: bool = False) -> dict[str, Array]:
        """Every stage from the filter bank to the prompt rows (spec 5.3 to 5.7)."""
        w = self.w.below("encoder")
        cmvn = (fbank.astype(self.dtype) - w["global_cmvn.mean"]) * w["global_cmvn.istd"]
        core, x = w.below("enc.0.core"), cmvn[None]
        for name in ("conv.0", "conv.2"):
            x = relu(conv2d_stride2(x, core[f"{name}.weight"], core[f"{name}.bias"]))
        sub = core.linear(x.transpose(1, 0, 2).reshape(x.shape[1], -1), "out.0")
        one = w.below("enc.1")
        embed = relu(one.layer_norm(one.linear(sub, "embed.0"), "embed.1", 1e-5))
        enc = self.encode(embed, full)
        adapter = embeds = self.adapt(enc)
        if self.prompt:
            embeds = np.concatenate([self.w["prompt_embeddings.weight"], adapter])
        return {"cmvn": cmvn, "sub": sub, "embed": embed, "enc": enc, "adapter": adapter, "embeds": embeds}


# --- vision (spec 6.6) ------------------------------------------------------------------------------------------------


class Vision:
    """Tower and projector (spec 6.6)."""

    def __init__(self, ck: Checkpoint, dtype: Any = np.float64) -> None:
        main = Weights(ck.main, dtype).below("model")
        self.w, self.projector = main.below("vision_tower.vision_tower"), main.below("mm_projector")
        self.dtype, self.config = dtype, ck.vision
        if self.config.get("hidden_act", "gelu") != "gelu":
            raise ValueError("only gelu is specified for the vision tower")

    def norm(self, w: Weights, x: Array, name: str) -> Array:
        """Layer norm, or the RMS variant without bias (spec 2.5)."""
        kind = w.rms if self.config.get("norm_type") == "rms_norm" else w.layer_norm
        return kind(x, name, self.config["layer_norm_eps"])

    def attention(self, w: Weights, x: Array) -> Array:
        """Packed q, k, v; optional RMS norm of q and k over the full width (spec 6.6, 2.5)."""
        heads = self.config["num_attention_heads"]
        q, k, v = np.split(w.linear(x, "qkv"), 3, -1)
        if self.config.get("qk_normalization"):
            q, k = (w.rms(y, f"{name}_norm", self.config["layer_norm_eps"]) for y, name in ((q, "q"), (k, "k")))
        q, k, v = (heads_first(y, heads) for y in (q, k, v))
        score = q * self.dtype(q.shape[-1] ** -0.5) @ np.swapaxes(k, -1, -2)
        return w.linear(heads_joined(softmax(score) @ v), "proj")

    def tower(self, pixels: Array) -> Array:
        """Hidden states of the last layer, class token first (spec 6.6)."""
        n, _, s, _ = pixels.shape
        e = self.w.below("embeddings")
        kernel = e["patch_embedding.weight"]
        width, p = kernel.shape[0], kernel.shape[-1]
        patches = pixels.astype(self.dtype).reshape(n, 3, s // p, p, s // p, p).transpose(0, 2, 4, 1, 3, 5)
        x = patches.reshape(n, -1, 3 * p * p) @ kernel.reshape(width, -1).T + e["patch_embedding.bias"]
        first = np.broadcast_to(e["class_embedding"], (n, 1, width))
        x = np.concatenate([first, x], 1) + e["position_embedding"]
        for i in range(self.config["num_hidden_layers"]):
            w = self.w.below(f"encoder.layers.{i}")
            x = x + w["ls1"] * self.attention(w.below("attn"), self.norm(w, x, "norm1"))
            x = x + w["ls2"] * w.linear(gelu(w.linear(self.norm(w, x, "norm2"), "mlp.fc1")), "mlp.fc2")
        return x

    def stages(self, pixels: Array) -> dict[str, Array]:
        """Tower output, halved and merged features, projected features (spec 6.6)."""
        vit = self.tower(pixels)
        n, tokens, width = vit.shape
        g = math.isqrt(tokens - 1)
        x = (vit[:, 1:] * self.dtype(0.5)).reshape(n, g // 2, 2, g // 2, 2, width)
        merged = x.transpose(0, 1, 3, 2, 4, 5).reshape(n, g * g // 4, 4 * width)
        proj = self.projector.linear(gelu(self.projector.linear(merged, "0")), "2")
        return {"vit": vit, "tower": merged, "proj": proj}


# --- language model and speech decoder (spec 7, 8.3) ------------------------------------------------------------------


class Stack:
    """A stack of Qwen2 or Llama layers with a key and value cache (spec 7)."""

    def __init__(self, w: Weights, layers: Iterable[str], heads: int, kv: int, eps: float, theta: float) -> None:
        self.w, self.layers, self.heads, self.kv, self.eps, self.theta = w, list(layers), heads, kv, eps, theta

    def rotate(self, x: Array, start: int) -> Array:
        """Half-split rotary embedding of heads x positions x width (spec 7)."""
        n, d = x.shape[-2:]
        angle = np.arange(start, start + n)[:, None] * self.theta ** (-np.arange(0, d, 2) / d)
        cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
        a, b = x[..., : d // 2], x[..., d // 2 :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def attention(self, w: Weights, x: Array, cache: Cache, causal: bool) -> Array:
        """Grouped attention of new positions over the cache and themselves (spec 7)."""
        names = (("q", self.heads), ("k", self.kv), ("v", self.kv))
        q, k, v = (heads_first(w.linear(x, f"{name}_proj"), heads) for name, heads in names)
        past = cache.get(w.prefix)
        start = past[0].shape[1] if past else 0
        q, k = self.rotate(q, start), self.rotate(k, start)
        if past:
            k, v = np.concatenate([past[0], k], 1), np.concatenate([past[1], v], 1)
        cache[w.prefix] = k, v
        group = self.heads // self.kv
        score = q @ np.swapaxes(np.repeat(k, group, 0), -1, -2) * x.dtype.type(q.shape[-1] ** -0.5)
        if causal:
            later = np.arange(k.shape[1])[None, :] > start + np.arange(len(x))[:, None]
            score = np.where(later, -np.inf, score)
        return w.linear(heads_joined(softmax(score) @ np.repeat(v, group, 0)), "o_proj")

    def __call__(self, x: Array, cache: Cache, causal: bool) -> Array:
        """All layers, without a final norm (spec 7, 8.3)."""
        for name in self.layers:
            w = self.w.below(name)
            x = x + self.attention(w.below("self_attn"), w.rms(x, "input_layernorm", self.eps), cache, causal)
            y = w.rms(x, "post_attention_layernorm", self.eps)
            x = x + w.linear(silu(w.linear(y, "mlp.gate_proj")) * w.linear(y, "mlp.up_proj"), "mlp.down_proj")
        return x


class LanguageModel:
    """Qwen2 over embeddings, with cached greedy steps (spec 7)."""

    def __init__(self, ck: Checkpoint, dtype: Any = np.float64) -> None:
        c, self.w = ck.config, Weights(ck.main, dtype)
        self.rows = self.w["model.embed_tokens.weight"]
        self.head = self.rows if c.get("tie_word_embeddings") else self.w["lm_head.weight"]
        self.words = min(ck.tokenizer.get_vocab_size(), len(self.head))
        self.eps, self.penalty = c["rms_norm_eps"], ck.generation.get("repetition_penalty") or 1.0
        layers = (f"layers.{i}" for i in range(c["num_hidden_layers"]))
        heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
        self.stack = Stack(self.w.below("model"), layers, heads, kv, self.eps, float(c["rope_theta"]))
        eos = ck.generation.get("eos_token_id", c.get("eos_token_id"))
        self.stop = {ck.tokenizer.token_to_id("<|im_end|>"), *(eos if isinstance(eos, list) else [eos])}

    def logits(self, x: Array, cache: Cache) -> Array:
        """Logits of the existing ids at every new position (spec 7, 3)."""
        y = self.w.rms(self.stack(x.astype(self.w.dtype), cache, True), "model.norm", self.eps)
        return y @ self.head[: self.words].T

    def choose(self, logits: Array, past: list[int]) -> int:
        """Greedy choice; a repetition penalty touches generated ids only, each once (spec 2.2)."""
        seen = sorted(set(past))
        scores = logits.copy()
        scores[seen] = np.where(scores[seen] < 0, scores[seen] * self.penalty, scores[seen] / self.penalty)
        return int(scores.argmax())

    def generate(self, embeds: Array, count: int, stop: Collection[int] = ()) -> tuple[Array, list[int], Array]:
        """Prefill logits, greedy tokens (the stop token included) and the logits of each step (spec 4.3, 7)."""
        cache: Cache = {}
        prefill = self.logits(embeds, cache)
        tokens: list[int] = []
        steps = [prefill[-1]]
        while True:
            tokens.append(self.choose(steps[-1], tokens))
            if len(tokens) == count or tokens[-1] in stop:
                return prefill, tokens, np.stack(steps)
            steps.append(self.logits(self.rows[tokens[-1:]], cache)[-1])


class Speech:
    """From a sentence's ids to codes (spec 8.3)."""

    def __init__(self, ck: Checkpoint, dtype: Any = np.float64) -> None:
        c, self.w = ck.decoder, Weights(ck.decoder_weights, dtype)
        self.idim, self.odim = c["idim"], c["odim"]
        self.rows = Weights(ck.main, dtype)["model.embed_tokens.weight"]
        heads, blocks = c["transformer_attention_heads"], c["transformer_num_blocks"]
        before, after = (f"layers_pre_nn.{i}" for i in range(blocks // 2)), (f"layers.{i}" for i in range(blocks))
        self.pre = Stack(self.w, before, heads, heads, 1e-6, 10000.0)
        self.main = Stack(self.w, after, heads, heads, 1e-6, 10000.0)

    def hidden(self, ids: list[int]) -> Array:
        """Embedding rows of the language model cut to the decoder's width (spec 8.3)."""
        return self.rows[ids].reshape(-1, self.idim)

    def pre_nn(self, hidden: Array) -> Array:
        """The bidirectional layers (spec 8.3)."""
        return self.pre(hidden.astype(self.w.dtype), {}, False)

    def codes(
        self, pre: Array, limit: int = 1000, window: int = -1, factor: float = 1.0
    ) -> Iterator[tuple[int, Array]]:
        """Greedy codes with their logits, the end code (odim + 2) last when it comes (spec 8.3)."""
        table, bos, sos, end, pad = self.w["embedding.weight"], *(self.odim + i for i in range(4))
        cache: Cache = {}
        self.main(np.concatenate([table[[bos]], pre]), cache, False)
        history = [sos]
        while len(history) <= limit:
            x = self.main(table[history[-1:]], cache, False)
            logits = self.w.linear(self.w.rms(x, "norm", 1e-6), "out_fnn")[0]
            scores = logits.copy()
            for code in history[-window:] if window > 0 else []:
                scores[code] /= factor
            scores[[bos, sos, pad]] = -np.inf
            history.append(int(scores.argmax()))
            yield history[-1], logits
            if history[-1] == end:
                return


# --- codec (spec 8.4) -------------------------------------------------------------------------------------------------


def leaky(x: Array) -> Array:
    """Leaky ReLU with slope 0.1, everywhere in the generator (spec 8.4)."""
    return np.where(x < 0, x * x.dtype.type(0.1), x)


class Codec:
    """Quantizer tables and generator (spec 8.4)."""

    def __init__(self, ck: Checkpoint, dtype: Any = np.float64) -> None:
        self.c, self.q, self.dtype = ck.codec, Weights(ck.quantizer, dtype), dtype
        self.g = Weights(ck.generator, dtype)
        self.groups, self.layers = self.c["n_code_groups"], self.c["residul_layer"]
        self.streams, self.hop = self.groups * self.layers, math.prod(self.c["upsample_rates"])
        names = [n.removesuffix(".weight_g") for n in ck.generator if n.endswith(".weight_g")]
        self.kernels = {n: self.fold(n) for n in names}
        tokens = enumerate(self.c["global_tokens"])
        self.voice = np.concatenate(
            [self.q[f"quantizer_modules_globaltokens.{j}.embedding.weight"][t] for j, t in tokens]
        )

    def fold(self, name: str) -> Array:
        """w = g v / |v|, the norm over all axes but the first (spec 8.4)."""
        v = self.g[f"{name}.weight_v"]
        return self.g[f"{name}.weight_g"] * v / np.sqrt((v**2).sum((1, 2), keepdims=True))

    def conv(self, x: Array, name: str, dilation: int = 1) -> Array:
        """Convolution that keeps the length (spec 8.4)."""
        kernel, n = self.kernels[name], x.shape[1]
        pad = dilation * (kernel.shape[2] - 1) // 2
        x = np.pad(x, ((0, 0), (pad, pad)))
        taps = (kernel[:, :, i] @ x[:, i * dilation : i * dilation + n] for i in range(kernel.shape[2]))
        return sum(taps, start=self.g[f"{name}.bias"][:, None])

    def widen(self, x: Array, name: str, rate: int) -> Array:
        """Transposed convolution (spec 8.4)."""
        kernel, n = self.kernels[name], x.shape[1]
        size = kernel.shape[2]
        y = np.zeros((kernel.shape[1], (n - 1) * rate + size), x.dtype)
        for i in range(size):
            y[:, i : i + (n - 1) * rate + 1 : rate] += kernel[:, :, i].T @ x
        pad = (size - rate) // 2
        return y[:, pad : y.shape[1] - pad] + self.g[f"{name}.bias"][:, None]

    def block(self, x: Array, j: int, dilations: list[int]) -> Array:
        """One residual block of type "1" or "2" (spec 8.4)."""
        name, two = f"resblocks.{j}", str(self.c["resblock"]) == "1"
        for i, d in enumerate(dilations if two else dilations[:2]):
            if two:
                y = self.conv(leaky(self.conv(leaky(x), f"{name}.convs1.{i}", d)), f"{name}.convs2.{i}")
            else:
                y = self.conv(leaky(x), f"{name}.convs.{i}", d)
            x = x + y
        return x

    def quant(self, codes: Array) -> Array:
        """Code embeddings, 512 x frames, from (frames,) or (frames, streams) codes (spec 8.4)."""
        codes = np.asarray(codes).reshape(-1, self.streams)
        total: Any = 0
        for r in range(self.layers):
            table = "quantizer_modules" + (str(r + 1) if r else "")
            parts = [self.q[f"{table}.{j}.embedding.weight"][codes[:, r * self.groups + j]] for j in range(self.groups)]
            total = total + np.concatenate(parts, -1)
        return total.T

    def stages(self, codes: Array) -> dict[str, Array]:
        """Voice vector, code embeddings, first generator stages and waveform (spec 8.4)."""
        out = {"global": self.voice, "quant": self.quant(codes)}
        x = out["conv_pre"] = self.conv(out["quant"], "conv_pre")
        count = len(self.c["resblock_kernel_sizes"])
        for i, rate in enumerate(self.c["upsample_rates"]):
            x = out[f"up{i}"] = self.widen(leaky(x), f"ups.{i}", rate)
            dilations = enumerate(self.c["resblock_dilation_sizes"])
            x = sum(self.block(x, i * count + m, d) for m, d in dilations) / self.dtype(count)
            if len(x) == len(self.voice):
                x = x + self.voice[:, None]
        out["wave"] = np.tanh(self.conv(leaky(x), "conv_post"))[0]
        return out

    def wave(self, codes: Array) -> Array:
        """The waveform of all codes in one pass (spec 8.4)."""
        return self.stages(codes)["wave"]
