"""Three functions of step 2 with the same results, sooner: attention by PyTorch's fused kernel, and RMSNorm and RoPE
with gradients written by hand, which read and write memory less often than those that autograd puts together.

All that real systems change about these formulas is where the numbers lie in the meantime (FlashAttention, Liger).
"""

from types import ModuleType

import torch
import torch.nn.functional as F


def use(gpt: ModuleType, device: torch.device, compiled: bool = False) -> ModuleType:
    """Put the functions into a module of step 2, and return it. `python3 -m benchmarks.gpt` says what they are worth.

    On a GPU, or where the model will be compiled, only attention: torch.compile joins the rest of a block into few
    kernels by itself (and cannot compile gradients written by hand for rows of several lengths).
    """
    gpt.attention = fused_attention
    if device.type == "cpu" and not compiled:
        gpt.rms_norm, gpt.apply_rope = rms_norm, apply_rope
    return gpt


def fused_attention(q, k, v, mask=None):
    """Step 2's `attention`, by PyTorch's fused kernel."""
    T, S = q.shape[-2], k.shape[-2]
    causal = mask is None and T > 1  # one query alone is the last of the positions, and may look at them all
    if causal and T < S:  # with a cache: the queries are the last of the positions
        mask, causal = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T), False
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def rms_norm(x, weight, eps):
    """Step 2's rms_norm: x [..., D], weight [D] -> [..., D], in the type of x."""
    if torch.is_grad_enabled():
        return RMSNorm.apply(x, weight, eps)
    return F.rms_norm(x, weight.shape, weight, eps)


def apply_rope(x, angles):
    """Step 2's apply_rope: x [B, H, T, d], angles [B, 1, T, d/2] -> [B, H, T, d], laid out in memory as x is."""
    turn = Turn.by(angles, x.dtype)
    if torch.is_grad_enabled():
        return Rotation.apply(x, turn.cos, turn.sin)
    return torch.addcmul(x * turn.wide_cos, x.roll(x.shape[-1] // 2, -1), turn.wide_sin)


class Turn:
    """cos and sin of angles, and both as wide as a head: worked out once a forward pass, not again in each layer."""

    newest = None

    def __init__(self, angles, dtype):
        self.angles, self.dtype = angles, dtype
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)
        self.wide_cos = torch.cat([self.cos, self.cos], dim=-1)
        self.wide_sin = torch.cat([-self.sin, self.sin], dim=-1)

    @classmethod
    def by(cls, angles, dtype):
        """The newest turn, if it is by these very angles."""
        if cls.newest is None or cls.newest.angles is not angles or cls.newest.dtype != dtype:
            cls.newest = cls(angles, dtype)
        return cls.newest


def root_mean_square(x, eps):
    """[..., D] -> [..., 1], without writing the squares down."""
    return (torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1] + eps).sqrt()


def turned(x, cos, sin):
    """(a cos - b sin, b cos + a sin), written to where it belongs."""
    y = torch.empty_like(x)
    (a, b), (new_a, new_b) = x.chunk(2, dim=-1), y.chunk(2, dim=-1)
    torch.mul(a, cos, out=new_a).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=new_b).addcmul_(a, sin)
    return y


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, eps):
        scale = root_mean_square(x, eps).reciprocal()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, scale = ctx.saved_tensors
        normed = x * scale
        by_number = gradient * normed
        # What makes x longer is taken out again by the division by its length.
        along = (by_number @ weight)[..., None] / -x.shape[-1]
        of_x = torch.addcmul(gradient * weight, normed, along).mul_(scale)
        return of_x, by_number.reshape(-1, x.shape[-1]).sum(0), None


class Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return turned(x, cos, sin)

    @staticmethod
    def backward(ctx, gradient):
        cos, sin = ctx.saved_tensors
        return turned(gradient, cos, -sin), None, None    # back by the same angle
