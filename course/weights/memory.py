"""How much memory training a VLM takes, told before it starts.

Weights, gradients and Adam's two moments are counted; what the forward pass keeps for the backward pass is
counted per token and layer, in bytes that were measured on step 2's GPT, with the functions of
course.kernels, by torch's saved-tensor hooks (the tests measure again).
"""

from dataclasses import dataclass
from typing import Any

MARGIN = 1.2  # copies and what allocators round up: on the CPU the peak was 13 to 18% over the count


@dataclass
class Memory:
    """Bytes by what holds them, at the moment when most is held."""

    weights: int
    gradients_and_moments: int
    activations: int

    @property
    def total(self) -> int:
        return round(MARGIN * (self.weights + self.gradients_and_moments + self.activations))

    def __str__(self) -> str:
        parts = (
            ("weights", self.weights),
            ("gradients and Adam", self.gradients_and_moments),
            ("activations", self.activations),
        )
        return (
            f"{size(self.total)} ({', '.join(f'{size(value)} {name}' for name, value in parts)}, and a fifth of that)"
        )


def size(count: float) -> str:
    """Bytes for a reader: 1.4 GB, 320 MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def kept_bytes(config: Any, llm_learns: bool, bf16: bool) -> int:
    """What the language model keeps of one token until its backward pass: config is a GPTConfig."""
    hidden, inner = {(False, True): (32, 16), (False, False): (24, 12), (True, True): (37, 8), (True, False): (17, 6)}[
        bf16, llm_learns
    ]
    return (
        config.num_hidden_layers * (hidden * config.hidden_size + inner * config.intermediate_size)
        + 10 * config.hidden_size
    )


def training_memory(
    parameters: int, learning: int, config: Any, vision: Any, rows: int, tokens: int, llm_learns: bool, bf16: bool
) -> Memory:
    """The peak of one training stage.

    parameters: all of them; learning: those that learn; rows, tokens: of the largest micro-batch, picture
    tokens included; config, vision: of the language model and the eye. bf16: autocast, which keeps a copy of
    the weights.
    """
    # What the eye takes is gone before the rest comes.
    eye = rows * (vision.num_patches + 1) * 4 * (4 * vision.hidden_size + 2 * vision.intermediate_size)
    logits = 12 * config.vocab_size  # themselves, their log-softmax (not on the CPU: course.kernels) and its gradient
    kept = rows * tokens * (kept_bytes(config, llm_learns, bf16) + logits)
    return Memory(parameters * (6 if bf16 else 4), learning * 12, max(eye, kept))
