"""Text to read: the world's own, Python's documentation, or any file or folder. No network needed."""

import random
from pathlib import Path

from course.world.language import quiz, story
from course.world.scenes import sample_scene

NAMES = ("stories", "world", "pydoc")
HELD_OUT_SHARE = 0.1


def corpus(name: str, split: str = "train", characters: int = 1_000_000, seed: int = 0) -> str:
    """At most about `characters` characters of text.

    "stories": short stories about scenes; "world": stories and quizzes; "pydoc": the language reference that every
    CPython carries for its help() (`pydoc_data.topics`); anything else: a text file, or a folder whose text files are
    read in the order of their names. `split` is "train" or "held_out": for the world, by scene; for other text, the
    last tenth is held out. Raises ValueError for an unknown split, FileNotFoundError for a name that is none of these,
    and ValueError for a file that is not UTF-8 text.
    """
    if split not in ("train", "held_out"):
        raise ValueError(f"unknown split {split!r}; there are train, held_out")
    if name in ("stories", "world"):
        return _world(name, split, characters, seed)
    text = _pydoc() if name == "pydoc" else _read(Path(name).expanduser())
    border = int(len(text) * (1 - HELD_OUT_SHARE))
    return (text[:border] if split == "train" else text[border:])[:characters]


def _world(name: str, split: str, characters: int, seed: int) -> str:
    rng = random.Random(f"{seed} {split} {name}")
    parts: list[str] = []
    length = 0
    while length < characters:
        tell = quiz if name == "world" and len(parts) % 2 else story
        parts.append(tell(sample_scene(rng, split), rng))
        length += len(parts[-1]) + 2
    return "\n\n".join(parts)


def _pydoc() -> str:
    from pydoc_data.topics import topics  # part of every CPython

    return "\n\n".join(topics[key].strip() for key in sorted(topics))


TEXT_SUFFIXES = {".txt", ".md", ".rst", ".py", ".json", ".html", ".csv"}


def _read(path: Path) -> str:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in TEXT_SUFFIXES and p.is_file())
        if not files:
            raise FileNotFoundError(f"no text file ({', '.join(sorted(TEXT_SUFFIXES))}) under {path}")
        return "\n\n".join(_read(p) for p in files)
    if not path.is_file():
        raise FileNotFoundError(f"no text called {path}; there are {', '.join(NAMES)}, or name a file or a folder")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); convert it first") from None
