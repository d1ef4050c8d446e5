"""The model of a preset, untrained: its sizes, its first weights, and its loss before it has read anything.

    python3 -m step2_gpt.train --preset tiny

Needs step 1's tokenizer of the same preset (`python3 -m course run --steps step1`). Trains nothing. An
untrained model should be about as wrong as a blind guess, ln(vocab_size) nats per token; far more means that it
is sure of something although it knows nothing.
"""

import math

import torch

from course.training.fit import load_tokenizer
from course.world import corpus

PRESETS = {
    "smoke": dict(
        hidden_size=32,
        intermediate_size=88,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
    ),
    # The little world asks for much looking up and little knowledge: so there are more layers of attention, and
    # narrower MLPs, than a Llama has.
    "tiny": dict(
        hidden_size=128,
        intermediate_size=160,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    ),
    "small": dict(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        max_position_embeddings=1024,
    ),
    "base": dict(
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=2048,
    ),
}
ROWS, CONTEXT = 8, 128  # of held-out text, to measure the first loss on


def train(job) -> dict:
    """Build the model and save its first weights; figures: parameters, initial_loss, ln_vocab."""
    gpt, tokenizer = job.use("step2_gpt"), load_tokenizer(job)
    torch.manual_seed(job.seed)
    model = gpt.GPT(gpt.GPTConfig(vocab_size=tokenizer.vocab_size, **job.settings)).to(job.device)

    text = corpus("stories", "held_out", 8 * ROWS * CONTEXT, job.seed)  # a token has fewer than 8 characters
    ids = torch.tensor(tokenizer.encode(text)[: ROWS * CONTEXT], device=job.device).view(ROWS, CONTEXT)
    with torch.no_grad(), job.autocast():
        loss = model(ids, labels=ids)[1].item()
    figures = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "initial_loss": loss,
        "ln_vocab": math.log(tokenizer.vocab_size),
    }
    job.save(tensors=model.state_dict(), config=model.config.__dict__, figures=figures)
    return figures


if __name__ == "__main__":
    from course.training.script import main

    main(__file__)
