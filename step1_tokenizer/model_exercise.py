"""A byte-level byte pair encoding (BPE) tokenizer: text -> pieces -> bytes -> ids, and back without loss.

Follows GPT-2 (Radford et al. 2019: BPE over bytes, so that no text is unknown) and GPT-4's way of cutting
text into pieces first; the style owes much to Karpathy's minbpe. Left out: Unicode normalisation,
BPE-dropout, vocabularies whose first 256 ids are not the bytes in order (GPT-2's are permuted).

Ids: 0..255 are the bytes, then one id per merge in the order of learning, then the special tokens. Of equally
frequent pairs the smallest pair of ids wins: (97, 98) before (97, 99) before (98, 0).
"""

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import regex

SPECIAL_TOKENS = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<|image|>")

# How text is cut before any merging, so that no token spans two words: the idea of GPT-4's pattern
# (cl100k_base, published in OpenAI's tiktoken), written anew. Every character falls into exactly one piece.
PIECES = (
    r"'(?:[sdmtSDMT]|[lL]{2}|[vV][eE]|[rR][eE])",  # 's 'd 'm 't 'll 've 're
    r"[^\r\n\p{L}\p{N}]?\p{L}+",  # a word, with the space or punctuation before it
    r"\p{N}{1,3}",  # at most three digits: 2024 is 202 4
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",  # punctuation, with the space before and line breaks after
    r"\s*[\r\n]+",  # blank lines
    r"\s+(?!\S)",  # spaces; the last one is left to the word after it
    r"\s+",  # any other white space
)
PATTERN = regex.compile("|".join(PIECES))


def to_bytes(text: str) -> bytes:
    """The text in UTF-8. What was read from bytes with errors="surrogateescape" becomes these bytes again;
    any other lone surrogate, which is no character, becomes "?"."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


# TODO pair_counts
def pair_counts(pieces: Sequence[Sequence[int]], counts: Sequence[int]) -> dict[tuple[int, int], int]:
    """How often each pair of neighbouring ids occurs, when pieces[i] occurs counts[i] times in the text.

    pair_counts([[1, 2, 3], [1, 2]], [1, 10]) -> {(1, 2): 11, (2, 3): 1}. Every place with a neighbour to its
    right counts, also where pairs overlap: [7, 7, 7] holds (7, 7) twice. No pair spans two pieces.
    """
    raise NotImplementedError("TODO pair_counts: write pair_counts")


# TODO merge
def merge(ids: Sequence[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """A new list with every occurrence of `pair` replaced by `new_id`, from left to right, never overlapping.

    merge([1, 2, 3, 1, 2], (1, 2), 9) -> [9, 3, 9]; merge([7, 7, 7], (7, 7), 9) -> [9, 7].
    """
    raise NotImplementedError("TODO merge: write merge")


# TODO train_bpe
def train_bpe(pieces: Mapping[bytes, int], vocab_size: int) -> list[tuple[int, int]]:
    """Learn merges from {piece: how often it occurs} until there are `vocab_size` ids or no pair is left.

    Again and again the most frequent pair, of equally frequent ones the smallest, gets a new id: 256, 257...
    Returns the merged pairs in that order, at most vocab_size - 256 of them.
    """
    raise NotImplementedError("TODO train_bpe: write train_bpe")


# TODO special_tokens
def split_special(text: str, special_tokens: Collection[str]) -> list[str]:
    """Cut `text` before and after each special token; joined, the parts are the text again. No part is empty.

    split_special("hi<|end|>", ["<|end|>"]) -> ["hi", "<|end|>"]. Where one special token begins like another,
    the longer one wins.
    """
    raise NotImplementedError("TODO special_tokens: write split_special")


def count_pieces(texts: Iterable[str], special_tokens: Collection[str] = ()) -> dict[bytes, int]:
    """{piece as bytes: how often it occurs}. Special tokens are cut out: they are not text to learn from."""
    found = Counter()
    for text in texts:
        for part in split_special(text, special_tokens):
            if part not in special_tokens:
                found.update(PATTERN.findall(part))
    pieces = Counter()
    for piece, count in found.items():
        pieces[to_bytes(piece)] += count
    return pieces


def train(texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str] = SPECIAL_TOKENS, count=count_pieces):
    """A Tokenizer of `vocab_size` ids, special tokens included (fewer where the texts run out of pairs).

    `count` does what count_pieces does; the one in train.py shares long texts out to several processes. Raises
    ValueError for a vocab_size below 256 bytes + the special tokens.
    """
    if vocab_size < 256 + len(special_tokens):
        raise ValueError(f"vocab_size {vocab_size} < 256 bytes + {len(special_tokens)} special tokens")
    merges = train_bpe(count(texts, special_tokens), vocab_size - len(special_tokens))
    return Tokenizer(merges, {token: 256 + len(merges) + i for i, token in enumerate(special_tokens)})


class Tokenizer:
    """Text to ids and back. `special_tokens` maps text to id; a special token is never made by merging. Raises
    ValueError for a special token whose id is taken."""

    def __init__(self, merges: Iterable[tuple[int, int]], special_tokens: Mapping[str, int] | None = None):
        self.merges = [tuple(pair) for pair in merges]
        self.special_tokens = dict(special_tokens or {})
        self.merged_id = {pair: 256 + i for i, pair in enumerate(self.merges)}  # smaller: learned earlier
        self.token_bytes = {i: bytes([i]) for i in range(256)}
        for (first, second), new_id in self.merged_id.items():
            self.token_bytes[new_id] = self.token_bytes[first] + self.token_bytes[second]
        for token, token_id in self.special_tokens.items():
            if token_id in self.token_bytes:
                raise ValueError(f"special token {token!r}: id {token_id} is taken")
            self.token_bytes[token_id] = to_bytes(token)
        self.vocab_size = max(self.token_bytes) + 1
        self._known: dict[str, list[int]] = {}  # piece -> ids: text repeats itself

    # TODO encode
    def encode_piece(self, piece: bytes) -> list[int]:
        """The ids of one piece: of its pairs the one that was learned first is merged, until no pair is left.

        With merges [(98, 99), (97, 98)] the piece b"abc" is [97, 256]: "bc" was learned before "ab".
        """
        raise NotImplementedError("TODO encode: write Tokenizer.encode_piece")

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of `text`, in which nothing is special."""
        ids, known = [], self._known
        for piece in PATTERN.findall(text):
            if piece not in known:
                if len(known) >= 1 << 18:  # some 50 MB: start again rather than grow with the text
                    known.clear()
                encode = self.encode_piece if len(piece) < 1000 else self._encode_long
                known[piece] = encode(to_bytes(piece))
            ids.extend(known[piece])
        return ids

    def _encode_long(self, piece: bytes) -> list[int]:
        """encode_piece for a piece as long as a genome: all merges in order, most of which find nothing."""
        text = piece.decode("latin-1")
        for (first, second), new_id in self.merged_id.items():
            text = text.replace(chr(first) + chr(second), chr(new_id))
        return list(map(ord, text))

    def allowed(self, allowed_special: Collection[str] | Literal["all"]) -> list[str]:
        """Those of its special tokens that are in `allowed_special`; "all" allows every one. Raises ValueError for any
        other string, in which a token could hide."""
        everything = allowed_special == "all"
        if isinstance(allowed_special, str) and not everything:
            raise ValueError(f'allowed_special is "all" or a set of tokens, not the string {allowed_special!r}')
        return [token for token in self.special_tokens if everything or token in allowed_special]

    # TODO special_tokens
    def encode(self, text: str, allowed_special: Collection[str] | Literal["all"] = frozenset()) -> list[int]:
        """The ids of `text`. A special token in it becomes its one id only if it is allowed ("all" or a set; see
        `allowed`); else it is text like any other, uncut, so that nobody gets one in by typing it."""
        raise NotImplementedError("TODO special_tokens: write Tokenizer.encode")

    def encode_stream(
        self, chunks: Iterable[str], allowed_special: Collection[str] | Literal["all"] = frozenset()
    ) -> Iterator[int]:
        """The ids of a text that comes in chunks (a file larger than memory), wherever it is cut into chunks:
        those of encode("".join(chunks), allowed_special)."""
        allowed, text = self.allowed(allowed_special), ""
        for chunk in chunks:
            text += chunk
            settled = self._settled(text, allowed)
            yield from self.encode(text[:settled], allowed)
            text = text[settled:]
        yield from self.encode(text, allowed)

    @staticmethod
    def _settled(text: str, special_tokens: Collection[str]) -> int:
        """How many characters of `text` give the same ids whatever follows."""
        begin, at, end, longest = 0, 0, len(text), max(map(len, special_tokens), default=0)
        for part in split_special(text, special_tokens):
            if part in special_tokens:
                if at + longest > len(text):  # it may be the beginning of a longer one
                    end = at
                    break
                begin = at + len(part)
            at += len(part)
        for at in range(max(begin, len(text) - longest + 1), end):
            if any(token.startswith(text[at:]) for token in special_tokens):
                end = at
                break
        # What follows can change the last piece and the spaces and line breaks around it, nothing before. A new
        # line begins a new piece, so only the last line need be looked at.
        known = text[begin:end].rstrip()
        last = max(known.rfind("\n"), known.rfind("\r")) + 1
        for match in PATTERN.finditer(known, last):
            if not known[match.start() - 1 : match.start()].isspace():
                last = match.start()
        return begin + last

    # TODO decode
    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that the ids stand for. Raises KeyError for an unknown id."""
        raise NotImplementedError("TODO decode: write Tokenizer.decode_bytes")

    # TODO decode
    def decode(self, ids: Iterable[int]) -> str:
        """The text that the ids stand for. A character may be spread over several ids. Bytes that are no
        UTF-8 (half a character, noise) become U+FFFD, in the way of bytes.decode(errors="replace")."""
        raise NotImplementedError("TODO decode: write Tokenizer.decode")

    def to_json(self) -> str:
        """A Hugging Face tokenizer.json, which their `tokenizers` opens and encodes with to the same ids."""
        name = {i: "".join(_BYTE_NAMES[byte] for byte in token) for i, token in self.token_bytes.items()}
        no = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        split = {"type": "Split", "pattern": {"Regex": PATTERN.pattern}, "behavior": "Isolated", "invert": False}
        bytelevel = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        return json.dumps(
            {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "normalizer": None,
                "post_processor": None,
                "added_tokens": [
                    {"id": i, "content": token, **no, "special": True} for token, i in self.special_tokens.items()
                ],
                "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytelevel]},
                "decoder": bytelevel,
                "model": {
                    "type": "BPE",
                    "vocab": {name[i]: i for i in range(256 + len(self.merges))},
                    "merges": [[name[first], name[second]] for first, second in self.merges],
                },
            },
            ensure_ascii=False,
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Read what to_json wrote. Raises ValueError for a tokenizer.json of another kind."""
        data = json.loads(text)
        ids = data["model"]["vocab"]
        if json.dumps(PATTERN.pattern) not in json.dumps(data["pre_tokenizer"]):
            raise ValueError("this tokenizer.json does not cut text into pieces by PATTERN")
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in data["model"]["merges"]]
        expected = [*_BYTE_NAMES, *(first + second for first, second in merges)]
        if any(ids.get(name) != i for i, name in enumerate(expected)):
            raise ValueError("this tokenizer.json does not number the bytes 0..255, then its merges in order")
        return cls(
            [(ids[first], ids[second]) for first, second in merges],
            {token["content"]: token["id"] for token in data["added_tokens"]},
        )


def _byte_names() -> list[str]:
    """The printable character by which a tokenizer.json writes each byte: GPT-2's table. Visible Latin-1
    characters stand for themselves, the rest are U+0100 onwards in order."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


_BYTE_NAMES = _byte_names()


# The tests: run them in the notebook, or `python3 -m course check step1` in a terminal. Nothing to edit
# below.

def _check(todo):
    import sys
    from pathlib import Path
    here = Path(__file__).resolve()
    root = next((folder for folder in here.parents if (folder / "course" / "steps.py").is_file()), None)
    if root is not None and str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from course.checking import check_file
    check_file(here, todo, step="step1_tokenizer")


def test_pair_counts():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("pair_counts")


def test_merge():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("merge")


def test_train_bpe():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("train_bpe")


def test_encode():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("encode")


def test_decode():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("decode")


def test_special_tokens():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("special_tokens")


# as generated: 7e07ae20a7c9f4f3
