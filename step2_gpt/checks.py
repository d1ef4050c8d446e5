"""What is asked of the TODOs of this lesson, and with which inputs.

The checks of `block`, `gpt_forward` and `generate` put simple stand-ins where the model's own parts would be:
they ask only that the parts are put together in the right way. So these TODOs can be written in any order.
"""

import torch
from torch import nn

from course.checking import Check, Problem, between, compare, like, with_grad


def normal(g: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=g)


def uniform(g: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=g)


def arguments(case: dict, *names: str) -> str:
    """How arguments look in a call: "x [2, 3, 5], eps=0.1"."""

    def argument(name, value):
        if isinstance(value, torch.Tensor):
            return f"{name} {list(value.shape)}"
        return f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"

    return ", ".join(argument(name, case[name]) for name in names)


def in_pieces(case: dict) -> str:
    if not case["parts"]:
        return ""
    return f", read in pieces of {', '.join(map(str, case['parts']))} and the remaining tokens, with a cache"


def padded(g: torch.Generator, B: int, T: int) -> torch.Tensor:
    """An attention mask [B, T] of left-padded rows: the first has no padding, the others some."""
    mask = torch.ones(B, T, dtype=torch.long)
    for row in range(1, B):
        mask[row, : between(g, 1, T - 2)] = 0
    return mask


def any_mask(g: torch.Generator, B: int, T: int, S: int) -> torch.Tensor:
    """A mask [B, 1, T, S], not causal, in which every query may look somewhere and not everywhere."""
    mask = uniform(g, B, 1, T, S) < 0.5
    mask[..., 0] = True
    mask[..., 1] = False
    return mask.roll(between(g, 0, S - 1), -1)


# Stand-ins


class StandInNorm(nn.Module):
    """Makes vectors smaller, the larger the more, and scales them."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return x / (1 + x.abs().mean(-1, keepdim=True)) * self.weight


class StandInMLP(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return torch.tanh(x @ self.weight)


class StandInAttention(nn.Module):
    """Each token gets the plain mean of what it may look at, times a number that depends on its angles."""

    def __init__(self, weight, layer: int, residual: bool = False):
        super().__init__()
        self.weight, self.layer, self.residual = nn.Parameter(weight), layer, residual

    def forward(self, x, angles, mask=None, cache=None):
        v = torch.tanh(x @ self.weight)[:, None]  # [B, 1, T, D]
        if cache is not None:
            v, _ = cache.extend(self.layer, v, v)
        T, S = x.shape[1], v.shape[2]
        seen = (torch.ones(T, S, device=x.device).tril(S - T) if mask is None else mask).to(x)
        mean = ((seen / seen.sum(-1, keepdim=True)) @ v)[:, 0]  # [B, T, D]
        y = mean * (1 + angles.cos() + angles.sin()).mean(-1)[:, 0, :, None].to(x)
        return x + y if self.residual else y


# rms_norm


def rms_norm_cases(g):
    B, T, D = between(g, 2, 3), between(g, 4, 6), between(g, 7, 11)
    loudness = 10 ** (2 * uniform(g, B, T, 1) - 1.5)  # some tokens are so faint that eps matters
    yield {
        "x": (normal(g, B, T, D) + 0.5) * loudness,
        "weight": normal(g, D),
        "eps": 0.05 + 0.2 * float(uniform(g)),
        "cotangent": normal(g, B, T, D),
        "half": False,
    }
    N, D = between(g, 3, 5), between(g, 12, 16)
    silent = normal(g, N, D)
    silent[between(g, 0, N - 1)] = 0
    yield {"x": silent, "weight": normal(g, D), "eps": 1e-3, "cotangent": normal(g, N, D), "half": False}
    yield {"x": 300 * (1 + normal(g, N, D)), "weight": normal(g, D), "eps": 1e-5, "cotangent": None, "half": True}


def call_rms_norm(module, case):
    if case["half"]:  # the largest float16 is 65504: these numbers have no squares there
        return {"output": module.rms_norm(case["x"].half(), case["weight"].half(), case["eps"])}
    return with_grad(
        lambda x, weight: module.rms_norm(x, weight, case["eps"]),
        {"x": case["x"], "weight": case["weight"]},
        case["cotangent"],
    )


# rope


def rope_cases(g):
    d = 2 * between(g, 3, 5)
    for rows in (True, False):  # every row with positions of its own, or all with the same
        B, H, T = between(g, 2, 3), between(g, 4, 5), between(g, 6, 7)
        yield {
            "x": normal(g, B, H, T, d),
            "angles": 6 * uniform(g, B if rows else 1, 1, T, d // 2),
            "cotangent": normal(g, B, H, T, d),
            "half": False,
        }
    # In half precision, and far on in a text: rounded to half precision, such a large angle would be another one.
    yield {
        "x": uniform(g, 2, 3, 4, d) - 0.5,
        "angles": 400 + 100 * uniform(g, 1, 1, 4, d // 2),
        "cotangent": None,
        "half": True,
    }


def call_rope(module, case):
    if case["half"]:
        return {"output": module.apply_rope(case["x"].bfloat16(), case["angles"].float())}
    return with_grad(lambda x: module.apply_rope(x, case["angles"]), {"x": case["x"]}, case["cotangent"])


# attention


def attention_cases(g):
    def case(B, H, T, S, mask, d):
        return {
            "q": normal(g, B, H, T, d),
            "k": normal(g, B, H, S, d),
            "v": normal(g, B, H, S, d),
            "mask": mask,
            "cotangent": normal(g, B, H, T, d),
        }

    B, H = between(g, 2, 3), between(g, 4, 5)
    T, S = between(g, 6, 7), between(g, 9, 11)
    d = between(g, 4, 6)
    yield case(B, H, T, T, None, 2 * d)
    yield case(B, H, T - 2, S, None, d)
    yield case(B, H, T, S, any_mask(g, B, T, S), d)
    yield case(B, H, 1, S, any_mask(g, B, 1, S), d)
    yield case(B, H, T, S, any_mask(g, 1, T, S)[0, 0], d)
    # Scores of many hundreds, whose exponentials overflow in every float type. Whole numbers and d = 16 make
    # them exact, so that the answer does not depend on the order of the arithmetic.
    large = case(B, H, T, T, None, 16)
    large["q"] = 32.0 * torch.randint(-2, 3, (B, H, T, 16), generator=g)
    large["k"] = 32.0 * torch.randint(-2, 3, (B, H, T, 16), generator=g)
    # The first query may look at its own key only, and these two fit badly: their score is below -10,000.
    large["k"][:, :, 0] = 64.0
    large["q"][:, :, 0] = -64.0
    large["v"], large["cotangent"] = normal(g, B, H, T, 16), None  # gradients would not be as exact
    yield large


def call_attention(module, case):
    return with_grad(
        lambda q, k, v: module.attention(q, k, v, case["mask"]), {name: case[name] for name in "qkv"}, case["cotangent"]
    )


# grouped_query_attention

SIZES = ("q", "k", "v", "o")


def config_of(case, module):
    return module.GPTConfig(**case["config"])


def grouped_query_attention_cases(g):
    few = between(g, 2, 3)
    # Sharing by two and by three, and none at all.
    for kind, K, shared, d in (
        ("causal", few, 5 - few, 4),
        ("mask", few + 1, 1, 6),
        ("cache", 7 - few, few, 4),
        ("cache and mask", few, 2, 4),
    ):
        B, H, T = 2, K * shared, between(g, 7, 8)
        D, layers = H * d, 2 if kind == "cache" else 1
        mask = any_mask(g, B, T, T) if "mask" in kind else None
        if kind == "cache and mask":
            mask[..., 0], mask[..., 1] = True, False  # each query of each piece sees something, and not all
        size = {"q": (D, D), "k": (K * d, D), "v": (K * d, D), "o": (D, D)}
        same_rows = between(g, 0, 1)
        yield {
            "config": {
                "vocab_size": 7,
                "hidden_size": D,
                "intermediate_size": 9,
                "num_hidden_layers": layers,
                "num_attention_heads": H,
                "num_key_value_heads": K,
            },
            "weights": [
                {f"{name}_proj.weight": normal(g, *size[name]) * 1.5 / D**0.5 for name in SIZES} for _ in range(layers)
            ],
            "x": normal(g, B, T, D),
            "angles": 6 * uniform(g, 1 if same_rows else B, 1, T, d // 2),
            "mask": mask,
            "parts": [between(g, 3, 4), 1, 1] if "cache" in kind else [],
            "cotangent": normal(g, B, T, D),
        }


def call_grouped_query_attention(module, case):
    config, x, angles = config_of(case, module), case["x"], case["angles"]
    layers = [like(case, module.Attention(config, i), weights) for i, weights in enumerate(case["weights"])]
    if not case["parts"]:
        layer = layers[0]
        return with_grad(lambda x: layer(x, angles, case["mask"]), {"x": x}, case["cotangent"], module=layer)
    cache, start, output = module.KVCache(), 0, []
    for length in [*case["parts"], x.shape[1] - sum(case["parts"])]:
        now = slice(start, start + length)
        mask = None if case["mask"] is None else case["mask"][:, :, now, : now.stop]
        output.append([layer(x[:, now], angles[:, :, now], mask, cache) for layer in layers])
        start += length
    return {"output": output, "cache": [list(layer) for layer in cache.layers]}


def shows_grouped_query_attention(case):
    H, K = case["config"]["num_attention_heads"], case["config"]["num_key_value_heads"]
    mask = f", mask {list(case['mask'].shape)}" if case["mask"] is not None else ""
    heads = f"{H} query heads, {K} key/value heads"
    return f"Attention(...)({arguments(case, 'x', 'angles')}{mask}), {heads}{in_pieces(case)}"


# swiglu


def swiglu_cases(g):
    D, F = 2 * between(g, 3, 5), between(g, 11, 14)
    config = {"hidden_size": D, "intermediate_size": F, "num_attention_heads": 1, "num_key_value_heads": 1}
    for leading in ((between(g, 2, 3), between(g, 4, 5)), (between(g, 2, 4),)):
        weights = {
            f"{name}_proj.weight": normal(g, *size)
            for name, size in (("gate", (F, D)), ("up", (F, D)), ("down", (D, F)))
        }
        yield {"config": config, "weights": weights, "x": normal(g, *leading, D), "cotangent": normal(g, *leading, D)}


def call_swiglu(module, case):
    mlp = like(case, module.MLP(config_of(case, module)), case["weights"])
    return with_grad(mlp, {"x": case["x"]}, case["cotangent"], module=mlp)


# block


def block_cases(g):
    for kind in ("causal", "mask", "cache", "cache and mask"):
        B, T, D, d = between(g, 2, 3), between(g, 4, 5), 2 * between(g, 3, 4), 2
        mask = any_mask(g, B, T, T) if "mask" in kind else None
        if kind == "cache and mask":
            mask[..., 0], mask[..., 1] = True, False  # each query of each piece sees something, and not all
        yield {
            "config": {"hidden_size": D, "num_attention_heads": D // d, "num_key_value_heads": 1},
            "x": 2 * normal(g, B, T, D),
            "angles": 6 * uniform(g, B, 1, T, d // 2),
            "mask": mask,
            "with_cache": "cache" in kind,
            "norms": 1 + normal(g, 2, D),
            "parts": normal(g, 2, D, D),
            "cotangent": normal(g, B, T, D),
        }


def call_block(module, case):
    block, x, angles = module.Block(config_of(case, module), 0), case["x"], case["angles"]
    block.input_layernorm, block.post_attention_layernorm = map(StandInNorm, case["norms"])
    block.self_attn, block.mlp = StandInAttention(case["parts"][0], 0), StandInMLP(case["parts"][1])
    if not case["with_cache"]:
        return with_grad(lambda x: block(x, angles, case["mask"]), {"x": x}, case["cotangent"], module=block)
    cache = module.KVCache()
    pieces, mask = (slice(0, 2), slice(2, 3), slice(3, x.shape[1])), case["mask"]
    return {
        "output": [
            block(x[:, now], angles[:, :, now], None if mask is None else mask[:, :, now, : now.stop], cache)
            for now in pieces
        ]
    }


# gpt_forward


def gpt_sizes(V, D, layers, heads=2, theta=10000.0):
    return {
        "vocab_size": V,
        "hidden_size": D,
        "intermediate_size": D,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 1,
        "tie_word_embeddings": False,
        "rope_theta": theta,
    }


def gpt_forward_cases(g):
    for kind in ("ids", "embeddings", "cache", "cache and padding"):
        B, T, D, V = between(g, 2, 3), between(g, 6, 7), 4 * between(g, 2, 3), between(g, 9, 11)
        mask = padded(g, B, T) if kind in ("embeddings", "cache and padding") else None
        labels = None
        if "cache" not in kind:
            labels = torch.randint(0, V, (B, T), generator=g)
            ignored = uniform(g, B, T) < 0.3
            ignored[0, 1], ignored[0, 2], ignored[0, 3] = True, False, False
            ignored[1, 0] = False  # counts: so it shows if all rows are shifted as if they were one
            if mask is not None:
                mask[1, :2], ignored[1, 1] = 0, False  # a label at padding counts: labels alone decide
            labels[ignored] = -100
        weight = torch.ones(B, T) if mask is None else mask.float()
        case = {
            "config": gpt_sizes(
                V, D, layers=2, heads=1 if kind == "embeddings" else 2, theta=float(between(g, 5, 500))
            ),
            "embedding": normal(g, V, D),
            "layers": 2 * normal(g, 2, D, D) / D**0.5,
            "norm": 1 + normal(g, D),
            "head": normal(g, V, D),
            "input_ids": torch.randint(0, V, (B, T), generator=g),
            "labels": labels,
            "attention_mask": mask,
            "cotangent": normal(g, B, T, V) * weight[..., None],
        }
        if kind in ("embeddings", "cache and padding"):
            case["inputs_embeds"], case["input_ids"] = normal(g, B, T, D), None
        case["parts"] = [between(g, 3, 4), 1] if "cache" in kind else []
        yield case


def call_gpt_forward(module, case):
    model = module.GPT(config_of(case, module))
    layers = [StandInAttention(weight, i, residual=True) for i, weight in enumerate(case["layers"])]
    model.model.layers = nn.ModuleList(layers)
    model.model.norm = StandInNorm(case["norm"])
    model = like(case, model)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(case["embedding"])
        model.lm_head.weight.copy_(case["head"])
    ids, mask = case["input_ids"], case["attention_mask"]
    if case["parts"]:
        cache, start, output = module.KVCache(), 0, []
        name, x = ("inputs_embeds", case["inputs_embeds"]) if ids is None else ("input_ids", ids)
        for length in [*case["parts"], x.shape[1] - sum(case["parts"])]:
            end = start + length
            output.append(
                listed(
                    model(
                        **{name: x[:, start:end]}, cache=cache, attention_mask=None if mask is None else mask[:, :end]
                    )
                )
            )
            start = end
        return {"output": output}
    given = {"inputs_embeds": case["inputs_embeds"]} if ids is None else {}
    rest = {"input_ids": ids, "labels": case["labels"], "attention_mask": mask}
    cotangents = [case["cotangent"], None]
    result = with_grad(lambda **embeds: model(**rest, **embeds), given, cotangents, module=model)
    result["output"] = listed(result["output"], mask)
    if ids is not None:
        result["without labels"] = listed(model(input_ids=ids))
    return result


def listed(output, mask=None):
    """(logits, loss) as a list; the loss in float32 whatever it was computed in, logits at padding as 0."""
    if not isinstance(output, (tuple, list)) or len(output) != 2:
        return output
    logits, loss = output
    if mask is not None and isinstance(logits, torch.Tensor) and logits.shape[:2] == mask.shape:
        logits = logits.masked_fill(mask[..., None] == 0, 0)
    return [logits, loss.float() if isinstance(loss, torch.Tensor) and loss.is_floating_point() else loss]


def shows_gpt_forward(case):
    names = ("input_ids", "inputs_embeds", "labels", "attention_mask")
    return f"model({arguments(case, *(name for name in names if case.get(name) is not None))}){in_pieces(case)}"


# sample


def sample_cases(g):
    def p(low, high):
        return low + (high - low) * float(uniform(g))

    for top_k, top_p in (
        (None, None),
        (1, None),
        (between(g, 3, 5), None),
        (None, 0.01),
        (None, p(0.3, 0.8)),
        (between(g, 4, 6), p(0.4, 0.8)),
        (3, p(0.6, 0.8)),
        (50, None),
    ):
        B, V = between(g, 70, 80), between(g, 9, 13) if top_k != 50 else between(g, 5, 7)
        logits = 2 * normal(g, B, V)
        logits[0, 0], logits[1, -1] = -3, -3
        uniforms = uniform(g, B)
        uniforms[0], uniforms[1] = 0, 1 - 2**-20  # first and last token: not to be chosen unless kept
        yield {"logits": logits, "uniforms": uniforms, "temperature": p(0.5, 2), "top_k": top_k, "top_p": top_p}
    yield {"logits": normal(g, 1, 9), "uniforms": uniform(g, 1), "temperature": 1.0, "top_k": None, "top_p": None}
    # The running sum of thousands of probabilities ends a little above or below 1. The largest float32 under 1 has to
    # choose the last token, which has half of the ruler, and not one behind it.
    B, V = between(g, 70, 80), between(g, 3000, 4000)
    logits = normal(g, B, V)
    logits[:, -1] = logits[:, :-1].logsumexp(-1)
    yield {
        "logits": logits,
        "uniforms": torch.full((B,), 1 - 2.0**-24),
        "temperature": 1.0,
        "top_k": None,
        "top_p": None,
    }
    # The same where top_k leaves out the last token: then the last of the kept ones is to be chosen.
    logits = normal(g, B, V)
    logits[:, -1] = -5
    yield {
        "logits": logits,
        "uniforms": torch.full((B,), 1 - 2.0**-24),
        "temperature": 1.0,
        "top_k": between(g, 400, 600),
        "top_p": None,
    }


def call_sample(module, case):
    return module.sample(**case)


# generate


def generate_cases(g):
    # Two sampled ones: in a single one a wrong way to sample may choose the right tokens by chance.
    for kind in ("one row", "ids", "padded", "end", "end is 0", "embeddings", "sampled", "sampled"):
        B, T, N = 1 if kind == "one row" else between(g, 2, 3), between(g, 5, 6), between(g, 7, 9)
        D, V = 4 * between(g, 2, 3), between(g, 9, 11)
        mask = padded(g, B, T) if kind not in ("one row", "ids") else None
        by_position = 4 * normal(g, T + N, V)
        end = {"one row": None, "ids": None, "end is 0": 0}.get(kind, V - 1)
        by_position[:, V - 1 if end is None else end] = -300
        input_ids = torch.randint(0, V, (B, T), generator=g)
        if kind in ("embeddings", "sampled"):
            mask[:, 0] = 0  # no row is without padding
        # The end token comes where a row's own position is T + 1: in padded rows later, in all of them before N.
        if "end" in kind:
            by_position[T + 1, end] = 300
            mask[:, -3:] = 1
            input_ids[:, -2] = end  # in the prompt it ends nothing
        sampling = {"temperature": 9.0, "top_k": 5, "top_p": 0.8}
        yield {
            "config": gpt_sizes(V, D, layers=1),
            "embedding": 2 * normal(g, V, D),
            "head": normal(g, V, D),
            "past": 2 * normal(g, V, D),
            "by_position": by_position,
            "input_ids": input_ids if kind != "embeddings" else None,
            "inputs_embeds": 2 * normal(g, B, T, D) if kind == "embeddings" else None,
            "attention_mask": mask,
            "max_new_tokens": N,
            "eos_token_id": end,
            "uniforms": uniform(g, B, N) if kind in ("ids", "sampled") else None,  # at temperature 0 nobody asks them
            **(sampling if kind == "sampled" else {}),
        }


ARGUMENTS = (
    "input_ids",
    "inputs_embeds",
    "attention_mask",
    "max_new_tokens",
    "eos_token_id",
    "temperature",
    "top_k",
    "top_p",
    "uniforms",
)


def call_generate(module, case):
    read = []

    class StandIn(module.GPT):
        """The next token depends on the last one, on the mean of all so far, and on the position."""

        def forward(self, input_ids=None, inputs_embeds=None, labels=None, attention_mask=None, cache=None):
            x = self.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
            T, past = x.shape[1], cache.length if cache is not None else 0
            read.append(T)
            positions, mask = self.positions_and_mask(T, past, attention_mask, x.device)
            v = x[:, None]
            if cache is not None:
                v, _ = cache.extend(0, v, v)
            seen = (torch.ones(T, v.shape[2], device=x.device).tril(past) if mask is None else mask).to(x)
            mean = ((seen / seen.sum(-1, keepdim=True)) @ v)[:, 0]
            place = case["by_position"][positions.clamp(max=len(case["by_position"]) - 1)]
            return x @ case["head"].T + mean @ case["past"].T + place, None

    model = like(case, StandIn(config_of(case, module)))
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(case["embedding"])
    ids = model.generate(**{name: case[name] for name in ARGUMENTS if case.get(name) is not None})
    return {"ids": ids, "read": sum(read)}


def judge_generate(case, answer, expected):
    problems = compare(answer["ids"], expected["ids"], where="ids")
    prompt = case["input_ids"] if case["inputs_embeds"] is None else case["inputs_embeds"]
    enough = prompt.shape[1] + case["max_new_tokens"]
    if answer["read"] > enough:
        text = (
            f"to write {expected['ids'].shape[1]} tokens after a prompt of {prompt.shape[1]}, the model "
            f"had to read {answer['read']} tokens. With the cache no token need be read twice."
        )
        problems.append(Problem("tokens read", text, f"at most {enough}", str(answer["read"])))
    return problems


def shows_generate(case):
    return f"model.generate({arguments(case, *(name for name in ARGUMENTS if case.get(name) is not None))})"


CHECKS = [
    Check(
        id="rms_norm",
        asks="scale each vector to root mean square 1, then by the weight",
        call=call_rms_norm,
        cases=rms_norm_cases,
        shows=lambda case: f"rms_norm({arguments(case, 'x', 'weight', 'eps')})" + " in float16" * case["half"],
        hints=(
            "How long is a vector if you forget its direction? Which one number per vector do you need, "
            "and over which dimension is it computed?",
            "y = x / sqrt(mean(x^2) + eps), with the mean over the last dimension; the result is weight "
            "* y. Squares want float32: convert x first, and convert y back to the type of x before you "
            "multiply by the weight.",
            "y = x in float32 (or as it is, if it is float64)\n"
            "y = y times the inverse root of (the mean of y squared over the last dimension, which is "
            "kept, plus eps)\n"
            "return weight times y in the type of x",
        ),
        why=(
            "rsqrt is the reciprocal of the root in one operation. The square is taken in "
            "float32, because bfloat16 has 8 bits of precision and float16 overflows at 65504; "
            "the weight is applied after going back, as Llama's checkpoints expect. On GPUs the "
            "four operations are usually one fused kernel."
        ),
    ),
    Check(
        id="rope",
        asks="rotate each pair of numbers (i of the first half, i of the second half) by its angle",
        call=call_rope,
        cases=rope_cases,
        shows=lambda case: f"apply_rope({arguments(case, 'x', 'angles')})" + " in bfloat16" * case["half"],
        hints=(
            "A point (a, b) of the plane is rotated by an angle. Where is it afterwards? And which two "
            "numbers of a head make a point here?",
            "(a, b) becomes (a cos - b sin, b cos + a sin). a is the first half of the last dimension, b "
            "the second half; cos and sin of angles [B, 1, T, d/2] broadcast over the heads.",
            "cos, sin = those of the angles, in the type of x\n"
            "a, b = the two halves of x along the last dimension\n"
            "return (a cos - b sin) and (b cos + a sin), one after the other along the last dimension",
        ),
        why=(
            "Rotating queries and keys makes their product depend on the distance only: (R_m q) . "
            "(R_n k) = q . R_(n-m) k. Which numbers form a pair does not matter to the idea, but "
            "it does to a checkpoint: Llama's weights in Hugging Face's form were permuted for "
            "halves."
        ),
    ),
    Check(
        id="attention",
        asks="each query takes a mean of the values, weighted by how well its keys match",
        call=call_attention,
        cases=attention_cases,
        shows=lambda case: (
            f"attention({arguments(case, 'q', 'k', 'v')}"
            + (f", mask {list(case['mask'].shape)})" if case["mask"] is not None else ")")
        ),
        hints=(
            "How well does query t match key s? That is one number for each pair [T, S]. What must "
            "happen to those numbers so that they become weights that sum to 1, and 0 where t may not "
            "look?",
            "softmax(q k^T / sqrt(d) + M) v, where M is 0 where looking is allowed and minus infinity "
            "where not; the softmax runs over the keys, the last dimension. Without a mask, query t is "
            "position S - T + t and may look at the positions up to its own.",
            "scores = q times k transposed, over the root of d                      # [B, H, T, S]\n"
            "mask = the one given, or ones [T, S] with the part above diagonal number S - T cut off\n"
            "scores where the mask is False = minus infinity\n"
            "return the softmax of the scores over the last dimension, times v",
        ),
        why=(
            "A fresh mask has ones up to and including diagonal S - T, on which each query meets "
            "its own position, so the same line serves with a cache. -inf before the softmax means a weight of "
            "exactly 0; a large negative number would nearly do. FlashAttention computes the same "
            "without ever storing [T, S], which is why step 3 trains with it."
        ),
    ),
    Check(
        id="grouped_query_attention",
        asks="project, rotate, remember, share key/value heads among query heads, attend, project back",
        call=call_grouped_query_attention,
        cases=grouped_query_attention_cases,
        shows=shows_grouped_query_attention,
        needs=("rope", "attention"),
        hints=(
            "x [B, T, D] becomes H queries and only K keys and values per token. In what order do "
            "splitting into heads, rotating, the cache and the sharing of heads have to come, if the "
            "cache is to stay small?",
            "q is [B, H, T, d], k and v are [B, K, T, d]. Rotate q and k, never v. Put the new k and v "
            "into the cache and take everything out of it; only then repeat each of the K heads H/K "
            "times in a row: 0 0 0 1 1 1.",
            "q, k, v = the three projections of x, each split into heads of size d, the heads moved "
            "before the tokens\n"
            "rotate q and k by the angles\n"
            "with a cache: k, v = cache.extend(number of this layer, k, v)\n"
            "repeat every head of k and v H/K times, copies side by side\n"
            "y = attention(q, k, v, mask)                                            # [B, H, T, d]\n"
            "move the heads back behind the tokens, join them to [B, T, D], return o_proj of it",
        ),
        why=(
            "Keys and values are stored once per group and repeated only for the product, so the "
            "cache, which limits how many users a GPU serves, shrinks by H / K. Keys are rotated "
            "before they are stored: a position never changes, so no key is rotated twice."
        ),
    ),
    Check(
        id="swiglu",
        asks="a gated feed-forward layer: down(silu(gate(x)) * up(x))",
        call=call_swiglu,
        cases=swiglu_cases,
        shows=lambda case: f"MLP(...)({arguments(case, 'x')})",
        hints=(
            "Two projections of x have the same size. One says what there is, the other how much of it "
            "to let through. Which of them goes through the activation?",
            "down_proj(silu(gate_proj(x)) * up_proj(x)), with silu(z) = z * sigmoid(z).",
            "gate = silu of gate_proj(x); up = up_proj(x)\nreturn down_proj of their product, number by number",
        ),
        why=(
            "The gate multiplies: a feature can be switched off by another one. A product of two "
            "features is something that a plain ReLU layer can only approximate. Shazeer's paper offers no "
            "explanation why it works better, and says so."
        ),
    ),
    Check(
        id="block",
        asks="add attention, then the MLP, each reading the stream through its own norm",
        call=call_block,
        cases=block_cases,
        shows=lambda case: (
            f"Block(...)({arguments(case, 'x', 'angles')}"
            + (f", mask {list(case['mask'].shape)})" if case["mask"] is not None else ")")
            + (" in three pieces with a cache" if case["with_cache"] else "")
        ),
        hints=(
            "The stream runs from the embedding to the end, and each part only adds to it. What does "
            "each part read, and what is left of x if a part answers 0?",
            "x = x + self_attn(input_layernorm(x)), then x + mlp(post_attention_layernorm(x)). Attention "
            "also wants the angles, the mask and the cache.",
            "x = x plus attention of (the first norm of x), with angles, mask and cache\n"
            "return x plus the MLP of (the second norm of x)",
        ),
        why=(
            "Each part reads the normalised stream and adds to the stream itself, so from the "
            "first block to the last there is a path that nothing disturbs, for signals forward "
            "and gradients back. GPT-2 has the same order; the first transformer normalised after "
            "adding, and needed more care to train."
        ),
    ),
    Check(
        id="gpt_forward",
        asks="from ids or embeddings to logits, and with labels to the loss",
        call=call_gpt_forward,
        cases=gpt_forward_cases,
        shows=shows_gpt_forward,
        hints=(
            "Follow one token: which vector does it start as, at which position does it stand if the "
            "cache already holds some tokens, what happens to the vector, and which label is its logits' "
            "to guess?",
            "positions and mask come from self.positions_and_mask(T, past, attention_mask, device), "
            "where past is the cache's length; the angles from rope_angles. The logits at t are compared "
            "with the label at t + 1; F.cross_entropy knows ignore_index.",
            "x = the given embeddings, or those of the ids\n"
            "past = how many tokens are in the cache, or 0\n"
            "positions, mask = self.positions_and_mask(...); angles = rope_angles(positions, head size, "
            "rope_theta)\n"
            "x goes through every layer with angles, mask and cache, then through the last norm and "
            "lm_head\n"
            "without labels return logits and None\n"
            "loss = cross-entropy of all logits but the last against all labels but the first, IGNORE "
            "left out",
        ),
        why=(
            "The shift happens in one place, here, so nobody else ever shifts labels; Hugging "
            "Face's models do the same. The labels are moved and the logits left where they are, since those "
            "are V times as much to copy. The loss is taken in float32, because it sums over the "
            "whole vocabulary. Embeddings can come in instead of ids: this is the door through "
            "which step 6 brings in a picture."
        ),
    ),
    Check(
        id="sample",
        asks="choose a token per row by temperature, top-k, top-p and a given uniform number",
        call=call_sample,
        cases=sample_cases,
        shows=lambda case: f"sample({arguments(case, 'logits', 'uniforms', 'temperature', 'top_k', 'top_p')})",
        hints=(
            "Lay the kept probabilities side by side on a ruler of length 1. A number between 0 and 1 "
            "points at a place on it. How do you find which token lies there?",
            "p = softmax(logits / temperature). top_k: zero all but the k largest. top_p: in falling "
            "order, a token is kept if those before it sum to less than top_p. Scale to sum 1. The "
            "answer is how many running sums (cumsum, in the vocabulary's order) are not yet above the "
            "uniform number.",
            "p = softmax of logits over the temperature\n"
            "top_k: p = 0 wherever p is below the k-th largest of its row\n"
            "top_p: scale p to sum 1, sort it falling; before = cumsum minus the number itself\n"
            "       keep where before < top_p; scatter what is kept back to where it came from\n"
            "sums = cumsum of p, divided by its last number\n"
            "return the count of sums <= uniform, per row",
        ),
        why=(
            "Everything stays in the order of the vocabulary, and what is not kept gets "
            "probability 0: so one running sum and one comparison choose for the whole batch. The "
            "uniform numbers come from outside, so the same numbers give the same text on every "
            "machine; torch.multinomial would not."
        ),
    ),
    Check(
        id="generate",
        spared={"bfloat16": "uniform numbers just below 1 round up to 1, which no uniform number is"},
        asks="continue a prompt token by token, reading each token once",
        call=call_generate,
        cases=generate_cases,
        judge=judge_generate,
        shows=shows_generate,
        needs=("sample",),
        hints=(
            "After the prompt has been read with a cache, what is left to read for the next token, and "
            "the one after it? And what does a row do that is finished while others are not?",
            "The next token comes from the logits of the last position: argmax at temperature 0, else "
            "sample with column n of uniforms. Then the new token alone is the input. attention_mask "
            "grows by a column of ones. A row whose last token was eos gets eos again.",
            "cache = KVCache(); input = the prompt\n"
            "for n in range(max_new_tokens):\n"
            "    logits of the last position, reading the input with mask and cache\n"
            "    token = argmax, or sample(logits, uniforms[:, n], ...)\n"
            "    rows that have ended: token = eos\n"
            "    keep the token; if all rows have ended: stop\n"
            "    input = the token [B, 1]; the mask gets one more column of ones\n"
            "return the kept tokens as [B, N]",
        ),
        why=(
            "The prompt is read once, then one token a step: with a cache, N new tokens cost N "
            "steps of one token instead of N ever longer texts. Rows that are done go on saying "
            "the end token, because a batch has one length; serving systems such as vLLM put "
            "another request in their place."
        ),
    ),
]
