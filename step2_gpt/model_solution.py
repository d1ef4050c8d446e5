"""A small Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU, and a KV cache for fast generation.

Follows Llama 2/3 (Touvron et al. 2023; Grattafiori et al. 2024) and the names of Hugging Face's `LlamaForCausalLM`:
the state dict of `GPT` is a Llama checkpoint. Left out: biases, dropout, scaled RoPE, tensor parallelism.

Shapes: B rows, T tokens, S keys (the cached tokens and the T new ones), D hidden size, H query heads, K key/value
heads, d = D / H, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

IGNORE = -100  # label of positions that the loss leaves out, as everywhere in PyTorch


@dataclass
class GPTConfig:
    """Sizes of the model, named as in a Llama checkpoint's config.json."""

    vocab_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 352  # SwiGLU has three matrices, not two: about 8/3 D has the parameters of 4 D
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    max_position_embeddings: int = 512  # for export and GPT-2's table; RoPE itself knows no limit
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = True

    def __post_init__(self):
        if self.hidden_size % self.num_attention_heads or self.head_dim % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} must split into {self.num_attention_heads} heads of an even size"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"{self.num_attention_heads} query heads cannot share {self.num_key_value_heads} key/value heads evenly"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


# TODO rms_norm
def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Scale each vector of x [..., D] to root mean square 1, then by weight [D] (Zhang and Sennrich 2019).

    The mean is not subtracted. eps is added to the mean square, inside the root. Computed in float32 at least, whatever
    the type of x, because squares of bfloat16 numbers are too coarse, and taken back to the type of x before it is
    multiplied by weight.
    """
    ### BEGIN SOLUTION
    y = x if x.dtype == torch.float64 else x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return weight * y.type_as(x)
    ### END SOLUTION


class RMSNorm(nn.Module):
    """rms_norm with its weight."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., D]"""
        return rms_norm(x, self.weight, self.eps)


def rope_angles(positions: torch.Tensor, head_dim: int, theta: float) -> torch.Tensor:
    """The angle by which each pair of numbers is rotated: positions [B, T] -> [B, 1, T, d/2].

    Pair i rotates by position * theta^(-2i/d): the first pair once every 2 pi tokens, the last ones hardly at all.
    """
    frequencies = theta ** (-torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim)  # [d/2]
    return positions[:, None, :, None].float() * frequencies


# TODO rope
def apply_rope(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Rotate queries or keys x [B, H, T, d] by angles [B, 1, T, d/2] (RoPE, Su et al. 2021).

    Half-split, as Llama checkpoints have it: number i of the first half and number i of the second half are one
    pair (a, b), which becomes (a cos - b sin, b cos + a sin). The result has the type of x.
    """
    ### BEGIN SOLUTION
    cos, sin = angles.cos().type_as(x), angles.sin().type_as(x)  # [B, 1, T, d/2]
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    ### END SOLUTION


# TODO attention
def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017): q [B, H, T, d], k and v [B, H, S, d] -> [B, H, T, d].

    mask is True where a query may look at a key and broadcasts to [B, H, T, S]. Without a mask attention is
    causal: the T queries are the last T of the S positions, and none looks at a position after its own.
    Scores are divided by sqrt(d); the softmax over the keys must not overflow, however large they are.
    """
    ### BEGIN SOLUTION
    T, S = q.shape[-2], k.shape[-2]
    if mask is None:
        mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # [B, H, T, S]
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)  # torch's softmax subtracts the maximum first
    return weights @ v
    ### END SOLUTION


class KVCache:
    """Keys and values of the tokens read so far, one pair [B, K, S, d] per layer, so that no token is read twice."""

    def __init__(self):
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def length(self) -> int:
        """How many tokens S are in it."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def extend(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the T new tokens' k and v [B, K, T, d] to a layer; return all of that layer's, [B, K, S, d]."""
        if layer == len(self.layers):
            self.layers.append((k, v))
        else:
            past_k, past_v = self.layers[layer]
            self.layers[layer] = torch.cat([past_k, k], dim=2), torch.cat([past_v, v], dim=2)
        return self.layers[layer]


class Attention(nn.Module):
    """Causal self-attention in which several query heads share one key/value head (GQA, Ainslie et al. 2023)."""

    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        self.num_heads, self.num_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.q_proj = nn.Linear(config.hidden_size, self.num_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.num_kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.num_kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, config.hidden_size, bias=False)

    # TODO grouped_query_attention
    def forward(
        self, x: torch.Tensor, angles: torch.Tensor, mask: torch.Tensor | None = None, cache: KVCache | None = None
    ) -> torch.Tensor:
        """[B, T, D] -> [B, T, D]. Rotate queries and keys by angles [B, 1, T, d/2]; attend under the mask.

        Query heads 0 .. H/K - 1 share key/value head 0, the next H/K share head 1, and so on. With a cache, the
        keys (already rotated) and values of the T new tokens are appended to it, and all S are attended to.
        """
        ### BEGIN SOLUTION
        B, T, _ = x.shape
        q = self.q_proj(x).view(B, T, -1, self.head_dim).transpose(1, 2)  # [B, H, T, d]
        k = self.k_proj(x).view(B, T, -1, self.head_dim).transpose(1, 2)  # [B, K, T, d]
        v = self.v_proj(x).view(B, T, -1, self.head_dim).transpose(1, 2)
        q, k = apply_rope(q, angles), apply_rope(k, angles)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)  # [B, K, S, d]
        shared = self.num_heads // self.num_kv_heads
        if shared > 1:
            k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)  # [B, H, S, d]
        y = attention(q, k, v, mask)
        return self.o_proj(y.transpose(1, 2).flatten(2))
        ### END SOLUTION


class MLP(nn.Module):
    """The feed-forward part of a block, SwiGLU (Shazeer 2020)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    # TODO swiglu
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., D]: the gate, through SiLU, decides how much of each "up" feature goes "down" again."""
        ### BEGIN SOLUTION
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        ### END SOLUTION


class Block(nn.Module):
    """One pre-norm layer: attention mixes tokens, the MLP works on each token by itself."""

    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    # TODO block
    def forward(
        self, x: torch.Tensor, angles: torch.Tensor, mask: torch.Tensor | None = None, cache: KVCache | None = None
    ) -> torch.Tensor:
        """[B, T, D] -> [B, T, D]: each part reads the normalised stream and adds its result to the stream itself."""
        ### BEGIN SOLUTION
        x = x + self.self_attn(self.input_layernorm(x), angles, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))
        ### END SOLUTION


class Decoder(nn.Module):
    """Embedding, blocks and last norm (a module of its own only because a Llama checkpoint's names say `model.`)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


# TODO sample
def sample(
    logits: torch.Tensor,
    uniforms: torch.Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> torch.Tensor:
    """Choose one token per row: logits [B, V] and numbers uniforms [B] from [0, 1) -> ids [B], int64.

    logits / temperature (above 0) become probabilities. top_k keeps the k most likely tokens (all, if there are fewer).
    top_p (above 0) then keeps, of what is left and scaled to sum to 1 again, the fewest most likely tokens that
    together reach p (always at least one). What is kept is scaled to sum to 1, and the chosen token is the first one,
    in the order of the vocabulary, at which the running sum exceeds `uniforms`; there is one also where rounding leaves
    all sums below 1.
    """
    ### BEGIN SOLUTION
    probs = (logits.float() / temperature).softmax(-1)  # [B, V]
    if top_k is not None:
        kth = probs.topk(min(top_k, probs.shape[-1])).values[:, -1:]
        probs = probs.where(probs >= kth, 0.0)
    if top_p is not None:
        probs = probs / probs.sum(-1, keepdim=True)
        ordered, order = probs.sort(descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered  # what the more likely tokens have reached together
        probs = probs.scatter(-1, order, ordered.where(before < top_p, 0.0))
    reached = probs.cumsum(-1)
    return (reached <= uniforms[:, None] * reached[:, -1:]).sum(-1)
    ### END SOLUTION


class GPT(nn.Module):
    """The language model. `forward` reads rows of tokens, `generate` continues them."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.init_weights()
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def init_weights(self) -> None:
        """Start with activations of unit variance, guesses that are nearly uniform, and attention that looks back.

        A matrix has std 1 / sqrt(inputs), whatever the width of the model; a fixed 0.02, right for GPT-2's 768, makes
        a narrow model learn far slower. The 2 L projections into the stream have 1 / sqrt(2 L) of that, so that their
        sum is no larger than the embedding (GPT-2). The last norm's weight is small: logits near 0 give a first loss
        near ln V.
        """
        nn.init.normal_(self.model.embed_tokens.weight)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                added = name.endswith(("o_proj", "down_proj"))
                std = 1 / math.sqrt(module.in_features * (2 * self.config.num_hidden_layers if added else 1))
                nn.init.normal_(module.weight, std=std)
        nn.init.constant_(self.model.norm.weight, 0.2 / math.sqrt(self.config.hidden_size))
        self.init_induction_heads()

    @torch.no_grad()
    def init_induction_heads(self) -> None:
        """Start attention with what looking something up takes: heads that look back, that match, and that copy.

        A model finds all three by itself (Olsson et al. 2022: induction heads), but that takes long.
        Layers 0, 2, ...: head h looks h + 1 tokens back. Feature 0 of every embedding is 8, so what queries and keys
        read from it depends on positions only; the query gets what the key gets, rotated back by h + 1 positions.
        Layers 1, 3, ...: queries resemble keys, so a token looks at tokens like itself.
        All layers: o_proj is v_proj transposed, so what is read is passed on as it is.
        (The last two after Trockman and Kolter 2023, who have a minus sign in the last.)
        """
        config = self.config
        shared = config.num_attention_heads // config.num_key_value_heads
        self.model.embed_tokens.weight[:, 0] = 8.0
        distances = 1 + torch.arange(config.num_attention_heads)[None]
        angles = rope_angles(-distances, config.head_dim, config.rope_theta)[0, 0]  # [H, d/2]
        rotated = torch.cat([angles.cos() - angles.sin(), angles.cos() + angles.sin()], dim=-1)  # [H, d]
        for i, layer in enumerate(self.model.layers):
            q, k, v, o = (getattr(layer.self_attn, f"{name}_proj").weight for name in "qkvo")
            key, value = (
                w.unflatten(0, (-1, config.head_dim)).repeat_interleave(shared, 0).flatten(0, 1) for w in (k, v)
            )
            if i % 2:
                q.copy_(0.5 * key + math.sqrt(0.75) * q)
            o.copy_(value.T / math.sqrt(2 * config.num_hidden_layers))
            k[:, 0] = 0.5
            if i % 2 == 0:
                q[:, 0] = 0.5 * rotated.flatten()

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embedding, under the name that Hugging Face's models have for it."""
        return self.model.embed_tokens

    def positions_and_mask(
        self, T: int, past: int, attention_mask: torch.Tensor | None, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Positions [B or 1, T] of the T newest of S = past + T tokens, and their attention mask [B, 1, T, S] or None.

        Padding (0 in attention_mask [B, S]) is not counted and not looked at, except by itself: a row of the
        softmax in which everything is masked would be NaN, and spread.
        """
        if attention_mask is None:
            return torch.arange(past, past + T, device=device)[None], None
        positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -T:]
        causal = torch.ones(T, past + T, dtype=torch.bool, device=device).tril(past)
        itself = causal.triu(past)
        return positions, (causal & attention_mask.bool()[:, None, None]) | itself

    # TODO gpt_forward
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        cache: KVCache | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Read tokens input_ids [B, T] or, instead, their embeddings inputs_embeds [B, T, D].

        Returns logits [B, T, V] and, with labels [B, T], the mean cross-entropy (else None). labels are aligned
        with the inputs and shifted here, once: the logits at t are judged by the label at t + 1. IGNORE is left out.
        attention_mask [B, S] is 0 at padding; with a cache S counts the cached tokens too.
        """
        ### BEGIN SOLUTION
        x = self.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds  # [B, T, D]
        past = cache.length if cache is not None else 0
        positions, mask = self.positions_and_mask(x.shape[1], past, attention_mask, x.device)
        angles = rope_angles(positions, self.config.head_dim, self.config.rope_theta)  # [B, 1, T, d/2]
        for layer in self.model.layers:
            x = layer(x, angles, mask, cache)
        logits = self.lm_head(self.model.norm(x))  # [B, T, V]
        if labels is None:
            return logits, None
        labels = F.pad(labels[:, 1:], (0, 1), value=IGNORE)  # label t is now token t + 1; the last logits have none
        loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE)
        return logits, loss
        ### END SOLUTION

    # TODO generate
    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        max_new_tokens: int = 20,
        eos_token_id: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        uniforms: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Continue input_ids [B, T] (or inputs_embeds [B, T, D]) and return the new ids only, [B, N], N <=
        max_new_tokens.

        attention_mask [B, T] is 0 at padding, which must stand on the left. Temperature 0 takes the likeliest token;
        otherwise uniforms [B, max_new_tokens] are needed, and column n chooses token n. max_new_tokens is 1 or more.
        A row that has said eos_token_id says it again until all rows have; then generation stops. The prompt is
        read once: after that, each step reads one token and a KV cache.
        """
        ### BEGIN SOLUTION
        cache, ids = KVCache(), []
        x = {"input_ids": input_ids, "inputs_embeds": inputs_embeds}
        for n in range(max_new_tokens):
            logits = self(**x, attention_mask=attention_mask, cache=cache)[0][:, -1]  # [B, V]
            if temperature == 0:
                token = logits.argmax(-1)
            else:
                token = sample(logits, uniforms[:, n], temperature, top_k, top_p)
            if eos_token_id is not None and ids:
                token = torch.where(ids[-1] == eos_token_id, eos_token_id, token)
            ids.append(token)
            if eos_token_id is not None and (token == eos_token_id).all():
                break
            x = {"input_ids": token[:, None]}
            if attention_mask is not None:
                attention_mask = F.pad(attention_mask, (0, 1), value=1)
        return torch.stack(ids, dim=1)  # [B, N]
        ### END SOLUTION
