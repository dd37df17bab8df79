"""What `vita-edge estimate` says: a table over devices and precisions, or one estimate in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vita_edge.engines.bundle.component_spec import CODEC, SPEECH_PREFILL

from .show import mib, table

__all__ = ["estimate_text", "peaks_text"]

VERDICTS = {"fits": "fits", "tight": "tight", "no": "does not fit"}
STAGES = {
    "audio_rest": "rest of the question",
    "prefill_rest": "positions not yet read",
    "first_clause": "first clause",
    SPEECH_PREFILL.name: "its text, for the voice",
    "first_codes": "first codes",
    CODEC.name: "their sound",
}
FIGURES = {
    "first_audio_ms": ("first sound, engine clock", "ms"),
    "server_ms": ("first sound, server clock", "ms"),
    "decode_tokens_per_s": ("decode", "tok/s"),
    "prefill_positions_per_s": ("prefill", "positions/s"),
    "rest_positions_per_s": ("prefill of a few", "positions/s"),
    "speech_steps_per_s": ("speech decoder", "codes/s"),
    "speech_rtf": ("speech decoder", "of real time"),
    "codec_rtf": ("codec", "of real time"),
    "needed_bytes": ("memory", "MiB"),
}
PEAKS = {
    "read": ("reading memory", "GB/s"),
    "blocks4": ("a row times 4-bit blocks", "GB/s"),
    "fp32": ("float32 product", "Gop/s"),
    "int8": ("int8 product", "Gop/s"),
    "convolution": ("float32 convolution", "Gop/s"),
}


def estimate_text(facts: Mapping[str, Any]) -> str:
    """One estimate in full, or all in a table; then predictions against measurements."""
    estimates = facts["estimates"]
    title = f"{facts['model']}, context {facts['context_tokens']:,} positions"
    if len(estimates) == 1:
        lines = [f"{title}, {estimates[0]['precision']} on {estimates[0]['name']}", *_whole(estimates[0], facts)]
    else:
        lines = [title, "", _table(estimates), "", *_legend(estimates, facts["turn"])]
    compared = [*_against(estimates), *_yardsticks(facts["yardsticks"])]
    if compared:
        lines += ["", "predictions against measurements", _aligned(compared)]
    return "\n".join(lines)


def peaks_text(facts: Mapping[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [("", "median", "least", "most", "")]
    for name, peak in facts["peaks"].items():
        label, unit = PEAKS[name]
        rows.append((label, *(f"{peak[key]:,.1f}" for key in ("median", "least", "most")), unit))
    return f"{table(rows)}\n\nwritten to {facts['devices']} as {facts['device']}"


def _table(estimates: Sequence[Mapping[str, Any]]) -> str:
    rows = [("device", "precision", "needs", "has", "verdict", "decode", "first sound", "speech", "load", "builds")]
    device = None
    for one in estimates:
        memory, latency = one["memory_bytes"], one["latency"]
        name, device = one["device"] if one["device"] != device else "", one["device"]
        speed = ("–", "–", "–", "–")
        if latency:
            speed = (
                f"{latency['decode_tokens_per_s']['expected']:,.0f} tok/s",
                f"{latency['first_audio_ms']['expected']:,.0f} ms",
                f"{latency['speech_steps_per_s']['expected']:,.0f}/s",
                f"{latency['load']['expected']:.2f}",
            )
        sizes = (mib(memory["needed"]), mib(memory["available"]))
        rows.append((name, one["precision"], *sizes, VERDICTS[one["verdict"]], *speed, _builds(memory)))
    return table(rows, left=2)


def _older(one: Mapping[str, Any]) -> bool:
    """Whether a platform of the device wants another target than the estimated one."""
    return one["target"] == "tensorrt" and any(one["target"] != "tensorrt" for one in one["platforms"])


def _builds(memory: Mapping[str, Any]) -> str:
    """Whether the engines can be built on the device itself; on a graphics card its host builds."""
    if memory["build_peak"] is None:
        return ""
    return "host" if not memory["shared"] else "yes" if memory["build_peak"] <= memory["available"] else "no"


def _legend(estimates: Sequence[Mapping[str, Any]], turn: Mapping[str, Any]) -> Iterator[str]:
    targets = list(dict.fromkeys(one["target"] for one in estimates))
    yield f"estimated for the export target {' and '.join(targets)}"
    if any(_older(one) for one in estimates):
        yield "JetPack 6 and 7.0 run graphs of --target tensorrt-10.3, which hold their KV cache twice: name that"
    yield "first sound: engine clock of a spoken question, " + _asked(turn)
    yield "speech: codes a second; load: seconds of work for a second of sound while the text is written (0.9 at most)"
    yield "builds: whether the device has the memory to build its own engines, about"
    yield "Speeds are predictions from bandwidths and peaks; nothing was run on these devices. One --board says more."
    for one in estimates:
        if one["verdict"] == "no":
            what = one["advice"] or "no precision or context fits"
            yield f"  {one['device']}, {one['precision']}: {what}"


def _asked(turn: Mapping[str, Any]) -> str:
    return f"{turn['rest_tokens']} tokens left to prefill after its end, first clause of {turn['clause_tokens']} tokens"


def _whole(one: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[str]:
    memory, latency = one["memory_bytes"], one["latency"]
    for platform in one["platforms"]:
        versions = f"TensorRT {platform['tensorrt']}, CUDA {platform['cuda']}, Python {platform['python']}"
        yield f"{platform['name']}: {versions}, export --target {platform['target']}"
    yield f"estimated for the export target {one['target']}"
    rows = [(f"  {name}", mib(size)) for name, size in memory["weights"].items()]
    rows += [(f"  {name.replace('_', ' ')}", mib(memory[name])) for name in ("kv_cache", "speech_kv_cache")]
    rows += [(f"  {name}", mib(memory[name])) for name in ("activations", "runtime")]
    rows += [("needed", mib(memory["needed"]))]
    rows += [("the device has", mib(memory["memory"])), ("  for the system", mib(memory["system"]))]
    rows += [("left for us", mib(memory["available"]))]
    yield ""
    yield table(rows)
    yield f"\n{_verdict(one)}"
    yield f"embeddings: {mib(memory['embeddings_on_disk'])} on disk, mapped, a row read for each token"
    if memory["build_peak"]:
        yield _building(memory)
    if latency:
        yield from _speed(one, facts["turn"])


def _verdict(one: Mapping[str, Any]) -> str:
    memory = one["memory_bytes"]
    left = memory["available"] - memory["needed"]
    if one["verdict"] == "no":
        return f"does not fit ({mib(-left)} over); {one['advice'] or 'no precision or context fits'}"
    return f"{VERDICTS[one['verdict']]}: {mib(left)} left"


def _building(memory: Mapping[str, Any]) -> str:
    peak = mib(memory["build_peak"])
    if not memory["shared"]:
        return f"building the engines takes about {peak} of the host's memory"
    room = "which it has" if memory["build_peak"] <= memory["available"] else "more than it has: it needs swap"
    return f"building the engines on the device takes about {peak}, {room}"


def _speed(one: Mapping[str, Any], turn: Mapping[str, Any]) -> Iterator[str]:
    latency = one["latency"]
    yield f"\nfirst sound of a spoken question, predicted ({_asked(turn)})"
    rows = [
        (f"  {STAGES[name]}", f"{ms:,.1f} ms", f"bound by {latency['bound_by'][name]}")
        for name, ms in latency["stages_ms"].items()
    ]
    whole = latency["first_audio_ms"]
    rows.append(("engine clock", f"{whole['expected']:,.0f} ms", f"{whole['fast']:,.0f} to {whole['slow']:,.0f}"))
    yield _aligned(rows)
    for name, label in (
        ("server_ms", f"from the end of the question, endpoint {turn['endpoint_ms']:g} ms"),
        ("server_without_speculation_ms", "the same without speculation"),
        ("heard_at_once_ms", "engine clock, if the question were read after its end"),
        ("picture_ms", "a picture tile more"),
    ):
        yield f"{label}: {latency[name]['expected']:,.0f} ms"
    yield "\nafterwards"
    rates = [
        (f"  {FIGURES[name][0]}", f"{latency[name]['expected']:,.1f} {FIGURES[name][1]}", _range(latency[name]))
        for name in ("decode_tokens_per_s", "prefill_positions_per_s", "speech_steps_per_s")
    ]
    yield _aligned(rates)
    load, needed = latency["load"]["expected"], latency["speech_steps_needed_per_s"]
    able = "speech can be played while it is made"
    if not latency["real_time"]:
        able = "speech cannot be made as fast as it plays, so the first sound is held back further"
    yield f"{able}: {load:.2f} s of work for a second of sound ({needed:g} codes/s, codec, and the text)"
    yield "\nassumed efficiencies"
    for name, share in one["efficiency"].items():
        yield f"  {name} {share['value']:g} ({share['low']:g} to {share['high']:g}): {share['source']}"


def _range(cases: Mapping[str, float]) -> str:
    return f"{cases['slow']:,.1f} to {cases['fast']:,.1f}"


def _against(estimates: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for estimate in estimates:
        for one in estimate["compared"]:
            yield _row(f"{estimate['device']}, {estimate['precision']}", one)


def _yardsticks(found: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for one in found:
        yield _row(f"{one['device']}, {one['model']}", one)


def _row(of: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    what, _, rest = one["what"].partition(" ")
    label, unit = FIGURES.get(what, ("prefill" if what.startswith("prefill") else what, "ms"))
    scale = 2**-20 if what == "needed_bytes" else 1
    predicted, measured = (f"{_number(one[name] * scale)} {unit}" for name in ("predicted", "measured"))
    return (f"  {of}", f"{label} {rest}".strip(), predicted, "measured", measured, f"{one['error']:+.0%}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    return table(rows)
