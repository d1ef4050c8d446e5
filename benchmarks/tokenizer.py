"""Step 1 beside Hugging Face tokenizers, rustbpe and tiktoken: the same texts, the same pattern, one run.

    python3 -m venv --system-site-packages peers && peers/bin/pip install -r benchmarks/requirements.txt
    peers/bin/python -m benchmarks.tokenizer

Training: 10 MB of the source of Python's standard library, 4,096 tokens, as step 1's recipe trains (a process for each
core cuts the text; the Rust programs use all cores too) and in one process. Encoding: one thread, file by file, nothing
remembered from before. Also draws what training costs as text and vocabulary grow, and checks along the way that the
merges are the same in all our ways and that every program encodes to the same ids.
"""

import argparse
import functools
import random
from pathlib import Path

import tokenizers
from tokenizers import Regex, models, pre_tokenizers, trainers

from benchmarks.rounds import best_seconds, machine, verdict, version
from course import steps
from course.display import plots
from course.world import corpus

tok = steps.load("step1_tokenizer", "solution")
recipe = steps.load("step1_tokenizer", "train")
in_processes = functools.partial(recipe.count_pieces, tok)

VOCAB = 4096


def ours(texts, vocab_size=VOCAB, count=in_processes):
    return tok.train(texts, vocab_size, (), count)


def hugging_face(texts, vocab_size=VOCAB):
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(tok.PATTERN.pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, initial_alphabet=alphabet)
    model.train_from_iterator(texts, trainer)
    return model


def rust_bpe(texts, vocab_size=VOCAB):
    import rustbpe

    model = rustbpe.Tokenizer()
    model.train_from_iterator(iter(texts), vocab_size, pattern=tok.PATTERN.pattern)
    return model


def peers() -> dict:
    return {"Hugging Face": hugging_face, **({"rustbpe": rust_bpe} if version("rustbpe") else {})}


def training(texts, rounds: int) -> None:
    programs = {"ours": ours, "ours, one process": functools.partial(ours, count=tok.count_pieces), **peers()}
    merges = ours(texts).merges
    assert merges == ours(texts, count=tok.count_pieces).merges, "several processes learn other merges than one"
    seconds = best_seconds({name: functools.partial(run, texts) for name, run in programs.items()}, rounds)
    print(f"\nTraining, {sum(len(text.encode()) for text in texts) / 1e6:.1f} MB to {VOCAB:,} tokens, best of {rounds}")
    for name, value in seconds.items():
        print(f"  {name:<20}{value:7.2f} s   {value / seconds['Hugging Face']:5.2f}x the time of Hugging Face")
    print(" ", verdict("training, ours / Hugging Face", seconds["ours"] / seconds["Hugging Face"], 1.0, True))


def encoding(texts, rounds: int) -> None:
    import tiktoken

    trained = ours(texts)
    file = trained.to_json()
    ranks = {token: i for i, token in trained.token_bytes.items()}
    theirs = tiktoken.Encoding("ours", pat_str=tok.PATTERN.pattern, mergeable_ranks=ranks, special_tokens={})
    rng = random.Random(0)
    noise = "".join(
        chr(rng.choice((32, rng.randrange(0x4E00, 0x9FFF), rng.randrange(97, 123)))) for _ in range(300_000)
    )
    kinds = {
        "Python source": texts,
        "Python's reference (English)": [corpus("pydoc")],
        "random characters, in which nothing repeats itself": [noise[i : i + 3000] for i in range(0, len(noise), 3000)],
    }

    def encode_ours(texts):
        tokenizer = tok.Tokenizer(trained.merges)  # anew, so that no piece is known yet
        return [tokenizer.encode(text) for text in texts]

    def encode_hugging(texts):
        tokenizer = tokenizers.Tokenizer.from_str(file)
        return [tokenizer.encode(text).ids for text in texts]

    def encode_tiktoken(texts):
        return [theirs.encode_ordinary(text) for text in texts]

    programs = {"ours": encode_ours, "Hugging Face": encode_hugging, "tiktoken": encode_tiktoken}
    print(f"\nEncoding, one thread, nothing remembered, MB/s, best of {rounds}")
    ratios = []
    for kind, texts in kinds.items():
        assert encode_ours(texts) == encode_hugging(texts) == encode_tiktoken(texts), f"{kind}: other ids"
        seconds = best_seconds({name: functools.partial(run, texts) for name, run in programs.items()}, rounds)
        size = sum(len(text.encode()) for text in texts) / 1e6
        speeds = ", ".join(f"{name} {size / value:.1f}" for name, value in seconds.items())
        ratios.append(seconds["Hugging Face"] / seconds["ours"])
        print(f"  {kind} ({size:.1f} MB): {speeds}; {ratios[-1]:.2f}x Hugging Face")
    print(" ", verdict("encoding Python source, ours / Hugging Face", ratios[0], 1.0))


def growth(texts, path: Path, rounds: int) -> None:
    """Draw seconds against the size of the text (at VOCAB tokens) and of the vocabulary (on all the text)."""
    programs = {"ours": ours, **peers()}

    def line(points, settings):
        best = [
            best_seconds({name: functools.partial(run, *settings(point)) for name, run in programs.items()}, rounds)
            for point in points
        ]
        return {name: [seconds[name] for seconds in best] for name in programs}

    megabytes = sum(map(len, texts)) / 1e6
    sizes = [round(megabytes / part, 2) for part in (10, 5, 2, 1)]
    vocabularies = [512, 1024, 2048, 4096, 8192, 16384]
    by_text = line(sizes, lambda size: (texts[:: round(megabytes / size)], VOCAB))
    by_vocabulary = line(vocabularies, lambda vocabulary: (texts, vocabulary))
    figure = plots.new_figure(figsize=(8.4, 3))
    with plots.style():
        left, right = figure.subplots(1, 2)
        for name in programs:
            left.plot(sizes, by_text[name], "o-", label=name)
            right.plot(vocabularies, by_vocabulary[name], "o-", label=name)
        left.set(xlabel=f"MB of Python source, {VOCAB:,} tokens", ylabel="seconds", ylim=0, title="more text")
        right.set(
            xlabel=f"tokens, {megabytes:.0f} MB of Python source", ylim=0, xscale="log", title="a larger vocabulary"
        )
        right.set_xticks(vocabularies, labels=[f"{n:,}" for n in vocabularies])
        right.minorticks_off()
        left.legend()
        figure.patch.set_facecolor("white")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plots.png(figure))
    print(f"\nTraining as text and vocabulary grow, seconds: {path}")
    for name in programs:
        print(
            f"  {name:<14} by MB {dict(zip(sizes, (round(s, 2) for s in by_text[name])))}, "
            f"by tokens {dict(zip(vocabularies, (round(s, 2) for s in by_vocabulary[name])))}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--characters", type=int, default=10_000_000, help="of text to train on (default: ten million)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, default=steps.ROOT / "docs" / "tokenizer_speed.png", metavar="PNG")
    options = parser.parse_args()
    print(f"{machine()}\n{', '.join(filter(None, map(version, ('tokenizers', 'rustbpe', 'tiktoken', 'regex'))))}")
    texts = recipe.read("stdlib", options.characters, seed=0)
    training(texts, options.rounds)
    encoding(texts, options.rounds)
    growth(texts, options.plot, max(1, options.rounds - 1))


if __name__ == "__main__":
    main()
