"""Stage 4: the language model learns to converse about what it is told, shown and asked aloud.

    python examples/nano/stage_language.py --imagined
    python examples/nano/stage_language.py
    python examples/nano/stage_language.py --begin out/nano/recovered.pt --steps 400 --rate 3e-4

The first half needs no encoder: it reads the rows that stages 2 and 3 teach the encoders to give, and can run beside
them. The second half reads those that they do give; the encoders stay as they are. With ``--begin`` it gets used to a
new hearing: language model and sight are those of a file, as `recover.py` writes it.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from torch import Tensor

from model import new_model
from sounds import Sounds
from stage_hearing import HearingHeads
from stage_pictures import Pictures
from talking import Asks, ImaginedPictures, RealPictures, Talks
from training import train
from vocabulary import OUT


def _begun(file: Path) -> dict[str, Tensor]:
    return torch.load(file, weights_only=True)["model"]


def _read_and_seen(asks: Asks) -> dict[str, Tensor]:
    """What the first half and the stages of the pictures have learnt."""
    reading, seen = (torch.load(OUT / f"{name}.pt", weights_only=True) for name in ("reading", "rows"))
    asks.load_state_dict(reading["extra"])
    sight = {name: x for name, x in seen["model"].items() if "vision_tower" in name or "mm_projector" in name}
    return reading["model"] | sight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="3000 of the first half, 2400 of the second")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--imagined", action="store_true", help="the first half, without pictures and sounds")
    parser.add_argument("--begin", type=Path, metavar="WEIGHTS.pt", help="language model and sight to begin with")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = new_model()
    heads, asks = HearingHeads(model), Asks(model.config.llm.hidden_size)
    if arguments.imagined:
        talks = Talks(model, heads, ImaginedPictures(model, 100_000, 0), None)
        test = Talks(model, heads, ImaginedPictures(model, 1000, 1), None)
    else:
        heard = torch.load(OUT / "hearing.pt", weights_only=True)["model"]
        hearing = {name: tensor for name, tensor in heard.items() if "audio_encoder" in name}
        model.load_state_dict((_begun(arguments.begin) if arguments.begin else _read_and_seen(asks)) | hearing)
        sounds = Sounds("questions", "babble", "salad", "noise")
        talks = Talks(model, heads, RealPictures(model, Pictures("training")), sounds)
        test = Talks(model, heads, RealPictures(model, Pictures("test"), disturbed=False), sounds)
    rng = random.Random()

    def loss_of(step: int) -> dict[str, Tensor]:
        rng.seed(f"language {step}")
        return talks.losses(talks.draw(rng, arguments.batch), asks)

    def check() -> dict[str, float]:
        dice = random.Random(5)
        shares = [test.right(test.draw(dice, 30)) for _ in range(8)]
        return {"wrong talks": 1 - sum(shares) / len(shares)}

    def slow(name: str) -> float:
        return float(not any(part in name for part in ("audio_encoder", "vision_tower", "mm_projector")))

    train(
        "reading" if arguments.imagined else "language",
        model,
        loss_of,
        steps=arguments.steps or (3000 if arguments.imagined else 2400),
        rate=arguments.rate,
        extra=asks,
        check=check,
        check_every=500,
        slow=slow,
        warm_up=60,
    )


if __name__ == "__main__":
    main()
