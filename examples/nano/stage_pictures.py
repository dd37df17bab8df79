"""Stage 3: draw the pictures, and let the vision tower learn what is where in them.

    python examples/nano/stage_pictures.py

The tower is trained with a head that is thrown away: shape and colour of the thing in each place.
"""

from __future__ import annotations

import argparse
import json
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drawing import draw
from model import Vita, new_model
from sizes import checkpoint_config
from training import mixed, train
from vita_edge.engines.bundle.facts import VisionFacts
from vita_edge.runtime.encoders.vision_frontend import VisionFrontEnd
from vocabulary import OUT, open_tokenizer
from world import COLOURS, PLACES, SHAPES, Scene, Thing, random_scene

__all__ = ["Look", "Pictures", "RowsWanted", "answers", "recoloured"]

FOLDER = OUT / "pictures"
IN_TRAINING, IN_TEST = 9000, 600
PLACE_OF_COLUMN = [0, 1, 1, 2]
"""Of the four columns of rows that a picture becomes."""


def front_end() -> VisionFrontEnd:
    c = checkpoint_config(1072, 0).vision
    return VisionFrontEnd(
        VisionFacts(
            tile_size=c.image_size,
            tokens_per_tile=(c.grid // 2) ** 2,
            min_tiles=c.min_tiles,
            max_tiles=c.max_tiles,
            use_thumbnail=c.use_thumbnail,
            pad_frames=c.pad_frames,
            image_mean=c.image_mean,
            image_std=c.image_std,
        )
    )


class Pictures:
    """Scenes and the tiles that the front end makes of their pictures, uint8 [n, S, S, 3]."""

    def __init__(self, name: str) -> None:
        self.tiles = np.load(FOLDER / f"{name}.npy")
        listed = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
        self.scenes: list[Scene] = [tuple(Thing(*thing) for thing in scene) for scene in listed]

    def pixels(self, indices: list[int], rng: random.Random, *, disturbed: bool = True) -> Tensor:
        """Normalised float32 [n, 3, S, S]; disturbed: shifted, and brighter or darker in each channel."""
        tiles = self.tiles[indices]
        if disturbed:
            shifted = []
            for tile in tiles:
                rows, columns = rng.randint(-5, 5), rng.randint(-3, 3)
                padded = np.pad(tile, ((5, 5), (3, 3), (0, 0)), mode="edge")
                height, width = tile.shape[:2]
                shifted.append(padded[5 + rows : 5 + rows + height, 3 + columns : 3 + columns + width])
            tiles = np.stack(shifted)
        x = normalised_pixels(tiles)
        if disturbed:
            x = x * (1 + 0.06 * torch.randn(len(x), 3, 1, 1)) + 0.08 * torch.randn(len(x), 3, 1, 1)
        return x


def normalised_pixels(tiles: np.ndarray) -> Tensor:
    return torch.from_numpy(front_end().normalise(tiles))


class Look(nn.Module):
    """What the tower is asked while it learns: nothing, or shape and colour, in the place that a row lies in.

    Rows are read in the directions of the words' own rows in the embedding table, so that the language model finds in
    them what it can read already.
    """

    shapes: Tensor
    colours: Tensor
    places: Tensor

    def __init__(self, model: Vita) -> None:
        super().__init__()
        tokenizer = open_tokenizer()
        table = model.model.embed_tokens.weight.detach()
        for name, words in (("shapes", SHAPES), ("colours", COLOURS), ("places", ("left", "middle", "right"))):
            ids = [tokenizer.encode(f" {word}") for word in words]
            assert all(len(i) == 1 for i in ids)
            self.register_buffer(name, table[[i[0] for i in ids]], persistent=False)
        self.nothing = nn.Parameter(0.1 * torch.randn(2, 1, table.shape[1]))
        self.sharpness = nn.Parameter(torch.tensor(3.0))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows [n, 16, hidden] → scores of shapes and colours [n, 16, 9], first nothing; of places [n, 16, 3]."""
        shapes, colours = (torch.cat([none, words]) for none, words in zip(self.nothing, (self.shapes, self.colours)))
        rows = self.sharpness * rows
        return rows @ shapes.T, rows @ colours.T, rows @ self.places.T


class RowsWanted:
    """What the rows of a picture are to become: the plain sum of the rows of its words."""

    def __init__(self, model: Vita) -> None:
        look = Look(model)
        nothing = torch.zeros(1, look.shapes.shape[1])
        self._shapes, self._colours = torch.cat([nothing, look.shapes]), torch.cat([nothing, look.colours])
        self._places = look.places[torch.tensor(PLACE_OF_COLUMN).repeat(4)]

    def __call__(self, scenes: list[Scene]) -> Tensor:
        """float32 [n, 16, hidden]"""
        shape, colour = answers(scenes)
        return self._shapes[shape] + self._colours[colour] + self._places


def recoloured(x: Tensor) -> Tensor:
    """Pixels with their channels mixed at random: shapes stay, colours become any. So a shape is learnt in them all."""
    mixing = torch.eye(3)[torch.randperm(3)] * (0.3 + 0.7 * torch.rand(len(x), 1, 3)) + 0.5 * torch.randn(len(x), 3, 3)
    return torch.einsum("nij,njhw->nihw", mixing, x)


def picture_losses(model: Vita, look: Look, pictures: Pictures, count: int, rng: random.Random) -> dict[str, Tensor]:
    """Shapes and colours of ``count`` pictures, and shapes of as many recoloured ones."""
    chosen = [rng.randrange(len(pictures.scenes)) for _ in range(2 * count)]
    x = pictures.pixels(chosen, rng)
    x = torch.cat([x[:count], recoloured(x[count:])])
    with mixed():
        rows = model.see(x)
    shapes, colours, places = look(rows.float())
    right = answers([pictures.scenes[i] for i in chosen])
    there = torch.tensor(PLACE_OF_COLUMN).repeat(len(chosen) * 4)
    return {
        "place": F.cross_entropy(places.flatten(0, 1), there),
        "shape": F.cross_entropy(shapes.flatten(0, 1), right[0].flatten()),
        "colour": F.cross_entropy(colours[:count].flatten(0, 1), right[1][:count].flatten()),
    }


def answers(scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    """Numbers of shape and colour in the place of each row, [n, 16]; 0 where there is nothing."""
    shapes = torch.zeros(len(scenes), len(PLACES), dtype=torch.long)
    colours = shapes.clone()
    for i, scene in enumerate(scenes):
        for thing in scene:
            place = PLACES.index(thing.place)
            shapes[i, place] = SHAPES.index(thing.shape) + 1
            colours[i, place] = COLOURS.index(thing.colour) + 1
    return shapes[:, PLACE_OF_COLUMN].repeat(1, 4), colours[:, PLACE_OF_COLUMN].repeat(1, 4)


def _drawn(job: tuple[str, int]) -> tuple[Scene, np.ndarray]:
    name, seed = job
    rng = random.Random(f"{name} {seed}")
    scene = random_scene(rng, held_out=name == "test")
    return scene, front_end().stretched([draw(scene, rng)])[0]


def make(name: str, count: int, workers: int) -> None:
    if (FOLDER / f"{name}.json").exists():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        found = list(pool.map(_drawn, [(name, i) for i in range(count)], chunksize=32))
    np.save(FOLDER / f"{name}.npy", np.stack([tile for _, tile in found]))
    listed = [[astuple(thing) for thing in scene] for scene, _ in found]
    (FOLDER / f"{name}.json").write_text(json.dumps(listed), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--draw", type=int, metavar="COUNT", help="only draw so many pictures, for a later stage")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    make("training", arguments.draw or IN_TRAINING, arguments.threads)
    make("test", IN_TEST, arguments.threads)
    if arguments.draw:
        return
    pictures, test = Pictures("training"), Pictures("test")
    model = new_model(seed=1)
    look = Look(model)
    rng = random.Random(3)

    def loss_of(step: int) -> dict[str, Tensor]:
        rng.seed(f"pictures {step}")
        return picture_losses(model, look, pictures, arguments.batch, rng)

    def check() -> dict[str, float]:
        with torch.no_grad(), mixed():
            chosen = list(range(300))
            rows = model.see(test.pixels(chosen, rng, disturbed=False))
            shapes, colours, _ = look(rows.float())
        right = answers([test.scenes[i] for i in chosen])
        middle = slice(8, 12)
        seen = (shapes.argmax(-1) == right[0])[:, middle], (colours.argmax(-1) == right[1])[:, middle]
        return {"wrong shapes": 1 - seen[0].float().mean().item(), "wrong colours": 1 - seen[1].float().mean().item()}

    train(
        "pictures",
        model,
        loss_of,
        steps=arguments.steps,
        rate=1.5e-3,
        extra=look,
        check=check,
        check_every=250,
        slow=lambda name: float("vision_tower" in name or "mm_projector" in name or name.startswith("extra")),
    )


if __name__ == "__main__":
    main()
