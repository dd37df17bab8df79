"""What the user waited for, moment by moment, and how much of it could be taken away.

The wait is cut into parts that follow each other and add up to it. When several stages work at once, the moment belongs
to the one nearest to the sound: what the others do then is for later. When the sound was there before the endpoint, all
of the wait until the endpoint is the endpoint's: no stage was waited for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from .turn_report import Stretch, TurnReport

__all__ = ["CAUSES", "Cause", "Saving", "largest_saving", "wait_parts", "wait_sums", "was_held_back"]

NEAREST_TO_SOUND = ("codec", "speech_decoder", "decode", "prefill", "audio", "vision", "memory")
NATURAL_GAP_MS = 200.0
"""What people leave between two turns (Levinson and Torreira 2015); a shorter silence cannot end a turn."""
PLAYED_AT_ONCE_MS = 100.0
"""Between a sound that may be heard and its playing: a block of the speaker, and its latency. More is a buffer."""


@dataclass(frozen=True)
class Cause:
    """Something that a user waits for."""

    short: str
    label: str
    remedy: str
    """What would take it away, or make it shorter."""


CAUSES: dict[str, Cause] = {
    "pause": Cause(
        "pause",
        "speculation delay",
        "Try a shorter --speculation-delay-ms. More speculative responses will be cancelled.",
    ),
    "endpoint": Cause(
        "endpoint",
        "silence until the endpoint",
        "A shorter endpoint_ms. People who pause to think are answered too early more often.",
    ),
    "vision": Cause("vision", "vision encoder", "See frames while the user speaks, or use fewer or smaller pictures."),
    "audio": Cause("audio", "audio encoder", "Encode the question while it is being said, or use a smaller precision."),
    "prefill": Cause(
        "prefill",
        "reading the prompt",
        "Fewer tokens to prefill after the user's last sample: read the question while it is being said. At int4, the "
        "second graph that reads prompts.",
    ),
    "decode": Cause(
        "decode",
        "writing the first clause",
        "Faster decoding: int4 or int8 weights. Or a shorter first clause.",
    ),
    "speech_decoder": Cause("speech", "first codes of speech", "A smaller first chunk, or a smaller precision."),
    "codec": Cause("codec", "codes to sound", "A smaller first chunk."),
    "memory": Cause("memory", "reading history again", "Leave old turns out earlier, in a silence."),
    "hand-over": Cause("idle", "nothing at work", "A mistake in vita-edge, or a busy machine: look at the trace."),
    "buffer": Cause(
        "buffer",
        "start-up buffer",
        "Make speech faster than it is spoken: more threads, a smaller precision, a lighter load. Then nothing has "
        "to be held back.",
    ),
    "playback": Cause("speaker", "on its way to the speaker", "Smaller blocks of the speaker."),
    "devices": Cause("devices", "latency of the devices", "Devices with smaller buffers."),
}
SPECULATE = "Leave speculation on: the response then starts before the endpoint."


@dataclass(frozen=True)
class Saving:
    """What could be gained."""

    cause: str
    waited_ms: float
    """In the turn that was looked at."""
    saves_ms: float
    """At most: when it is gone, something else may be waited for."""
    remedy: str


def wait_parts(report: TurnReport) -> tuple[Stretch, ...]:
    """The wait of a turn, from the user's last sample to the first sound: parts that add up to it, in order.

    It ends with the acoustic clock where that was measured, and is empty for a turn that was not heard.
    """
    if report.server_ms is None:
        return ()
    late_ms = report.late_ms or 0.0
    marks: list[tuple[str, float]] = []
    if _waited_for_endpoint(report):
        marks.append(("endpoint", report.endpoint_ms or 0.0))
    else:
        marks.append(("pause" if report.speculative else "endpoint", report.started_ms))
        marks += _work(report, report.first_pcm_ms if report.first_pcm_ms is not None else report.server_ms)
    marks.append(("buffer" if was_held_back(report) else "playback", report.server_ms))
    parts: list[Stretch] = []
    now = 0.0
    for name, end in marks:
        end = max(min(end, report.server_ms) + late_ms, now)
        if parts and parts[-1].name == name:
            parts[-1] = Stretch(name, parts[-1].begin_ms, end)
        elif end > now:
            parts.append(Stretch(name, now, end))
        now = end
    if report.acoustic_ms is not None and report.acoustic_ms > now:
        parts.append(Stretch("devices", now, report.acoustic_ms))
    return tuple(parts)


def wait_sums(report: TurnReport) -> dict[str, float]:
    """Cause → milliseconds, in the order in which they were first waited for."""
    sums: dict[str, float] = {}
    for part in wait_parts(report):
        sums[part.name] = round(sums.get(part.name, 0.0) + part.ms, 3)
    return sums


def largest_saving(report: TurnReport) -> Saving | None:
    """The one thing that would make this turn's answer come soonest; None for a turn that was not heard."""
    sums = wait_sums(report)
    ready_ms, endpoint_ms = report.first_pcm_ms, report.endpoint_ms
    savings = []
    for cause, waited_ms in sums.items():
        saves_ms, remedy = waited_ms, CAUSES[cause].remedy
        if cause == "endpoint" and not report.speculative:
            savings.append(Saving(cause, waited_ms, min(waited_ms, report.engine_ms or 0.0), SPECULATE))
            saves_ms = waited_ms - NATURAL_GAP_MS
        elif cause == "endpoint" and ready_ms is not None:
            saves_ms = waited_ms - max(ready_ms, NATURAL_GAP_MS)
        elif cause in ("buffer", "playback", "devices") or not report.speculative:
            pass  # nothing else is waited for meanwhile
        elif ready_ms is not None and endpoint_ms is not None:
            saves_ms = min(waited_ms, ready_ms - endpoint_ms)
        savings.append(Saving(cause, waited_ms, round(max(saves_ms, 0.0), 3), remedy))
    return max(savings, key=lambda saving: saving.saves_ms, default=None)


def was_held_back(report: TurnReport) -> bool:
    """Whether sound that was there, and might have been heard, waited for more of it."""
    ready_ms, sound_ms = report.first_pcm_ms, report.server_ms
    if ready_ms is None or sound_ms is None or report.buffer_s == 0:
        return False
    return sound_ms - max(ready_ms, report.endpoint_ms or 0.0) > PLAYED_AT_ONCE_MS


def _waited_for_endpoint(report: TurnReport) -> bool:
    """Whether the sound was there, and nothing but the endpoint was waited for."""
    endpoint_ms, ready_ms = report.endpoint_ms, report.first_pcm_ms
    in_time = endpoint_ms is not None and ready_ms is not None and ready_ms <= endpoint_ms
    return in_time and not was_held_back(report)


def _work(report: TurnReport, until_ms: float) -> list[tuple[str, float]]:
    """(what was waited for, until when) from the beginning of the attempt to ``until_ms``."""
    begin_ms = report.started_ms
    edges = {begin_ms, until_ms, *_edges(report.wait)}
    times = sorted(edge for edge in edges if begin_ms <= edge <= until_ms)
    work = []
    for begin, end in itertools.pairwise(times):
        busy = {stretch.name for stretch in report.wait if stretch.begin_ms < end and stretch.end_ms > begin}
        work.append((next((stage for stage in NEAREST_TO_SOUND if stage in busy), "hand-over"), end))
    return work


def _edges(wait: Sequence[Stretch]) -> list[float]:
    return [edge for stretch in wait for edge in (stretch.begin_ms, stretch.end_ms)]
