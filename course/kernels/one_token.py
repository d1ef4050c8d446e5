"""Step 2's `generate` on a CPU, faster: blocks read one token with few calls to PyTorch, because for a single token the
calls take longer than the arithmetic.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from course.kernels.functions import FINE, Turn

LARGE = 150_000  # numbers in a matrix; with fewer, waking a second core takes longer than it saves


def token_by_token(generate: Callable) -> Callable:
    """Step 2's `generate`, in which OneToken reads what follows the prompt, and only the last logits are worked out."""

    @functools.wraps(generate)
    def faster_generate(self, *inputs, **options):
        modules = (self.lm_head, *self.model.layers)
        if self.lm_head.weight.dtype not in FINE or any("forward" in vars(module) for module in modules):
            return generate(self, *inputs, **options)  # numbers too coarse for this, or it is done already
        try:
            with torch.inference_mode():  # PyTorch writes nothing down for gradients, not even that there will be none
                for module, forward in zip(
                    modules, (LastLogits(self.lm_head.weight), *map(OneToken, self.model.layers))
                ):
                    module.forward = forward
                ids = generate(self, *inputs, **options)
        finally:
            for module in modules:
                vars(module).pop("forward", None)  # its class has one
        return ids.clone()  # what was made in inference mode could not be trained on

    return faster_generate


class LastLogits:
    """An lm_head during one call of `generate`, where nobody asks for other logits than the last."""

    def __init__(self, weight: torch.Tensor):
        self.weight, self.matrix = weight, laid_out(weight)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [B, T, V], 0 everywhere but at the last of T."""
        if x.dim() != 3:
            return F.linear(x, self.weight)
        last = product(x[:, -1], self.matrix)[:, None]
        return last if x.shape[1] == 1 else F.pad(last, (0, 0, x.shape[1] - 1, 0))


class OneToken:
    """A block's forward during one call of `generate`: for one token after others, with half of the calls to PyTorch.

    Matrices that read the same vector are joined to one, with the weight of the norm before them in it. Keys and values
    are written where there is room for more, so that the past is not copied for each token. The price is a second copy
    of the joined matrices, for as long as the call takes.
    """

    def __init__(self, block: torch.nn.Module):
        attention, mlp = block.self_attn, block.mlp
        self.block, self.layer = block, attention.layer
        self.heads, self.kv_heads, self.head_dim = attention.num_heads, attention.num_kv_heads, attention.head_dim
        self.qkv = laid_out(joined(block.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj))
        self.gate_up = laid_out(joined(block.post_attention_layernorm, mlp.gate_proj, mlp.up_proj))
        self.o, self.down = laid_out(attention.o_proj.weight), laid_out(mlp.down_proj.weight)
        self.eps = self.o.new_tensor(block.input_layernorm.eps * attention.q_proj.in_features).sqrt()
        self.room: Any = None  # keys and values [B, 2, K, more than S, d]
        self.written: Any = None  # the part of it that the cache has, if that is still what the cache has

    def __call__(
        self, x: torch.Tensor, angles: torch.Tensor, mask: torch.Tensor | None = None, cache: Any = None
    ) -> torch.Tensor:
        """[B, T, D] -> [B, T, D], by the block itself unless T is 1 and there is a past."""
        if cache is None or x.shape[1] > 1 or self.layer == len(cache.layers):
            return type(self.block).forward(self.block, x, angles, mask, cache)
        x = x.squeeze(1)
        q, k, v = self.queries_keys_values(x, angles, cache)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=self.heads > self.kv_heads)
        x = x + product(y.flatten(1), self.o)
        gate, up = product(self.unit(x), self.gate_up).chunk(2, dim=-1)
        return x.add_(product(F.silu(gate).mul_(up), self.down)).unsqueeze(1)

    def queries_keys_values(
        self, x: torch.Tensor, angles: torch.Tensor, cache: Any
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of new tokens x [B, D] the queries [B, H, 1, d]; of them and the past the keys and values [B, K, S + 1,
        d]."""
        B, H, K, d, S = len(x), self.heads, self.kv_heads, self.head_dim, cache.layers[self.layer][0].shape[2]
        qkv = product(self.unit(x), self.qkv).reshape(B, H + 2 * K, 1, d)
        turn, qk = Turn.by(angles, qkv.dtype), qkv.narrow(1, 0, H + K)
        halves_swapped = qk.roll(d // 2, -1)
        qk.mul_(turn.cos).addcmul_(halves_swapped, turn.sin)
        if self.written is not cache.layers[self.layer] or S == self.room.shape[3]:
            self.room = qkv.new_empty(B, 2, K, 2 * S + 32, d)
            self.room[:, :, :, :S] = torch.stack(cache.layers[self.layer], dim=1)
        self.room.narrow(3, S, 1).copy_(qkv.narrow(1, H, 2 * K).view(B, 2, K, 1, d))
        k, v = self.written = cache.layers[self.layer] = self.room.narrow(3, 0, S + 1).unbind(1)
        return qkv.narrow(1, 0, H), k, v

    def unit(self, x: torch.Tensor) -> torch.Tensor:
        """Rows x [B, D] with length 1; eps counts as one number more. RMSNorm's are longer: `joined` has their
        sqrt(D)."""
        return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.eps)


def joined(norm: torch.nn.Module, *parts: torch.nn.Module) -> torch.Tensor:
    """The matrices of linear layers that read what a norm returns, as one [all that comes out, D], for `unit` rows."""
    return torch.cat([part.weight for part in parts]) * norm.weight * len(norm.weight) ** 0.5


def laid_out(matrix: torch.Tensor) -> torch.Tensor:
    """A linear layer's weight [N, D] as `product` reads it fastest: [D, N], or, where it is large, [P, N / P, D].

    MKL, which PyTorch has on x86 processors, multiplies a matrix and one vector on one core; several matrices on all.
    """
    parts = math.gcd(16, len(matrix))
    if parts == 1 or matrix.numel() < LARGE or not torch.backends.mkl.is_available():
        return matrix.T.contiguous()
    return matrix.unflatten(0, (parts, -1))


def product(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Rows x [B, D] -> [B, N], by a matrix that is laid out."""
    if matrix.dim() == 2:
        return torch.mm(x, matrix)
    return torch.bmm(matrix, x.T.expand(len(matrix), -1, -1)).view(-1, len(x)).T
