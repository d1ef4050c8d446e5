"""Scenes: one to four coloured shapes on a 3x3 grid, and the splits that keep training and testing apart.

Everything that the six steps read, hear about or look at is made from a `Scene`. Two kinds of scenes are never
trained on, by any stage (tokenizer and eye included):

- held-out scenes: a tenth of all scenes, chosen by a hash of what is in them;
- held-out combinations: scenes with a colour-shape pair that no training scene contains. Each of these colours
  and shapes is seen in other pairs, so a model that has understood both can get them right.
"""

import hashlib
import random
from dataclasses import dataclass

COLORS = {
    "red": (214, 40, 40),
    "orange": (245, 130, 32),
    "yellow": (250, 210, 50),
    "green": (50, 160, 70),
    "blue": (40, 90, 215),
    "purple": (130, 60, 170),
    "pink": (245, 140, 185),
    "black": (35, 35, 40),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
SIZES = ("small", "big")
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
SPLITS = ("train", "held_out", "held_out_combinations")
MAX_SHAPES = 4


@dataclass(frozen=True)
class Shape:
    """One coloured shape. `place` is one of PLACES; `row` and `column` count from the top left."""

    color: str
    shape: str
    size: str
    place: str

    @property
    def row(self) -> int:
        return PLACES.index(self.place) // 3

    @property
    def column(self) -> int:
        return PLACES.index(self.place) % 3


@dataclass(frozen=True)
class Scene:
    """One to four shapes, in reading order (the canonical order of every description)."""

    shapes: tuple[Shape, ...]

    @property
    def key(self) -> str:
        return ";".join(f"{s.size} {s.color} {s.shape} {s.place}" for s in self.shapes)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _choose_held_out_pairs() -> tuple[tuple[str, str], ...]:
    """Six colour-shape pairs in hash order, no colour and no shape twice, so that each is still seen elsewhere."""
    pairs: list[tuple[str, str]] = []
    for pair in sorted(((c, s) for c in COLORS for s in SHAPES), key=lambda pair: _hash(" ".join(pair))):
        if all(pair[0] != c and pair[1] != s for c, s in pairs):
            pairs.append(pair)
    return tuple(pairs)


HELD_OUT_PAIRS = _choose_held_out_pairs()
TRAIN_PAIRS = tuple((c, s) for c in COLORS for s in SHAPES if (c, s) not in HELD_OUT_PAIRS)


def split_of(scene: Scene) -> str:
    """The one split that a scene belongs to."""
    if any((s.color, s.shape) in HELD_OUT_PAIRS for s in scene.shapes):
        return "held_out_combinations"
    return "held_out" if _hash(scene.key) % 10 == 0 else "train"


def sample_scene(rng: random.Random, split: str = "train") -> Scene:
    """Draw one scene of `split`: the number of shapes is uniform over 1-4, every place is taken at most once.

    In "held_out_combinations" one shape is a held-out pair and every other one is with probability 1/2.
    Raises ValueError for an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there are {', '.join(SPLITS)}")
    while True:
        count = rng.randint(1, MAX_SHAPES)
        places = sorted(rng.sample(range(len(PLACES)), count))
        unseen = [False] * count
        if split == "held_out_combinations":
            unseen = [rng.random() < 0.5 for _ in range(count)]
            unseen[rng.randrange(count)] = True
        shapes = []
        for place, held_out in zip(places, unseen):
            color, shape = rng.choice(HELD_OUT_PAIRS if held_out else TRAIN_PAIRS)
            shapes.append(Shape(color, shape, rng.choice(SIZES), PLACES[place]))
        scene = Scene(tuple(shapes))
        if split_of(scene) == split:
            return scene


def sample_scenes(count: int, split: str = "train", seed: int = 0) -> list[Scene]:
    """`count` scenes of one split; the same seed gives the same scenes."""
    rng = random.Random(f"{seed} {split} scenes")
    return [sample_scene(rng, split) for _ in range(count)]
