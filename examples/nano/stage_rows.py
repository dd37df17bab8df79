"""Stage 3, second half: a picture's rows become the plain sum of the words' rows that they stand for.

    python examples/nano/stage_rows.py

Told apart, as stage 3 teaches them, they are ten times as long as a word's row and half of them is noise; the language
model then takes long to learn which of two things is meant. Writes ``out/nano/rows.pt``.
"""

from __future__ import annotations

import argparse
import random

import torch
from torch import Tensor

from model import new_model
from stage_pictures import Look, Pictures, RowsWanted, answers, recoloured
from training import mixed, train
from vocabulary import OUT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = new_model()
    model.load_state_dict(torch.load(OUT / "pictures.pt", weights_only=True)["model"])
    look, pictures, test = Look(model), Pictures("training"), Pictures("test")
    wanted = RowsWanted(model)
    rng = random.Random()

    def loss_of(step: int) -> dict[str, Tensor]:
        rng.seed(f"rows {step}")
        chosen = [rng.randrange(len(pictures.scenes)) for _ in range(2 * arguments.batch)]
        x, half = pictures.pixels(chosen, rng), arguments.batch
        with mixed():
            rows = model.see(torch.cat([x[:half], recoloured(x[half:])])).float()
        wrong = rows - wanted([pictures.scenes[i] for i in chosen])
        # of a recoloured thing only the shape is known; without these the shapes of unseen combinations are forgotten
        shape = (wrong[half:] @ look.shapes.T).pow(2).mean()
        return {"distance": 30 * wrong[:half].pow(2).mean(), "shape": 0.5 * shape}

    def check() -> dict[str, float]:
        chosen = list(range(200))
        with torch.no_grad(), mixed():
            rows = model.see(test.pixels(chosen, rng, disturbed=False)).float()
        right, middle = answers([test.scenes[i] for i in chosen]), slice(4, 12)
        seen = {"wrong shapes": (rows @ look.shapes.T, right[0]), "wrong colours": (rows @ look.colours.T, right[1])}
        return {
            name: ((scores.argmax(-1) + 1 != told) & (told > 0))[:, middle].float().mean().item()
            for name, (scores, told) in seen.items()
        }

    def slow(name: str) -> float:
        return 1.0 if "mm_projector" in name else 0.3 if "vision_tower" in name else 0.0

    train(
        "rows",
        model,
        loss_of,
        steps=arguments.steps,
        rate=1.2e-3,
        slow=slow,
        check=check,
        check_every=100,
        warm_up=30,
    )


if __name__ == "__main__":
    main()
