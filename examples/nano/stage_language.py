"""Stage 4: the language model learns to converse about what it is told, shown and asked aloud.

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
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    saved = {name: torch.load(OUT / f"{name}.pt", weights_only=True) for name in ("hearing", "pictures")}
    model = new_model()
    heard = {name: tensor for name, tensor in saved["hearing"]["model"].items() if "audio_encoder" in name}
    model.load_state_dict(saved["pictures"]["model"] | heard)
    heads = HearingHeads(model)
    pictures, sounds = Pictures("training"), Sounds("questions", "babble", "noise")
    talks = Talks(model, heads, pictures, sounds)
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
        "language",
        model,
        loss_of,
        steps=arguments.steps,
        rate=7e-4,
        check=check,
        check_every=250,
        slow=slow,
    )


if __name__ == "__main__":
    main()
