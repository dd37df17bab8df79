"""The gate for scenes that stay the same: noise passes as the same, a small thing that moves does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from support.watched_session import WatchedTalk
from vita_edge.engines.errors import Misuse
from vita_edge.runtime import Assistant, demo_folder, read_image, read_sound
from vita_edge.runtime.encoders.scene_gate import SceneGate
from vita_edge.runtime.events.session_events import FrameSeen, Span, TurnEnded
from vita_edge.runtime.live.live_options import LiveOptions
from vita_edge.runtime.simulation.still_camera import StillCamera

PICTURE = read_image(demo_folder() / "picture.png")


def noisy(pixels: NDArray[np.uint8], sigma: float, seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def test_sensor_noise_is_the_same_scene_and_a_thing_that_appears_is_not() -> None:
    gate = SceneGate(12.0)
    assert not gate.same(PICTURE)  # nothing was encoded yet
    gate.encoded(PICTURE)
    assert all(gate.same(noisy(PICTURE, 6.0, seed)) for seed in range(5))
    height, width = PICTURE.shape[:2]
    changed = PICTURE.copy()
    changed[height // 2 : height // 2 + height // 24, width // 3 : width // 3 + width // 24] ^= 0x80
    assert not gate.same(changed)
    assert not gate.same(PICTURE[: height // 2])


def test_a_slow_change_does_not_creep_in() -> None:
    gate = SceneGate(12.0)
    gate.encoded(np.zeros((64, 64, 3), np.uint8))
    frames = [np.full((64, 64, 3), level, np.uint8) for level in range(0, 30, 3)]
    assert [gate.same(frame) for frame in frames] == [True] * 4 + [False] * 6


def test_without_a_threshold_every_frame_is_new() -> None:
    gate = SceneGate(0.0)
    gate.encoded(PICTURE)
    assert not gate.same(PICTURE)
    with pytest.raises(Misuse, match="same_scene is -1"):
        LiveOptions(same_scene=-1)


@pytest.mark.parametrize(("threshold", "encoded"), [(0.0, 2), (12.0, 1)])
def test_a_still_scene_is_encoded_once_and_seen_in_every_turn(threshold: float, encoded: int) -> None:
    question = read_sound(demo_folder() / "question.wav")
    options = LiveOptions(max_new_tokens=24, speech_top_k=1, same_scene=threshold)
    with (
        Assistant(demo_folder() / "bundle") as assistant,
        WatchedTalk(assistant, replace(options), camera=StillCamera(PICTURE)) as talk,
    ):
        answers = []
        for _ in range(2):
            talk.say(question)
            answers.append(talk.next(TurnEnded).text)
        assert sum(1 for span in talk.reported(Span) if span.stage == "vision") == encoded
        assert len(talk.reported(FrameSeen)) == 2
    assert all("circle" in answer for answer in answers)
