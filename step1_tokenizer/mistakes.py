"""Known wrong answers to the TODOs of step 1: each is the solution with `old` replaced by `new`."""

from course.checking import Mistake

COUNT = """        for pair in zip(piece, piece[1:]):
            total[pair] = total.get(pair, 0) + count
"""

PAIRS = "zip(piece, piece[1:])"

MERGE_BODY = """    merged, i = [], 0
    while i < len(ids):
"""

TRAIN_BODY = "    # A piece is held as a string, one character per id: a pair is a string of two,"


def _naive(
    best="min(total, key=lambda pair: (-total[pair], pair))",
    counts="list(pieces.values())",
    new_id="255 + len(merges)",
    until="256 + len(merges) < vocab_size",
    stop="not total",
    recount="total = pair_counts(ids, counts)",
    before="",
) -> str:
    """train_bpe the slow way, with one thing wrong."""
    return (
        f"""    ids, counts, merges = [list(piece) for piece in pieces], {counts}, []
{before}    while {until}:
        {recount}
        if {stop}:
            break
        best = {best}
        merges.append(best)
        ids = [merge(piece, best, {new_id}) for piece in ids]
    return merges
"""
        + TRAIN_BODY
    )


SMALLEST = """\
            pair = min(zip(ids, ids[1:]), key=lambda pair: self.merged_id.get(pair, float("inf")))
"""
ENCODE_BODY = """        ids = list(piece)
        while len(ids) > 1:
"""
DECODE = """        return self.decode_bytes(ids).decode("utf-8", errors="replace")
"""
JOIN = """        return b"".join([self.token_bytes[i] for i in ids])
"""
ALLOWED = """        allowed = self.allowed(allowed_special)
"""
ONE_ID = "            ids += [self.special_tokens[part]] if part in allowed else self.encode_ordinary(part)\n"

MISTAKES = {
    "pair_counts": [
        Mistake(
            "counts ignored",
            COUNT,
            COUNT.replace("+ count", "+ 1"),
            "Each pair is counted once per piece, however often the piece occurs. A piece that occurs "
            "10 times brings each of its pairs 10 times: add its count, not 1.",
        ),
        Mistake(
            "overlapping pairs skipped",
            COUNT,
            """        i = 0
        while i + 1 < len(piece):
            pair = (piece[i], piece[i + 1])
            total[pair] = total.get(pair, 0) + count
            i += 2 if i + 2 < len(piece) and piece[i] == piece[i + 1] == piece[i + 2] else 1
""",
            "In [7, 7, 7] the pair (7, 7) stands in two places that overlap, and both count here. "
            "(Only merge must not overlap.) Go on by one place after each pair.",
        ),
        Mistake(
            "pairs two apart",
            COUNT,
            COUNT.replace(PAIRS, "zip(piece[::2], piece[1::2])"),
            "You cut the piece into pairs, so that each id is in one pair only. Every id with a right "
            "neighbour begins a pair: [1, 2, 3] holds (1, 2) and also (2, 3).",
        ),
        Mistake(
            "pairs across pieces",
            """    for piece, count in zip(pieces, counts):
"""
            + COUNT,
            """    row = [i for piece, count in zip(pieces, counts) for _ in range(count) for i in piece]
    for pair in zip(row, row[1:]):
        total[pair] = total.get(pair, 0) + 1
""",
            "The last id of one piece and the first id of the next are counted as a pair. Pieces are "
            "separate words: no token may span two of them, so count inside each piece.",
        ),
        Mistake(
            "last pair missed",
            COUNT,
            COUNT.replace(PAIRS, "zip(piece, piece[1:-1])"),
            "The last pair of every piece is missing. A piece of n ids has n - 1 pairs.",
        ),
        Mistake(
            "order ignored",
            COUNT,
            COUNT.replace("total[pair]", "total[tuple(sorted(pair))]").replace(
                "total.get(pair, 0)", "total.get(tuple(sorted(pair)), 0)"
            ),
            '(1, 2) and (2, 1) are counted as the same pair. Order matters: "on" is not "no".',
        ),
        Mistake(
            "overwritten",
            COUNT,
            COUNT.replace("total.get(pair, 0) + count", "count"),
            "A pair's count is overwritten when the pair is met again. Add to what is already there.",
        ),
        Mistake(
            "past the end",
            COUNT,
            """\
        for i in range(len(piece)):
            pair = (piece[i], piece[i + 1])
            total[pair] = total.get(pair, 0) + count
""",
            "The last id has no right neighbour: piece[i + 1] lies behind the end. A piece of n ids has n - 1 pairs.",
        ),
        Mistake(
            "once per piece",
            COUNT,
            COUNT.replace(PAIRS, f"set({PAIRS})"),
            "A pair that occurs several times in a piece is counted once. Each place counts.",
        ),
    ],
    "merge": [
        Mistake(
            "overlapping pairs merged twice",
            "            i += 2\n",
            "            i += 1\n",
            "After a merge you go on by one place, so the second id of the pair is used again: with "
            "(1, 2) as 9, [1, 2] became [9, 2], and [7, 7, 7] two merges. A merge uses up two ids: go "
            "on by two. (i += 2 in a for loop over range has no effect: the loop gives i its next value whatever "
            "you make of it. Use while.)",
        ),
        Mistake(
            "a for loop over the places",
            MERGE_BODY,
            """\
    merged = []
    for i in range(len(ids) - 1):
        merged.append(new_id if (ids[i], ids[i + 1]) == tuple(pair) else ids[i])
    return merged
"""
            + MERGE_BODY,
            "A for loop goes to every place, also to the second id of a pair that you have just "
            "merged, and not to the last id. With while you choose how far to go on: by two after a "
            "merge, else by one.",
        ),
        Mistake(
            "text replaced",
            MERGE_BODY,
            """\
    text = " ".join(map(str, ids)).replace(f"{pair[0]} {pair[1]}", str(new_id))
    return [int(one) for one in text.split()]
"""
            + MERGE_BODY,
            'You replace in the ids written as text, where 17 2 also holds "7 2". Compare the numbers themselves.',
        ),
        Mistake(
            "0 as a sign for nothing",
            MERGE_BODY,
            """\
    merged, ids = [], [*ids]
    for i in range(len(ids)):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == tuple(pair):
            ids[i], ids[i + 1] = new_id, 0
    return [one for one in ids if one]
"""
            + MERGE_BODY,
            "Ids of 0 are lost. 0 is an id like any other, the byte 0, so it cannot stand for nothing.",
        ),
        Mistake(
            "past the end",
            "if i + 1 < len(ids) and ids[i] == pair[0]",
            "if ids[i] == pair[0]",
            "At the last id ids[i + 1] lies behind the end of the list. Ask for i + 1 < len(ids) first.",
        ),
        Mistake(
            "from the right",
            MERGE_BODY,
            """    merged, i = [], len(ids) - 1
    while i >= 0:
        if i > 0 and (ids[i - 1], ids[i]) == tuple(pair):
            merged, i = [new_id] + merged, i - 2
        else:
            merged, i = [ids[i]] + merged, i - 1
    return merged
"""
            + MERGE_BODY,
            "You merge from right to left: [7, 7, 7] became [7, 9] instead of [9, 7]. Training and "
            "encoding have to agree on a direction, and it is from left to right.",
        ),
        Mistake(
            "only the first",
            MERGE_BODY,
            """    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == tuple(pair):
            return list(ids[:i]) + [new_id] + list(ids[i + 2:])
    return list(ids)
"""
            + MERGE_BODY,
            "Only the first occurrence is replaced. Go on behind it until the end of the list.",
        ),
        Mistake(
            "last id lost",
            MERGE_BODY,
            MERGE_BODY.replace("i < len(ids):", "i < len(ids) - 1:"),
            "The last id is lost when it is not part of a pair: it has no right neighbour, but it has "
            "to be in the result.",
        ),
        Mistake(
            "either order",
            "            merged.append(ids[i])\n",
            """\
            if list(ids[i:i + 2]) == [pair[1], pair[0]]:
                merged.append(new_id)
                i += 2
                continue
            merged.append(ids[i])
""",
            "The pair is also replaced the other way round. (1, 2) is not (2, 1): the text would come "
            "back with its letters swapped.",
        ),
        Mistake(
            "input changed",
            MERGE_BODY,
            """    i = 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == tuple(pair):
            ids[i:i + 2] = [new_id]
        i += 1
    return ids
"""
            + MERGE_BODY,
            "The result is right, but you changed the list that was given to you. Whoever calls merge "
            "still needs it: build a new list and return that.",
        ),
        Mistake(
            "a list beside a tuple",
            "if i + 1 < len(ids) and ids[i] == pair[0] and ids[i + 1] == pair[1]:",
            "if ids[i:i + 2] == pair:",
            "Nothing is ever merged. A slice of a list is a list, the pair is a tuple, and [1, 2] == (1, 2) is "
            "False in Python: compare with list(pair), or one id at a time.",
        ),
        Mistake(
            "second id kept",
            "            i += 2\n",
            "            merged.append(ids[i + 1])\n            i += 2\n",
            "The new id stands for both ids of the pair; you kept the second one beside it.",
        ),
    ],
    "train_bpe": [
        Mistake(
            "first seen wins a tie",
            TRAIN_BODY,
            _naive(best="max(total, key=total.get)"),
            "When pairs are equally frequent you take the one that was seen first, so the vocabulary "
            "depends on the order of the text. The rule here: of equally frequent pairs the smallest.",
        ),
        Mistake(
            "largest wins a tie",
            TRAIN_BODY,
            _naive(best="max(total, key=lambda pair: (total[pair], pair))"),
            "When pairs are equally frequent you take the largest pair of ids; the rule is the smallest. "
            "min with the key (-count, pair) does both at once.",
        ),
        Mistake(
            "counts ignored",
            TRAIN_BODY,
            _naive(counts="[1] * len(pieces)"),
            "You count distinct pieces, not how often they occur. `pieces` maps each piece to its "
            "count, and frequent words should decide what is merged.",
        ),
        Mistake(
            "counted only once",
            TRAIN_BODY,
            _naive(
                before="    total = pair_counts(ids, counts)\n",
                recount="total = {pair: count for pair, count in total.items() if pair not in merges}",
            ),
            "The pairs are counted once, before the first merge. Each merge takes pairs away and makes "
            "new ones, which contain the new id: without counting again no token gets longer than two "
            "bytes.",
        ),
        Mistake(
            "ids start at 257",
            TRAIN_BODY,
            _naive(new_id="256 + len(merges)"),
            "Your new ids are one too large. The first merge makes 256: if you append to merges first, "
            "the new id is 255 + len(merges).",
        ),
        Mistake(
            "vocab_size counts merges",
            TRAIN_BODY,
            _naive(until="len(merges) < vocab_size"),
            "vocab_size counts all ids, and 256 of them are bytes before anything is learned: there are "
            "vocab_size - 256 merges.",
        ),
        Mistake(
            "rare pairs left",
            TRAIN_BODY,
            _naive(stop="not total or max(total.values()) < 2"),
            "You stop when no pair occurs twice. Reasonable, but not what is asked: go on while there "
            "is any pair, as Hugging Face's trainer does.",
        ),
        Mistake(
            "no pair left",
            TRAIN_BODY,
            _naive(stop="False"),
            "A small text runs out of pairs before vocab_size is reached: every piece is then one "
            "token. Stop there, and return the merges there are.",
        ),
        Mistake(
            "overlapping pairs counted twice",
            "left = new if at == end else word[at - 1]",
            "left = word[at - 1]",
            "Where two occurrences stand side by side, as in abab, the left neighbour of the second "
            "one is already merged. You count the pair between them for both: once too often.",
        ),
        Mistake(
            "pairs that are gone",
            "            if total[pair] > 0:  # not so",
            "            if True:      # not so",
            "You merge a pair that occurs nowhere any more: its count has come down to 0. Where no "
            "pair is left, training is over.",
        ),
        Mistake(
            "outdated counts",
            "        if -negative != total[pair]:",
            "        if total[pair] <= 0:",
            "You trust the count that a pair had when it was put on the heap. Merges next to it have "
            "made it rarer since: compare with the current count, and put it back when the two differ.",
        ),
    ],
    "encode": [
        Mistake(
            "merges applied by position",
            SMALLEST,
            """\
            pair = next((p for p in zip(ids, ids[1:]) if p in self.merged_id), (None, None))
""",
            "You merge the first pair from the left that can be merged. The order of learning decides, "
            "not the place: take the pair with the smallest merged_id.",
        ),
        Mistake(
            "last learned first",
            SMALLEST,
            "            pair = max(zip(ids, ids[1:]), key=lambda pair: self.merged_id.get(pair, -1))\n",
            "You merge the pair that was learned last. What was learned first is merged first: the smallest merged_id.",
        ),
        Mistake(
            "one merge only",
            "            ids = merge(ids, pair, self.merged_id[pair])\n        return ids\n",
            "            return merge(ids, pair, self.merged_id[pair])\n        return ids\n",
            "You stop after one merge. The new id may be part of a pair that can be merged in turn: go "
            "on until no pair is in merged_id.",
        ),
        Mistake(
            "pairs at the end left",
            ENCODE_BODY,
            ENCODE_BODY.replace("len(ids) > 1", "len(ids) > 2"),
            "Two ids are still a pair: you stop one merge early where the whole piece could become one token.",
        ),
        Mistake(
            "no pair to choose from",
            ENCODE_BODY,
            ENCODE_BODY.replace("len(ids) > 1", "True"),
            "When the whole piece has become one id there are no pairs any more, and min has nothing "
            "to choose from. Stop when one id is left.",
        ),
        Mistake(
            "place in the list as id",
            "            ids = merge(ids, pair, self.merged_id[pair])\n",
            "            ids = merge(ids, pair, self.merged_id[pair] - 256)\n",
            "The new id is the place of the merge in the list; ids 0 to 255 are the bytes, so merge "
            "number k makes id 256 + k. self.merged_id holds it.",
        ),
        Mistake(
            "longest token first",
            ENCODE_BODY,
            """\
        known, out, at = {token: i for i, token in self.token_bytes.items()}, [], 0
        while at < len(piece):
            size = max(n for n in range(1, len(piece) - at + 1) if piece[at:at + n] in known)
            out, at = out + [known[piece[at:at + size]]], at + size
        return out
"""
            + ENCODE_BODY,
            "You take the longest known token from the left, as WordPiece does. BPE repeats its merges "
            "in the order of learning, which may cut the piece elsewhere.",
        ),
        Mistake(
            "one pass over the pairs",
            ENCODE_BODY,
            """        ids = list(piece)
        for pair in list(zip(ids, ids[1:])):
            if pair in self.merged_id:
                ids = merge(ids, pair, self.merged_id[pair])
        return ids
"""
            + ENCODE_BODY,
            "You go once over the pairs of the bytes, so that pairs with a new id in them never get "
            "their turn. After each merge look at all pairs again.",
        ),
        Mistake(
            "one pass in the order of learning",
            ENCODE_BODY,
            """        ids = list(piece)
        known = [pair for pair in zip(ids, ids[1:]) if pair in self.merged_id]
        for pair in sorted(known, key=self.merged_id.get):
            ids = merge(ids, pair, self.merged_id[pair])
        return ids
"""
            + ENCODE_BODY,
            "You look once for pairs that are in the book, before anything is merged: pairs with a new id in "
            "them are not among these. After each merge look again.",
        ),
        Mistake(
            "merge used up",
            "ids = merge(ids, pair, self.merged_id[pair])",
            "ids = merge(ids, pair, self.merged_id.pop(pair))",
            "After the first piece the tokenizer has forgotten its merges: pop takes an entry out of merged_id. The "
            "book must be the same for the next piece.",
        ),
        Mistake(
            "merge not kept",
            "            ids = merge(ids, pair, self.merged_id[pair])\n        return ids\n",
            "            merge(ids, pair, self.merged_id[pair])\n            break\n        return ids\n",
            "What merge returns is thrown away: it makes a new list and leaves the old one alone. ids = merge(...).",
        ),
        Mistake(
            "the piece as text",
            ENCODE_BODY,
            ENCODE_BODY.replace("list(piece)", "[ord(c) for c in piece.decode()]"),
            "You read the piece as text. It is bytes already, and the ids of bytes are their values: list(piece). "
            "(Any bytes may come, not only UTF-8.)",
        ),
    ],
    "decode": [
        Mistake(
            "token by token",
            DECODE,
            """\
        return "".join(self.token_bytes[i].decode("utf-8", errors="replace") for i in ids)
""",
            "Each token is decoded by itself. A character may be spread over several tokens, and half a "
            "character is no text: join the bytes of all tokens first, then decode once.",
        ),
        Mistake(
            "token by token, strict",
            DECODE,
            """\
        return "".join(self.token_bytes[i].decode("utf-8") for i in ids)
""",
            "Each token is decoded by itself, and a token may hold half a character, which is no text. "
            'Join the bytes of all tokens first, then decode once, with errors="replace".',
        ),
        Mistake(
            "an id as a character",
            DECODE,
            """\
        return "".join(chr(i) for i in ids)
""",
            "chr makes a character of a number, but an id is a row of bytes: token_bytes[i]. Join "
            "these and decode them as UTF-8.",
        ),
        Mistake(
            "invalid bytes dropped",
            DECODE,
            DECODE.replace("replace", "ignore"),
            "Bytes that are no UTF-8 vanish without a trace. They should show up as U+FFFD, the "
            'replacement character: errors="replace".',
        ),
        Mistake(
            "strict",
            DECODE,
            DECODE.replace('"utf-8", errors="replace"', '"utf-8"'),
            "A model can produce any ids, also half a character. decode must not fail on them: "
            'errors="replace" puts U+FFFD there.',
        ),
        Mistake(
            "ascii",
            DECODE,
            DECODE.replace('"utf-8", errors', '"ascii", errors'),
            "The bytes are read as ASCII, which has only 128 characters: every byte of é or 中 became U+FFFD. They are "
            "UTF-8.",
        ),
        Mistake(
            "blanks at the ends lost",
            DECODE,
            DECODE.rstrip("\n") + ".strip()\n",
            "Blanks at the beginning and the end are gone. decode gives back all of the text, blanks included.",
        ),
        Mistake(
            "a byte as a character",
            DECODE,
            DECODE.replace('"utf-8", errors="replace"', '"latin-1"'),
            "Each byte became one character (é became Ã©). The bytes are UTF-8, in which a character "
            "takes one to four of them.",
        ),
        Mistake(
            "special tokens left out",
            JOIN,
            """        special = self.special_tokens.values()
        return b"".join([self.token_bytes[i] for i in ids if i not in special])
""",
            "Special tokens are missing in the text. token_bytes knows them too: whoever does not want "
            "to see them can take their ids out before.",
        ),
        Mistake(
            "unknown ids left out",
            JOIN,
            '        return b"".join([self.token_bytes.get(i, b"") for i in ids])\n',
            "An id that there is not vanishes without a trace. It means that text and tokenizer do not belong "
            "together, so it should stop the program: token_bytes[i] raises KeyError.",
        ),
        Mistake(
            "ids as bytes",
            JOIN,
            "        return bytes(ids)\n",
            "bytes(ids) takes the ids for bytes. That is true of 0 to 255 only; any other id stands for several "
            "bytes: token_bytes[i].",
        ),
        Mistake(
            "merged ids left out",
            JOIN,
            "        return bytes(i for i in ids if i < 256)\n",
            "Only ids below 256 are bytes themselves. A merged id stands for several bytes: token_bytes[i].",
        ),
    ],
    "special_tokens": [
        Mistake(
            "parsed though not allowed",
            ALLOWED,
            "        allowed = list(self.special_tokens)\n",
            "A special token gets its id though it is not allowed. Then anybody who types <|end|> into "
            "a chat ends the answer: only those in allowed_special may be special, and by default "
            "there is none.",
        ),
        Mistake(
            "parsed if it stands alone",
            ONE_ID,
            ONE_ID.replace("in allowed else", "in self.special_tokens else"),
            "You cut at the allowed tokens only, but a part between two cuts may itself be a special token that is "
            "not allowed, and it gets its id. Ask whether the part is among the allowed ones.",
        ),
        Mistake(
            "allowed but unknown",
            ALLOWED,
            ALLOWED + "        if allowed_special != 'all':\n            allowed = list(allowed_special)\n",
            "allowed_special may name tokens that this tokenizer does not have. They are text like any other: "
            "self.allowed lists those that it has.",
        ),
        Mistake(
            "special tokens merged",
            ALLOWED,
            "        allowed = []\n",
            "Special tokens are cut up and merged like ordinary text, also when they are allowed. Each "
            "allowed one is a single id: cut the text at them first.",
        ),
        Mistake(
            "all as a set",
            ALLOWED,
            "        allowed = [token for token in self.special_tokens if token in allowed_special]\n",
            'allowed_special may also be the word "all", and no token is in that: then all are allowed. '
            "self.allowed(allowed_special) gives the list for both.",
        ),
        Mistake(
            "cut at those not allowed",
            "for part in split_special(text, allowed):",
            "for part in split_special(text, self.special_tokens):",
            "The text is also cut at special tokens that are not allowed. There they are text like any other, and "
            'encode_ordinary must see it whole: ")<|" may be one piece. Cut at the allowed ones only.',
        ),
        Mistake(
            "special characters not escaped",
            '"|".join(map(regex.escape, longest_first))',
            '"|".join(longest_first)',
            '| and [ mean something in a regular expression: <|end|> reads as "<" or "end" or ">". '
            "regex.escape makes a text stand for itself.",
        ),
        Mistake(
            "shorter one wins",
            "sorted(special_tokens, key=len, reverse=True)",
            "list(special_tokens)",
            "Where one special token begins like another, the shorter one won because it came first in "
            "the pattern. Put the longest first.",
        ),
        Mistake(
            "special tokens dropped",
            'regex.split(f"({either})", text)',
            "regex.split(either, text)",
            "The special tokens themselves are gone: split without a group throws away what it splits "
            "at. With ( ) around the pattern it keeps them.",
        ),
        Mistake(
            "empty parts kept",
            ", text) if part]\n",
            ", text)]\n",
            "There are empty parts, as split makes them before, after and between special tokens. Leave them out.",
        ),
        Mistake(
            "spaces stripped",
            "[part for part in regex.split",
            "[part.strip() for part in regex.split",
            "Spaces next to a special token got lost. The parts, joined, are the text again, spaces included.",
        ),
        Mistake(
            "ordinary text dropped",
            ONE_ID,
            ONE_ID.replace("self.encode_ordinary(part)", "[]"),
            "Only the special tokens are encoded. What stands between them is text: encode_ordinary.",
        ),
    ],
}

# Changes that `python3 -m course audit` makes to the solution and that are no mistakes, with the reason.
HARMLESS = {
    "train_bpe": {
        "train_bpe: total[pair] = 0 -> pass": "a merged pair is in no word any more and is never looked up again",
        "train_bpe: 0 -> 1 (occurrence 5)": "the count of a merged pair, as above",
        "train_bpe: set(where.pop(pair)) -> (where.pop(pair))": "a word that stands there twice is searched twice, the second time in vain: slower, not wrong",
    },
    "special_tokens": {
        "split_special: sorted(special_tokens, key=len, reverse=True) -> sorted(special_tokens, reverse=True)": "in the alphabet backwards, a token also comes before the one that it begins with"
    },
}
