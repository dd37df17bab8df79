"""A live session on your own arrays: blocks of audio and frames in, PCM and events out. The source here is a file."""

import threading
import time
from pathlib import Path

import numpy as np

from vita_edge.runtime import (
    Assistant,
    LiveOptions,
    LiveSession,
    NewestFrame,
    PacedOutput,
    PushInput,
    TurnEnded,
    demo_folder,
    read_image,
    read_sound,
    write_wav,
)

RATE = 48_000  # of your microphone; the reply comes at 24,000
answered, heard = threading.Event(), []
microphone, camera = PushInput(RATE), NewestFrame()
speaker = PacedOutput(heard.append, 24_000)  # every 20 ms: int16 [480], to be played or published


def watch(event: object) -> None:  # called from the session's threads: return at once
    if isinstance(event, TurnEnded):
        print(event.text)
        answered.set()


def robot() -> None:  # in your program: the driver's callbacks
    question = read_sound(demo_folder() / "question.wav")
    times = np.arange(question.heard_channel.size) / question.sample_rate_hz
    samples = np.interp(np.arange(0, question.seconds + 2, 1 / RATE), times, question.heard_channel, right=0)
    camera.put(read_image(demo_folder() / "picture.png"))  # uint8 [height, width, 3], whenever you have one
    for block in np.array_split(samples, len(samples) // (RATE // 100)):  # 10 ms, floats or int16
        microphone.push(block)
        time.sleep(0.01)


with (
    Assistant(demo_folder() / "bundle") as assistant,
    LiveSession(assistant, microphone, speaker, camera=camera, options=LiveOptions(), observers=[watch]),
):
    robot()
    answered.wait(60)
write_wav(Path("own_audio.wav"), np.concatenate(heard), 24_000)
