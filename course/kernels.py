"""Parts of step 2 with the same results, sooner: attention by PyTorch's fused kernel, and of no more keys than are
looked at; RMSNorm, RoPE and cross-entropy with gradients written by hand, which read and write memory less often than
those that autograd puts together; and blocks that read one token with few calls to PyTorch, because for a single token
the calls take longer than the arithmetic.

All that real systems change about these formulas is where the numbers lie in the meantime (FlashAttention, Liger, vLLM).
"""

import functools
from types import ModuleType, SimpleNamespace

import torch
import torch.nn.functional as F

from course.recording import recorded


def use(gpt: ModuleType, device: torch.device, compiled: bool = False) -> ModuleType:
    """Put these parts into a module of step 2, and return it. `python3 -m benchmarks.gpt` says what they are worth.

    Where the model will be compiled, only attention and RoPE: torch.compile joins the rest of a block into few kernels
    by itself (and cannot compile gradients written by hand for rows of several lengths).
    """
    by_hand = device.type == "cpu" and not compiled
    if gpt.attention in (fused_attention, attention_in_parts):
        return gpt
    gpt.attention = attention_in_parts if by_hand else fused_attention
    if by_hand:
        gpt.rms_norm, gpt.rope_angles, gpt.apply_rope = rms_norm, rope_angles, apply_rope
        gpt.F = SimpleNamespace(**vars(F) | {"cross_entropy": cross_entropy})  # for this module, not for all of PyTorch
        gpt.GPT.generate = token_by_token(gpt.GPT.generate)
    elif compiled:
        gpt.apply_rope = rope_to_compile
    elif device.type == "cuda":
        gpt.rms_norm, gpt.apply_rope = fused_rms_norm, apply_rope
    if device.type == "cuda":
        gpt.GPT.generate = recorded(gpt)
    return gpt


def fused_attention(q, k, v, mask=None):
    """Step 2's `attention`, by PyTorch's fused kernel."""
    T, S = q.shape[-2], k.shape[-2]
    causal = mask is None and T > 1  # one query alone is the last of the positions, and may look at them all
    if causal and T < S:  # with a cache: the queries are the last of the positions
        mask, causal = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T), False
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def attention_in_parts(q, k, v, mask=None):
    """fused_attention, 64 queries at a time, each time with the keys that the last of them may look at and no others.

    On the CPU the kernel works out all scores of up to 512 keys, and only then hides those of later positions.
    """
    T, S = q.shape[-2], k.shape[-2]
    causal = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    if T < 192 or (mask is not None and (mask.shape[-2] != T or (mask & ~causal).any())):
        return fused_attention(q, k, v, mask)  # too few queries to gain by it, or one that looks ahead
    mask, parts = causal if mask is None else mask.expand(*mask.shape[:-1], S), []
    for part in reversed(q.split(64, dim=-2)):
        n = part.shape[-2]
        parts.insert(0, fused_attention(part, k, v, mask[..., -n:, :]).transpose(1, 2))
        k, v, mask = k[..., :-n, :], v[..., :-n, :], mask[..., :-n, :-n]
    return torch.cat(parts, dim=1).transpose(1, 2)  # in memory [B, T, H, d], as the kernel lays out its results too


def rms_norm(x, weight, eps):
    """Step 2's rms_norm: x [..., D], weight [D] -> [..., D], in the type of x."""
    if torch.is_grad_enabled():
        return RMSNorm.apply(x, weight, eps)
    return F.rms_norm(x, weight.shape, weight, eps)


def fused_rms_norm(x, weight, eps):
    """Step 2's rms_norm, by PyTorch's kernel: the soonest on a GPU."""
    return F.rms_norm(x, weight.shape, weight, eps)


def rope_angles(positions, head_dim, theta):
    """Step 2's rope_angles: positions [B, T] -> [B, 1, T, d/2]."""
    return positions[:, None, :, None] * frequencies(head_dim, theta, positions.device)


@functools.cache
@torch.inference_mode(False)  # made during `generate` or not, they serve training too
def frequencies(head_dim, theta, device):
    return theta ** (-torch.arange(0, head_dim, 2, device=device).float() / head_dim)


def apply_rope(x, angles):
    """Step 2's apply_rope: x [B, H, T, d], angles [B, 1, T, d/2] -> [B, H, T, d], laid out in memory as x is."""
    turn = Turn.by(angles, x.dtype)
    return (Rotation.apply if torch.is_grad_enabled() else turned)(x, turn.cos, turn.sin)


@torch.library.custom_op("course::cos_and_sin", mutates_args=())
def cos_and_sin(angles: torch.Tensor) -> torch.Tensor:
    """[B, 1, T, d/2] -> cos and sin [2, B, 1, T, d], the sines of first halves with a minus. To the compiler a sealed box:
    it keeps the result instead of working it out again for each head of each layer."""
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)])


@cos_and_sin.register_fake
def its_shape(angles):
    return angles.new_empty(2, *angles.shape[:-1], 2 * angles.shape[-1])


def rope_to_compile(x, angles):
    """Step 2's apply_rope, for torch.compile: numbers are read from where they lie, and no halves are put together."""
    cos, sin = cos_and_sin(angles)
    return (x * cos + x.roll(x.shape[-1] // 2, -1) * sin).type_as(x)


class Turn:
    """cos and -sin, sin of angles, as wide as a head: worked out once a forward pass, not again in each layer."""

    newest = None

    def __init__(self, angles, dtype):
        self.angles, self.dtype = angles, dtype
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        self.cos, self.sin = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)

    @classmethod
    def by(cls, angles, dtype):
        """The newest turn, if it is by these very angles."""
        if cls.newest is None or cls.newest.angles is not angles or cls.newest.dtype != dtype:
            cls.newest = cls(angles, dtype)
        return cls.newest


def token_by_token(generate):
    """Step 2's `generate`, in which OneToken reads what follows the prompt, and only the last logits are worked out."""

    @functools.wraps(generate)
    def sooner(self, *inputs, **options):
        modules = (self.lm_head, *self.model.layers)
        if self.lm_head.weight.dtype not in (torch.float32, torch.float64) or "forward" in vars(self.lm_head):
            return generate(self, *inputs, **options)  # numbers too coarse for this, or it is done already
        try:
            with torch.inference_mode():  # PyTorch writes nothing down for gradients, not even that there will be none
                for module, forward in zip(modules, (LastLogits(self.lm_head.weight), *map(OneToken, self.model.layers))):
                    module.forward = forward
                ids = generate(self, *inputs, **options)
        finally:
            for module in modules:
                vars(module).pop("forward", None)  # its class has one
        return ids.clone()  # what was made in inference mode could not be trained on

    return sooner


class LastLogits:
    """An lm_head during one call of `generate`, where nobody asks for other logits than the last."""

    def __init__(self, weight):
        self.weight, self.transposed = weight, weight.T.contiguous()

    def __call__(self, x):
        """[B, T, D] -> [B, T, V], 0 everywhere but at the last of T."""
        if x.dim() != 3:
            return F.linear(x, self.weight)
        last = x[:, -1:]
        last = last @ self.transposed if len(x) == 1 else F.linear(last, self.weight)  # each is sooner for its rows
        return last if x.shape[1] == 1 else F.pad(last, (0, 0, x.shape[1] - 1, 0))


class OneToken:
    """A block's forward during one call of `generate`: for one token after others, with half of the calls to PyTorch.

    Matrices that read the same vector lie side by side and are one product, with the weight of the norm before them in
    it; all lie in memory as a product with one vector reads them. Keys and values are written where there is room for
    more, so that the past is not copied for each token. The price is a second copy of all matrices, for as long as the
    call takes.
    """

    def __init__(self, block):
        attention, mlp = block.self_attn, block.mlp
        self.block, self.layer = block, attention.layer
        self.heads, self.kv_heads, self.head_dim = attention.num_heads, attention.num_kv_heads, attention.head_dim
        self.qkv = side_by_side(block.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj)
        self.gate_up = side_by_side(block.post_attention_layernorm, mlp.gate_proj, mlp.up_proj)
        self.o, self.down = attention.o_proj.weight.T.contiguous(), mlp.down_proj.weight.T.contiguous()
        self.eps = self.o.new_tensor(block.input_layernorm.eps)
        self.room = None  # keys and values [B, 2, K, more than S, d]
        self.written = None  # the part of it that the cache has, if that is still what the cache has

    def __call__(self, x, angles, mask=None, cache=None):
        """[B, T, D] -> [B, T, D], by the block itself unless T is 1 and there is a past."""
        if cache is None or x.shape[1] > 1 or self.layer == len(cache.layers):
            return type(self.block).forward(self.block, x, angles, mask, cache)
        q, k, v = self.queries_keys_values(x := x.squeeze(1), angles, cache)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=self.heads > self.kv_heads)
        x = x + torch.mm(y.flatten(1), self.o)
        gate, up = torch.mm(self.unit(x), self.gate_up).chunk(2, dim=-1)
        return x.add_(torch.mm(F.silu(gate).mul_(up), self.down)).unsqueeze(1)

    def queries_keys_values(self, x, angles, cache):
        """Of new tokens x [B, D] the queries [B, H, 1, d]; of them and the past the keys and values [B, K, S + 1, d]."""
        B, H, K, d, S = len(x), self.heads, self.kv_heads, self.head_dim, cache.layers[self.layer][0].shape[2]
        qkv = torch.mm(self.unit(x), self.qkv).view(B, H + 2 * K, 1, d)
        turn, qk = Turn.by(angles, qkv.dtype), qkv.narrow(1, 0, H + K)
        halves_swapped = qk.roll(d // 2, -1)
        qk.mul_(turn.cos).addcmul_(halves_swapped, turn.sin)
        if self.written is not cache.layers[self.layer] or S == self.room.shape[3]:
            self.room = qkv.new_empty(B, 2, K, 2 * S + 32, d)
            self.room[:, :, :, :S] = torch.stack(cache.layers[self.layer], dim=1)
        self.room.narrow(3, S, 1).copy_(qkv.narrow(1, H, 2 * K).view(B, 2, K, 1, d))
        k, v = self.written = cache.layers[self.layer] = self.room.narrow(3, 0, S + 1).unbind(1)
        return qkv.narrow(1, 0, H), k, v

    def unit(self, x):
        """x [B, D] with root mean square 1, in calls that need not make a tensor of a number first."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x * torch.addcmul(self.eps, length, length, value=1 / x.shape[-1]).rsqrt_()


def side_by_side(norm, *parts):
    """The matrices of linear layers that read what a norm returns, as one [D, all that comes out]."""
    return (torch.cat([part.weight for part in parts]) * norm.weight).T.contiguous()


def root_mean_square(x, eps):
    """[..., D] -> [..., 1], without writing the squares down."""
    return (torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1] + eps).sqrt()


def turned(x, cos, sin):
    """Halves (a, b) of x -> (a cos - b sin, b cos + a sin), with cos and sin as in Turn."""
    return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, -1), sin)


def cross_entropy(input, target, *others, ignore_index=-100, **more):
    """PyTorch's cross_entropy, as step 2 calls it: logits [N, V], labels [N] -> their mean. Else PyTorch's own."""
    if others or more or input.dim() != 2 or target.is_floating_point():
        return F.cross_entropy(input, target, *others, ignore_index=ignore_index, **more)
    return CrossEntropy.apply(input, target, ignore_index)


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, eps):
        scale = root_mean_square(x, eps).reciprocal()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, scale = ctx.saved_tensors
        product = gradient * x
        of_weight = scale.reshape(-1) @ product.reshape(-1, x.shape[-1])
        # What makes x longer is taken out again by the division by its length.
        along = (product @ weight)[..., None] * scale.square() / -x.shape[-1]
        of_x = torch.mul(gradient, weight, out=product).addcmul_(x, along).mul_(scale)
        return of_x, of_weight, None


class Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return turned(x, cos, sin)

    @staticmethod
    def backward(ctx, gradient):
        cos, sin = ctx.saved_tensors
        return turned(gradient, cos, -sin), None, None    # back by the same angle


class CrossEntropy(torch.autograd.Function):
    """Logits are the largest tensor there is, so nothing of that size is made but their gradient: the loss needs one
    number a row, and the softmax is worked out again, in the very memory where its gradient is returned.
    """

    @staticmethod
    def forward(ctx, logits, labels, ignored):
        ctx.save_for_backward(logits, labels)
        ctx.ignored = ignored
        parts = zip(logits.split(256), labels.split(256))  # small enough for the processor's cache
        total = sum(F.cross_entropy(*part, ignore_index=ignored, reduction="sum") for part in parts)
        return total / (labels != ignored).sum()

    @staticmethod
    def backward(ctx, gradient):
        logits, labels = ctx.saved_tensors
        counted = labels != ctx.ignored
        share = (gradient * counted / counted.sum().clamp(min=1))[:, None]
        of_logits = logits.softmax(-1).mul_(share)
        return of_logits.scatter_add_(1, labels.where(counted, 0)[:, None], -share), None, None
