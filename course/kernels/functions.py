"""Functions of step 2 with the same results, faster: attention by PyTorch's fused kernel, and of no more keys than are
looked at; RMSNorm, RoPE and cross-entropy with gradients written by hand, which read and write memory less often than
those that autograd puts together.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import library
from torch.autograd.function import once_differentiable

FINE = (torch.float32, torch.float64)


def fused_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Step 2's `attention`, by PyTorch's fused kernel."""
    T, S = q.shape[-2], k.shape[-2]
    causal = mask is None and T > 1  # one query alone is the last of the positions, and may look at them all
    if causal and T < S:  # with a cache: the queries are the last of the positions
        mask, causal = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T), False
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def attention_in_parts(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """fused_attention, 64 queries at a time, each time with the keys that the last of them may look at and no others.

    On the CPU the kernel works out all scores of up to 512 keys, and only then hides those of later positions.
    """
    T, S = q.shape[-2], k.shape[-2]
    if T < 192 or q.dim() != 4:  # too few to gain by it, or with other dimensions than step 2's own
        return fused_attention(q, k, v, mask)
    causal = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    if mask is not None and (mask.shape[-2] != T or (mask & ~causal).any()):  # one that looks ahead
        return fused_attention(q, k, v, mask)
    mask = causal if mask is None else mask.expand(*mask.shape[:-1], S)
    parts: list[torch.Tensor] = []
    for part in reversed(q.split(64, dim=-2)):
        n = part.shape[-2]
        parts.insert(0, fused_attention(part, k, v, mask[..., -n:, :]).transpose(1, 2))
        # Cut from what was cut before, so that backwards each gradient is added to the last, which grows: pieces of
        # the whole would each be filled up with zeros to the size of the whole.
        k, v, mask = k[..., :-n, :], v[..., :-n, :], mask[..., :-n, :-n]
    return torch.cat(parts, dim=1).transpose(1, 2)  # in memory [B, T, H, d], as the kernel lays out its results too


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Step 2's rms_norm: x [..., D], weight [D] -> [..., D]."""
    if torch.is_grad_enabled() and x.dtype == weight.dtype and x.dtype in FINE:
        return RMSNorm.apply(x, weight, eps)
    return fused_rms_norm(x, weight, eps)


def fused_rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Step 2's rms_norm, by PyTorch's kernel: the fastest on a GPU."""
    if x.dtype == weight.dtype and x.dtype in FINE:
        return F.rms_norm(x, weight.shape, weight, eps)
    return weight * F.rms_norm(x.float(), weight.shape, None, eps).type_as(x)  # squares want more digits


def rope_angles(positions: torch.Tensor, head_dim: int, theta: float) -> torch.Tensor:
    """Step 2's rope_angles: positions [B, T] -> [B, 1, T, d/2]."""
    return positions[:, None, :, None] * frequencies(head_dim, theta, positions.device)


@functools.cache
@torch.inference_mode(False)  # made during `generate` or not, they serve training too
def frequencies(head_dim: int, theta: float, device: torch.device) -> torch.Tensor:
    return theta ** (-torch.arange(0, head_dim, 2, device=device).float() / head_dim)


def apply_rope(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Step 2's apply_rope: x [B, H, T, d], angles [B, 1, T, d/2] -> [B, H, T, d], laid out in memory as x is."""
    turn = Turn.by(angles, x.dtype)
    return (Rotation.apply if torch.is_grad_enabled() else rotated)(x, turn.cos, turn.sin)


def cos_and_sin(angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of angles [..., d/2], as wide as a head: (cos, cos) and (-sin, sin), each [..., d]."""
    both = torch.cat([-angles, angles], dim=-1)
    return both.cos(), both.sin()


class Turn:
    """cos_and_sin of angles, worked out once a forward pass and not again in each layer."""

    newest = None

    @torch.inference_mode(False)  # made during `generate` or not, it serves training too
    def __init__(self, angles: torch.Tensor, dtype: torch.dtype):
        self.angles, self.dtype = angles, dtype
        self.cos, self.sin = (x.to(dtype) for x in cos_and_sin(angles))

    @classmethod
    def by(cls, angles: torch.Tensor, dtype: torch.dtype) -> "Turn":
        """The newest turn, if it is by these very angles."""
        turn = cls.newest
        if turn is None or turn.angles is not angles or turn.dtype != dtype:
            turn = cls.newest = cls(angles, dtype)
        return turn


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Halves (a, b) of x [..., d] -> (a cos - b sin, b cos + a sin), with what cos_and_sin returns."""
    return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, -1), sin)


def rope_to_compile(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Step 2's apply_rope, for torch.compile: without halves that are put together."""
    cos, sin = sealed_cos_and_sin(angles)
    return (x * cos + x.roll(x.shape[-1] // 2, -1) * sin).type_as(x)


@library.custom_op("course::cos_and_sin", mutates_args=())
def sealed_cos_and_sin(angles: torch.Tensor) -> torch.Tensor:
    """cos_and_sin, [2, ..., d]. The compiler cannot look into it, and so keeps the result. What it can look into it
    works out again for each head of each layer, which took a fifth of all time on an H200."""
    return torch.stack(cos_and_sin(angles))


@sealed_cos_and_sin.register_fake
def its_shape(angles: torch.Tensor) -> torch.Tensor:
    return angles.new_empty(2, *angles.shape[:-1], 2 * angles.shape[-1])


def root_mean_square(x: torch.Tensor, eps: float) -> torch.Tensor:
    """[..., D] -> [..., 1], without writing the squares down."""
    return (torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1] + eps).sqrt()


def cross_entropy(
    input: torch.Tensor, target: torch.Tensor, *others: Any, ignore_index: int = -100, **more: Any
) -> torch.Tensor:
    """PyTorch's cross_entropy, as step 2 calls it: logits [N, V], labels [N] -> their mean. Else PyTorch's own."""
    if others or more or input.dim() != 2 or target.is_floating_point() or len(input) != len(target):
        return F.cross_entropy(input, target, *others, ignore_index=ignore_index, **more)
    return CrossEntropy.apply(input, target, ignore_index)


class RMSNorm(torch.autograd.Function):
    """x [..., D], weight [D], eps -> y = w x / r, with r the root mean square of x. Backwards, with g the gradient of
    y: dw = sum g x / r, and dx = (w g - x mean(w g x) / r^2) / r.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        scale = root_mean_square(x, eps).reciprocal()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple:
        x, weight, scale = ctx.saved_tensors
        product = grad_output * x
        grad_weight = scale.reshape(-1) @ product.reshape(-1, x.shape[-1])
        along = (product @ weight)[..., None] * scale.square() / -x.shape[-1]
        grad_x = torch.mul(grad_output, weight, out=product).addcmul_(x, along).mul_(scale)
        return grad_x, grad_weight, None


class Rotation(torch.autograd.Function):
    """`rotated`, x [..., d] -> [..., d]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return rotated(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple:
        cos, sin = ctx.saved_tensors
        return rotated(grad_output, cos, -sin), None, None  # back by the same angle


class CrossEntropy(torch.autograd.Function):
    """Logits [N, V], labels [N] -> the mean loss of the labels that count. Logits are the largest tensor there is, so
    nothing of that size is made but their gradient: the loss needs one number per row, and the softmax is worked out
    again, in the very memory where its gradient is returned.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, ignore_index: int) -> torch.Tensor:
        ctx.save_for_backward(logits, labels)
        ctx.ignore_index = ignore_index
        parts = zip(logits.split(256), labels.split(256))  # small enough for the processor's cache
        total = sum(F.cross_entropy(*part, ignore_index=ignore_index, reduction="sum") for part in parts)
        return total / (labels != ignore_index).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple:
        logits, labels = ctx.saved_tensors
        counted = labels != ctx.ignore_index
        share = (grad_output * counted / counted.sum().clamp(min=1))[:, None]
        grad_logits = logits.softmax(-1).mul_(share)
        return grad_logits.scatter_add_(1, labels.where(counted, 0)[:, None], -share), None, None
