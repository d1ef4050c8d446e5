"""Train the course's tokenizer and leave it as tokenizer.json for the steps that follow.

    python3 -m step1_tokenizer.train --preset tiny
    python3 -m step1_tokenizer.train --preset small --text world --text my_book.txt

The text is that of the little world and Python's language reference; larger vocabularies also learn from the
source of Python's standard library. Each text is read up to the preset's number of characters.
"""

import functools
import itertools
import sysconfig
from collections import Counter
from pathlib import Path

import regex

from course.machine import host, workers
from course.world import corpus

PRESETS = {
    "smoke": {"vocab_size": 384, "texts": ["world", "pydoc"], "characters": 60_000},
    "tiny": {"vocab_size": 1024, "texts": ["world", "pydoc"], "characters": 1_500_000},
    "small": {"vocab_size": 8192, "texts": ["world", "pydoc", "stdlib"], "characters": 5_000_000},
    "base": {"vocab_size": 32768, "texts": ["world", "pydoc", "stdlib"], "characters": 20_000_000},
}
HELD_OUT = 100_000  # characters to measure on
SHARE = 500_000  # characters that are worth a process of their own
LINE = regex.compile(r"\n(?=\S)")


def add_arguments(parser):
    parser.add_argument(
        "--text",
        action="append",
        metavar="NAME",
        help="world, stories, pydoc, stdlib, a file or a folder; may be repeated",
    )


def read(name: str, characters: int, seed: int) -> list[str]:
    """A text by name, as documents; "stdlib" is the source of the standard library of this Python."""
    if name != "stdlib":
        return [corpus(name, characters=characters, seed=seed)]
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [
        path
        for path in sorted(root.rglob("*.py"))
        if not {"site-packages", "dist-packages", "test", "tests"} & {*path.relative_to(root).parts}
    ]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    lengths = itertools.accumulate(map(len, texts))
    return [text for text, end in zip(texts, lengths) if end <= characters]


def cut(text: str, size: int = SHARE) -> list[str]:
    """Parts of at least `size` characters that together have the same pieces as the whole text.

    Each part ends with a line, and the next line does not begin with a space. A piece that holds a line break ends with
    one, so no piece reaches across.
    """
    parts, begin = [], 0
    while border := LINE.search(text, begin + size):
        parts.append(text[begin : border.end()])
        begin = border.end()
    return [*parts, text[begin:]]


def count_pieces(module, texts, special_tokens=()) -> dict[bytes, int]:
    """module.count_pieces, shared out to a process for each core: cutting text takes longer than all the merges."""
    texts = [part for text in texts for part in cut(text)]
    processes = min(host.cores(), sum(map(len, texts)) // SHARE)
    if processes < 2:
        return module.count_pieces(texts, special_tokens)
    total = Counter()
    for part in workers.call(module, "count_pieces", [texts[i::processes] for i in range(processes)], special_tokens):
        total.update(part)
    return total


def bytes_per_token(tokenizer, text: str) -> float:
    """How many bytes of UTF-8 one token stands for on average: 1 without any merge, more is shorter."""
    return len(text.encode()) / len(tokenizer.encode(text))


def train(job) -> dict:
    module, settings = job.use(), job.settings
    names = getattr(job.options, "text", None) or settings["texts"]
    texts = []
    for name in job.bar(names, "reading"):
        texts += read(name, settings["characters"], job.seed)
    tokenizer = module.train(texts, settings["vocab_size"], count=functools.partial(count_pieces, module))
    if tokenizer.vocab_size < settings["vocab_size"]:
        job.note(f"The text has no more pairs: {tokenizer.vocab_size} tokens, not {settings['vocab_size']}.")

    # Measured on text that training has not seen. A smaller tokenizer has the first of these merges, and no others.
    held_out = {"": corpus("world", "held_out", HELD_OUT, job.seed), "_pydoc": corpus("pydoc", "held_out", HELD_OUT)}
    sizes = [0] + [2**n for n in range(4, 20) if 2**n < len(tokenizer.merges)] + [len(tokenizer.merges)]
    history = {f"bytes_per_token{name}": [] for name in held_out}
    for size in job.bar(sizes, "measuring"):
        smaller = module.Tokenizer(tokenizer.merges[:size])
        for name, text in held_out.items():
            value = round(bytes_per_token(smaller, text), 4)
            history[f"bytes_per_token{name}"].append([smaller.vocab_size, value])
    figures = {"vocab_size": tokenizer.vocab_size, **{name: curve[-1][1] for name, curve in history.items()}}
    config = {"vocab_size": tokenizer.vocab_size, "special_tokens": tokenizer.special_tokens, "texts": names}
    curves = {"curves": history, "x": dict.fromkeys(history, "vocabulary size")}
    job.save(config=config, figures=figures, history=curves, files={"tokenizer.json": tokenizer.to_json()})
    return figures


if __name__ == "__main__":
    from course.training.script import main

    main(__file__)
