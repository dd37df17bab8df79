"""What `vita-edge estimate` says: a table over devices and precisions, or one plan in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vita_edge.engines.bundle.component_spec import CODEC, SPEECH_PREFILL

from .show import mib, table

__all__ = ["estimate_text", "peaks_text"]

VERDICTS = {"fits": "fits", "tight": "tight", "no": "does not fit"}
STAGES = {
    "audio_rest": "rest of the question",
    "prefill_rest": "tokens left to prefill",
    "first_clause": "first clause",
    SPEECH_PREFILL.name: "its text, for the voice",
    "first_codes": "first codes",
    CODEC.name: "their sound",
}
FIGURES = {
    "first_audio_ms": ("first sound, engine clock", "ms"),
    "server_ms": ("first sound, server clock", "ms"),
    "decode_tokens_per_s": ("decode", "tok/s"),
    "prefill_positions_per_s": ("prefill", "tokens/s"),
    "rest_positions_per_s": ("prefill of a few", "tokens/s"),
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
    """One plan in full, or all in a table; then predictions against measurements."""
    estimates = facts["estimates"]
    title = f"{facts['model']}, context {facts['context_tokens']:,} tokens"
    if len(estimates) == 1:
        lines = [f"{title}, {estimates[0]['precision']} on {estimates[0]['name']}", *_whole(estimates[0], facts)]
    else:
        lines = [title, "", _table(estimates), "", *_legend(estimates, facts["turn"])]
    lines += _export_lines(estimates)
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
    for plan in estimates:
        memory, latency = plan["memory_bytes"], plan["latency"]
        name, device = plan["device"] if plan["device"] != device else "", plan["device"]
        speed = ("–", "–", "–", "–")
        if latency:
            speed = (
                f"{latency['decode_tokens_per_s']['expected']:,.0f} tok/s",
                f"{latency['first_audio_ms']['expected']:,.0f} ms",
                f"{latency['speech_steps_per_s']['expected']:,.0f}/s",
                f"{latency['load']['expected']:.2f}",
            )
        sizes = (mib(memory["needed"]), mib(memory["available"]))
        rows.append((name, plan["precision"], *sizes, VERDICTS[plan["verdict"]], *speed, _builds(memory)))
    return table(rows, left=2)


def _export_lines(estimates: Sequence[Mapping[str, Any]]) -> list[str]:
    """The command to begin with, for each system of the one board, at the precision that fits and decodes fastest."""
    fitting = [plan for plan in estimates if plan["verdict"] != "no"]
    if len({plan["device"] for plan in estimates}) != 1 or not fitting:
        return []
    best = max(fitting, key=lambda plan: plan["latency"]["decode_tokens_per_s"]["expected"] if plan["latency"] else 0)
    targets = {one["name"]: one["target"] for one in best["platforms"]} or {best["name"]: best["target"]}
    command = "vita-edge export CHECKPOINT -o BUNDLE"
    rows = [
        (f"  {name}", f"{command} --target {target} --precision {best['precision']}")
        for name, target in targets.items()
    ]
    width = max(len(name) for name, _ in rows)
    return ["", "export for it", *(f"{name:<{width}}  {line}" for name, line in rows)]


def _older(plan: Mapping[str, Any]) -> bool:
    """Whether a platform of the device wants another target than the planned one."""
    return plan["target"] == "tensorrt" and any(one["target"] != "tensorrt" for one in plan["platforms"])


def _builds(memory: Mapping[str, Any]) -> str:
    """Whether the engines can be built on the device itself; on a graphics card its host builds."""
    if memory["build_peak"] is None:
        return ""
    return "host" if not memory["shared"] else "yes" if memory["build_peak"] <= memory["available"] else "no"


def _legend(estimates: Sequence[Mapping[str, Any]], turn: Mapping[str, Any]) -> Iterator[str]:
    targets = list(dict.fromkeys(plan["target"] for plan in estimates))
    yield f"estimated for export target {' and '.join(targets)}"
    if any(_older(plan) for plan in estimates):
        yield "JetPack 6 and 7.0 run --target tensorrt-10.3, which holds its KV cache twice: estimate with that"
    yield "first sound: engine clock of a spoken question, " + _asked(turn)
    yield "speech: codes a second; load: seconds of work for a second of sound while the text is written (0.9 at most)"
    yield "builds: whether the device has the memory to build its own engines, about"
    yield "Speeds are predictions from bandwidths and peaks; nothing was run on these devices. One --board says more."
    for plan in estimates:
        if plan["verdict"] == "no":
            what = plan["advice"] or "nothing makes it fit"
            yield f"  {plan['device']}, {plan['precision']}: {what}"


def _asked(turn: Mapping[str, Any]) -> str:
    rest = f"{turn['rest_tokens']} tokens left to prefill after end of speech"
    return f"{rest}, first clause of {turn['clause_tokens']} tokens"


def _whole(plan: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[str]:
    memory, latency = plan["memory_bytes"], plan["latency"]
    for platform in plan["platforms"]:
        versions = f"TensorRT {platform['tensorrt']}, CUDA {platform['cuda']}, Python {platform['python']}"
        yield f"{platform['name']}: {versions}, export --target {platform['target']}"
    yield f"estimated for export target {plan['target']}"
    rows = [(f"  {name}", mib(size)) for name, size in memory["weights"].items()]
    rows += [(f"  {name.replace('_', ' ')}", mib(memory[name])) for name in ("kv_cache", "speech_kv_cache")]
    rows += [(f"  {name}", mib(memory[name])) for name in ("activations", "runtime")]
    rows += [("needed", mib(memory["needed"]))]
    rows += [("the device has", mib(memory["memory"])), ("  for the system", mib(memory["system"]))]
    rows += [("left for us", mib(memory["available"]))]
    yield ""
    yield table(rows)
    yield f"\n{_verdict(plan)}"
    yield f"embeddings: {mib(memory['embeddings_on_disk'])} on disk, mapped, a row read for each token"
    if memory["build_peak"]:
        yield _building(memory)
    if latency:
        yield from _speed(plan, facts["turn"])


def _verdict(plan: Mapping[str, Any]) -> str:
    memory = plan["memory_bytes"]
    left = memory["available"] - memory["needed"]
    if plan["verdict"] == "no":
        return f"does not fit: {mib(-left)} too much; {plan['advice'] or 'nothing makes it fit'}"
    return f"{VERDICTS[plan['verdict']]}: {mib(left)} left"


def _building(memory: Mapping[str, Any]) -> str:
    peak = mib(memory["build_peak"])
    if not memory["shared"]:
        return f"building the engines takes about {peak} of the host's memory"
    room = "which it has" if memory["build_peak"] <= memory["available"] else "more than it has: it needs swap"
    return f"building the engines on the device takes about {peak}, {room}"


def _speed(plan: Mapping[str, Any], turn: Mapping[str, Any]) -> Iterator[str]:
    latency = plan["latency"]
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
    for name, share in plan["efficiency"].items():
        yield f"  {name} {share['value']:g} ({share['low']:g} to {share['high']:g}): {share['source']}"


def _range(cases: Mapping[str, float]) -> str:
    return f"{cases['slow']:,.1f} to {cases['fast']:,.1f}"


def _against(estimates: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for plan in estimates:
        for one in plan["compared"]:
            yield _row(f"{plan['device']}, {plan['precision']}", one)


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
