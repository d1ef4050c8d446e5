"""Training: batches, a learning-rate schedule, a step of gradient descent, a loop, and a figure to compare.

Follows nanoGPT's loop (windows of a long row of tokens, warm-up and cosine, clipping, gradient accumulation,
AdamW with decay on matrices only) and GPT-3's recipe behind it (Brown et al. 2020, appendix B), with Muon (Jordan
et al. 2024, as in Liu et al. 2025, "Muon is scalable for LLM training") as the faster optimizer. Left out:
sharded optimizers, loss scaling for float16. The model is handed in: anything that returns (logits, loss) for
`input_ids` and `labels`, labels aligned with the inputs and shifted inside, as in Hugging Face's models.

Steps 4 to 6 train with the same `fit`; only their batches and their loss are different.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

IGNORE = -100  # label of positions that the loss leaves out

Batch = dict[str, torch.Tensor]


@dataclass
class TrainConfig:
    """How to train. learning_rate is the peak after warmup_steps, from which a cosine goes down to min_lr."""

    max_steps: int = 1000
    learning_rate: float = 1e-3
    min_lr: float = 1e-4
    warmup_steps: int = 100
    accumulation: int = 1  # micro-batches per step: a large batch on a small machine
    max_grad_norm: float = 1.0
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    muon: bool = False  # the matrices of the hidden layers by Muon instead of AdamW


# TODO next_token_batch
def next_token_batch(tokens: torch.Tensor, context: int, uniforms: torch.Tensor) -> Batch:
    """Cut one window of `context` tokens out of a long row of tokens [N] for each number in uniforms [B].

    Every window that lies wholly in the row is equally likely: u from [0, 1) chooses start
    floor(u * windows), where `windows` is how many starts there are. tokens are integers of any type (a long
    text is kept as int16). Returns {"input_ids": [B, context], "labels": [B, context]}, int64; the labels
    equal the inputs, because the model shifts them itself.
    Raises ValueError if the row is shorter than a window.
    """
    raise NotImplementedError("TODO next_token_batch: write next_token_batch")


# TODO learning_rate
def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of a step, counted from 0.

    Warm-up: step s < warmup_steps gets (s + 1) / warmup_steps of the peak, so that not even step 0 is wasted.
    Then half a cosine from the peak (at step warmup_steps) down to min_lr (at step max_steps, and after it).
    """
    raise NotImplementedError("TODO learning_rate: write learning_rate")


MUON_MOMENTUM = 0.95


class Muon(torch.optim.AdamW):
    """AdamW, but groups with `muon=True` hold matrices and take steps that turn all directions alike (Jordan et al.
    2024).

    The gradient of a matrix says the same few things again and again, in many of its rows. Muon takes the average
    gradient U S V' and makes a step along U V': what was said seldom counts as much as what was said often. U V'
    comes without a singular value decomposition, from matrix products alone (Newton-Schulz iterations). A step's
    numbers are as large as AdamW's, so that both share a learning rate (Liu et al. 2025).
    """

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}  # matrices of one shape are turned together
            for p in group["params"] if group["muon"] else []:
                if p.grad is not None:
                    alike.setdefault(p.shape, []).append(p)
            for shape, matrices in alike.items():
                for p in matrices:
                    if p not in self.state:
                        self.state[p] = {"step": torch.tensor(0.0), "average": torch.zeros_like(p)}
                    self.state[p]["average"].lerp_(p.grad, 1 - MUON_MOMENTUM)
                directions = orthogonal(
                    torch.stack([p.grad.lerp(self.state[p]["average"], MUON_MOMENTUM) for p in matrices])
                )
                for p, direction in zip(matrices, directions):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(direction, alpha=-group["lr"] * 0.2 * math.sqrt(max(shape)))
                    p.grad = None  # done: AdamW leaves out what has no gradient
        super().step(closure)


def orthogonal(matrices: torch.Tensor, iterations: int = 3) -> torch.Tensor:
    """Matrices U S V' [N, rows, columns] -> about U V'. The polynomial and its coefficients are Jordan's: singular
    values between about 0.1 and 1 become 0.7 to 1.2 in three iterations, smaller ones grow 3.4-fold in each."""
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)  # no singular value is above 1
    if tall := x.shape[-2] > x.shape[-1]:
        x = x.mT
    for _ in range(iterations):
        a = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.mT if tall else x


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over the parameters that learn, or Muon for the matrices of hidden layers; only matrices decay.

    Embeddings and lm_head are tables with a row a token: they are AdamW's, always.
    """
    layers = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and not name.endswith("lm_head")]
    hidden = {id(layer.weight) for layer in layers if config.muon}
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.dim() >= 2 and id(p) not in hidden], "weight_decay": config.weight_decay},
        {"params": [p for p in learning if p.dim() < 2], "weight_decay": 0.0},
    ]
    if not config.muon:
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
    matrices = {"params": [p for p in learning if id(p) in hidden], "weight_decay": config.weight_decay}
    groups = [{**group, "muon": group is matrices} for group in (*groups, matrices)]
    return Muon(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def model_loss(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, int]:
    """The model's own loss on a batch, and of how many tokens it is the mean (nothing predicts the first)."""
    return model(**batch)[1], int((batch["labels"][:, 1:] != IGNORE).sum())


# TODO train_step
def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    max_grad_norm: float,
    loss_fn: Callable[[nn.Module, Batch], tuple[torch.Tensor, int]] = model_loss,
) -> tuple[float, float]:
    """One step of gradient descent on several micro-batches, as if they were one large batch.

    loss_fn(model, batch) gives a micro-batch's mean loss and the number n of tokens it is the mean of.
    Micro-batches differ in n, so each counts by its share of all tokens, not by one over the number of
    micro-batches. Gradients of earlier steps are cleared first; the new ones are clipped together: if their
    common norm is over max_grad_norm, they are scaled down to it. A frozen parameter has no gradient (None).
    Returns the loss of the large batch and the norm of its gradient before clipping, as numbers.
    """
    raise NotImplementedError("TODO train_step: write train_step")


# TODO bits_per_byte
@torch.no_grad()
def bits_per_byte(model: nn.Module, tokens: torch.Tensor, num_bytes: int, context: int, batch_size: int = 32) -> float:
    """How many bits the model needs for a byte of a text: unlike the loss per token, it compares tokenizers.

    The text is tokens [N] (integers of any type) and num_bytes bytes long. It is read in windows of `context`
    tokens that overlap by one, so that every token but the first is predicted once, and each window is read
    from its own start; the last one may be shorter. Bits are nats divided by ln 2.
    The model is in eval mode while it is measured, and afterwards in the mode it was in.
    """
    raise NotImplementedError("TODO bits_per_byte: write bits_per_byte")


def fit(
    model: nn.Module,
    next_batch: Callable[[int], Batch],
    config: TrainConfig,
    loss_fn: Callable[[nn.Module, Batch], tuple[torch.Tensor, int]] = model_loss,
    state: dict | None = None,
    autocast=contextlib.nullcontext,
) -> Iterator[tuple[int, float, dict]]:
    """Train; after each step, yield (step, loss, state): whoever calls draws the curve and keeps the state.

    next_batch(i) gives micro-batch i, and must give the same one whenever it is asked: then a run that is
    interrupted, and continued from a `state` it has yielded, ends as if nothing had happened. A state holds
    the weights themselves, which go on changing: write it to disk, or copy it, before the next step.
    """
    optimizer = make_optimizer(model, config)
    start = 0
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"] + 1
    model.train()
    for step in range(start, config.max_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        batches = [next_batch(step * config.accumulation + i) for i in range(config.accumulation)]
        with autocast():
            loss, _ = train_step(model, optimizer, batches, config.max_grad_norm, loss_fn)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {step}: try a lower learning rate or more warm-up")
        yield step, loss, {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}


# The tests: run them in the notebook, or `python3 -m course check step3` in a terminal. Nothing to edit
# below.

def _check(todo):
    import sys
    from pathlib import Path
    here = Path(__file__).resolve()
    root = next((folder for folder in here.parents if (folder / "course" / "steps.py").is_file()), None)
    if root is not None and str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from course.checking import check_file
    check_file(here, todo, step="step3_pretrain")


def test_next_token_batch():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("next_token_batch")


def test_learning_rate():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("learning_rate")


def test_train_step():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("train_step")


def test_bits_per_byte():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("bits_per_byte")


# as generated: ef82ae0aacfaf601
