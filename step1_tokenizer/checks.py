"""What is asked of the six TODOs of step 1. Inputs are new each time; course.checking explains the parts."""

import random

import torch

from course.checking import Check, Problem, attempt, compare

UNICODE = "aé ßжのर中文字𝄞👍🏽👩‍🔬🇯🇵1½\n\t"


def _rng(generator: torch.Generator) -> random.Random:
    return random.Random(int(torch.randint(2**31, (), generator=generator)))


def _ids(rng, low=0, high=50_000, count=1) -> list[int]:
    return rng.sample(range(low, high), count)


def _row(rng, alphabet, length) -> list:
    """A row in which neighbours are equal more often than by chance."""
    row = []
    while len(row) < length:
        row += [rng.choice(alphabet)] * rng.choice((1, 1, 1, 2, 3))
    return row[:length]


# pair_counts


def pair_counts_cases(generator):
    rng = _rng(generator)
    a, b = _ids(rng, count=2)
    yield {"pieces": [[a, b, a, b], [b, a, b]], "counts": [1, rng.randint(2, 9)]}
    yield {"pieces": [[a, a, a], [b]], "counts": [rng.randint(2, 9), rng.randint(2, 9)]}
    yield {"pieces": [[a, 0], [0, b], [a, 0]], "counts": [1, rng.randint(2, 9), 10]}  # id 0, and equal pieces
    for _ in range(3):
        alphabet = _ids(rng, count=rng.randint(2, 5))
        pieces = [_row(rng, alphabet, rng.randint(1, 9)) for _ in range(rng.randint(3, 7))]
        yield {"pieces": pieces, "counts": [rng.randint(1, 30) for _ in pieces]}
    yield {"pieces": [], "counts": []}


# merge


def merge_cases(generator):
    rng = _rng(generator)
    a, b, c, new_id = _ids(rng, count=4)
    yield {"ids": [a, b, c, a, b], "pair": [a, b], "new_id": new_id}
    yield {"ids": [a] * rng.choice((5, 7)), "pair": [a, a], "new_id": new_id}
    yield {"ids": [b, a, c, a], "pair": [a, b], "new_id": new_id}
    yield {"ids": [a, 0, 0, b, a], "pair": [a, 0], "new_id": new_id}
    x, y = rng.sample(range(1, 10), 2)
    # Ids whose digits end or begin like those of the pair.
    yield {"ids": [10 * y + x, y, x, y, x, 10 * y], "pair": [x, y], "new_id": new_id}
    for alphabet in ([a, b], [a, b, c], [a, b]):
        pair = [rng.choice(alphabet), rng.choice(alphabet)]
        ids = _row(rng, alphabet, rng.randint(12, 20))
        yield {"ids": ids[:-2] + pair, "pair": pair, "new_id": new_id}
    yield {"ids": [], "pair": [a, b], "new_id": new_id}


# train_bpe


def train_bpe_cases(generator):
    rng = _rng(generator)
    a, b, c, d = (bytes([letter]) for letter in rng.sample(range(97, 123), 4))
    yield {"pieces": {a + b + a + b: 4, c + d: 9}, "vocab_size": 258}
    tied = [left + right for left in (a, b, c, d) for right in (a, b, c, d)]
    rng.shuffle(tied)
    yield {"pieces": {piece: 3 for piece in tied}, "vocab_size": 261}
    yield {"pieces": {a * rng.choice((7, 11, 13)): 2, a * 5 + b: 3, (b + c) * 4: 2}, "vocab_size": 266}
    yield {"pieces": {a * rng.choice((12, 14)): 1, b + a + b + a + c: 2}, "vocab_size": 300}
    low, high = sorted((b, d))
    yield {"pieces": {a + low: 9, a + low + c: 5, high + low + c: 1}, "vocab_size": 300}  # low c: six times, then once
    for letters, vocab_size in ((range(97, 103), 290), ([0, 7, 200, 255], 280), ([32, *range(97, 123)], 300)):
        pieces = {bytes(_row(rng, letters, rng.randint(1, 10))): rng.randint(1, 40) for _ in range(40)}
        yield {"pieces": pieces, "vocab_size": vocab_size}
    yield {"pieces": {a + b: 5}, "vocab_size": 256}


def judge_train_bpe(case, answer, expected):
    """The first merge that differs, in the words of the lesson: all later ones follow from it."""
    if not isinstance(answer, list) or any(not isinstance(pair, list) or len(pair) != 2 for pair in answer):
        return compare(answer, expected)
    tokens = {i: bytes([i]) for i in range(256)}
    for number, (got, wanted) in enumerate(zip(answer, expected)):
        if got != wanted:
            known = all(type(i) is int and i in tokens for i in got)
            made = f", which makes {tokens[got[0]] + tokens[got[1]]!r}" if known else ", of ids not made yet"
            text = (
                f"merge {number} (the one that makes id {256 + number}) is {tuple(got)}{made}; "
                f"it should be {tuple(wanted)}, which makes {tokens[wanted[0]] + tokens[wanted[1]]!r}"
            )
            return [Problem(f"merge {min(number, 1)}", text, str(expected), str(answer))]
        tokens[256 + number] = tokens[wanted[0]] + tokens[wanted[1]]
    if len(answer) != len(expected):
        text = f"there are {len(answer)} merges, not {len(expected)}"
        return [Problem("number of merges", text, str(expected), str(answer))]
    return []


# encode


def _tuples(merges) -> list[tuple]:
    return [tuple(pair) for pair in merges]


def _merges(rng, alphabet, count) -> list[list[int]]:
    """Merges as training makes them, only that chance picks the next pair of a random text."""
    row, merges = _row(rng, alphabet, 40 * count), []
    while len(merges) < count:
        at, new_id = rng.randrange(len(row) - 1), 256 + len(merges)
        pair, old, row, i = row[at : at + 2], row, [], 0
        while i < len(old):
            here = old[i : i + 2] == pair
            row.append(new_id if here else old[i])
            i += 2 if here else 1
        merges.append(pair)
    return merges


def encode_cases(generator):
    rng = _rng(generator)
    a, b, c = sorted(rng.sample(range(97, 123), 3))
    yield {"merges": [[b, c], [a, b]], "piece": bytes([a, b, c])}
    yield {"merges": [[a, b], [256, c]], "piece": bytes([c, a, b, c, a, b])}
    yield {"merges": [[b, c], [a, a], [257, a]], "piece": bytes([a] * rng.choice((5, 9)) + [b])}
    yield {"merges": [[b, c], [c, a]], "piece": bytes([a, b])}
    yield {"merges": [[a, b], [b, c], [257, a]], "piece": bytes([b, c])}
    for size, count, length in ((2, 6, 14), (3, 9, 20), (3, 20, 40), (4, 12, 30)):
        alphabet = rng.sample(range(256), size)
        yield {"merges": _merges(rng, alphabet, count), "piece": bytes(_row(rng, alphabet, length))}
    yield {"merges": [[a, b]], "piece": bytes([c])}
    yield {"merges": [[a, b], [b, c]], "piece": bytes([a, b, c])}  # a piece as before, other merges
    # As many merges as a tokenizer of some size has: new ids of four digits.
    others = [[x, y] for x in range(128, 156) for y in range(128, 156)]
    yield {"merges": [*others, [b, c], [a, 256 + len(others)]], "piece": bytes([c, a, b, c, b])}


def call_encode(module, case):
    tokenizer = module.Tokenizer(_tuples(case["merges"]))
    ids, again = (tokenizer.encode_piece(case["piece"]) for _ in range(2))
    return ids if ids == again else {"the first time": ids, "the second time": again}


def shows_encode(case):
    merges = _tuples(case["merges"])
    if len(merges) > 99:
        merges = f"[{str(merges[:2])[1:-1]}, ... {len(merges) - 4} more ..., {str(merges[-2:])[1:-1]}]"
    return f"Tokenizer({merges}).encode_piece({case['piece']!r})"


# decode


def decode_cases(generator):
    rng = _rng(generator)
    text = "".join(rng.choice(UNICODE) for _ in range(8)) + "中"
    raw = list(text.encode())
    special = {"<|end|>": 256}
    yield {"merges": [], "special": special, "ids": list(rng.choice((" plain\n", "\twords ", "\nonly  ")).encode())}
    yield {"merges": [], "special": special, "ids": raw}
    yield {"merges": [[0xC3, 0xA9]], "special": {"<|end|>": 257}, "ids": [rng.randint(97, 122), 256, 0xC3, 0xA9]}  # éé
    across = next([x, y] for x, y in zip(raw, raw[1:]) if y >= 128)  # two bytes that end inside a character
    joined, i = [], 0
    while i < len(raw):
        joined, i = (joined + [256], i + 2) if raw[i : i + 2] == across else (joined + [raw[i]], i + 1)
    yield {"merges": [across], "special": {"<|end|>": 257}, "ids": joined + [257]}
    noise = [rng.randrange(256) for _ in range(30)] + [0xFF, 0xE4, 0xB8]
    yield {"merges": [], "special": special, "ids": noise}
    merges = _merges(rng, rng.sample(range(97, 123), 3), 6)
    yield {
        "merges": merges,
        "special": {"<|end|>": 262, "<|user|>": 300},
        "ids": [rng.choice((97, *range(256, 263))) for _ in range(9)] + [300],
    }
    yield {"merges": [], "special": special, "ids": []}
    special["<|user|>"] = 300
    for unknown in (rng.randint(257, 299), rng.randint(301, 999), -1):
        yield {"merges": [], "special": special, "ids": [*raw[:3], unknown]}


def call_decode(module, case):
    tokenizer = module.Tokenizer(_tuples(case["merges"]), case["special"])
    if not set(case["ids"]) <= set(tokenizer.token_bytes):
        _, error, _ = attempt(lambda: tokenizer.decode_bytes(case["ids"]), wanted=KeyError)
        return {"an unknown id": f"raises {error or 'nothing'}"}
    return {"decode": tokenizer.decode(case["ids"]), "decode_bytes": tokenizer.decode_bytes(case["ids"])}


# special_tokens


def special_tokens_cases(generator):
    rng = _rng(generator)
    words = rng.sample(("red", "blue", " two", "né", "\n", "  "), 4)
    special = {"<|pad|>": 300, "<|user|>": 301, "<|end|>": 302}
    yield {"text": f"{words[0]} <|end|>{words[1]}", "special": special, "allowed": "all"}
    yield {"text": f"{words[0]}<|user|>{words[1]}<|end|>", "special": special, "allowed": ["<|end|>"]}
    yield {"text": "<|end|><|user|><|end|>", "special": special, "allowed": ["<|end|>"]}
    # Allowed is also a token that the tokenizer does not have.
    yield {"text": f"{words[0]}<|image|>", "special": special, "allowed": ["<|end|>", "<|image|>"]}
    yield {"text": "  <|end|>a\0b<|END|><|user|> ", "special": special, "allowed": "all"}
    yield {"text": f"(<|pad|>){words[2]}", "special": special, "allowed": []}
    yield {"text": "<|end|><|end|>pad|<|>", "special": special, "allowed": "all"}
    odd = {"[a]": 400, "[a][b]": 401, "$x": 402, "[": 403}
    yield {"text": f"{words[3]}[a][b]a$x[[a]", "special": odd, "allowed": "all"}
    names = [*special]
    text = "".join(rng.choice([*names, *words, "<|us", "er|>"]) for _ in range(12))
    yield {"text": text, "special": special, "allowed": rng.sample(names, 2)}
    yield {"text": f"{words[0]} {words[1]}", "special": {}, "allowed": "all"}
    yield {"text": "", "special": special, "allowed": "all"}
    yield {"text": "", "special": {}, "allowed": "all"}


def call_special_tokens(module, case):
    """With one id per byte for ordinary text, so that nothing but the special tokens is asked about. A piece ends
    with the id 256, which shows where the text was cut."""
    tokenizer = module.Tokenizer([], case["special"])
    tokenizer.encode_piece = lambda piece: [*piece, 256]
    allowed = case["allowed"] if case["allowed"] == "all" else set(case["allowed"])
    names = [*case["special"]]
    if len(names) != 3:
        names = tuple(names)  # SPECIAL_TOKENS is a tuple as well
    return {
        "split_special": module.split_special(case["text"], names),
        "its tokens afterwards": names,
        "encode": tokenizer.encode(case["text"], allowed),
    }


def shows_special_tokens(case):
    allowed = repr(case["allowed"] if case["allowed"] == "all" else set(case["allowed"]))
    names = [*case["special"]] if len(case["special"]) == 3 else (*case["special"],)
    return (
        f"split_special({case['text']!r}, {names}) and Tokenizer([], {case['special']}).encode({case['text']!r}, "
        f"allowed_special={allowed}), where ordinary text is one id per byte, and 256 after each piece"
    )


CHECKS = [
    Check(
        id="pair_counts",
        asks="count how often each pair of neighbouring ids occurs",
        cases=pair_counts_cases,
        call=lambda module, case: module.pair_counts(case["pieces"], case["counts"]),
        shows=lambda case: f"pair_counts({case['pieces']}, {case['counts']})",
        hints=(
            "In [5, 6, 7], which ids have a right neighbour? How would zip make pairs of a list and the "
            "same list one place further?",
            "count(x, y) = the sum, over the pieces, of (how often x is directly followed by y in the "
            "piece) times (how often the piece occurs).",
            "total = {}; for each piece with its count: for each pair in zip(piece, piece[1:]): add the "
            "count to total[pair], which starts at 0; return total.",
        ),
        why=(
            "zip of a piece with itself one place further gives its pairs without an index to get "
            "wrong. Each distinct piece is counted once and weighted by how often it occurs: a "
            "text of millions of words has some ten thousand distinct ones, and that is where the "
            "speed of real trainers begins."
        ),
    ),
    Check(
        id="merge",
        asks="replace every occurrence of a pair of ids by a new id, from left to right",
        cases=merge_cases,
        call=lambda module, case: module.merge(case["ids"], tuple(case["pair"]), case["new_id"]),
        shows=lambda case: f"merge({case['ids']}, {tuple(case['pair'])}, {case['new_id']})",
        hints=(
            "You stand at place i. What do you write down, and how far do you go on, if the pair begins "
            "here? And if it does not?",
            "At i: if ids[i] and ids[i + 1] are the pair, write new_id and go to i + 2; else write ids[i] "
            "and go to i + 1. The last id has no right neighbour.",
            "merged = [], i = 0; while i < len(ids): if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair: "
            "append new_id, i += 2; else append ids[i], i += 1; return merged. Leave ids itself as it is.",
        ),
        why=(
            "One pass from left to right, which jumps over what it has merged: that is why pairs "
            "never overlap. Replacing in the list while walking through it would work too, but "
            "moves everything behind the place each time."
        ),
    ),
    Check(
        id="train_bpe",
        asks="learn the merges: again and again, the most frequent pair becomes a new id",
        cases=train_bpe_cases,
        call=lambda module, case: module.train_bpe(case["pieces"], case["vocab_size"]),
        shows=lambda case: f"train_bpe({case['pieces']}, vocab_size={case['vocab_size']})",
        judge=judge_train_bpe,
        points=2,
        hints=(
            "You have pair_counts and merge. What is to be done with their results, how often, and which of "
            "two equally frequent pairs goes first? Make it right before you make it fast.",
            "best = the pair with the largest count and, among these, the smallest pair: min(total, "
            "key=lambda pair: (-total[pair], pair)). Its new id is 256 + the number of merges so far.",
            "ids = [list(piece) for piece in pieces], counts = list(pieces.values()), merges = []; while "
            "256 + len(merges) < vocab_size: total = pair_counts(ids, counts); stop if it is empty; find "
            "best; merge it in every piece; append it to merges; return merges. Then, for speed: keep total "
            "and a dict pair -> pieces that hold it, and after a merge visit only those pieces and correct "
            "only the pairs around the new id. A heap of (-count, pair) finds the next pair: if the count that "
            "comes out is not total[pair], push the true one (unless it is 0) and take the next.",
        ),
        why=(
            "Counting all pairs anew after each merge is right, and slow. A merge changes only "
            "the pairs beside it, so the solution keeps the totals and which words hold a pair, "
            "and touches only those. The heap may hold counts that are out of date: it is cheaper "
            "to look again when one comes to the top than to mend them all. Hugging Face's "
            "trainer, in Rust, does the same."
        ),
    ),
    Check(
        id="encode",
        asks="apply the learned merges to the bytes of one piece, in the order in which they were learned",
        cases=encode_cases,
        call=call_encode,
        shows=shows_encode,
        needs=("merge",),
        hints=(
            "Two pairs in the piece can be merged. Training merged one of the two everywhere before it ever "
            "looked for the other. Which one?",
            "Of all neighbouring pairs take the one with the smallest self.merged_id[pair]; merge it; look "
            "again. Stop when no pair is in self.merged_id.",
            "ids = list(piece); repeat: pairs = those of zip(ids, ids[1:]) that are in self.merged_id; if "
            "there is none, return ids; pair = the one with the smallest merged_id; ids = merge(ids, pair, "
            "its merged_id).",
        ),
        why=(
            "The pair that was learned first is merged first, not the one that stands first: "
            "encoding has to repeat the order of training, or ids come out that training never "
            "saw. tiktoken follows the same rule, with the rank of a token in place of the "
            "merge's number."
        ),
    ),
    Check(
        id="decode",
        asks="turn ids into bytes, and all the bytes together into text",
        cases=decode_cases,
        call=call_decode,
        shows=lambda case: (
            f"Tokenizer({_tuples(case['merges'])}, {case['special']}).decode({case['ids']}), and decode_bytes"
        ),
        hints=(
            "The three bytes of one Chinese character may be three ids. When can they become text: one by "
            "one, or all together?",
            "decode_bytes: the token_bytes of all ids, joined. decode: these bytes as UTF-8, with U+FFFD "
            "for what is none.",
            'raw = b"".join(self.token_bytes[i] for i in ids); text = raw.decode("utf-8", errors="replace").',
        ),
        why=(
            "Bytes are joined first and decoded once, because a character may be spread over "
            "several tokens: decoding token by token would show two broken halves. Real systems "
            "that stream text keep the last bytes back for the same reason."
        ),
    ),
    Check(
        id="special_tokens",
        asks="cut special tokens out of the text, and give an id only to those that are allowed",
        cases=special_tokens_cases,
        call=call_special_tokens,
        shows=shows_special_tokens,
        hints=(
            "A user types <|end|> into a chat. What should encode(text) make of it, and what encode(text, "
            '"all")? And what does the sign | mean in a regular expression?',
            'split_special: regex.split with the pattern "(first|second|...)", each token through '
            "regex.escape, the longest first; the group keeps the tokens. encode: split at the allowed ones "
            "only.",
            "for part in split_special(text, self.allowed(allowed_special)): append "
            "self.special_tokens[part] if it is an allowed one, else extend by self.encode_ordinary(part). "
            "In split_special leave out empty parts, and mind that there may be no special tokens at all.",
        ),
        why=(
            "Alternatives of a regular expression are tried in their order, so the longest comes "
            "first; and each is escaped, because < | and $ mean something there. Text is not "
            "trusted by default: whoever could type <|end|> and have it count could speak in the "
            "assistant's name. tiktoken makes the same choice."
        ),
    ),
]
