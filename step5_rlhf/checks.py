"""What is asked of the TODOs of this lesson, and with which inputs.

All three turn tensors into tensors, so each check asks for the values and for the gradients. Every check has
a case that is far out: there a probability rounds to 0, and only logarithms all the way stay finite.
"""

import torch

from course.checking import Check, Problem, between, compare, with_grad

IGNORE = -100


def uniform(g: torch.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    return low + (high - low) * torch.rand(shape, generator=g)


def normal(g: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=g)


def shapes(case: dict, *names: str) -> str:
    """How tensors look in a call: "chosen [5], rejected [5]"."""
    return ", ".join(f"{name} {list(case[name].shape)}" for name in names)


# sequence_logprobs


def sequence_logprobs_cases(g):
    for kind in ("one turn", "two turns", "edges", "unlikely", "half", "far out", "one row"):
        B, T, V = 1 if kind == "one row" else between(g, 4, 5), between(g, 8, 10), between(g, 12, 17)
        labels = torch.randint(0, V, (B, T), generator=g)
        for row in labels:
            prompt, reply = between(g, 1, 3), between(g, 3, T - 4)
            row[prompt + 1] = 0  # id 0 is a token like any other
            if kind == "two turns":
                row[prompt + 2] = IGNORE
            if kind != "edges":
                row[:prompt] = IGNORE
                row[prompt + reply :] = IGNORE  # padding
        if kind == "edges":
            labels[1] = IGNORE  # no reply at all: the sum over nothing
        yield {
            "logits": normal(g, B, T, V) * (400 if kind == "far out" else 80 if kind == "unlikely" else 2),
            "labels": labels,
            "cotangent": normal(g, B),
            "half": kind == "half",
        }


def call_sequence_logprobs(module, case):
    labels = case["labels"]
    logits = case["logits"].bfloat16() if case["half"] else case["logits"]  # as a model gives them under autocast
    result = with_grad(lambda logits: module.sequence_logprobs(logits, labels), {"logits": logits}, case["cotangent"])
    output = result["output"]
    if isinstance(output, torch.Tensor) and output.is_floating_point():
        result["output"] = output.to(case["logits"].dtype)  # float32 at least is good, and so is float64
    return result


# reward_loss


def reward_loss_cases(g):
    for far in (False, False, True):
        B = between(g, 3, 7)
        chosen = 2 * normal(g, B) + 0.5
        apart = uniform(g, 1000, 1500, B) * torch.tensor([1, -1]).repeat(B)[:B]
        rejected = chosen + apart if far else 2 * normal(g, B)
        yield {"chosen": chosen, "rejected": rejected}


def call_reward_loss(module, case):
    return with_grad(lambda chosen, rejected: module.reward_loss(chosen, rejected), case)


# dpo_loss

VECTORS = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")
RETURNED = ("loss", "rewards of the chosen", "rewards of the rejected")


def dpo_loss_cases(g):
    for kind in ("trained", "trained", "step 0", "far"):
        B = between(g, 3, 7)
        reference = {name: -uniform(g, 3, 30, B) for name in VECTORS[2:]}
        if kind == "far":  # the policy has left the reference: one reply is likelier now, one impossible
            shift = uniform(g, 6000, 9000, 2, B) * torch.tensor([[1.0], [-1.0]])
            shift[:, ::2] *= -1
        else:
            shift = 3 * normal(g, 2, B) * (kind == "trained")
        policy = dict(zip(VECTORS, (logprobs + move for logprobs, move in zip(reference.values(), shift))))
        yield {
            **policy,
            **reference,
            "beta": float(uniform(g, 0.2, 0.7)),
            "cotangents": normal(g, 2, B),
            "views": kind == "step 0",
        }


def call_dpo_loss(module, case):
    returned = []

    def run(part, **vectors):
        given = [vectors[name] for name in VECTORS]
        # Halves of one tensor, as one pass over chosen and rejected replies gives them: detach_ refuses these.
        if case["views"]:
            given = [half for pair in (given[:2], given[2:]) for half in torch.cat(pair).chunk(2)]
        answer = module.dpo_loss(*given, case["beta"])
        returned.append(answer)
        return part(answer) if isinstance(answer, (tuple, list)) and len(answer) == 3 else answer

    vectors = {name: case[name] for name in VECTORS}
    loss = with_grad(lambda **v: run(lambda answer: answer[0], **v), vectors)
    rewards = with_grad(lambda **v: run(lambda answer: answer[1:], **v), vectors, list(case["cotangents"]))
    return {"returned": returned[0], "grad": loss["grad"], "reward_grad": rewards["grad"], "inputs": loss["inputs"]}


def judge_dpo_loss(case, answer, expected):
    returned, wanted = answer["returned"], expected["returned"]
    if not isinstance(returned, list) or len(returned) != 3:
        returns = f"{len(returned)} values" if isinstance(returned, list) else "one value"
        return [
            Problem(
                f"form: {returns}",
                "dpo_loss returns three tensors: the loss, the rewards of the chosen replies "
                "and those of the rejected ones",
                "(loss, rewards [B], rewards [B])",
                returns,
            )
        ]
    problems = compare(dict(zip(RETURNED, returned)), dict(zip(RETURNED, wanted)), where="answer")
    if any(gradient is not None for gradient in answer["reward_grad"].values()):
        problems.append(
            Problem(
                "rewards detached",
                "a gradient flows through the returned rewards: they are there to be looked at, and should be detached",
                "detached",
                "part of the graph",
            )
        )
    reached = [name for name in VECTORS[2:] if answer["grad"][name] is not None]
    if reached:
        names = " and ".join(reached)
        problems.append(
            Problem(
                "reference gradient",
                f"the loss sends a gradient to {names}: the reference is a fixed measure",
                "no gradient",
                "a gradient",
            )
        )
    if not any(problem.property.startswith("loss") for problem in problems):
        for name in VECTORS[:2]:
            problems += compare(answer["grad"][name], expected["grad"][name], where=f"grad[{name!r}]")
    return problems or compare(answer["inputs"], expected["inputs"], where="inputs")


CHECKS = [
    Check(
        id="sequence_logprobs",
        asks="add up the log-probabilities of each row's reply, and of nothing else",
        call=call_sequence_logprobs,
        cases=sequence_logprobs_cases,
        # float32 has logits of some hundreds to 4 digits behind the point, and gradients are their exponentials
        atol=2e-4,
        shows=lambda case: f"sequence_logprobs({shapes(case, 'logits', 'labels')})",
        hints=(
            "The logits at position t are a guess about one token. Which one? And which positions of a row "
            "have no label to be compared with?",
            "log p(reply) = sum over t with labels[t + 1] != IGNORE of log_softmax(logits[t])[labels[t + "
            "1]]. gather picks one number per position, but refuses the index -100: give it any valid index "
            "there, and leave what it picks out of the sum.",
            "targets = all labels but the first                                      # [B, T - 1]\n"
            "logprobs = log_softmax of all logits but the last                       # [B, T - 1, V]\n"
            "picked = from each position's V numbers the one of its target (IGNORE replaced by 0 meanwhile)\n"
            "picked = 0 where the target is IGNORE\n"
            "return the sum of picked along each row                                 # [B]",
        ),
        why=(
            "log_softmax, never the log of a softmax: a probability that rounds to 0 would be "
            "-inf. IGNORE is no valid index, so it is replaced by 0 before gather and its result "
            "thrown away after it. The sum, not the mean: DPO compares whole replies."
        ),
    ),
    Check(
        id="reward_loss",
        asks="how surprised a reward model is that the preferred reply won",
        call=call_reward_loss,
        cases=reward_loss_cases,
        shows=lambda case: f"reward_loss({shapes(case, 'chosen', 'rejected')})",
        hints=(
            "Only one number per pair matters for who wins. Which one? What should the loss be when it is "
            "large and positive, when it is 0, when it is large and negative?",
            "P(chosen wins) = sigmoid(chosen - rejected); loss = mean of -log P. At a difference of -1000 "
            "the sigmoid rounds to 0 and its logarithm is minus infinity, though the loss is just 1000: "
            "torch has one function for both steps.",
            "difference = chosen minus rejected                                      # [B]\n"
            "return minus the mean of F.logsigmoid of the difference",
        ),
        why=(
            "logsigmoid is written so that large differences neither overflow nor lose their "
            "gradient: -log(sigmoid(-1000)) is 1000, not infinity. Only the difference counts, so "
            "a reward has no zero point; comparing rewards across prompts means nothing."
        ),
    ),
    Check(
        id="dpo_loss",
        asks="turn log-probabilities into rewards, and teach the policy which of the two is to be larger",
        call=call_dpo_loss,
        cases=dpo_loss_cases,
        judge=judge_dpo_loss,
        shows=lambda case: f"dpo_loss({shapes(case, *VECTORS)}, beta={case['beta']:.2f})",
        hints=(
            "The policy finds the chosen reply likelier than the rejected one. Is that what it has learned, "
            "or did the reference find so too? How do you take out what the reference knew already?",
            "reward = beta * (log-probability under the policy - log-probability under the reference), for "
            "each of the two replies. The loss is -log sigmoid(reward of the chosen - reward of the "
            "rejected), its mean over the pairs. detach() stops gradients.",
            "rewards of the chosen = beta times (policy_chosen minus reference_chosen, detached)\n"
            "rewards of the rejected = the same with the two others\n"
            "loss = minus the mean of logsigmoid of their difference\n"
            "return loss, and both rewards, detached",
        ),
        why=(
            "The reference only shifts the zero of each reward, so its gradient is cut off: it is "
            "the fixed point that the policy is measured from. The rewards are returned for the "
            "curves, detached, because nobody should train on them twice. beta says how dear it "
            "is to move away from the reference."
        ),
    ),
]
