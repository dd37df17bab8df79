"""Stage 8: what `vita-edge demo` asks: a picture, a question about it, one that follows from it, and a noise.

python examples/nano/demo_files.py src/vita_edge/demo
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from drawing import draw
from noises import music
from speaking import RATE_HZ, Voice, say
from world import Thing

SCENE = (Thing("circle", "orange", "on the left"), Thing("cross", "green", "on the right"))
VOICE = Voice("en-us+f3", 150, 50)
"""One of those that are kept out of the training."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    Image.fromarray(draw(SCENE, random.Random(5))).quantize(64).convert("RGB").save(
        folder / "picture.png", optimize=True
    )
    hiss = np.random.default_rng(5)
    for name, text in (("question", "what colour is the circle"), ("follow-up", "and the cross")):
        speech = np.pad(0.6 * say(text, VOICE), (RATE_HZ // 4, RATE_HZ // 3))
        soundfile.write(folder / f"{name}.wav", speech + hiss.normal(0, 0.001, len(speech)), RATE_HZ, "PCM_16")
    script = [
        {"audio": "question.wav", "image": "picture.png", "said": "What colour is the circle?"},
        {"audio": "follow-up.wav", "said": "And the cross?"},
        {"audio": "noise.wav", "said": "(a tune)"},
    ]
    (folder / "script.json").write_text(json.dumps(script, indent=1) + "\n", encoding="utf-8")
    soundfile.write(folder / "noise.wav", music(random.Random(6), 2.0), RATE_HZ, "PCM_16")


if __name__ == "__main__":
    main()
