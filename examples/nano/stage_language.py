"""Stage 4: the language model learns to converse about what it is told, shown and asked aloud.

    python examples/nano/stage_language.py --typed
    python examples/nano/stage_language.py

The encoders are those of stages 2 and 3, and stay as they are.
"""

from __future__ import annotations

import argparse
import random

import torch
from torch import Tensor

from model import new_model
from sounds import Sounds
from stage_hearing import HearingHeads
from stage_pictures import Pictures
from talking import Talks
from training import train
from vocabulary import OUT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=7e-4)
    parser.add_argument(
        "--typed", action="store_true", help="the first half: nearly all questions typed, which costs less"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    before = ("hearing", "rows" if arguments.typed else "reading")
    heard, seen = (torch.load(OUT / f"{name}.pt", weights_only=True)["model"] for name in before)
    model = new_model()
    model.load_state_dict(seen | {name: tensor for name, tensor in heard.items() if "audio_encoder" in name})
    heads = HearingHeads(model)
    pictures, sounds = Pictures("training"), Sounds("questions", "babble", "noise")
    talks = Talks(model, heads, pictures, sounds, 0.1 if arguments.typed else 0.7)
    test = Talks(model, heads, Pictures("test"), sounds)
    rng = random.Random()

    def loss_of(step: int) -> dict[str, Tensor]:
        rng.seed(f"language {step}")
        return talks.losses(talks.draw(rng, arguments.batch))

    def check() -> dict[str, float]:
        dice = random.Random(5)
        shares = [test.right(test.draw(dice, 30)) for _ in range(8)]
        return {"wrong talks": 1 - sum(shares) / len(shares)}

    def slow(name: str) -> float:
        return float(not any(part in name for part in ("audio_encoder", "vision_tower", "mm_projector")))

    train(
        "reading" if arguments.typed else "language",
        model,
        loss_of,
        steps=arguments.steps,
        rate=arguments.rate,
        check=check,
        check_every=500,
        slow=slow,
        warm_up=60,
    )


if __name__ == "__main__":
    main()
