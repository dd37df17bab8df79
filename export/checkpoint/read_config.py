"""Read a checkpoint's config files into plain values; options that the release does not use are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vita_edge.engines.bundle.facts import SamplingFacts

from .config import AudioConfig, CheckpointConfig, CodecConfig, LlmConfig, SpeechConfig, VisionConfig
from .config_file import ConfigFile, as_table, read_json, read_yaml
from .known_keys import (
    CODEC,
    FBANK,
    GENERATION,
    MAIN,
    PREPROCESSOR,
    ROPE,
    SAMPLING,
    TRANSFORMER,
    VISION,
    account_for,
)
from .layout import CODEC_WIDTH, GLOBAL_WIDTH
from .side_folders import SideFolders, find_side_folders

__all__ = ["read_config"]

_TILES = ("min_dynamic_patch", "max_dynamic_patch", "use_thumbnail")


def read_config(
    path: Path, vision_tower: Path | None, audio_encoder: Path | None, *, notes: list[str]
) -> tuple[CheckpointConfig, SideFolders]:
    """The settings of the checkpoint at ``path``; what the user should know is added to ``notes``."""
    main = _main_config(path, notes)
    folders = find_side_folders(
        path, main.values.get("mm_audio_encoder"), main.values.get("mm_vision_tower"), vision_tower, audio_encoder
    )
    account_for(main, MAIN, notes)
    llm = _llm(main, path / "generation_config.json", notes)
    config = CheckpointConfig(
        name=_name(path, main),
        llm=llm,
        vision=_vision(main, folders.vision, notes),
        audio=_audio(main, folders.audio / "train.yaml", notes),
        speech=_speech(folders.decoder / "model.json", llm.hidden_size),
        codec=_codec(folders.codec / "model.json", notes),
    )
    if config.codec.streams == 1 and config.speech.codes > config.codec.n_codes:
        notes.append(
            f"The speech decoder has {config.speech.codes} codes and the codec only {config.codec.n_codes}; "
            "codes beyond that have no sound."
        )
    return config, folders


def _main_config(path: Path, notes: list[str]) -> ConfigFile:
    """config.json of the release; also where the live demo has put a nested one on top of it."""
    outer = as_table(path / "config.json", read_json(path / "config.json"))
    if "text_config" not in outer:
        return outer
    original = path / "origin_config.json"
    if original.is_file():
        inner = as_table(original, read_json(original))
        tiles = {key: outer.values[key] for key in _TILES if key in outer}
        return ConfigFile(original, {**inner.values, **{k: v for k, v in tiles.items() if k not in inner}})
    notes.append("config.json is the live demo's and origin_config.json is missing; its text_config was used.")
    text = {key: value for key, value in outer.section("text_config").values.items() if value is not None}
    return ConfigFile(outer.file, {"mm_projector_type": "mlp2x_gelu", **outer.values, **text})


def _name(path: Path, main: ConfigFile) -> str:
    """The repository id when there is one, else the folder's name."""
    name = str(main.values.get("_name_or_path") or "")
    return name if name.count("/") == 1 and not name.startswith((".", "/")) else path.resolve().name


def _llm(c: ConfigFile, generation_file: Path, notes: list[str]) -> LlmConfig:
    c.must_be("hidden_act", "silu", default="silu")
    c.must_be("use_sliding_window", False, default=False)
    if any(kind != "full_attention" for kind in c.texts("layer_types", ())):
        raise c.refusal("layer_types", "Only full_attention is supported, which is what VITA-1.5 uses.")
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    kv_heads = c.integer("num_key_value_heads")
    _must_divide(c, "num_attention_heads", heads, "hidden_size", hidden)
    _must_divide(c, "num_key_value_heads", kv_heads, "num_attention_heads", heads)
    if c.integer("head_dim", hidden // heads) != hidden // heads:
        raise c.refusal("head_dim", "Qwen2 splits hidden_size evenly among its heads.")
    if (hidden // heads) % 2:
        raise c.refusal("num_attention_heads", "Rotary positions need heads of an even width.")
    generation = ConfigFile(generation_file, {})
    if generation_file.is_file():
        generation = as_table(generation_file, read_json(generation_file))
    _note_sampling(generation, notes)
    max_positions = c.integer("max_position_embeddings", 32768)
    return LlmConfig(
        hidden_size=hidden,
        intermediate_size=c.integer("intermediate_size"),
        layers=c.integer("num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        rms_norm_eps=c.number("rms_norm_eps"),
        rope_theta=_rope_theta(c),
        vocab_rows=c.integer("vocab_size"),
        tied=c.flag("tie_word_embeddings", False),
        max_positions=max_positions,
        prompt_limit=c.integer("tokenizer_model_max_length", max_positions),
        eos_token_ids=_eos(generation) or _eos(c),
        repetition_penalty=generation.number("repetition_penalty", 1.0),
        sampling=_sampling(generation),
    )


def _sampling(c: ConfigFile) -> SamplingFacts:
    """Values that Hugging Face's own class fills in when they are absent have its defaults here."""
    if not c.flag("do_sample", False):
        return SamplingFacts()
    return SamplingFacts(
        temperature=c.number("temperature", 1.0, positive=False),
        top_k=c.integer("top_k", 50, minimum=0),
        top_p=c.number("top_p", 1.0),
    )


def _rope_theta(c: ConfigFile) -> float:
    """Of ``rope_theta``, or of ``rope_parameters`` where transformers 5 keeps it; both must say the same."""
    for key in ("rope_scaling", "rope_parameters"):
        if not c.values.get(key):
            continue
        rope = c.section(key)
        if "full_attention" in rope:  # a table for each kind of layer
            rope = rope.section("full_attention")
        for name in ("rope_type", "type"):
            rope.must_be(name, "default", default="default")
        account_for(rope, ROPE, [])
    rope = c.section("rope_parameters") if c.values.get("rope_parameters") else ConfigFile(c.file, {})
    rope = rope.section("full_attention") if "full_attention" in rope else rope
    if "rope_theta" not in rope:
        return c.number("rope_theta")
    theta = rope.number("rope_theta")
    if c.number("rope_theta", theta) != theta:
        raise c.refusal("rope_theta", f"rope_parameters.rope_theta is {theta:g}: one of the two is wrong.")
    return theta


def _note_sampling(generation: ConfigFile, notes: list[str]) -> None:
    """What generation_config.json asks for and a bundle does not carry."""
    asked = {key: value for key, value in generation.values.items() if key not in GENERATION.used}
    sampling = [
        f"{key} {value!r:.40}" for key, value in asked.items() if key in SAMPLING and value not in (None, False)
    ]
    if sampling:
        notes.append(f"generation_config.json asks for {', '.join(sampling)}, which a bundle does not carry.")


def _eos(c: ConfigFile) -> tuple[int, ...]:
    if isinstance(c.values.get("eos_token_id"), list):
        return c.sequence("eos_token_id", int)
    return (c.integer("eos_token_id", minimum=0),) if "eos_token_id" in c else ()


def _vision(main: ConfigFile, folder: Path, notes: list[str]) -> VisionConfig:
    """Options that InternViT's own config class fills in when they are absent have its defaults here."""
    c = as_table(folder / "config.json", read_json(folder / "config.json"))
    p = as_table(folder / "preprocessor_config.json", read_json(folder / "preprocessor_config.json"))
    account_for(c, VISION, notes)
    account_for(p, PREPROCESSOR, notes)
    c.must_be("hidden_act", "gelu", default="gelu")
    c.must_be("norm_type", "layer_norm", "rms_norm", default="rms_norm")
    c.must_be("num_channels", 3, default=3)
    p.must_be("resample", 3, default=3)
    main.must_be("mm_projector_type", "mlp2x_gelu")
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    _must_divide(c, "num_attention_heads", heads, "hidden_size", hidden)
    if main.integer("mm_hidden_size", 4 * hidden) != 4 * hidden:
        raise main.refusal("mm_hidden_size", f"Four vision vectors of {hidden} are joined into one of {4 * hidden}.")
    size, patch = c.integer("image_size"), c.integer("patch_size")
    if size % patch or (size // patch) % 2:
        raise c.refusal("image_size", f"Its patches of {patch} have to form an even grid: 2 x 2 are merged.")
    for key in ("size", "crop_size"):
        if any(side != size for side in _sides(p.values.get(key, size))):
            raise p.refusal(key, f"The position table is made for {size} x {size}; other sizes are not interpolated.")
    minimum, maximum = main.integer("min_dynamic_patch", 1), main.integer("max_dynamic_patch", 12)
    if maximum < minimum:
        raise main.refusal("max_dynamic_patch", f"It is less than min_dynamic_patch, {minimum}.")
    return VisionConfig(
        hidden_size=hidden,
        intermediate_size=c.integer("intermediate_size"),
        layers=c.integer("num_hidden_layers"),
        heads=heads,
        image_size=size,
        patch_size=patch,
        layer_norm_eps=c.number("layer_norm_eps", 1e-6),
        norm_type=c.text("norm_type", "rms_norm"),
        qk_normalization=c.flag("qk_normalization", True),
        qkv_bias=c.flag("qkv_bias", False),
        image_mean=_three(p, "image_mean"),
        image_std=_three(p, "image_std"),
        min_tiles=minimum,
        max_tiles=maximum,
        use_thumbnail=main.flag("use_thumbnail", True),
        pad_frames=main.values.get("image_aspect_ratio") == "pad",
    )


def _sides(size: Any) -> list[Any]:
    """A number, or {"height": .., "width": ..}, or {"shortest_edge": ..}."""
    return list(size.values()) if isinstance(size, Mapping) else [size]


def _three(p: ConfigFile, key: str) -> tuple[float, ...]:
    values = tuple(map(float, p.sequence(key, float)))
    if len(values) != 3 or (key == "image_std" and min(values) <= 0):
        raise p.refusal(key, "It has to be three numbers, one a colour.")
    return values


def _audio(main: ConfigFile, file: Path, notes: list[str]) -> AudioConfig:
    c = read_yaml(file)
    data, model, encoder = c.section("dataset_conf"), c.section("model_conf"), c.section("encoder_conf")
    fbank, t = data.section("fbank_conf"), encoder.section("para_conf", "transformer")
    account_for(fbank, FBANK, notes)
    account_for(t, TRANSFORMER, notes)
    front = encoder.section("para_conf", "subsampling")
    encoder.section("overview_conf").must_be("encoder-layer-config", "subsampling-transformer")
    front.must_be("subsampling-rate", 4)
    t.must_be("transformer-input-layer", "linear")
    t.must_be("transformer-pos-enc-class", "rel-enc")
    t.must_be("transformer-normalize-before", True, default=True)
    t.must_be("transformer-concat-after", False, default=False)
    t.must_be("transformer-positionwise-layer-type", "linear", default="linear")
    model.must_be("adpter_type", "subsampling")
    model.must_be("norm", "layer", "batch")
    if "resample_conf" in data:
        data.section("resample_conf").must_be("resample_rate", 16000, default=16000)
    width, heads = t.integer("transformer-attention-dim"), t.integer("transformer-attention-heads")
    _must_divide(t, "transformer-attention-heads", heads, "transformer-attention-dim", width)
    if width % 2:
        raise t.refusal("transformer-attention-dim", "The position table needs an even width.")
    mel_bins = fbank.integer("num_mel_bins", minimum=7)
    if fbank.number("dither", 0.0, positive=False):
        notes.append("train.yaml asks for dither, which is random; none is added.")
    dynamic = t.flag("transformer-dynamic-chunks")
    if dynamic:
        notes.append(
            "train.yaml sets transformer-dynamic-chunks: the reference draws a random attention chunk for every clip. "
            "Full attention is used instead."
        )
    return AudioConfig(
        mel_bins=mel_bins,
        frame_length_ms=fbank.number("frame_length"),
        frame_shift_ms=fbank.number("frame_shift"),
        conv_width=front.integer("subsampling-output-dim"),
        hidden_size=width,
        intermediate_size=t.integer("transformer-linear-units"),
        layers=t.integer("transformer-num-blocks"),
        heads=heads,
        chunk_size=0 if dynamic else t.integer("transformer-chunk_size", minimum=None),
        left_chunks=t.integer("transformer-left_chunks", minimum=None),
        dynamic_chunks=dynamic,
        adapter_kernel=model.integer("kernel_size"),
        adapter_norm=model.text("norm"),
        adapter_gelu=model.text("activation_func") == "gelu",
        prompt_rows=main.integer("audio_prompt_num") if main.flag("audio_prompt_finetune", False) else 0,
    )


def _speech(file: Path, llm_width: int) -> SpeechConfig:
    """Either the settings, or a list [idim, odim, settings]; inside the settings both numbers count."""
    found = read_json(file)
    if isinstance(found, list) and len(found) == 3 and isinstance(found[2], dict):
        found = {"idim": found[0], "odim": found[1], **found[2]}
    c = as_table(file, found)
    width, heads = c.integer("idim"), c.integer("transformer_attention_heads")
    if c.integer("transformer_attention_dim") != width:
        raise c.refusal(
            "transformer_attention_dim", f"It has to equal idim, {width}: text vectors enter the layers as they are."
        )
    if llm_width % width:
        raise c.refusal("idim", f"The language model's width, {llm_width}, has to be a multiple of it.")
    _must_divide(c, "transformer_attention_heads", heads, "transformer_attention_dim", width)
    if (width // heads) % 2:
        raise c.refusal("transformer_attention_heads", "Rotary positions need heads of an even width.")
    return SpeechConfig(
        width=width,
        codes=c.integer("odim"),
        layers=c.integer("transformer_num_blocks"),
        heads=heads,
        intermediate_size=c.integer("transformer_linear_units"),
    )


def _codec(file: Path, notes: list[str]) -> CodecConfig:
    c = as_table(file, read_json(file))
    account_for(c, CODEC, notes)
    c.must_be("resblock", "1", "2", 1, 2)
    c.must_be("residul_layer", 1, 2, 4)
    resblock = c.text("resblock")
    rates, kernels = c.sequence("upsample_rates", int), c.sequence("upsample_kernel_sizes", int)
    if not rates or len(kernels) != len(rates) or min(rates) < 1:
        raise c.refusal("upsample_kernel_sizes", f"It has to hold one kernel for each of upsample_rates, {rates}.")
    if any(kernel < rate or (kernel - rate) % 2 for kernel, rate in zip(kernels, rates)):
        raise c.refusal(
            "upsample_kernel_sizes", f"Each has to exceed its rate, of {rates}, by an even number or nothing."
        )
    channels = c.integer("upsample_initial_channel")
    if not channels >> len(rates):
        raise c.refusal("upsample_initial_channel", f"It is halved {len(rates)} times.")
    sizes, dilations = c.sequence("resblock_kernel_sizes", int), c.sequence("resblock_dilation_sizes", list)
    if not sizes or any(size < 1 or size % 2 == 0 for size in sizes):
        raise c.refusal("resblock_kernel_sizes", "Kernels have to be odd: a block keeps the length of its input.")
    used = 3 if resblock == "1" else 2
    if len(dilations) != len(sizes) or any(len(row) < used or min(row) < 1 for row in dilations):
        raise c.refusal("resblock_dilation_sizes", f"It has to hold {used} dilations for each of {len(sizes)} kernels.")
    groups, voice = c.integer("n_code_groups"), c.integer("global_code_num")
    if CODEC_WIDTH % groups:
        raise c.refusal("n_code_groups", f"It has to divide {CODEC_WIDTH}.")
    if voice > GLOBAL_WIDTH:
        raise c.refusal("global_code_num", f"The global vector has {GLOBAL_WIDTH} numbers.")
    n_codes, tokens = c.integer("n_codes"), c.sequence("global_tokens", int)
    if len(tokens) != voice or not all(0 <= token < n_codes for token in tokens):
        raise c.refusal("global_tokens", f"It has to hold {voice} codes below {n_codes}: the voice.")
    return CodecConfig(
        resblock=resblock,
        upsample_rates=rates,
        upsample_kernel_sizes=kernels,
        upsample_initial_channel=channels,
        resblock_kernel_sizes=sizes,
        resblock_dilation_sizes=tuple(tuple(row[:used]) for row in dilations),
        sample_rate_hz=c.integer("sampling_rate"),
        n_codes=n_codes,
        n_code_groups=groups,
        residual_layers=c.integer("residul_layer"),
        global_code_num=voice,
        global_tokens=tokens,
    )


def _must_divide(c: ConfigFile, key: str, count: int, whole_key: str, whole: int) -> None:
    if whole % count:
        raise c.refusal(key, f"It has to divide {whole_key}, {whole}.")
