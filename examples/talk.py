"""Two turns with a bundle: a spoken question about a picture, then a typed one. `python examples/talk.py --help`"""

import argparse
from pathlib import Path

import numpy as np

import vita_edge
from vita_edge.runtime import Assistant, Options, SpeechPiece, TextPiece, Turn, read_image, read_sound, write_wav

DEMO = Path(vita_edge.__file__).parent / "demo"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", nargs="?", default=DEMO / "bundle", help="default: the demo, whose weights are random")
parser.add_argument("--question", default=DEMO / "question.wav")
parser.add_argument("--picture", default=DEMO / "picture.png")
parser.add_argument("-o", "--output", default="talk.wav")
arguments = parser.parse_args()

spoken = Turn(sounds=[read_sound(arguments.question)], images=[read_image(arguments.picture)])
typed = Turn(text="And what is behind it?")

with Assistant(arguments.bundle) as assistant:
    talk = assistant.conversation(Options(max_new_tokens=48))
    speech = []
    for turn in (spoken, typed):
        for event in talk.answer(turn):
            if isinstance(event, TextPiece):
                print(event.text, end="", flush=True)
            elif isinstance(event, SpeechPiece):
                speech.append(event)  # a player would begin here
        print()

if speech:
    write_wav(arguments.output, np.concatenate([piece.pcm for piece in speech]), speech[0].sample_rate_hz)
    print(f"speech in {arguments.output}")
