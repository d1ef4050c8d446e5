"""Pretraining: the GPT reads stories (or any text) and learns to guess the next token.

    python3 -m step3_pretrain.train --preset tiny
    python3 -m step3_pretrain.train --preset small --text pydoc --device cuda
    python3 -m step3_pretrain.train --text ~/my_books/

Needs the artifacts of steps 1 and 2 of the same preset (`python3 -m course run --steps step1,step2`).
"""

import numpy as np
import torch

from course.training.arguments import training_arguments
from course.training.fit import fit, load_model, load_tokenizer
from course.world import corpus

PRESETS = {
    "smoke": dict(characters=100_000, context=64, batch_size=4, max_steps=8, learning_rate=2e-3, warmup_steps=2),
    "tiny": dict(
        characters=8_000_000, context=320, batch_size=2, max_steps=1600, learning_rate=3e-3, warmup_steps=100, muon=True
    ),
    "small": dict(
        characters=30_000_000,
        context=1024,
        batch_size=32,
        max_steps=250,
        learning_rate=2e-3,
        warmup_steps=30,
        muon=True,
    ),
    "base": dict(
        characters=2_000_000_000,
        context=2048,
        batch_size=16,
        max_steps=20_000,
        learning_rate=3e-4,
        warmup_steps=1000,
        accumulation=4,
    ),
}
HELD_OUT_CHARACTERS = 200_000


def add_arguments(parser) -> None:
    training_arguments(parser)
    parser.add_argument("--text", default="stories", help="stories (default), pydoc, or a text file or folder")


def encode(tokenizer, text: str) -> torch.Tensor:
    """A long text as one row of ids [N], in the smallest integers that hold them."""
    small = tokenizer.vocab_size <= 2**15
    return torch.from_numpy(np.array(tokenizer.encode_ordinary(text), np.int16 if small else np.int32))


def train(job) -> dict:
    """Pretrain; figures: bits per byte on held-out text before and after."""
    settings = dict(job.settings)
    trainer, tokenizer = job.use("step3_pretrain"), load_tokenizer(job)
    model = load_model(job, "step2_gpt")
    characters, context, batch_size = (settings.pop(key) for key in ("characters", "context", "batch_size"))
    config = trainer.TrainConfig(min_lr=settings["learning_rate"] / 10, **settings)

    job.note(f"reading {job.options.text}")
    tokens = encode(tokenizer, corpus(job.options.text, "train", characters, job.seed)).to(job.device)
    held_out = corpus(job.options.text, "held_out", min(characters, HELD_OUT_CHARACTERS))
    unseen = encode(tokenizer, held_out).to(job.device)

    def bits_per_byte() -> float:
        with job.autocast():
            return trainer.bits_per_byte(model, unseen, len(held_out.encode()), context)

    def next_batch(i: int) -> dict:
        generator = torch.Generator().manual_seed(job.seed * 1_000_003 + i)  # the same i, the same batch: see `fit`
        return trainer.next_token_batch(tokens, context, torch.rand(batch_size, generator=generator).to(job.device))

    before = bits_per_byte()
    curve = fit(job, model, next_batch, config)
    figures = {
        "bits_per_byte_before": before,
        "bits_per_byte": bits_per_byte(),
        "text": job.options.text,
        "tokens_read": config.max_steps * config.accumulation * batch_size * context * job.world_size,
        "final_loss": sum(value for _, value in curve[-20:]) / len(curve[-20:]),
    }
    job.save(tensors=model.state_dict(), config=model.config.__dict__, figures=figures, history={"loss": curve})
    return figures


if __name__ == "__main__":
    from course.training.script import main

    main(__file__)
