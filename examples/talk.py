"""Two turns with a bundle: a spoken question about a picture, then a typed one. `python examples/talk.py --help`"""

import argparse

import numpy as np

from vita_edge.runtime import (
    Assistant,
    SessionOptions,
    SpeechPiece,
    TextPiece,
    Turn,
    demo_folder,
    read_image,
    read_sound,
    write_wav,
)

demo = demo_folder()
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", nargs="?", default=demo / "bundle", help="default: the demo's, which knows a few shapes")
parser.add_argument("-o", "--output", default="talk.wav")
arguments = parser.parse_args()

spoken = Turn(sounds=[read_sound(demo / "question.wav")], images=[read_image(demo / "picture.png")])
typed = Turn(text="And its colour?")

with Assistant(arguments.bundle) as assistant:
    talk = assistant.session(SessionOptions(max_new_tokens=48, max_tiles=1))
    spoken_pieces = []
    for turn in (spoken, typed):
        for event in talk.answer(turn):
            if isinstance(event, TextPiece):
                print(event.text, end="", flush=True)
            elif isinstance(event, SpeechPiece):
                spoken_pieces.append(event.pcm)  # a player would begin here
        print()

if spoken_pieces:
    rate = assistant.bundle.model.codec.sample_rate_hz
    write_wav(arguments.output, np.concatenate(spoken_pieces), rate)
    print(f"speech in {arguments.output}")
