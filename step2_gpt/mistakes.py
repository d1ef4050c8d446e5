"""The known wrong answers to this lesson's TODOs: each a patch of the solution, and what to say about it."""

from course.checking import Mistake

NORM = "y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)"
ROTATE = "return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)"
ANGLES = "cos, sin = angles.cos().type_as(x), angles.sin().type_as(x)"
CAUSAL = "mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)"
SCORES = "scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])"
SOFTMAX = 'weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)'
SHARE = "k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)"
REMEMBER = """q, k = apply_rope(q, angles), apply_rope(k, angles)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)  # [B, K, S, d]
"""
JOIN = "return self.o_proj(y.transpose(1, 2).flatten(2))"
GATED = "return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))"
ATTEND = "x = x + self.self_attn(self.input_layernorm(x), angles, mask, cache)"
THINK = "return x + self.mlp(self.post_attention_layernorm(x))"
PAST = "past = cache.length if cache is not None else 0"
PLACES = "positions, mask = self.positions_and_mask(x.shape[1], past, attention_mask, x.device)"
LAYER = "x = layer(x, angles, mask, cache)"
SHIFT = "labels = F.pad(labels[:, 1:], (0, 1), value=IGNORE)  # label t is now token t + 1; the last logits have none"
LOSS = f"{SHIFT}\n        loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE)"
REACHED = "reached = probs.cumsum(-1)\n    return (reached <= uniforms[:, None] * reached[:, -1:]).sum(-1)"
LOGITS = "logits = self(**x, attention_mask=attention_mask, cache=cache)[0][:, -1]"
NEXT = 'x = {"input_ids": token[:, None]}'
ENDED = "token = torch.where(ids[-1] == eos_token_id, eos_token_id, token)"

GREEDY = (
    "The likeliest token is taken, all or most of the time, at a high temperature too. Above 0 sample decides: is it "
    "called, and does the temperature reach it?"
)

MISTAKES = {
    "rms_norm": [
        Mistake(
            "mean subtracted",
            NORM,
            "y = y - y.mean(-1, keepdim=True)\n    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)",
            "This is LayerNorm: it subtracts the mean before it scales. RMSNorm leaves the mean "
            "where it is and only scales, which saves work and was found to train as well.",
        ),
        Mistake(
            "eps outside the root",
            NORM,
            "y = y / (y.square().mean(-1, keepdim=True).sqrt() + eps)",
            "eps is added to the root here. It belongs to the mean square, inside the root: for "
            "small vectors that is another number, and checkpoints were trained with the one inside.",
        ),
        Mistake(
            "no eps",
            NORM,
            "y = y * torch.rsqrt(y.square().mean(-1, keepdim=True))",
            "eps is not added to the mean square. Without it a vector of zeros is divided by zero, and one NaN is "
            "enough to spoil a model. (The eps of F.normalize is something else: the smallest length that it "
            "divides by.)",
        ),
        Mistake(
            "no upcast",
            "y = x if x.dtype == torch.float64 else x.float()",
            "y = x",
            "The squares are computed in the type of x. In half precision they overflow (300 squared "
            "is infinite in float16) or lose most of their digits; compute the norm in float32 and "
            "convert back at the end.",
        ),
        Mistake(
            "not converted back",
            "return weight * y.type_as(x)",
            "return weight.float() * y",
            "The arithmetic is right, but the result must have the type of x again; otherwise "
            "everything after the first norm runs in float32 and half precision is lost for nothing.",
        ),
        Mistake(
            "sum instead of mean",
            NORM,
            "y = y * torch.rsqrt(y.square().sum(-1, keepdim=True) + eps)",
            "The squares are summed, not averaged: the vectors get length 1 instead of root mean "
            "square 1, and are too small by the root of their size.",
        ),
        Mistake(
            "no root",
            NORM,
            "y = y / (y.square().mean(-1, keepdim=True) + eps)",
            "The vectors are divided by their mean square itself. Its root is what has the unit of x.",
        ),
        Mistake(
            "mean, not of squares",
            NORM,
            "y = y * torch.rsqrt(y.mean(-1, keepdim=True).square() + eps)",
            "This is the square of the mean. Square first, then take the mean: numbers of both signs "
            "cancel out otherwise.",
        ),
        Mistake(
            "standard deviation",
            NORM,
            "y = y / (y.std(-1, keepdim=True) + eps)",
            "You divide by the standard deviation, which measures how far the numbers are from their mean. The "
            "root mean square measures how far they are from 0: the root of the mean of the squares.",
        ),
        Mistake(
            "over all numbers",
            NORM,
            "y = y * torch.rsqrt(y.square().mean() + eps)",
            "One mean was taken over the whole tensor, so tokens depend on each other, and on the "
            "other rows of the batch. Each vector has its own mean square, over the last dimension.",
        ),
        Mistake(
            "no weight",
            "return weight * y.type_as(x)",
            "return y.type_as(x)",
            "The learned weight, one number for each feature, is not applied.",
        ),
    ],
    "rope": [
        Mistake(
            "interleaved",
            f"a, b = x.chunk(2, dim=-1)\n    {ROTATE}",
            "a, b = x[..., 0::2], x[..., 1::2]\n"
            "    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)",
            "Neighbouring numbers are paired (0 with 1, 2 with 3). That is the layout of the RoPE "
            "paper; Llama checkpoints in Hugging Face's form pair number i of the first half with "
            "number i of the second.",
        ),
        Mistake(
            "interleaved in, halves out",
            "a, b = x.chunk(2, dim=-1)",
            "a, b = x[..., 0::2], x[..., 1::2]",
            "Neighbouring numbers are taken as pairs, and what comes of them is put into two halves: numbers "
            "change their places. Number i of the first half and number i of the second half are a pair.",
        ),
        Mistake(
            "halves in, interleaved out",
            ROTATE,
            "return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)",
            "The halves are rotated rightly, and then put together number by number, so that they change their "
            "places. The new a is the first half of the result, the new b the second: torch.cat.",
        ),
        Mistake(
            "a overwritten",
            ROTATE,
            "a = a * cos - b * sin\n    b = b * cos + a * sin\n    return torch.cat([a, b], dim=-1)",
            "When b is rotated, a has been rotated already: the new b needs the old a. Compute both before you give "
            "either a new value.",
        ),
        Mistake(
            "sign flipped",
            ROTATE,
            "return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)",
            "Everything is rotated the other way round. The model would still see relative distances, "
            "but a checkpoint trained with the usual direction would read every distance as its "
            "negative.",
        ),
        Mistake(
            "positions ignored",
            ANGLES,
            "angles = angles[:, :, :1]\n    cos, sin = angles.cos().type_as(x), angles.sin().type_as(x)",
            "All tokens are rotated by the same angles, those of the first one. Then positions cannot "
            "be told apart: q and k rotated alike have the same product as unrotated.",
        ),
        Mistake(
            "angles rounded",
            ANGLES,
            "angles = angles.type_as(x)\n    cos, sin = angles.cos(), angles.sin()",
            "The angles are converted to the type of x before cos and sin. In bfloat16 an angle of 400 is off by up "
            "to a radian, which is another position. Take cos and sin in float32, and convert these.",
        ),
        Mistake(
            "first row's angles for all rows",
            ANGLES,
            "angles = angles[:1]\n    cos, sin = angles.cos().type_as(x), angles.sin().type_as(x)",
            "All rows of the batch get the first row's angles. With padding on the left, rows have "
            "positions of their own: angles is [B, 1, T, d/2].",
        ),
        Mistake(
            "not rotated",
            ROTATE,
            "return x",
            "The input comes back as it was. No position reaches the attention like this: any order "
            "of the same tokens would look alike.",
        ),
        Mistake(
            "no minus",
            ROTATE,
            "return torch.cat([a * cos + b * sin, b * cos + a * sin], dim=-1)",
            "Without the minus sign this is no rotation: lengths change. One of the two terms with sin is subtracted.",
        ),
        Mistake(
            "half not crossed",
            ROTATE,
            "return torch.cat([a * cos - a * sin, b * cos + b * sin], dim=-1)",
            "Each half is mixed with itself only. In a rotation the new a needs the old b, and the new b the old a.",
        ),
        Mistake(
            "type of the angles",
            ANGLES,
            "cos, sin = angles.cos(), angles.sin()",
            "The result takes the type of the angles, float32, when x is in half precision; queries "
            "and keys would then no longer fit to the values. Convert cos and sin, or the result, to "
            "the type of x.",
        ),
    ],
    "attention": [
        Mistake(
            "no mask",
            CAUSAL,
            "mask = torch.ones(T, S, dtype=torch.bool, device=q.device)",
            "Without a mask every token sees the ones after it. Training would look wonderful, "
            "because the answer stands in the input, and generation would fail, because there it "
            "does not.",
        ),
        Mistake(
            "mask transposed",
            CAUSAL,
            "mask = torch.ones(T, S, dtype=torch.bool, device=q.device).triu(S - T)",
            "The mask is turned round: tokens look at themselves and at what comes after, never "
            "back. Queries are the rows of the scores, keys the columns, and a query may look at "
            "earlier columns.",
        ),
        Mistake(
            "own position hidden",
            CAUSAL,
            "mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T - 1)",
            "A token may look at itself too. Here the diagonal is hidden, and the first token, which "
            "then sees nothing at all, gets NaN.",
        ),
        Mistake(
            "queries counted from the start",
            CAUSAL,
            "mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril()",
            "With fewer queries than keys (T < S, as with a cache) the queries are the LAST T "
            "positions. This mask takes them for the first T, so they see far too little.",
        ),
        Mistake(
            "diagonal of the wrong sign",
            CAUSAL,
            "mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(T - S)",
            "tril(T - S) moves the diagonal to the wrong side. With fewer queries than keys the first queries then "
            "see nothing at all, and get NaN. Query t stands at position S - T + t.",
        ),
        Mistake(
            "a single query not masked",
            SOFTMAX,
            'weights = (scores.masked_fill(~mask, float("-inf")) if T > 1 else scores).softmax(-1)',
            "A single query is not masked. Nothing lies in its future, but a mask that is handed in may hide "
            "padding from it.",
        ),
        Mistake(
            "hidden by a large number",
            SOFTMAX,
            "weights = scores.masked_fill(~mask, -1e4).softmax(-1)",
            "Hidden scores become -10,000. Where all that is allowed fits even worse, the hidden tokens get the "
            "weight. Minus infinity is below every score.",
        ),
        Mistake(
            "given mask ignored",
            f"if mask is None:\n        {CAUSAL}",
            CAUSAL,
            "The mask that was handed in is replaced by the causal one. A given mask says everything "
            "about who may look where; only without one attention is causal.",
        ),
        Mistake(
            "causal on top of the given mask",
            f"if mask is None:\n        {CAUSAL}",
            "causal = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)\n"
            "    mask = causal if mask is None else mask & causal",
            "A given mask is cut down to its causal part. It may allow looking ahead (an image's "
            "patches do), and is to be taken as it is.",
        ),
        Mistake(
            "mask upside down",
            SOFTMAX,
            'weights = scores.masked_fill(mask, float("-inf")).softmax(-1)',
            "The mask is True where looking is ALLOWED. Here just those scores are struck out.",
        ),
        Mistake(
            "masked after the softmax",
            SOFTMAX,
            "weights = scores.softmax(-1).masked_fill(~mask, 0)",
            "The weights are set to 0 after the softmax, so those that are left no longer sum to 1, "
            "and hidden tokens still count in the denominator. Strike out the scores, before the "
            "softmax.",
        ),
        Mistake(
            "minus infinity times 0",
            SOFTMAX,
            'weights = (scores + (~mask) * float("-inf")).softmax(-1)',
            "0 times infinity is NaN, so the scores that are allowed become NaN too. masked_fill, or torch.where, "
            "puts minus infinity in some places and leaves the others alone.",
        ),
        Mistake(
            "masked with 0",
            SOFTMAX,
            "weights = scores.masked_fill(~mask, 0.0).softmax(-1)",
            "A score of 0 is no prohibition: e^0 = 1, so hidden tokens keep a weight. Which score "
            "has the exponential 0?",
        ),
        Mistake(
            "no scale",
            SCORES,
            "scores = q @ k.transpose(-2, -1)",
            "The scores are not divided by sqrt(d). A sum of d products grows with sqrt(d), and the "
            "softmax turns into a hard choice with no gradient.",
        ),
        Mistake(
            "scale on the wrong side",
            SCORES,
            "scores = q @ k.transpose(-2, -1) * math.sqrt(q.shape[-1])",
            "The scores are multiplied by sqrt(d). They are too large for the softmax already: divide.",
        ),
        Mistake(
            "root of the heads",
            SCORES,
            "scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[1])",
            "The scores are divided by the root of the number of heads. d is the size of a head, the last "
            "dimension of q.",
        ),
        Mistake(
            "divided by d",
            SCORES,
            "scores = q @ k.transpose(-2, -1) / q.shape[-1]",
            "The scores are divided by d. Their spread grows with the root of d only, so this makes "
            "attention too flat.",
        ),
        Mistake(
            "softmax over the wrong dimension",
            SOFTMAX,
            'weights = scores.masked_fill(~mask, float("-inf")).softmax(-2)',
            "The softmax runs over the queries. Each query's weights over the keys, a row of [T, S], must sum to 1.",
        ),
        Mistake(
            "softmax overflows",
            SOFTMAX,
            'weights = scores.masked_fill(~mask, float("-inf")).exp()\n'
            "    weights = weights / weights.sum(-1, keepdim=True)",
            "exp of a large score overflows, and infinity over infinity is NaN. The softmax does not "
            "change when a number is subtracted from all scores of a row: take their maximum, or use "
            "torch's softmax.",
        ),
        Mistake(
            "maximum of the hidden scores",
            SOFTMAX,
            "weights = (scores - scores.amax(-1, keepdim=True)).exp() * mask\n"
            "    weights = weights / weights.sum(-1, keepdim=True)",
            "The maximum is taken over hidden scores too. If one of those is far larger, all that is "
            "allowed becomes 0, and 0 / 0 is NaN. Strike out first, then take the maximum.",
        ),
    ],
    "grouped_query_attention": [
        Mistake(
            "heads repeated in the wrong order",
            SHARE,
            "k, v = k.repeat(1, shared, 1, 1), v.repeat(1, shared, 1, 1)",
            "The key/value heads come in the order 0 1 0 1. Neighbouring query heads share one: 0 0 "
            "1 1. Shapes are the same, and training from scratch would even work; a checkpoint would "
            "read nonsense.",
        ),
        Mistake(
            "keys rotated again",
            REMEMBER,
            "q = apply_rope(q, angles)\n"
            "        if cache is not None:\n"
            "            k, v = cache.extend(self.layer, k, v)\n"
            "        k = apply_rope(k, angles)\n",
            "Rotate the new keys BEFORE they go into the cache. Here the old ones, taken out of it, "
            "are rotated by the angles of the new tokens.",
        ),
        Mistake(
            "cached keys not rotated",
            REMEMBER,
            "if cache is not None:\n"
            "            past_k, past_v = cache.layers[self.layer] if cache.length and "
            "self.layer < len(cache.layers) else (k[:, :, :0], v[:, :, :0])\n"
            "            cache.extend(self.layer, k, v)\n"
            "            q, k = apply_rope(q, angles), apply_rope(k, angles)\n"
            "            k, v = torch.cat([past_k, k], dim=2), torch.cat([past_v, v], dim=2)\n"
            "        else:\n"
            "            q, k = apply_rope(q, angles), apply_rope(k, angles)\n",
            "The cache holds keys as they were before they were rotated, and nobody rotates them later. "
            "Put rotated keys into it.",
        ),
        Mistake(
            "values rotated too",
            "q, k = apply_rope(q, angles), apply_rope(k, angles)",
            "q, k, v = apply_rope(q, angles), apply_rope(k, angles), apply_rope(v, angles)",
            "The values are rotated as well. Positions are for deciding whom to look at, so only "
            "queries and keys are rotated; what is fetched stays as it is.",
        ),
        Mistake(
            "keys not rotated",
            "q, k = apply_rope(q, angles), apply_rope(k, angles)",
            "q = apply_rope(q, angles)",
            "Only the queries are rotated. The difference of two positions shows only if queries and keys are.",
        ),
        Mistake(
            "repeated heads in the cache",
            f"{REMEMBER}        shared = self.num_heads // self.num_kv_heads\n"
            f"        if shared > 1:\n            {SHARE}  # [B, H, S, d]\n",
            "q, k = apply_rope(q, angles), apply_rope(k, angles)\n"
            "        shared = self.num_heads // self.num_kv_heads\n"
            "        k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)\n"
            "        if cache is not None:\n"
            "            k, v = cache.extend(self.layer, k, v)\n",
            "The heads are repeated before they go into the cache, which then holds H heads instead "
            "of K. A small cache is what grouped queries are for: repeat what comes out of it.",
        ),
        Mistake(
            "cache ignored",
            "k, v = cache.extend(self.layer, k, v)",
            "cache.extend(self.layer, k, v)",
            "The new keys and values go into the cache, but attention sees only the new ones. "
            "`extend` returns all of them.",
        ),
        Mistake(
            "one layer's cache for all",
            "k, v = cache.extend(self.layer, k, v)",
            "k, v = cache.extend(0, k, v)",
            "Every layer has keys and values of its own: extend wants the number of this layer.",
        ),
        Mistake(
            "mask not handed on",
            "y = attention(q, k, v, mask)",
            "y = attention(q, k, v)",
            "The mask is not handed to attention, so padding would be looked at.",
        ),
        Mistake(
            "mask dropped with a cache",
            "y = attention(q, k, v, mask)",
            "y = attention(q, k, v, mask if cache is None else None)",
            "With a cache the mask does not reach attention, so padding that was read before is looked at.",
        ),
        Mistake(
            "mask dropped for a single token",
            "y = attention(q, k, v, mask)",
            "y = attention(q, k, v, mask if T > 1 else None)",
            "A single token comes without a mask. Nothing lies in its future, but the cache may hold padding.",
        ),
        Mistake(
            "residual added",
            JOIN,
            "return x + self.o_proj(y.transpose(1, 2).flatten(2))",
            "x is added to the result. That is the block's work: it would be added twice.",
        ),
        Mistake(
            "heads joined without moving them back",
            JOIN,
            "return self.o_proj(y.reshape(x.shape))",
            "[B, H, T, d] was read as [B, T, H d] without moving the heads behind the tokens first: "
            "numbers of different tokens end up in one vector. The shape is right, the order is not.",
        ),
        Mistake(
            "split without moving the heads",
            "q = self.q_proj(x).view(B, T, -1, self.head_dim).transpose(1, 2)",
            "q = self.q_proj(x).view(B, -1, T, self.head_dim)",
            "[B, T, H d] was read as [B, H, T, d] in one reshape. That mixes tokens: split the last "
            "dimension into heads first, then exchange the dimensions of tokens and heads.",
        ),
        Mistake(
            "no o_proj",
            JOIN,
            "return y.transpose(1, 2).flatten(2)",
            "The heads are joined but not projected: o_proj is what mixes what they found.",
        ),
    ],
    "swiglu": [
        Mistake(
            "gate and up swapped",
            GATED,
            "return self.down_proj(F.silu(self.up_proj(x)) * self.gate_proj(x))",
            "gate and up have changed places. A model trained like this works as well, but in a "
            "checkpoint it is the gate that goes through SiLU.",
        ),
        Mistake(
            "sigmoid gate",
            GATED,
            "return self.down_proj(torch.sigmoid(self.gate_proj(x)) * self.up_proj(x))",
            "This gate is a sigmoid: that is GLU. SwiGLU's is SiLU, z * sigmoid(z).",
        ),
        Mistake(
            "gelu gate",
            GATED,
            "return self.down_proj(F.gelu(self.gate_proj(x)) * self.up_proj(x))",
            "This gate is a GELU: that is GEGLU. SwiGLU's is SiLU, z * sigmoid(z).",
        ),
        Mistake(
            "relu gate",
            GATED,
            "return self.down_proj(F.relu(self.gate_proj(x)) * self.up_proj(x))",
            "This gate is a ReLU: that is ReGLU. SwiGLU's is SiLU, z * sigmoid(z).",
        ),
        Mistake(
            "no gate",
            GATED,
            "return self.down_proj(F.silu(self.up_proj(x)))",
            "The gate is missing: this is the feed-forward layer of older models, with another activation.",
        ),
        Mistake(
            "no activation",
            GATED,
            "return self.down_proj(self.gate_proj(x) * self.up_proj(x))",
            "The gate does not go through SiLU, so it never closes.",
        ),
        Mistake(
            "sum for product",
            GATED,
            "return self.down_proj(F.silu(self.gate_proj(x)) + self.up_proj(x))",
            "The gate is added. To let through more or less of a feature, it has to be multiplied with it.",
        ),
        Mistake(
            "residual added",
            GATED,
            "return x + self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))",
            "x is added to the result. That is the block's work: it would be added twice.",
        ),
        Mistake(
            "silu of the product",
            GATED,
            "return self.down_proj(F.silu(self.gate_proj(x) * self.up_proj(x)))",
            "SiLU is applied to the product. It belongs to the gate alone.",
        ),
    ],
    "block": [
        Mistake(
            "no residual around attention",
            ATTEND,
            "x = self.self_attn(self.input_layernorm(x), angles, mask, cache)",
            "What attention returns takes the place of the stream instead of being added to it. Deep "
            "models cannot be trained like this: each layer would have to carry everything through.",
        ),
        Mistake(
            "no residual around the MLP",
            THINK,
            "return self.mlp(self.post_attention_layernorm(x))",
            "What the MLP returns takes the place of the stream instead of being added to it.",
        ),
        Mistake(
            "post-norm for pre-norm",
            f"{ATTEND}\n        {THINK}",
            "x = self.input_layernorm(x + self.self_attn(x, angles, mask, cache))\n"
            "        return self.post_attention_layernorm(x + self.mlp(x))",
            "This is post-norm, as in the first Transformer: the norm comes after the sum, on the "
            "stream itself. In a Llama the norm stands at the entrance of each part, and nothing "
            "stands in the way of the stream, which makes deep models easier to train.",
        ),
        Mistake(
            "norm behind the part",
            f"{ATTEND}\n        {THINK}",
            "x = x + self.input_layernorm(self.self_attn(x, angles, mask, cache))\n"
            "        return x + self.post_attention_layernorm(self.mlp(x))",
            "The norms stand behind the parts, on what they answer. They belong in front, on what the parts read: "
            "self_attn(input_layernorm(x)), and mlp(post_attention_layernorm(x)).",
        ),
        Mistake(
            "second norm on attention's answer",
            f"{ATTEND}\n        {THINK}",
            "y = self.self_attn(self.input_layernorm(x), angles, mask, cache)\n"
            "        x = x + self.post_attention_layernorm(y)\n"
            "        return x + self.mlp(x)",
            "post_attention_layernorm comes after attention, as its name says, but not on attention's answer: it "
            "is the norm through which the MLP reads the stream.",
        ),
        Mistake(
            "stream normalised twice",
            f"{ATTEND}\n        {THINK}",
            "x = self.input_layernorm(x)\n"
            "        x = x + self.self_attn(x, angles, mask, cache)\n"
            "        x = self.post_attention_layernorm(x)\n"
            "        return x + self.mlp(x)",
            "x = norm(x) overwrites the stream, so the parts' answers are added to the normalised stream. Only what "
            "a part reads is normalised: write x + part(norm(x)).",
        ),
        Mistake(
            "normalised residual",
            ATTEND,
            "x = self.input_layernorm(x)\n        x = x + self.self_attn(x, angles, mask, cache)",
            "The part's result is added to the normalised stream. Only what the part reads is "
            "normalised; it is added to x as it was.",
        ),
        Mistake(
            "no norms",
            f"{ATTEND}\n        {THINK}",
            "x = x + self.self_attn(x, angles, mask, cache)\n        return x + self.mlp(x)",
            "Neither part reads through its norm. The stream grows from layer to layer, and so does "
            "what it would read.",
        ),
        Mistake(
            "one norm for both",
            THINK,
            "return x + self.mlp(self.input_layernorm(x))",
            "Both parts read through the first norm. The MLP has one of its own, post_attention_layernorm.",
        ),
        Mistake(
            "in parallel",
            f"{ATTEND}\n        {THINK}",
            "y = self.self_attn(self.input_layernorm(x), angles, mask, cache)\n"
            "        return x + y + self.mlp(self.post_attention_layernorm(x))",
            "The MLP reads the stream as it was before attention (GPT-J does that). In a Llama it "
            "reads what attention has already added to.",
        ),
        Mistake(
            "norms exchanged",
            f"{ATTEND}\n        {THINK}",
            "x = x + self.self_attn(self.post_attention_layernorm(x), angles, mask, cache)\n"
            "        return x + self.mlp(self.input_layernorm(x))",
            "The norms have changed places: attention reads through input_layernorm, the MLP through "
            "post_attention_layernorm.",
        ),
        Mistake(
            "MLP first",
            f"{ATTEND}\n        {THINK}",
            "x = x + self.mlp(self.post_attention_layernorm(x))\n"
            "        return x + self.self_attn(self.input_layernorm(x), angles, mask, cache)",
            "The MLP comes before attention. It is the other way round.",
        ),
        Mistake(
            "attention without its norm",
            ATTEND,
            "x = x + self.self_attn(x, angles, mask, cache)",
            "Attention reads the stream itself. It should read it through input_layernorm.",
        ),
        Mistake(
            "MLP without its norm",
            THINK,
            "return x + self.mlp(x)",
            "The MLP reads the stream itself. It should read it through post_attention_layernorm.",
        ),
        Mistake(
            "mask dropped with a cache",
            ATTEND,
            "x = x + self.self_attn(self.input_layernorm(x), angles, mask if cache is None else None, cache)",
            "With a cache the mask does not reach attention, so padding that was read before is looked at.",
        ),
        Mistake(
            "mask forgotten",
            ATTEND,
            "x = x + self.self_attn(self.input_layernorm(x), angles, None, cache)",
            "The mask does not reach attention.",
        ),
        Mistake(
            "cache forgotten",
            ATTEND,
            "x = x + self.self_attn(self.input_layernorm(x), angles, mask)",
            "The cache does not reach attention, so what was read before is forgotten.",
        ),
    ],
    "gpt_forward": [
        Mistake(
            "labels not shifted",
            LOSS,
            "loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE)",
            "The logits at t are judged by the label at t, the very token that the model reads "
            "there. It would learn to copy. They are a guess at token t + 1.",
        ),
        Mistake(
            "shifted twice",
            LOSS,
            "loss = F.cross_entropy(logits[:, :-2].flatten(0, 1).float(), labels[:, 2:].flatten(), "
            "ignore_index=IGNORE)",
            "The logits at t are judged by the label at t + 2. The labels come in aligned with the "
            "inputs: they are shifted once, here.",
        ),
        Mistake(
            "shifted backwards",
            LOSS,
            "loss = F.cross_entropy(logits[:, 1:].flatten(0, 1).float(), labels[:, :-1].flatten(), "
            "ignore_index=IGNORE)",
            "The logits at t are judged by the label at t - 1, a token that was already read. Drop "
            "the last logits and the first label, not the other way round.",
        ),
        Mistake(
            "labels rolled",
            SHIFT,
            "labels = labels.roll(-1, 1)",
            "roll brings the first label of each row round to its end, and the last logits are judged by it. They "
            "have no partner: cut both off, or put IGNORE there.",
        ),
        Mistake(
            "softmax before the loss",
            LOSS,
            "loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float().softmax(-1), labels[:, 1:].flatten(), "
            "ignore_index=IGNORE)",
            "cross_entropy wants logits: it takes the softmax itself. Here it is taken twice.",
        ),
        Mistake(
            "loss without gradient",
            "return logits, loss",
            "return logits, loss.detach()",
            "The loss is cut off from the weights (detach, item, or no_grad), so nothing can be learned from it.",
        ),
        Mistake(
            "rows joined before the shift",
            LOSS,
            "loss = F.cross_entropy(logits.flatten(0, 1)[:-1].float(), labels.flatten()[1:], ignore_index=IGNORE)",
            "The rows are made one long row first and shifted then, so the last logits of each row are judged by "
            "the first label of the next one. Shift within the rows, then flatten.",
        ),
        Mistake(
            "ignore_index not honoured",
            LOSS,
            "loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, "
            "1:].flatten().clamp(min=0), ignore_index=IGNORE)",
            "Positions labelled -100 count as if their label were token 0. They are to be left out, "
            "of the sum and of the number that it is divided by.",
        ),
        Mistake(
            "mean over the ignored too",
            LOSS,
            "loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), "
            'ignore_index=IGNORE, reduction="sum") / labels[:, 1:].numel()',
            "The sum is divided by the number of all positions, the ignored ones included. The mean "
            "is over those that count.",
        ),
        Mistake(
            "logits alone",
            f"if labels is None:\n            return logits, None\n        {LOSS}\n        return logits, loss",
            "return logits",
            "Only the logits come back. Two things are asked for: the logits and the loss, which is None "
            "where there are no labels.",
        ),
        Mistake(
            "sum instead of mean",
            LOSS,
            "loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), "
            'ignore_index=IGNORE, reduction="sum")',
            "The loss is a sum and grows with the number of tokens. It should be their mean.",
        ),
        Mistake(
            "positions restart after the cache",
            PAST,
            "past = 0",
            "After a cache the positions start at 0 again. New tokens come after the ones in the "
            "cache: they continue at cache.length.",
        ),
        Mistake(
            "positions restart with embeddings",
            PAST,
            "past = cache.length if cache is not None and input_ids is not None else 0",
            "With embeddings the positions start at 0 although there is a cache. What comes in does not matter: new "
            "tokens continue at cache.length.",
        ),
        Mistake(
            "theta taken for granted",
            "angles = rope_angles(positions, self.config.head_dim, self.config.rope_theta)",
            "angles = rope_angles(positions, self.config.head_dim, 10000.0)",
            "theta is 10,000 whatever the configuration says. Llama 3 has 500,000: take self.config.rope_theta.",
        ),
        Mistake(
            "cache off by one",
            PAST,
            "past = cache.length - 1 if cache is not None and cache.length else 0",
            "The positions after a cache are off by one. With n tokens in the cache, at positions 0 "
            "to n - 1, the next one stands at n.",
        ),
        Mistake("cache not handed on", LAYER, "x = layer(x, angles, mask)", "The cache does not reach the layers."),
        Mistake(
            "mask not handed on",
            LAYER,
            "x = layer(x, angles, None, cache)",
            "The mask does not reach the layers, so padding is looked at.",
        ),
        Mistake(
            "padding counted",
            PLACES,
            f"_, mask = {PLACES.partition(' = ')[2]}\n"
            "        positions = torch.arange(past, past + x.shape[1], device=x.device)[None]",
            "Padding counts as positions here. The first real token of every row stands at position "
            "0, however much padding is before it; positions_and_mask returns positions like that.",
        ),
        Mistake(
            "attention_mask ignored",
            PLACES,
            "positions, mask = self.positions_and_mask(x.shape[1], past, None, x.device)",
            "attention_mask has no effect: padding is looked at, and counted in the positions.",
        ),
        Mistake(
            "no last norm",
            "logits = self.lm_head(self.model.norm(x))",
            "logits = self.lm_head(x)",
            "The stream goes to lm_head without the last norm.",
        ),
        Mistake(
            "embeddings ignored",
            "x = self.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds",
            "x = self.model.embed_tokens(input_ids)",
            "inputs_embeds has no effect. Where embeddings are handed in, they are taken as they "
            "are: that is how a picture will get into the model.",
        ),
        Mistake(
            "first layer only",
            f"{LAYER}\n",
            f"{LAYER}\n            break\n",
            "Only the first layer is used: does something end the loop early?",
        ),
    ],
    "sample": [
        Mistake(
            "crossing token dropped",
            "ordered.where(before < top_p, 0.0)",
            "ordered.where((before + ordered <= top_p) | (before == 0), 0.0)",
            "The token with which the running sum crosses top_p is dropped. It has to stay: the kept "
            "tokens together REACH p.",
        ),
        Mistake(
            "may keep nothing",
            "ordered.where(before < top_p, 0.0)",
            "ordered.where(before + ordered <= top_p, 0.0)",
            "A token is kept only while the sum stays below top_p, so the one that crosses it is "
            "dropped, and if the likeliest alone is above p nothing is left to choose from.",
        ),
        Mistake(
            "temperature multiplied",
            "probs = (logits.float() / temperature).softmax(-1)",
            "probs = (logits.float() * temperature).softmax(-1)",
            "The logits are multiplied by the temperature. A high temperature should make the choice "
            "more even, so it divides.",
        ),
        Mistake(
            "temperature without effect",
            "probs = (logits.float() / temperature).softmax(-1)",
            "probs = logits.float().softmax(-1) / temperature",
            "The temperature has no effect. It divides the logits, before the softmax; probabilities "
            "divided by it are the same again once they are scaled to sum to 1.",
        ),
        Mistake(
            "top_k keeps one too many",
            "kth = probs.topk(min(top_k, probs.shape[-1])).values[:, -1:]",
            "kth = probs.topk(min(top_k + 1, probs.shape[-1])).values[:, -1:]",
            "One token more than top_k is kept.",
        ),
        Mistake(
            "top_k drops the k-th",
            "probs = probs.where(probs >= kth, 0.0)",
            "probs = probs.where((probs > kth) | (probs == probs.amax(-1, keepdim=True)), 0.0)",
            "The k-th likeliest token is dropped, so that one too few is kept.",
        ),
        Mistake(
            "more than there are",
            "probs.topk(min(top_k, probs.shape[-1]))",
            "probs.topk(top_k)",
            "topk cannot find 50 tokens in a vocabulary of 6, and stops the program. If there are fewer than "
            "top_k, all of them are kept.",
        ),
        Mistake(
            "top_k before the batch",
            "kth = probs.topk(min(top_k, probs.shape[-1])).values[:, -1:]",
            "kth = probs.topk(min(top_k, probs.shape[-1])).values[0, -1]",
            "The k-th largest probability of the first row is used for all rows. Each row has its own.",
        ),
        Mistake(
            "top_p before top_k's scaling",
            "        probs = probs / probs.sum(-1, keepdim=True)\n",
            "",
            "After top_k the probabilities no longer sum to 1, and top_p is measured against the old "
            "total. Scale what top_k has kept to sum to 1 first. (The same comes out where top_p goes before "
            "top_k: top_k is first.)",
        ),
        Mistake(
            "in sorted order",
            "probs = probs.scatter(-1, order, ordered.where(before < top_p, 0.0))",
            "probs = ordered.where(before < top_p, 0.0)",
            "The chosen number is a place in the sorted list, not a token's id. Put what is kept "
            "back to where it came from.",
        ),
        Mistake(
            "not scaled again",
            "return (reached <= uniforms[:, None] * reached[:, -1:]).sum(-1)",
            "return (reached <= uniforms[:, None]).sum(-1)",
            "What is kept is not scaled to sum to 1 again: a uniform number above the sum points at "
            "nothing: out comes the size of the vocabulary, which is no id.",
        ),
        Mistake(
            "past the last token",
            REACHED,
            "reached = (probs / probs.sum(-1, keepdim=True)).cumsum(-1)\n"
            "    return (reached <= uniforms[:, None]).sum(-1)",
            "Rounding leaves the last running sum a little below 1 at times, and a uniform number close to 1 then "
            "points past the last token: out comes the size of the vocabulary, which is no id. Divide the running "
            "sums by the last of them.",
        ),
        Mistake(
            "the last of all",
            REACHED,
            "reached = (probs / probs.sum(-1, keepdim=True)).cumsum(-1)\n"
            "    return (reached <= uniforms[:, None]).sum(-1).clamp(max=probs.shape[-1] - 1)",
            "Rounding leaves the last running sum a little below 1 at times. For a uniform number close to 1 the last "
            "token of the vocabulary then comes out, also if it was not kept. Divide the running sums by the last "
            "of them.",
        ),
        Mistake(
            "squeezed",
            "return (reached <= uniforms[:, None] * reached[:, -1:]).sum(-1)",
            "return (reached <= uniforms[:, None] * reached[:, -1:]).sum(-1).squeeze()",
            "squeeze() takes out every dimension of size 1: a batch of one row is no batch any more. Say which "
            "one, squeeze(-1), where there is one to take out.",
        ),
        Mistake(
            "first above, or the first of all",
            "return (reached <= uniforms[:, None] * reached[:, -1:]).sum(-1)",
            "probs = probs / probs.sum(-1, keepdim=True)\n"
            "    return (probs.cumsum(-1) > uniforms[:, None]).int().argmax(-1)",
            "Rounding leaves the last running sum a little below 1 at times. Then no sum exceeds a uniform number "
            "close to 1, and argmax answers 0, the first token. Divide the running sums by the last of them.",
        ),
        Mistake(
            "one token off",
            "return (reached <= uniforms[:, None] * reached[:, -1:]).sum(-1)",
            "return (reached < uniforms[:, None] * reached[:, -1:]).sum(-1) - 1",
            "The answer is one token too early: the token at which the running sum EXCEEDS the "
            "number is chosen, and its index is how many sums do not.",
        ),
        Mistake(
            "reached is enough",
            "return (reached <= uniforms[:, None] * reached[:, -1:]).sum(-1)",
            "return (reached < uniforms[:, None] * reached[:, -1:]).sum(-1)",
            "For a uniform number of exactly 0 this chooses token 0 even if its probability is 0. "
            "The running sum must exceed the number, not only reach it.",
        ),
        Mistake(
            "always the likeliest",
            "reached = probs.cumsum(-1)\n",
            "return probs.argmax(-1)\n    reached = probs.cumsum(-1)\n",
            "The likeliest token is always taken: nothing depends on the uniform number.",
        ),
        Mistake(
            "torch's own dice",
            "reached = probs.cumsum(-1)\n",
            "return torch.multinomial(probs, 1)[:, 0]\n    reached = probs.cumsum(-1)\n",
            "The choice comes from torch's random numbers. Use the uniform numbers that are handed "
            "in: then the same numbers give the same text, on every machine.",
        ),
    ],
    "generate": [
        Mistake(
            "whole text read again",
            f"{NEXT}\n",
            "everything = torch.stack(ids, dim=1)\n"
            '            x = {"input_ids": everything if input_ids is None else '
            "torch.cat([input_ids, everything], dim=1)}\n"
            "            if attention_mask is not None:\n"
            "                attention_mask = F.pad(attention_mask, (0, x['input_ids'].shape[1] - "
            "1), value=1)\n",
            "The text so far is read again for each new token, although the cache holds it: the "
            "model sees it twice, at wrong positions. After the prompt only the newest token is read.",
        ),
        Mistake(
            "no cache",
            f"{NEXT}\n",
            "if inputs_embeds is None:\n"
            '                x = {"input_ids": torch.cat([input_ids, torch.stack(ids, dim=1)], dim=1)}\n'
            "            else:\n"
            "                new = self.get_input_embeddings()(torch.stack(ids, dim=1))\n"
            '                x = {"inputs_embeds": torch.cat([inputs_embeds, new], dim=1)}\n'
            "            cache = KVCache()\n",
            "The ids are right, but the whole text is read anew for each token. Keep one cache for "
            "the whole text, and read only the newest token.",
        ),
        Mistake(
            "only the last token, no cache",
            LOGITS,
            "logits = self(**x, attention_mask=attention_mask if n == 0 else None, cache=None)[0][:, -1]",
            "Only the newest token is read, and without a cache: the model has forgotten the prompt.",
        ),
        Mistake(
            "goes on after eos",
            ENDED,
            "pass",
            "A row that has said eos goes on with other tokens while the others finish. It should "
            "say eos until the end.",
        ),
        Mistake(
            "goes on after eos, stops at the end",
            ENDED + "\n            ids.append(token)\n"
            "            if eos_token_id is not None and (token == eos_token_id).all():\n",
            "pass\n            ids.append(token)\n"
            "            if eos_token_id is not None and (torch.stack(ids) == eos_token_id).any(0).all():\n",
            "A row that has said eos goes on with other tokens while the others finish. It should say eos until "
            "the end.",
        ),
        Mistake(
            "no stop at eos",
            "if eos_token_id is not None and (token == eos_token_id).all():",
            "if False:",
            "Generation goes on to max_new_tokens although every row has ended. (With `if eos_token_id`? An id of 0 "
            "counts as False in Python: ask `is not None`.)",
        ),
        Mistake(
            "eos in the prompt",
            ENDED,
            "said = (input_ids == eos_token_id).any(1) if input_ids is not None else False\n"
            "                token = torch.where((ids[-1] == eos_token_id) | said, eos_token_id, token)",
            "An eos in the prompt ends the row. Only what is said from now on does: in a conversation there is "
            "one behind every answer.",
        ),
        Mistake(
            "stops at the first eos",
            "if eos_token_id is not None and (token == eos_token_id).all():",
            "if eos_token_id is not None and (token == eos_token_id).any():",
            "Generation stops as soon as one row has ended. The others are cut off in the middle.",
        ),
        Mistake(
            "prompt returned too",
            "return torch.stack(ids, dim=1)",
            "if input_ids is not None:\n"
            "            return torch.cat([input_ids, torch.stack(ids, dim=1)], dim=1)\n"
            "        return torch.stack(ids, dim=1)",
            "The prompt comes back as well. Only the new ids are asked for (with embeddings as the "
            "prompt there would be no ids to return).",
        ),
        Mistake(
            "eos not returned",
            "            ids.append(token)\n"
            "            if eos_token_id is not None and (token == eos_token_id).all():\n"
            "                break\n",
            "            if eos_token_id is not None and (token == eos_token_id).all():\n"
            "                break\n"
            "            ids.append(token)\n",
            "The last column is missing: eos itself is one of the new ids.",
        ),
        Mistake(
            "first logits",
            LOGITS,
            "logits = self(**x, attention_mask=attention_mask, cache=cache)[0][:, 0]",
            "The next token is taken from the logits of the first position. What follows the prompt "
            "is said at its last one.",
        ),
        Mistake(
            "mask does not grow",
            "attention_mask = F.pad(attention_mask, (0, 1), value=1)",
            "pass",
            "attention_mask does not grow with the text. It speaks of all tokens, those in the cache "
            "and the new one, so it needs one more column of ones for each new token.",
        ),
        Mistake(
            "new column is 0",
            "attention_mask = F.pad(attention_mask, (0, 1), value=1)",
            "attention_mask = F.pad(attention_mask, (0, 1))",
            "The new column of attention_mask is 0, as F.pad makes it by itself, so the new token counts as padding. "
            "It is 1.",
        ),
        Mistake(
            "new column on the left",
            "attention_mask = F.pad(attention_mask, (0, 1), value=1)",
            "attention_mask = F.pad(attention_mask, (1, 0), value=1)",
            "The new column of attention_mask stands on the left. The new token comes last, and so does its column.",
        ),
        Mistake(
            "mask of embeddings does not grow",
            "            if attention_mask is not None:\n",
            "            if attention_mask is not None and input_ids is not None:\n",
            "Where the prompt is embeddings attention_mask does not grow. What the prompt was does not matter: one "
            "more column of ones for each new token.",
        ),
        Mistake(
            "mask of embeddings not handed on",
            LOGITS,
            "logits = self(**x, attention_mask=attention_mask if inputs_embeds is None else None, cache=cache)[0][:, -1]",
            "Where the prompt is embeddings the mask is not handed on. They may be padded like ids.",
        ),
        Mistake(
            "mask dropped",
            LOGITS,
            "logits = self(**x, attention_mask=attention_mask if n == 0 else None, cache=cache)[0][:, -1]",
            "After the prompt the mask is no longer handed on: the padding in the cache is looked "
            "at, and positions jump.",
        ),
        Mistake(
            "one uniform number for all",
            "token = sample(logits, uniforms[:, n], temperature, top_k, top_p)",
            "token = sample(logits, uniforms[:, 0], temperature, top_k, top_p)",
            "Every token is chosen with the first column of uniforms. Token n has column n.",
        ),
        Mistake(
            "temperature not handed on",
            "token = sample(logits, uniforms[:, n], temperature, top_k, top_p)",
            "token = sample(logits, uniforms[:, n], 1.0, top_k, top_p)",
            GREEDY,
        ),
        Mistake(
            "uniforms decide",
            "if temperature == 0:",
            "if uniforms is None:",
            "Whether to sample is decided by whether there are uniforms. The temperature decides: at 0 the likeliest "
            "is taken, and uniforms are not asked.",
        ),
        Mistake(
            "squeezed",
            "return torch.stack(ids, dim=1)",
            "return torch.stack(ids, dim=1).squeeze()",
            "squeeze() takes out every dimension of size 1: a batch of one row is no batch any more.",
        ),
        Mistake("greedy always", "if temperature == 0:", "if True:", GREEDY),
        Mistake(
            "top_k and top_p not handed on",
            "token = sample(logits, uniforms[:, n], temperature, top_k, top_p)",
            "token = sample(logits, uniforms[:, n], temperature)",
            "top_k and top_p do not reach sample.",
        ),
    ],
}

# Changes that `python3 -m course audit` makes to the solution and that are no mistakes, with the reason.
HALF = "only in half precision another number, and only a slightly other one"
ONCE = "a head repeated once is itself: a copy for nothing"
HARMLESS = {
    "rms_norm": {
        "rms_norm: x.dtype == torch.float64 -> False": "float64 is for proofs; a float32 answer is as right in a model"
    },
    "grouped_query_attention": {
        "Attention.forward: shared > 1 -> True": ONCE,
        "Attention.forward: shared > 1 -> shared >= 1": ONCE,
        "Attention.forward: 1 -> 0 (occurrence 7)": ONCE,
    },
    "gpt_forward": {
        "GPT.forward: logits.flatten(0, 1).float() -> logits.flatten(0, 1)": HALF,
        "GPT.forward: F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE) -> "
        "F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())": "-100 is what cross_entropy ignores by itself",
    },
    "sample": {
        "sample: logits.float() -> logits": HALF,
        "sample: probs.sort(descending=True, stable=True) -> probs.sort(descending=True)": "which of two equally likely tokens is kept is not said",
        "sample: True -> False (occurrence 3)": "the same: whether sorting is stable",
        "sample: before < top_p -> before <= top_p": "another token only if a sum of floats is exactly p",
    },
}
