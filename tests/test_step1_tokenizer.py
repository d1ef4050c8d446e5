"""Step 1 against tokenizers that know nothing of ours: Hugging Face's, tiktoken, and a naive trainer."""

import json
import random
from collections import Counter

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from course import steps
from course.machine import host, workers
from course.world import corpus

tok = steps.load("step1_tokenizer", "solution")
recipe = steps.load("step1_tokenizer", "train")

SAMPLES = {
    "english": "We'll see: the cat's whiskers, I'M sure, aren't HERE. Naïve café — “quote”…\n\n  Indented.\n",
    "chinese": "今天天气很好，我们去公园散步吧！分词器把文字变成数字。\n第二行：１２３，繁體中文。",
    "code": "def f(x):\n    return [i**2 for i in range(x)]  # s\n\n\tif x != 3.14159e-10:\r\n\t\tpass\n\n\n",
    "emoji": "👍🏽 👩‍🔬👨‍👩‍👧‍👦 🇯🇵🎉🎉🎉 ☃️ x👍y",
    "digits": "1 12 123 1234 12345 3.14 ½²³ ٣٤٥ 2024-01-31 0x1F 1,000,000",
    "whitespace": " \n  \n\n\t x  y   z\u00a0\u3000w \r\n \r a\u2028b \x0b\x0c\x85 end   ",
    "scripts": "हिन्दी में पाठ Русский текст ภาษาไทย العربية e\u0301a\u0308 ﬁ ſ İı",
    "specials": "<|end|> <|user|>hi<|assistant|><|image|><|pad|>",
}


def noise(rng: random.Random, length: int) -> str:
    """Any characters, with plenty of what is hard: spaces, signs, digits, accents, line ends."""
    hard = [
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "'",
        "'s",
        "'LL",
        "I",
        "12",
        "1234",
        ".",
        "...",
        "é",
        "e\u0301",
        "中文",
        "👍🏽",
        "\u00a0",
        "\u2028",
        "\x1c",
        "\x85",
        "<|",
        "|>",
        "_",
        "-",
        "x",
        "The",
    ]
    parts = []
    for _ in range(length):
        any_character = chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)]))
        parts.append(rng.choice(hard) if rng.random() < 0.8 else any_character)
    return "".join(parts)


@pytest.fixture(scope="module")
def tokenizer():
    texts = [corpus("world", characters=60_000), corpus("pydoc", characters=200_000), *SAMPLES.values()]
    return tok.train(texts, 1500)


@pytest.fixture(scope="module")
def hugging(tokenizer):
    return tokenizers.Tokenizer.from_str(tokenizer.to_json())


@pytest.fixture(scope="module")
def texts():
    rng = random.Random(7)
    return [*SAMPLES.values(), corpus("pydoc", "held_out", 5_000), *(noise(rng, 40) for _ in range(150)), ""]


# the tokenizer


def test_ids(tokenizer):
    assert tokenizer.vocab_size == 1500 and len(tokenizer.merges) == 1500 - 256 - 5
    assert tokenizer.special_tokens == {name: 1495 + i for i, name in enumerate(tok.SPECIAL_TOKENS)}
    known = tokenizer.token_bytes
    assert [known[i] for i in range(256)] == [bytes([i]) for i in range(256)]
    for number, (first, second) in enumerate(tokenizer.merges):
        assert known[256 + number] == known[first] + known[second]
    assert len(set(known.values())) == 1500, "no two ids stand for the same bytes"


def test_round_trip(tokenizer, texts):
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.decode(tokenizer.encode(text, "all")) == text
        assert "".join(tok.PATTERN.findall(text)) == text


def test_any_bytes_come_back(tokenizer):
    rng = random.Random(3)
    for length in (0, 1, 2, 5, 300):
        raw = rng.randbytes(length)
        ids = tokenizer.encode(raw.decode("utf-8", "surrogateescape"))
        assert tokenizer.decode_bytes(ids) == raw
        assert tokenizer.decode(ids) == raw.decode("utf-8", "replace")
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


def test_special_tokens(tokenizer):
    end, user = tokenizer.special_tokens["<|end|>"], tokenizer.special_tokens["<|user|>"]
    text = "<|user|>hi<|end|>"
    assert not set(tokenizer.encode(text)) & set(tokenizer.special_tokens.values())
    assert tokenizer.encode(text, "all") == [user, *tokenizer.encode("hi"), end]
    assert tokenizer.encode(text, {"<|end|>"}) == [*tokenizer.encode("<|user|>hi"), end]
    assert tokenizer.encode(text, {"<|nobody|>"}) == tokenizer.encode(text)
    learned = tok.train(["<|end|>" * 100 + "ab"], 300)
    assert learned.merges == [(97, 98)], "special tokens are not text to learn from"
    with pytest.raises(ValueError, match="taken"):
        tok.Tokenizer([(97, 98)], {"<|end|>": 256})
    with pytest.raises(ValueError, match="vocab_size 260"):
        tok.train(["text"], 260)


def test_json_comes_back(tokenizer, hugging):
    again = tok.Tokenizer.from_json(tokenizer.to_json())
    assert (again.merges, again.special_tokens) == (tokenizer.merges, tokenizer.special_tokens)
    theirs = tok.Tokenizer.from_json(hugging.to_str())
    assert (theirs.merges, theirs.special_tokens) == (tokenizer.merges, tokenizer.special_tokens)
    data = json.loads(tokenizer.to_json())
    data["model"]["vocab"] = {name: i + 1 for name, i in data["model"]["vocab"].items()}
    with pytest.raises(ValueError, match="number the bytes"):
        tok.Tokenizer.from_json(json.dumps(data))
    data = json.loads(tokenizer.to_json())
    data["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    with pytest.raises(ValueError, match="PATTERN"):
        tok.Tokenizer.from_json(json.dumps(data))


# the same ids as others


def test_hugging_face_encodes_the_same(tokenizer, hugging, texts):
    for text in texts:
        assert hugging.encode(text).ids == tokenizer.encode(text, "all"), repr(text)
        assert hugging.decode(tokenizer.encode(text), skip_special_tokens=False) == text
    assert hugging.get_vocab_size() == tokenizer.vocab_size


def test_transformers_opens_it(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    text = SAMPLES["english"] + SAMPLES["specials"]
    assert fast(text)["input_ids"] == tokenizer.encode(text, "all")


def test_tiktoken_encodes_the_same(tokenizer, texts):
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {tokenizer.token_bytes[i]: i for i in range(256 + len(tokenizer.merges))}
    other = tiktoken.Encoding(
        "ours", pat_str=tok.PATTERN.pattern, mergeable_ranks=ranks, special_tokens=tokenizer.special_tokens
    )
    for text in texts:
        assert other.encode(text, disallowed_special=()) == tokenizer.encode(text), repr(text)
        assert other.encode(text, allowed_special="all") == tokenizer.encode(text, "all"), repr(text)


# training


def naive(pieces, vocab_size):
    """The definition, written once more: count everything, merge everywhere."""
    words, merges = [[bytes([byte]) for byte in piece] for piece in pieces], []
    ids = {bytes([byte]): byte for byte in range(256)}
    while 256 + len(merges) < vocab_size:
        total = Counter()
        for word, count in zip(words, pieces.values()):
            for i in range(len(word) - 1):
                total[ids[word[i]], ids[word[i + 1]]] += count
        if not total:
            break
        most = max(total.values())
        best = sorted(pair for pair, count in total.items() if count == most)[0]
        ids_back = {i: token for token, i in ids.items()}
        first, second = ids_back[best[0]], ids_back[best[1]]
        ids[first + second] = 256 + len(merges)
        merges.append(best)
        for word in words:
            i = 0
            while i < len(word) - 1:
                if word[i] == first and word[i + 1] == second:
                    word[i : i + 2] = [first + second]
                i += 1
    return merges


def random_pieces(rng):
    letters = rng.choice([b"ab", b"abc", b"\x00\x7f\x80\xff", bytes(range(97, 123))])
    pieces = {}
    for _ in range(rng.randint(1, 25)):
        runs = [bytes([rng.choice(letters)]) * rng.choice((1, 1, 2, 5)) for _ in range(rng.randint(1, 6))]
        pieces[b"".join(runs)] = rng.randint(1, 5)
    return pieces


def test_training_is_the_naive_training():
    rng = random.Random(11)
    for _ in range(60):
        pieces = random_pieces(rng)
        assert tok.train_bpe(pieces, 330) == naive(pieces, 330), pieces


def theirs(pieces, vocab_size):
    """The merges of Hugging Face's trainer. It orders equally frequent pairs by id, and ids by character, so
    each byte is written as a character in the order of the bytes; pieces are told apart by a comma."""
    character = [chr(0x4E00 + byte) for byte in range(256)]
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Split(",", "removed")
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=character, show_progress=False)
    rows = [",".join(["".join(character[byte] for byte in piece)] * count) for piece, count in pieces.items()]
    model.train_from_iterator(rows, trainer)
    data = json.loads(model.to_str())["model"]
    ids = {name: i for name, i in data["vocab"].items() if name != ","}
    order = {name: i for i, name in enumerate(sorted(ids, key=ids.get))}
    assert [order[one] for one in character] == list(range(256))
    return [(order[first], order[second]) for first, second in data["merges"]]


def test_training_is_hugging_face_training():
    rng = random.Random(12)
    for _ in range(40):
        pieces = random_pieces(rng)
        assert tok.train_bpe(pieces, 330) == theirs(pieces, 330), pieces
    pieces = tok.count_pieces([corpus("pydoc", characters=100_000), corpus("world", characters=20_000)])
    assert tok.train_bpe(pieces, 1200) == theirs(pieces, 1200)


@pytest.mark.slow
def test_training_on_megabytes_is_hugging_face_training():
    pieces = tok.count_pieces(recipe.read("stdlib", 3_000_000, 0))
    assert tok.train_bpe(pieces, 4096) == theirs(pieces, 4096)


def test_a_long_text_is_cut_where_no_piece_is():
    rng = random.Random(16)
    for text in ["", "a\n" * 50, "\n\n \n" * 50, *("".join(noise(rng, 60)) for _ in range(100))]:
        for size in (0, 7, 100):
            parts = recipe.cut(text, size)
            assert "".join(parts) == text
            assert sum(map(tok.PATTERN.findall, parts), []) == tok.PATTERN.findall(text), (text, size)
    assert len(recipe.cut("line\n" * 1000, 500)) == 10


def test_several_processes_count_what_one_counts(monkeypatch):
    monkeypatch.setattr(host, "cores", lambda: 3)
    texts = [corpus("world", characters=1_600_000), "<|end|>short", *SAMPLES.values()]
    shares, call = [], workers.call
    monkeypatch.setattr(workers, "call", lambda *args: shares.extend(args[2]) or call(*args))
    assert recipe.count_pieces(tok, texts, tok.SPECIAL_TOKENS) == tok.count_pieces(texts, tok.SPECIAL_TOKENS)
    assert len(shares) == 3 and min(sum(map(len, share)) for share in shares) > 300_000
    with pytest.raises(RuntimeError, match="no_such_function ended with exit code 1"):
        workers.call(tok, "no_such_function", [1])


def test_training_of_odd_texts():
    assert tok.train_bpe({}, 300) == [] and tok.train_bpe({b"ab": 1}, 256) == []
    assert tok.train([], 300).vocab_size == 261
    assert tok.train(iter(["ab", "ab"]), 300).merges == [(97, 98)]
    long = tok.train(["a" * 100_000], 300)
    assert long.decode(long.encode("a" * 99_999)) == "a" * 99_999


# streams and long texts


def test_a_stream_is_encoded_as_the_whole(tokenizer, texts):
    rng = random.Random(13)
    names = [*tokenizer.special_tokens]
    for _ in range(60):
        text = "".join(
            rng.choice([noise(rng, 3), rng.choice(names), rng.choice(names)[: rng.randrange(9)]]) for _ in range(6)
        )
        cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(6)))
        chunks = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)])]
        for allowed in ("all", frozenset(), {"<|end|>"}):
            whole = tokenizer.encode(text, allowed)
            assert list(tokenizer.encode_stream(chunks, allowed)) == whole, (chunks, allowed)
            assert list(tokenizer.encode_stream(text, allowed)) == whole, (text, allowed)  # by character


def test_special_tokens_that_begin_alike_in_a_stream():
    other = tok.Tokenizer([], {"<a": 300, "<a>": 301, "a><": 302, "<a><b>": 303})
    rng = random.Random(14)
    for _ in range(150):
        text = "".join(rng.choice(["<a", ">", "<", "a", "<b>", " ", "x"]) for _ in range(9))
        assert list(other.encode_stream(text, "all")) == other.encode(text, "all"), text


def test_a_stream_does_not_wait_for_its_end(tokenizer):
    read = []

    def lines():
        for number in range(1000):
            read.append(number)
            yield f"line {number} of a long file without an end in sight, "

    stream = tokenizer.encode_stream(lines())
    for _ in range(100):
        next(stream)
    assert len(read) < 20


def test_long_pieces_give_the_same_ids(tokenizer):
    rng = random.Random(15)
    word = "".join(rng.choice("etaoin") for _ in range(1500))
    ids = tokenizer.encode_piece(word.encode())
    assert tokenizer.encode(word) == ids == tokenizer._encode_long(word.encode())


def test_a_special_token_cannot_hide_in_a_string():
    tokenizer = tok.Tokenizer([], {"<|end|>": 256})
    for call in (
        lambda: tokenizer.encode("a<|end|>", "<|end|><|user|>"),
        lambda: list(tokenizer.encode_stream(["a"], "<|end|>")),
    ):
        with pytest.raises(ValueError, match='"all" or a set of tokens, not the string'):
            call()
    assert tokenizer.encode("<|end|>", "all") == tokenizer.encode("<|end|>", ["<|end|>"]) == [256]
