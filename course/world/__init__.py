"""The little world that all six steps speak about: scenes, language, pictures, text."""

from course.world.exam import Item, conversation, exam, prompt, score
from course.world.language import (
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
from course.world.scenes import (
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
from course.world.text import corpus

__all__ = [
    "Item",
    "conversation",
    "exam",
    "prompt",
    "score",
    "BLANK",
    "COLORS",
    "HELD_OUT_PAIRS",
    "KINDS",
    "PLACES",
    "Question",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "Scene",
    "Shape",
    "TRAIN_PAIRS",
    "caption",
    "colorless",
    "corpus",
    "describe",
    "draw",
    "head",
    "is_correct",
    "names_evidence",
    "phrase",
    "pixels",
    "preference",
    "questions",
    "sample_scene",
    "sample_scenes",
    "split_of",
    "story",
]


def __getattr__(name):
    """`draw` and `pixels` need Pillow and numpy; whoever only reads and writes text should not have to load them."""
    if name in ("draw", "pixels"):
        from course.world import pictures  # Pillow and numpy

        return getattr(pictures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
