"""What is asked of the TODOs of this lesson, and with which inputs.

The model that is trained and measured here is the stand-in of `course.checking`, whose weights are part of the case.
Plain gradient descent stands in for AdamW: it changes weights by the gradient itself, so a wrong scale is seen.
"""

import torch
import torch.nn.functional as F

from course.checking import Check, Problem, StandInLM, attempt, between, compare, like

IGNORE = -100


def uniform(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=g))


def weights(g: torch.Generator, V: int, D: int) -> dict[str, torch.Tensor]:
    """Weights of a StandInLM that knows what it says: far from the uniform guess of a fresh model."""
    shapes = {"embed_tokens.weight": (V, D), "mix.weight": (D, D), "mix.bias": (D,), "lm_head.weight": (V, D)}
    return {
        name: torch.randn(shape, generator=g) / (1 if name.startswith("embed") else D**0.5)
        for name, shape in shapes.items()
    }


def stand_in(case: dict, kind=StandInLM):
    return like(case, kind(*case["weights"]["embed_tokens.weight"].shape), case["weights"])


# next_token_batch


def next_token_batch_cases(g):
    for kind in ("int64", "int16", "long", "one window", "one row", "too short", "much too short"):
        context, B = between(g, 5, 8), between(g, 9, 12)
        N = {
            "one window": context,
            "too short": context - 1,
            "much too short": between(g, 0, context - 2),
            "long": between(g, 40_000, 50_000),
        }.get(kind, between(g, 20, 40))
        tokens = 300 + torch.randperm(N, generator=g)  # no token twice, so each tells where it stood
        if kind == "long":  # more places than an int16 can count; here a few tokens tell
            tokens = torch.randint(0, 32_000, (N,), generator=g)
        windows = max(1, N - context + 1)
        starts = torch.randint(0, windows, (B,), generator=g)
        starts[0], starts[1] = windows - 1, 0
        # Well inside the share that belongs to a start, so that no way of rounding the product matters.
        uniforms = (starts + 0.1 + 0.8 * torch.rand(B, generator=g)) / windows
        uniforms[1], uniforms[2] = 0.0, 1 - 2**-20
        uniforms[3] = 0.9 / windows  # start 0, unless somebody rounds up
        if kind == "one row":
            uniforms = uniforms[4:5]
        yield {
            "tokens": tokens.to(torch.int16) if kind in ("int16", "long") else tokens,
            "context": context,
            "uniforms": uniforms,
        }


def call_next_token_batch(module, case):
    if len(case["tokens"]) < case["context"]:
        _, error, _ = attempt(lambda: module.next_token_batch(**case))
        return {"raised": error or "nothing"}
    return module.next_token_batch(**case)


def stood(row, tokens) -> int:
    """Where in the text a window stood, or -1."""
    return next((int(at) for at in (tokens == row[0]).nonzero() if torch.equal(tokens[at : at + len(row)], row)), -1)


def judge_next_token_batch(case, answer, expected):
    if "raised" in expected:
        if answer["raised"] == "ValueError":
            return []
        return [
            Problem(
                "short row" if answer["raised"] == "nothing" else "short row, another error",
                f"a row of {len(case['tokens'])} tokens holds no window of {case['context']}: a ValueError should "
                "say so",
                "ValueError",
                f"{answer['raised']} is raised",
            )
        ]
    form = [problem for problem in compare(answer, expected) if not problem.property.endswith("values")]
    if form:
        return form
    problems, tokens = [], case["tokens"].long()
    starts = [stood(row, tokens) for row in answer["input_ids"]]
    wanted = [stood(row, tokens) for row in expected["input_ids"]]
    for b, (start, row) in enumerate(zip(starts, answer["input_ids"])):
        if start < 0:
            return [
                Problem(
                    "window",
                    f"row {b} of input_ids is not {case['context']} neighbouring tokens of the text",
                    str(expected["input_ids"][b].tolist()),
                    str(row.tolist()),
                )
            ]
    if starts != wanted:
        b = next(b for b in range(len(wanted)) if starts[b] != wanted[b])
        problems.append(
            Problem(
                "starts",
                f"row {b} begins at token {starts[b]} of the text, but its number "
                f"{case['uniforms'][b]:.3f} means {wanted[b]}; a window of {case['context']} can begin at "
                f"{len(tokens) - case['context'] + 1} places",
                f"starts {wanted}",
                f"starts {starts}",
            )
        )
    if not torch.equal(answer["labels"], answer["input_ids"]):
        shifted = torch.equal(answer["labels"][:, :-1], answer["input_ids"][:, 1:])
        problems.append(
            Problem(
                "labels shifted" if shifted else "labels",
                "labels are not aligned with input_ids: both should hold the same tokens",
                str(answer["input_ids"][0].tolist()),
                str(answer["labels"][0].tolist()),
            )
        )
    return problems


# learning_rate


def learning_rate_cases(g):
    for kind in ("usual", "usual", "no warm-up", "constant", "to nothing"):
        warmup = 0 if kind == "no warm-up" else between(g, 5, 9)
        length = between(g, 30, 60)
        peak = uniform(g, 0.5, 2)
        floor = peak if kind == "constant" else peak * uniform(g, 0.1, 0.4)
        if kind == "to nothing":  # and as small as the rates of real models are
            peak, floor = peak * 1e-4, 0.0
        config = {"max_steps": warmup + length, "learning_rate": peak, "min_lr": floor, "warmup_steps": warmup}
        quarter = warmup + length // 4
        steps = [
            0,
            warmup // 2,
            max(0, warmup - 1),
            warmup,
            quarter,
            warmup + length // 2,
            between(g, quarter, warmup + length - 2),
            warmup + length - 1,
            warmup + length,
            warmup + length + between(g, 3, 20),
            3 * (warmup + length),
        ]
        yield {"config": config, "steps": sorted(set(steps))}


def call_learning_rate(module, case):
    config = module.TrainConfig(**case["config"])
    return {f"step {step}": module.learning_rate(step, config) for step in case["steps"]}


def shows_learning_rate(case):
    config = ", ".join(f"{name}={value:.3g}" for name, value in case["config"].items())
    return f"learning_rate(step, TrainConfig({config})) for the steps {', '.join(map(str, case['steps']))}"


# train_step


def text(g, B: int, T: int, V: int, ignored: float = 0.0) -> dict[str, torch.Tensor]:
    """A micro-batch, in which a share of the labels is left out."""
    ids = torch.randint(0, V, (B, T), generator=g)
    labels = ids.masked_fill(torch.rand(B, T, generator=g) < ignored, IGNORE)
    labels[0, 1] = ids[0, 1]  # at least one label counts
    return {"input_ids": ids, "labels": labels}


def train_step_cases(g):
    for kind in ("one batch", "three", "clipped", "own loss"):
        V, D, B = between(g, 9, 12), between(g, 5, 7), between(g, 2, 3)
        sizes = [(B, between(g, 5, 6), 0.0)]
        if kind != "one batch":
            sizes = [(B, between(g, 4, 5), 0.5), (B + 2, between(g, 11, 13), 0.0), (1, between(g, 6, 8), 0.6)]
        given = weights(g, V, D)
        batches = [text(g, B, T, V, ignored) for B, T, ignored in sizes]
        if kind == "own loss":
            for batch in batches:
                batch["worth"] = 0.5 + torch.rand(len(batch["labels"]), generator=g)
        yield {
            "weights": given,
            "batches": batches,
            "max_grad_norm": uniform(g, 0.02, 0.05) if kind in ("clipped", "own loss") else 100.0,
            "lr": uniform(g, 2, 4),
            "frozen": ["embed_tokens.weight"] if kind in ("three", "own loss") else [],
            "old_gradients": {
                "mix.weight": torch.randn(D, D, generator=g),
                "lm_head.weight": torch.randn(V, D, generator=g),
            }
            if kind != "clipped"
            else {},
            "loss_fn": kind == "own loss",
        }


def surprise(network, rows):
    """A loss that is not the model's own: how much each row surprises, times what it is worth; n counts rows."""
    logits, labels = network(input_ids=rows["input_ids"])[0][:, :-1], rows["labels"][:, 1:]
    each = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")
    return (each.sum(1) * rows["worth"]).mean(), len(each)


def call_train_step(module, case):
    model = stand_in(case)
    model.spare = torch.nn.Parameter(next(model.parameters()).new_ones(3))  # no gradient reaches it
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in case["frozen"])
        if name in case["old_gradients"]:
            parameter.grad = case["old_gradients"][name].clone()
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.dim() > 1]},
        {"params": [p for p in learning if p.dim() == 1], "lr": case["lr"] / 2},
    ]
    optimizer = torch.optim.SGD(groups, lr=case["lr"], momentum=0.9, nesterov=True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    loss, norm = module.train_step(
        model, optimizer, case["batches"], case["max_grad_norm"], **({"loss_fn": surprise} if case["loss_fn"] else {})
    )
    change = {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}
    return {
        "loss": loss,
        "norm": norm,
        "change": change,
        "in training mode": model.training,
        "the loss still holds its graph": bool(getattr(loss, "requires_grad", False)),
    }


def shows_train_step(case):
    shapes = ", ".join(str(list(batch["input_ids"].shape)) for batch in case["batches"])
    extra = ", loss_fn=another_loss" if case["loss_fn"] else ""
    frozen = f" (with {', '.join(case['frozen'])} frozen)" if case["frozen"] else ""
    old = ", old gradients in the model" if case["old_gradients"] else ""
    return (
        f"train_step(model{frozen}, SGD, micro-batches {shapes}, max_grad_norm={case['max_grad_norm']:.3g}{extra}){old}"
    )


# bits_per_byte


class Moody(StandInLM):
    """While a part of it is in training mode its logits are halved, as if half of it were dropped."""

    def forward(self, input_ids=None, inputs_embeds=None, labels=None, attention_mask=None, cache=None):
        logits, _ = super().forward(input_ids, inputs_embeds, None, attention_mask, cache)
        logits = logits / 2 if self.mix.training else logits
        if labels is None:
            return logits, None
        labels = labels[:, 1:].flatten()
        return logits, F.cross_entropy(logits[:, :-1].flatten(0, 1), labels, ignore_index=IGNORE)


def bits_per_byte_cases(g):
    for kind in ("short", "rest", "one more", "no rest", "bytes"):
        V, D, context, batch_size = between(g, 9, 12), between(g, 4, 6), between(g, 6, 8), between(g, 2, 3)
        N = (2 * batch_size + 1) * (context - 1) + 1  # fills 2 batches and one window, to the last token
        if kind in ("rest", "bytes"):
            N += between(g, 2, context - 3)
        elif kind == "one more":  # a last window of two tokens
            N += 1
        elif kind == "short":
            N = context - 2
        tokens = torch.randint(0, V, (N,), generator=g)
        stored = {"no rest": torch.int16, "bytes": torch.uint8}.get(kind, torch.int64)
        yield {
            "weights": weights(g, V, D),
            "tokens": tokens.to(stored),
            "num_bytes": N * 3 + between(g, 1, 9),
            "context": context,
            "batch_size": batch_size,
            "training": kind != "short",
        }


def call_bits_per_byte(module, case):
    model = stand_in(case, Moody).train(case["training"])
    value = module.bits_per_byte(model, case["tokens"], case["num_bytes"], case["context"], case["batch_size"])
    return {"bits per byte": value, "training afterwards, part by part": [part.training for part in model.modules()]}


def shows_bits_per_byte(case):
    tokens = case["tokens"]
    return (
        f"bits_per_byte(model, tokens {list(tokens.shape)} {str(tokens.dtype).removeprefix('torch.')}, "
        f"num_bytes={case['num_bytes']}, context={case['context']}, batch_size={case['batch_size']}), "
        f"the model in {'training' if case['training'] else 'eval'} mode"
    )


CHECKS = [
    Check(
        id="next_token_batch",
        spared={"bfloat16": "uniform numbers just below 1 round up to 1, which no uniform number is"},
        asks="cut B random windows out of a long row of tokens, each start equally likely",
        call=call_next_token_batch,
        cases=next_token_batch_cases,
        judge=judge_next_token_batch,
        shows=lambda case: (
            f"next_token_batch(tokens {list(case['tokens'].shape)} "
            f"{str(case['tokens'].dtype).removeprefix('torch.')}, context={case['context']}, "
            f"uniforms {list(case['uniforms'].shape)})"
        ),
        hints=(
            "A row of 5 tokens and windows of 3: at which places can a window begin? How many are they? And "
            "who shifts the labels, you or the model?",
            "There are N - context + 1 starts, 0 .. N - context. The number u means start floor(u * starts). "
            "Window b is tokens[start_b], tokens[start_b + 1], ...; labels are the same tokens, as int64.",
            "windows = length of tokens - context + 1; if that is less than 1, raise ValueError\n"
            "starts = (uniforms * windows), rounded down to whole numbers   # [B]\n"
            "index = starts as a column [B, 1] plus 0 .. context - 1 as a row   # [B, context]\n"
            "ids = tokens at index, as int64; return them as input_ids and as labels",
        ),
        why=(
            "Windows that begin anywhere need no cutting of the text beforehand, and every epoch "
            "cuts it differently. The batch is one indexing operation: a column of starts plus a "
            "row of offsets. nanoGPT reads a memory-mapped file in the same way."
        ),
    ),
    Check(
        id="learning_rate",
        asks="warm up in a straight line, then follow half a cosine down to min_lr, and stay there",
        call=call_learning_rate,
        cases=learning_rate_cases,
        shows=shows_learning_rate,
        rtol=1e-5,
        atol=1e-9,
        hints=(
            "Which part of the way from the end of the warm-up to max_steps has step s behind it? What "
            "should that part be at step warmup_steps, at max_steps, and at 2 max_steps?",
            "Warm-up: peak * (s + 1) / warmup_steps. After it: p = (s - warmup_steps) / (max_steps - "
            "warmup_steps), at most 1, and min_lr + (peak - min_lr) * (1 + cos(pi p)) / 2.",
            "if step is still in the warm-up: return the peak times (step + 1) / warmup_steps\n"
            "p = steps since the warm-up / steps that there are after it, but at most 1\n"
            "c = half of 1 + cos(pi p)              # goes from 1 to 0\n"
            "return min_lr + c * (peak - min_lr)",
        ),
        why=(
            "The warm-up counts s + 1, so that the first batch is not wasted. It protects Adam's "
            "averages, which mean little after a few steps. The cosine is habit more than law; a "
            "straight line or a constant rate with a short decay at the end come out about as "
            "well."
        ),
    ),
    Check(
        id="train_step",
        asks="one step of gradient descent on several micro-batches, as if they were one large batch",
        call=call_train_step,
        cases=train_step_cases,
        shows=shows_train_step,
        points=2,
        hints=(
            "If you could put all the micro-batches into one large one, what would its mean loss be, in "
            "terms of theirs? When may the gradient be clipped: before it is complete?",
            "loss = sum of (n_i * loss_i) / sum of n_i, and the gradient likewise. backward() adds to .grad. "
            "The order is: clear, add up, divide, clip, step. clip_grad_norm_ returns the norm that it "
            "found.",
            "clear the gradients\n"
            "for each micro-batch: loss, n from loss_fn; backward of loss * n; remember both numbers\n"
            "divide each gradient that there is by the sum of all n\n"
            "norm = clip the gradients of the whole model to max_grad_norm\n"
            "take the optimizer's step\n"
            "return (sum of loss * n) / (sum of n), and the norm, as numbers",
        ),
        why=(
            "Each micro-batch's mean is turned back into a sum, and the total is divided once by "
            "all tokens: then the result does not depend on how the batch was cut. That the mean "
            "of the means is something else was a bug in widely used trainers until 2024. "
            "Clipping comes when the gradient is complete."
        ),
    ),
    Check(
        id="bits_per_byte",
        asks="all the bits that the model needs for a text, divided by the bytes of the text",
        call=call_bits_per_byte,
        cases=bits_per_byte_cases,
        shows=shows_bits_per_byte,
        points=2,
        hints=(
            "In a window of 4 tokens, how many are predicted? If the next window begins right after this "
            "one, which token is predicted by nobody?",
            "bits per byte = (sum over all tokens but the first of -ln p(token)) / ln 2 / num_bytes. Windows "
            "begin at 0, context - 1, 2 (context - 1), ...: the last token of one is the first of the next.",
            "remember the model's mode; switch to eval\n"
            "windows = context tokens, as int64, from each start 0, context - 1, ... that has a next token\n"
            "for each window, alone or batch_size at a time (a shorter one filled up, the filling ignored):\n"
            "    logits of all its tokens but the last, judged by all but the first\n"
            "    add the sum of the cross-entropies to nats\n"
            "switch back to the mode of before\n"
            "return nats / ln 2 / num_bytes",
        ),
        why=(
            "Dividing by bytes, not tokens, makes models with different tokenizers comparable: a "
            "larger vocabulary has fewer, harder tokens. Windows overlap by one token, so each "
            "token is predicted exactly once; overlapping by more would give each more context, "
            "and cost more."
        ),
    ),
]
