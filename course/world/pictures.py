"""Scenes as pictures, drawn by Pillow: any size, antialiased, no two drawings of a scene quite alike."""

import math
import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from course.world.scenes import COLORS, Scene

SUPERSAMPLE = 4  # drawn this many times larger, then averaged: Pillow's own shapes have hard edges
PAPER = 225, 250  # the darkest and the lightest grey of the paper
NAMELESS = 90  # how far a colour without a name is from each named one, in red, green and blue together


def draw(scene: Scene, size: int = 64, rng: random.Random | None = None, nameless: bool = False) -> Image.Image:
    """Draw a scene as an RGB picture of `size` x `size` pixels; if `nameless`, in colours that have no name, which
    `rng` chooses.

    With `rng`, every shape is shifted and scaled a little and the paper is a little lighter or darker;
    without it, the drawing is the same every time. Raises ValueError for a size under 16 pixels.
    """
    if size < 16:
        raise ValueError(f"a picture needs at least 16 pixels a side, not {size}")
    jitter, chooser = rng or _Still(), rng or random.Random(0)
    side = size * SUPERSAMPLE
    paper = round(jitter.uniform(*PAPER))
    image = Image.new("RGB", (side, side), (paper, paper, paper))
    pen = ImageDraw.Draw(image)
    cell = side / 3
    for shape in scene.shapes:
        x = (shape.column + 0.5 + jitter.uniform(-0.08, 0.08)) * cell
        y = (shape.row + 0.5 + jitter.uniform(-0.08, 0.08)) * cell
        radius = cell * (0.40 if shape.size == "big" else 0.22) * jitter.uniform(0.93, 1.07)
        _draw_shape(pen, shape.shape, nameless_color(chooser) if nameless else COLORS[shape.color], x, y, radius)
    return image.resize((size, size), Image.Resampling.BOX)


def nameless_color(rng: random.Random) -> tuple[int, int, int]:
    """A colour that nobody would take for one of COLORS, nor for paper; also one that is darker or lighter than all."""
    while True:
        color = rng.randrange(256), rng.randrange(256), rng.randrange(256)
        if sum(color) < 3 * PAPER[0] - 100 and all(
            sum(abs(a - b) for a, b in zip(color, named)) >= NAMELESS for named in COLORS.values()
        ):
            return color


def pixels(scenes: Sequence[Scene], size: int = 64, seed: int = 0, nameless: bool = False) -> np.ndarray:
    """Draw many scenes at once: uint8 [N, 3, size, size]. The same seed gives the same pictures."""
    rng = random.Random(f"{seed} pixels")
    out = np.empty((len(scenes), 3, size, size), np.uint8)
    for i, scene in enumerate(scenes):
        out[i] = np.asarray(draw(scene, size, rng, nameless)).transpose(2, 0, 1)
    return out


class _Still:
    """Stands in for a random generator and always answers with the middle."""

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


def _draw_shape(
    pen: ImageDraw.ImageDraw, shape: str, color: tuple[int, int, int], x: float, y: float, r: float
) -> None:
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=color)
    elif shape == "ring":
        pen.ellipse((x - r, y - r, x + r, y + r), outline=color, width=max(1, round(r * 0.42)))
    elif shape == "square":
        s = r * 0.88  # about the area of the circle, so that area alone does not tell the shape
        pen.rectangle((x - s, y - s, x + s, y + s), fill=color)
    elif shape == "cross":
        t = r * 0.36
        pen.rectangle((x - r, y - t, x + r, y + t), fill=color)
        pen.rectangle((x - t, y - r, x + t, y + r), fill=color)
    else:
        points, inner = (3, 1.0) if shape == "triangle" else (5, 0.42)
        pen.polygon(_star(x, y, r * 1.08, points, inner), fill=color)


def _star(x: float, y: float, r: float, points: int, inner: float) -> list[tuple[float, float]]:
    """Corners of a star with one point up; inner = 1 leaves out the notches and gives a regular polygon."""
    corners = []
    steps = points if inner == 1.0 else 2 * points
    for k in range(steps):
        radius = r if inner == 1.0 or k % 2 == 0 else r * inner
        angle = 2 * math.pi * k / steps - math.pi / 2
        corners.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    return corners
