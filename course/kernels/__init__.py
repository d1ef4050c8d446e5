"""Parts of step 2 with the same results, faster.

functions.py  attention, RMSNorm, RoPE and cross-entropy, in training and everywhere else
one_token.py  generation on a CPU
recording.py  generation on a GPU

Real systems do the same: they reorder, fuse and work out again, so that what lies between the input and the result of a
formula stays in fast memory (FlashAttention, Liger).
"""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F

from course.kernels.functions import (
    apply_rope,
    attention_in_parts,
    cross_entropy,
    fused_attention,
    fused_rms_norm,
    rms_norm,
    rope_angles,
    rope_to_compile,
)
from course.kernels.one_token import token_by_token
from course.kernels.recording import forget, recorded

__all__ = ["forget", "use"]


def use(gpt: Any, device: torch.device, compiled: bool = False) -> Any:
    """Put these parts into a module of step 2, and return it. `python3 -m benchmarks.gpt` says what they are worth.

    Where the model will be compiled, only attention and RoPE: torch.compile joins the rest of a block into few kernels
    by itself (and cannot compile gradients written by hand for rows of several lengths).
    """
    if gpt.attention in (fused_attention, attention_in_parts):  # it has them
        return gpt
    gpt.attention = fused_attention
    if compiled:
        gpt.apply_rope = rope_to_compile
    elif device.type == "cpu":
        gpt.attention, gpt.rms_norm = attention_in_parts, rms_norm
        gpt.rope_angles, gpt.apply_rope = rope_angles, apply_rope
        gpt.F = SimpleNamespace(**vars(F) | {"cross_entropy": cross_entropy})  # for this module, not for all of PyTorch
        gpt.GPT.generate = token_by_token(gpt.GPT.generate)
    elif device.type == "cuda":
        gpt.rms_norm, gpt.apply_rope = fused_rms_norm, apply_rope
    if device.type == "cuda":
        gpt.GPT.generate = recorded(gpt)
    return gpt
