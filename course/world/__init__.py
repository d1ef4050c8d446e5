"""The little world that all six steps speak about: scenes, language, pictures, text."""

from .language import (
    BLANK,
    KINDS,
    Question,
    caption,
    colorless,
    describe,
    head,
    is_correct,
    names_evidence,
    phrase,
    preference,
    questions,
    story,
)
from .scenes import (
    COLORS,
    HELD_OUT_PAIRS,
    PLACES,
    SHAPES,
    SIZES,
    SPLITS,
    TRAIN_PAIRS,
    Scene,
    Shape,
    sample_scene,
    sample_scenes,
    split_of,
)
from .text import corpus


def __getattr__(name):
    """`draw` and `pixels` need Pillow and numpy; whoever only reads and writes text should not have to load them."""
    if name in ("draw", "pixels"):
        from . import pictures

        return getattr(pictures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
