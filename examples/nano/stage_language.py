"""Stage 4: the language model learns to converse about pictures, from typed and from imagined questions.

python examples/nano/stage_language.py
"""

from __future__ import annotations

import argparse
import random

import torch
from torch import Tensor

from model import new_model
from stage_hearing import HearingHeads
from stage_pictures import Pictures
from talking import Talks
from training import train
from vocabulary import OUT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = new_model()
    model.load_state_dict(torch.load(OUT / "pictures.pt", weights_only=True)["model"])
    heads = HearingHeads(model)
    talks = Talks(model, heads, Pictures("training"), None)
    test = Talks(model, heads, Pictures("test"), None)
    rng = random.Random(4)

    def loss_of(step: int) -> dict[str, Tensor]:
        return talks.losses(talks.draw(rng, arguments.batch))

    def check() -> dict[str, float]:
        dice = random.Random(5)
        shares = [test.right(test.draw(dice, 40)) for _ in range(6)]
        return {"wrong talks": 1 - sum(shares) / len(shares)}

    def slow(name: str) -> float:
        return 0.0 if "audio_encoder" in name else 0.3 if "vision_tower" in name else 1.0

    train("language", model, loss_of, steps=arguments.steps, rate=2e-3, check=check, check_every=250, slow=slow)


if __name__ == "__main__":
    main()
