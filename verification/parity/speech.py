"""Speech decoder, codec, stream and the whole way to PCM against their recordings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.backends import Backend
from vita_edge.engines.bundle.component_spec import CODEC, SPEECH_DECODER, SPEECH_PREFILL
from vita_edge.engines.bundle.format import Bundle
from vita_edge.runtime.audio_io.pcm import to_pcm16, trim_leading_silence
from vita_edge.runtime.decoding.logits_processors import speech_penalty
from vita_edge.runtime.decoding.sampling import make_speech_sampler
from vita_edge.runtime.decoding.top_k_logits import Logits, row_of
from vita_edge.runtime.session.assistant import Assistant
from vita_edge.runtime.speech.codec_stream import (
    WINDOW,
    Cut,
    DecodeCodes,
    ExactCodecStream,
    ReferenceCodecStream,
    Samples,
)
from vita_edge.runtime.speech.speech_decoder import MAX_CODES
from vita_edge.runtime.text.tokenizer import StreamDecoder

from .compare import Check, Comparison, judged_as
from .demo_clauses import DemoClauseCutter
from .encoders import NO_TAPS
from .folder import GoldenFolder

__all__ = ["fixed_checks", "speech_checks", "talk_checks"]

FILE = "tts.npz"
STREAMS = {"first": (20, 0.1), "rest": (40, 0.015)}
"""Chunk and threshold of the first and of later sentences."""
PENALTY_WINDOW, PENALTY_FACTOR = 20, 1.1
QUIET = 2e-6
"""A cut may lie elsewhere in the stretch when it is not louder there than at the recorded one by more than this."""
PCM_UNITS = 2
TIE = 3e-6
"""Of the largest logit: what float32 programs differ by."""


def speech_checks(golden: GoldenFolder, bundle: Bundle, assistant: Assistant) -> Iterator[Check]:
    """From sentences to codes, from codes to sound, and the stream with its cuts."""
    parts = bundle.components
    text, prefix = Comparison("speech text"), Comparison("speech prefix", judged_as(bundle, SPEECH_PREFILL.name))
    decoder, codec = (
        Comparison("speech decoder", judged_as(bundle, SPEECH_DECODER.name)),
        Comparison("codec", judged_as(bundle, CODEC.name)),
    )
    sentences = golden.cases.get("speech", {})
    engines = assistant.backend
    with engines.session(SPEECH_PREFILL.name, taps=parts[SPEECH_PREFILL.name].taps if engines.taps else ()) as tapped:
        for name in golden.names(FILE, "ids"):
            ids = golden.get(FILE, f"{name}.ids")
            assert ids is not None
            if name in sentences:
                yield text.equal(f"{name}.ids", assistant.tokenizer.encode(sentences[name]), ids)
            rows = assistant.embeddings.rows(ids.tolist())
            vectors = rows.reshape(-1, bundle.model.speech.width)
            if (want := golden.get(FILE, f"{name}.hidden")) is not None:
                yield text.close(f"{name}.hidden", vectors, want)
            if (want := golden.get(FILE, f"{name}.pre_nn")) is not None and not engines.taps:
                yield prefix.skip(f"{name}.pre_nn", NO_TAPS)
            elif want is not None:
                got = tapped.infer({"text_embeds": vectors[None]})["pre_nn"][0]
                yield prefix.close(f"{name}.pre_nn", got, want)
            yield from _code_checks(golden, decoder, name, rows, bundle, assistant)
            codes = golden.get(FILE, f"{name}.codes")
            if codes is None or not codes.size or bundle.model.codec.streams != 1:  # a codec has no sound for nothing
                continue
            if (want := golden.get(FILE, f"{name}.wave")) is not None:
                yield codec.close(f"{name}.wave", assistant.voice.decode(codes[None].astype(np.int64)), want)
            for kind, (chunk, threshold) in STREAMS.items():
                yield from _stream_checks(golden, codec, f"{name}.{kind}", codes, chunk, threshold, bundle, assistant)


def fixed_checks(golden: GoldenFolder, bundle: Bundle, engines: Backend) -> Iterator[Check]:
    """The codec's stages on fixed codes, and that its exact stream equals the whole."""
    component = bundle.components[CODEC.name]
    judge = Comparison("codec", judged_as(bundle, CODEC.name))
    codes = golden.get(FILE, "fixed.codes")
    if codes is None:
        return
    streams = bundle.model.codec.streams
    codes = codes[0] if codes.ndim == 3 else codes
    stacked = codes.reshape(1, -1) if codes.ndim == 1 else codes if codes.shape[0] == streams else codes.T
    stacked = np.ascontiguousarray(stacked, np.int64)
    with engines.session(CODEC.name, taps=component.taps if engines.taps else ()) as session:
        got = {name: array.copy() for name, array in session.infer({"codes": stacked}).items()}

        def decode(window: NDArray[np.int64]) -> NDArray[np.float32]:
            return session.infer({"codes": window})["waveform"][0]

        for name in [*component.taps, "wave"]:
            if (want := golden.get(FILE, f"fixed.{name}")) is not None:
                ours = got.get("waveform" if name == "wave" else name)
                if ours is None:
                    yield judge.skip(f"fixed.{name}", NO_TAPS)
                    continue
                yield judge.close(f"fixed.{name}", ours.reshape(want.shape) if ours.size == want.size else ours, want)
        if streams == 1:
            yield _whole_check(judge, stacked[0].tolist(), decode, bundle)


def talk_checks(golden: GoldenFolder, bundle: Bundle, assistant: Assistant) -> Iterator[Check]:
    """From the tokens of a reply to what the listener gets."""
    judge = Comparison("talk")
    if any(
        bundle.components[part].precision != "fp32" for part in (SPEECH_PREFILL.name, SPEECH_DECODER.name, CODEC.name)
    ):
        yield judge.skip("e2e", "codes of a quantised voice differ in sound and length; its stages are judged above")
        return
    if bundle.model.codec.streams != 1:
        yield judge.skip("e2e", f"the codec takes {bundle.model.codec.streams} codes a frame, the voice makes one")
        return
    sample = make_speech_sampler(bundle.model.speech)
    for name, entry in (golden.json("e2e.json") or {}).items():
        if not isinstance(entry, dict) or "text" not in entry:
            continue
        tokens = golden.get("llm.npz", f"{name}.stop_tokens")
        if tokens is None:
            tokens = golden.get("llm.npz", f"{name}.tokens")
        if tokens is None:
            yield judge.skip(name, "the tokens of the reply are not recorded")
            continue
        decoder, cutter = StreamDecoder(assistant.tokenizer), DemoClauseCutter()
        ends = {*bundle.model.tokens.stop} - {bundle.model.tokens.im_start}
        end = next((i for i, token in enumerate(tokens.tolist()) if token in ends), len(tokens))
        pieces = [decoder.step(token) for token in tokens[:end].tolist()] + [decoder.flush()]
        yield judge.equal(f"{name}.text", "".join(pieces).strip(), entry["text"].strip())
        clauses = [clause for piece in pieces for clause in cutter.step(piece)] + list(cutter.flush())
        said: list[str] = []
        spoken: list[tuple[bool, list[Samples]]] = []
        for clause in clauses:
            stream = ReferenceCodecStream(assistant.voice.decode, bundle.model.codec, clause.chunk, clause.threshold)
            rows = assistant.embeddings.rows(assistant.tokenizer.encode(clause.text))
            segments = [s for code in assistant.voice.decoder.codes(rows, sample) for s in stream.step(code)]
            spoken.append((clause.trim, [*segments, *stream.flush()]))
            said += [clause.text] * len(spoken[-1][1])
        yield judge.equal(f"{name}.sentences", said, entry["sentence_of_each_pcm_piece"])
        yield from _pcm_checks(golden, judge, name, spoken)


def _code_checks(
    golden: GoldenFolder, judge: Comparison, name: str, rows: NDArray[np.float32], bundle: Bundle, assistant: Assistant
) -> Iterator[Check]:
    decoder, sample = assistant.voice.decoder, make_speech_sampler(bundle.model.speech)
    codes, logits = golden.get(FILE, f"{name}.codes"), golden.get(FILE, f"{name}.logits")
    if codes is not None and logits is not None:
        got = [row_of(decoder.start(rows))]
        got += [row_of(decoder.step(int(code))) for code in codes[: len(logits) - 1]]
        ours = np.stack(got)
        yield judge.close(f"{name}.logits", ours, logits)
        if judge.precision != "fp32":
            yield _agreement(judge, f"{name}.codes", [sample(row) for row in ours], codes)
    if judge.precision != "fp32":
        return
    if codes is not None:
        limit = int(golden.entry(FILE, f"{name}.codes").get("limit", MAX_CODES))
        yield _greedy_check(judge, f"{name}.codes", list(decoder.codes(rows, sample, limit)), codes, logits)
    if (want := golden.get(FILE, f"{name}.codes_max40")) is not None:
        yield judge.equal(f"{name}.codes_max40", list(decoder.codes(rows, sample, 40)), want)
    if (want := golden.get(FILE, f"{name}.codes_penalty")) is not None:
        history = [bundle.model.speech.sos]

        def penalised(logits: Logits) -> int:
            row = row_of(logits)
            speech_penalty(row, history, PENALTY_WINDOW, PENALTY_FACTOR)
            history.append(sample(row))
            return history[-1]

        yield judge.equal(f"{name}.codes_penalty", list(decoder.codes(rows, penalised, 60)), want)


def _agreement(judge: Comparison, name: str, chosen: list[int], recorded: NDArray[Any]) -> Check:
    """Codes of a quantised decoder along the recorded ones: told, not judged; its logits are."""
    pairs = list(zip(chosen, recorded.tolist()))
    wrong = [i for i, (ours, theirs) in enumerate(pairs) if ours != theirs]
    first = wrong[0] if wrong else None
    reported = f"{len(pairs) - len(wrong)} of {len(pairs)} codes agree"
    reported += f", first differs at {first}" if wrong else ""
    share = 1 - len(wrong) / len(pairs) if pairs else None
    return Check(judge.stage, name, True, detail=reported, agreement=share, first_difference=first)


def _greedy_check(
    judge: Comparison, name: str, ours: list[int], recorded: NDArray[Any], logits: NDArray[np.float32] | None
) -> Check:
    """Equal, or parted at a tie: the two best of the recorded step closer than rounding can tell."""
    check = judge.equal(name, ours, recorded)
    parted = next((i for i, (a, b) in enumerate(zip(ours, recorded.tolist())) if a != b), len(recorded))
    agreed = sum(a == b for a, b in zip(ours, recorded.tolist())) / max(len(ours), len(recorded), 1)
    check = replace(check, agreement=agreed, first_difference=None if check.passed else parted)
    if check.passed or logits is None or parted >= len(logits):
        return check
    best = np.sort(logits[parted])
    tie = float(best[-1] - best[-2]) < 2 * TIE * float(np.abs(logits).max())
    return replace(check, passed=True, detail=f"{check.detail} (a tie)") if tie else check


def _stream_checks(
    golden: GoldenFolder,
    judge: Comparison,
    name: str,
    codes: NDArray[Any],
    chunk: int,
    threshold: float,
    bundle: Bundle,
    assistant: Assistant,
) -> Iterator[Check]:
    wave, lens = golden.get(FILE, f"{name}_wave"), golden.get(FILE, f"{name}_lens")
    if wave is None or lens is None:
        return
    stream = ReferenceCodecStream(assistant.voice.decode, bundle.model.codec, chunk, threshold)
    segments = [segment for code in codes for segment in stream.step(int(code))] + list(stream.flush())
    joined = np.concatenate(segments) if segments else np.zeros(0, np.float32)
    yield judge.close(f"{name}_wave", joined, wave)
    if judge.precision != "fp32":
        return
    cuts = golden.get(FILE, f"{name}_cuts")
    step = chunk * bundle.model.codec.samples_per_code
    lengths = [len(segment) for segment in segments]
    if cuts is not None and lengths != lens.tolist():  # they follow from the recorded cuts, which are judged below
        lengths = _lengths(cuts, len(wave), step)
    yield judge.equal(f"{name}_lens", lengths, lens)
    if cuts is not None:
        yield _cuts_check(judge, f"{name}_cuts", stream.cuts, cuts, wave, step)


def _lengths(cuts: NDArray[Any], total: int, step: int) -> list[int]:
    """Lengths of the segments that recorded cuts make of ``total`` samples."""
    ends = [i * step + at for i, (emitted, _, _, at, _) in enumerate(cuts.tolist()) if emitted]
    return [end - begin for begin, end in zip([0, *ends], [*ends, total])] if total else []


def _cuts_check(
    judge: Comparison, name: str, ours: list[Cut], recorded: NDArray[Any], wave: NDArray[np.float32], step: int
) -> Check:
    """Emitted or not must agree; stretch and cut may lie elsewhere only where the recorded wave is as quiet."""
    if len(ours) != len(recorded):
        return Check(judge.stage, name, False, detail=f"{len(ours)} searches, recorded {len(recorded)}")
    moved = 0
    for i, (cut, row) in enumerate(zip(ours, recorded.tolist())):
        emitted, first, stop, at, millionths = row
        if (cut.emitted, cut.first, cut.stop, cut.cut) != (emitted, first, stop, at):
            moved += 1
        right = emitted == cut.emitted and abs(cut.quietest * 1e6 - millionths) <= 2
        loudness = np.abs(wave[i * step : (i + 1) * step]).astype(np.float64)
        begin = max(step // 2 - WINDOW // 2, 0)
        right = right and begin <= first <= step - WINDOW and stop == min(step, first - begin + WINDOW + first)
        right = right and abs(loudness[first : first + WINDOW].mean() - cut.quietest) <= QUIET
        if right and emitted:
            right = first <= at < stop and loudness[at] <= loudness[first:stop].min() + QUIET
            right = right and first <= cut.cut < stop and loudness[cut.cut] <= loudness[at] + QUIET
        elif right:
            right = at == -1
        if not right:
            return Check(judge.stage, name, False, detail=f"search {i}: {cut}, recorded {row}")
    return Check(judge.stage, name, True, detail=f"{moved} cuts moved within rounding" if moved else "")


def _whole_check(judge: Comparison, codes: list[int], decode: DecodeCodes, bundle: Bundle) -> Check:
    """Our own promise: the exact stream, joined, is the whole."""
    stream = ExactCodecStream(decode, bundle.model.codec, 3, 7)
    joined = np.concatenate([piece for code in codes for piece in stream.step(code)] + list(stream.flush()))
    return judge.close("exact stream equals the whole", joined, decode(np.array([codes], np.int64)).copy())


def _pcm_checks(
    golden: GoldenFolder, judge: Comparison, name: str, spoken: list[tuple[bool, list[Samples]]]
) -> Iterator[Check]:
    """What is sent, piece by piece; where a cut moved within rounding, our sound is cut where the recording was."""
    want, lens = golden.get("e2e.npz", f"{name}.pcm"), golden.get("e2e.npz", f"{name}.pcm_lens")
    if want is None or lens is None:
        return
    rest = lens.tolist()
    sent: list[NDArray[np.int16]] = []
    for trim, segments in spoken:
        sent += [to_pcm16(piece) for piece in _cut_like(segments, rest[: len(segments)], trim)]
        del rest[: len(segments)]
    yield judge.equal(f"{name}.pcm_lens", [len(piece) for piece in sent], lens)
    pcm = np.concatenate(sent) if sent else np.zeros(0, np.int16)
    if len(pcm) != len(want):
        yield Check(judge.stage, f"{name}.pcm", False, detail=f"{len(pcm)} samples, recorded {len(want)}")
        return
    worst = int(np.abs(pcm.astype(np.int32) - want.astype(np.int32)).max(initial=0))
    yield Check(judge.stage, f"{name}.pcm", worst <= PCM_UNITS, worst, worst / 32768, limit=PCM_UNITS / 32768)


def _cut_like(segments: list[Samples], lengths: list[int], trim: bool) -> list[Samples]:
    """The sound of a sentence in pieces of ``lengths``, as far as it is as quiet there as at our own cuts."""
    whole = np.concatenate(segments) if segments else np.zeros(0, np.float32)
    pieces, begin = [], 0
    for end, length in zip(np.cumsum([len(s) for s in segments]).tolist(), lengths):
        silence = len(whole) - begin - len(trim_leading_silence(whole[begin:])) if trim else 0
        for there in (begin + length + silence, begin + length):  # with silence that was trimmed, or silent throughout
            quiet = end < len(whole) and 0 < there < len(whole) and abs(whole[there]) <= abs(whole[end]) + QUIET
            if quiet and len(_sent(whole[begin:there], trim)) == length != len(_sent(whole[begin:end], trim)):
                end = there
        pieces.append(_sent(whole[begin:end], trim))
        begin = end
    return pieces


def _sent(segment: Samples, trim: bool) -> Samples:
    return trim_leading_silence(segment) if trim else segment
