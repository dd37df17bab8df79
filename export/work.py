"""Count the weights and multiply-accumulates of a checkpoint from its sizes alone (spec: sizes)."""

from __future__ import annotations

from vita_edge.engines.bundle.work import DecoderShape, ModelWork, Part, Parts

from .checkpoint.config import AudioConfig, CheckpointConfig, CodecConfig, LlmConfig, SpeechConfig, VisionConfig
from .checkpoint.layout import CODEC_WIDTH, GLOBAL_WIDTH
from .receptive_field import receptive_field
from .weights.weight import padded_head_dim

__all__ = ["model_work"]

LAYER_LAUNCHES = 10
"""Operators of a decoder layer: two norms, four products, rotation and attention, activation, sums."""


def model_work(config: CheckpointConfig, vocab_size: int | None = None) -> ModelWork:
    """What a model of these sizes has to do.

    Args:
        vocab_size: ids that the tokenizer knows; None counts all rows of the checkpoint.
    """
    llm, speech, codec = config.llm, config.speech, config.codec
    vocabulary = vocab_size or llm.vocab_rows
    left, right = receptive_field(
        codec.upsample_rates,
        codec.upsample_kernel_sizes,
        codec.resblock_kernel_sizes,
        codec.resblock_dilation_sizes,
        codec.resblock,
    )
    layers, head = _llm(llm, vocabulary)
    prefix, causal, codes = _speech(speech)
    encoder, adapter = _audio(config.audio, llm.hidden_size)
    tower, projector = _vision(config.vision, llm.hidden_size)
    return ModelWork(
        llm=DecoderShape(llm.layers, llm.heads, llm.kv_heads, padded_head_dim(llm.head_dim)),
        speech=DecoderShape(speech.layers, speech.heads, speech.heads, padded_head_dim(speech.head_dim)),
        parts=Parts(
            embedding=Part(vocabulary * llm.hidden_size, 0, convolution_weights=vocabulary * llm.hidden_size),
            llm_layers=layers,
            llm_head=head,
            vision=tower,
            projector=projector,
            audio_encoder=encoder,
            audio_adapter=adapter,
            speech_prefix=prefix,
            speech_layers=causal,
            speech_head=codes,
            codec=_codec(codec),
        ),
        hidden_size=llm.hidden_size,
        vectors_per_token=config.vectors_per_token,
        speech_context_tokens=config.speech_context,
        codes_per_second=codec.sample_rate_hz / codec.samples_per_code,
        codec_left=left,
        codec_right=right,
        tokens_per_tile=(config.vision.grid // 2) ** 2,
        prompt_limit_tokens=min(llm.prompt_limit, llm.max_positions),
        context_tokens=llm.max_positions,
        streams_audio=config.audio.chunk_size > 0 and config.audio.adapter_kernel > 1,
    )


def _llm(config: LlmConfig, vocabulary: int) -> tuple[Part, Part]:
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    matrices = hidden * (queries + 2 * keys) + queries * hidden + 3 * hidden * inner
    small = queries + 2 * keys + 2 * hidden  # biases and norms
    layers = Part(
        weights=config.layers * (matrices + small),
        macs=config.layers * matrices,
        widest=inner,
        launches=config.layers * LAYER_LAUNCHES,
    )
    head = Part(vocabulary * hidden + hidden, vocabulary * hidden, widest=vocabulary, launches=3)
    return layers, head


def _vision(config: VisionConfig, hidden: int) -> tuple[Part, Part]:
    width, inner, patches = config.hidden_size, config.intermediate_size, config.grid**2
    rows = patches + 1
    patch = 3 * config.patch_size**2 * width
    matrices = 4 * width**2 + 2 * width * inner
    per_norm = 1 if config.norm_type == "rms_norm" else 2
    small = width * ((3 if config.qkv_bias else 0) + 1 + 2 + 2 * per_norm + 1) + inner  # biases, layer scales, norms
    if config.qk_normalization:
        small += 2 * width
    attention = 2 * rows * rows * width
    tower = Part(
        weights=patch + width + rows * width + width + config.layers * (matrices + small),
        macs=config.layers * (rows * matrices + attention),
        convolution_weights=patch + rows * width,
        convolution_macs=patches * patch,
        widest=rows * inner,
        launches=config.layers * 12,
    )
    merged, positions = 4 * width, patches // 4
    products = merged * hidden + hidden * hidden
    projector = Part(products + 2 * hidden, positions * products, widest=positions * merged, launches=4)
    return tower, projector


def _audio(config: AudioConfig, hidden: int) -> tuple[Part, Part]:
    conv, width, inner = config.conv_width, config.hidden_size, config.intermediate_size
    bins = config.conv_bins
    middle = (config.mel_bins - 3) // 2 + 1
    first, second = 9 * conv, 9 * conv * conv
    layer = 4 * width**2 + width**2 + 2 * width * inner  # linear_pos meets a position for every step
    small = 4 * width + inner + width + 2 * width + 4 * width  # biases, u and v, two norms
    encoder = Part(
        weights=2 * config.mel_bins
        + first
        + second
        + 2 * conv
        + bins * conv * conv
        + conv
        + conv * width
        + 3 * width
        + config.layers * (layer + small)
        + 2 * width,
        macs=bins * conv * conv + conv * width + config.layers * layer,
        convolution_weights=first + second + 2 * conv,
        # two rows of the first convolution's output make one step
        convolution_macs=2 * middle * first + bins * second,
        widest=2 * middle * conv,
        launches=config.layers * 20,
    )
    kernel = config.adapter_kernel * width * 2 * width
    adapter = Part(
        weights=kernel + 2 * width + 4 * width + 2 * width * hidden + hidden + config.prompt_rows * hidden,
        macs=2 * width * hidden,
        convolution_weights=kernel,
        convolution_macs=kernel,
        widest=hidden,
        launches=6,
    )
    return encoder, adapter


def _speech(config: SpeechConfig) -> tuple[Part, Part, Part]:
    width, inner, codes = config.width, config.intermediate_size, config.codes + 4
    matrices = 4 * width**2 + 3 * width * inner
    layer = matrices + 2 * width

    def layers(count: int) -> Part:
        return Part(count * layer, count * matrices, widest=inner, launches=count * LAYER_LAUNCHES)

    head = Part(
        weights=2 * codes * width + codes + width,
        macs=codes * width,
        convolution_weights=codes * width,
        widest=codes,
        launches=4,
    )
    return layers(config.pre_layers), layers(config.layers), head


def _codec(config: CodecConfig) -> Part:
    """Every product is a convolution; what one costs for a code grows with the rate that is reached so far."""
    tables = config.n_codes * (CODEC_WIDTH * config.residual_layers + GLOBAL_WIDTH)
    weights = macs = widest = 0
    convolutions, rate = 2, 1

    def convolve(kernel: int, into: int, out: int) -> None:
        nonlocal weights, macs
        weights += kernel * into * out + out
        macs += rate * kernel * into * out

    convolve(7, CODEC_WIDTH, config.channels(0))
    for stage, (step, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernel_sizes)):
        into, out = config.channels(stage), config.channels(stage + 1)
        convolve(kernel, into, out)  # transposed: its inputs come at the rate before it
        rate *= step
        widest = max(widest, rate * out)
        each = 2 if config.resblock == "1" else 1
        for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes):
            for _ in range(each * len(dilations)):
                convolve(size, out, out)
                convolutions += 1
        convolutions += 1
    convolve(7, config.channels(len(config.upsample_rates)), 1)
    return Part(
        weights=weights + tables,
        macs=0,
        convolution_weights=weights + tables,
        convolution_macs=macs,
        widest=widest,
        launches=2 * convolutions,
    )
