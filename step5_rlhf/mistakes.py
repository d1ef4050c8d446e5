"""Known wrong answers to the TODOs of this lesson, and what to say to whoever gave them."""

from course.checking import Mistake

TARGETS = "targets = labels[:, 1:]  # [B, T - 1]"
LOGPROBS = "logprobs = logits[:, :-1].float().log_softmax(-1)  # [B, T - 1, V]"
SHIFT = f"    {TARGETS}\n    {LOGPROBS}\n"
PICK = "chosen = logprobs.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)  # [B, T - 1]"
SUM = "return chosen.where(targets != IGNORE, 0.0).sum(-1)"
REWARD = "return -F.logsigmoid(chosen - rejected).mean()"
CHOSEN = "chosen = beta * (policy_chosen - reference_chosen.detach())"
REJECTED = "rejected = beta * (policy_rejected - reference_rejected.detach())"
REWARDS = f"    {CHOSEN}\n    {REJECTED}\n"
LOSS = "loss = -F.logsigmoid(chosen - rejected).mean()\n"
RETURN = "return loss, chosen.detach(), rejected.detach()"

FAR = (
    "On paper this is right. But for rewards far apart a number on the way leaves what the format can "
    "hold: exp overflows to infinity, or the sigmoid rounds to 0 and its logarithm is minus infinity. "
    "The loss itself is just the distance there: torch has a function that knows this danger."
)

MISTAKES = {
    "sequence_logprobs": [
        Mistake(
            "not shifted",
            SHIFT,
            SHIFT.replace("[:, 1:]", "").replace("[:, :-1]", ""),
            "Each label is compared with the logits at its own place. There the model has already read "
            "that token; what it guesses there is the next one. The logits at t belong to the label at "
            "t + 1.",
        ),
        Mistake(
            "shifted the wrong way",
            SHIFT,
            SHIFT.replace("[:, 1:]", "[:, :-1]").replace("logits[:, :-1]", "logits[:, 1:]"),
            "You shifted in the wrong direction: a token is judged by the logits one place after it. A "
            "guess is made before the token is read, so the logits come first and the label one place "
            "later.",
        ),
        Mistake(
            "shifted twice",
            SHIFT,
            SHIFT.replace("[:, 1:]", "[:, 2:]").replace("[:, :-1]", "[:, :-2]"),
            "The logits at t are compared with the label at t + 2. These labels stand at the places of "
            "their own tokens, so they are shifted by one.",
        ),
        Mistake(
            "mask not shifted",
            SUM,
            SUM.replace("targets", "labels[:, :-1]"),
            "The labels are shifted, but the mask is not: it asks whether the position of the guess "
            "belongs to the reply, not whether the guessed token does. So the first word of the reply "
            "gets lost, and the first word after it is counted.",
        ),
        Mistake(
            "everything counted",
            SUM,
            "return chosen.sum(-1)",
            "Positions whose label is IGNORE are counted too. Replacing -100 by a valid index keeps "
            "gather from failing, but what it picks there is the log-probability of some token that "
            "nobody said: the prompt and the padding have to add nothing.",
        ),
        Mistake(
            "gather of -100",
            PICK,
            PICK.replace(".clamp(min=0)", ""),
            "gather is asked for token number -100 where the label is IGNORE, and there is no such "
            "token. Give it any valid index there, and leave what it picks out of the sum afterwards.",
        ),
        Mistake(
            "token 0 left out",
            SUM,
            SUM.replace("!= IGNORE", "> 0"),
            "Token 0 is left out of the sum, though it is a token like any other. Only the label "
            "IGNORE says that a position does not count: remember where it stood before you replace it.",
        ),
        Mistake(
            "prompt kept out by the first position",
            SUM,
            "return chosen.where((targets != IGNORE).cumsum(-1) > 0, 0.0).sum(-1)",
            "Everything after the first word of the reply is counted, also the padding behind it and a "
            "user's next question. Ask of every position for itself whether its label is IGNORE.",
        ),
        Mistake(
            "mean instead of sum",
            SUM,
            "counted = targets != IGNORE\n    return chosen.where(counted, 0.0).sum(-1) / counted.sum(-1).clamp(min=1)",
            "This is the mean per token. The probability of a reply is the product of its tokens' "
            "probabilities, so its logarithm is the sum. DPO compares whole replies; with means a long "
            "and a short one would weigh the same (length-normalised variants exist, but they are "
            "other methods).",
        ),
        Mistake(
            "mean over all positions",
            SUM,
            "return chosen.where(targets != IGNORE, 0.0).mean(-1)",
            "The sum is divided by the length of the row, padding included: so a reply's number "
            "depends on who else is in the batch. A product of probabilities becomes a sum of "
            "logarithms, and not a mean.",
        ),
        Mistake(
            "softmax without a logarithm",
            LOGPROBS,
            LOGPROBS.replace("log_softmax", "softmax"),
            "These are sums of probabilities. The probability that all tokens come one after the other "
            "is a product; it is the logarithms that are added.",
        ),
        Mistake(
            "log of softmax",
            LOGPROBS,
            LOGPROBS.replace("log_softmax(-1)", "softmax(-1).log()"),
            "On paper this is right. But a probability below what the number format can hold rounds to "
            "0, and its logarithm is minus infinity. log_softmax does both steps at once and never "
            "makes the small number.",
        ),
        Mistake(
            "log of softmax, NaN where nothing counts",
            f"    {LOGPROBS}\n    {PICK}\n    {SUM}",
            f"    {LOGPROBS}\n    {PICK}\n    return (chosen * (targets != IGNORE)).sum(-1)".replace(
                "log_softmax(-1)", "softmax(-1).log()"
            ),
            "softmax rounds a tiny probability to 0, its logarithm is minus infinity, and minus "
            "infinity times 0 is not 0 but NaN. log_softmax does both steps at once and never makes the "
            "small number.",
        ),
        Mistake(
            "log of a softmax kept from 0",
            LOGPROBS,
            LOGPROBS.replace("log_softmax(-1)", "softmax(-1).clamp(min=1e-12).log()"),
            "Nothing becomes infinite any more, but every token that is less likely than your smallest "
            "number counts as if it were just that likely, and has no gradient. log_softmax needs no "
            "such floor.",
        ),
        Mistake(
            "product of probabilities",
            f"    {LOGPROBS}\n    {PICK}\n    {SUM}",
            f"    {LOGPROBS}\n    {PICK}\n    return chosen.where(targets != IGNORE, 1.0).prod(-1)".replace(
                "log_softmax", "softmax"
            ),
            "This is the probability itself, a product. After a few dozen tokens it is 0 in float32. "
            "Its logarithm is asked for: the sum of the tokens' log-probabilities.",
        ),
        Mistake(
            "last axis left by gather",
            f"{PICK}\n    {SUM}",
            "chosen = logprobs.gather(-1, targets.clamp(min=0).unsqueeze(-1))\n"
            "    return (chosen * (targets != IGNORE)).sum(-1)",
            "gather gives [B, T - 1, 1], and the mask is [B, T - 1]. Take the last axis away again: squeeze(-1).",
        ),
        Mistake(
            "computed in half precision",
            LOGPROBS,
            LOGPROBS.replace(".float()", ""),
            "The logits come in bfloat16 here, as a model gives them under autocast, and you go on "
            "computing in it. It has 8 bits for the digits: a sum of -40 is then off by a tenth, as "
            "much as DPO is about. Make the logits float32 first: logits.float().",
        ),
        Mistake(
            "logits taken as they are",
            LOGPROBS,
            LOGPROBS.replace(".log_softmax(-1)", ""),
            "Logits are not log-probabilities yet: add a constant to all of a position's logits, and "
            "nothing about the model changes, but your sum does. They have to be normalised over the "
            "vocabulary first.",
        ),
        Mistake(
            "normalised over the positions",
            LOGPROBS,
            LOGPROBS.replace("log_softmax(-1)", "log_softmax(1)"),
            "The softmax runs over the positions. What has to sum to 1 are the probabilities of all V "
            "tokens at one position, and these stand along the last dimension.",
        ),
        Mistake(
            "summed over the batch",
            SUM,
            SUM.replace(".sum(-1)", ".sum()"),
            "The rows are added up as well. Each row is a reply of its own and gets a number of its "
            "own: sum along the positions only, so that [B] is left.",
        ),
        Mistake(
            "the mean loss of the batch",
            f"{SHIFT}    {PICK}\n    {SUM}",
            "    return -F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)",
            "This is one number, the mean over all tokens of the batch, as fine-tuning wants it. Here "
            "each row is a reply of its own: [B] sums, one for each row. (cross_entropy can leave the "
            "averaging out.)",
        ),
        Mistake(
            "labels changed in place",
            f"    {TARGETS}",
            f"    labels[labels == IGNORE] = 0\n    {TARGETS}",
            "You overwrite the labels. After that nobody can tell any more which positions were to be "
            "ignored, so they are counted; and the caller's batch is changed, too. Make a copy with a "
            "valid index in it, and keep the labels for the mask.",
        ),
        Mistake(
            "a loss",
            SUM,
            SUM.replace("return ", "return -"),
            "The sign is that of a loss. Asked for is a log-probability, and that is never above 0: "
            "the likelier the reply, the larger it is.",
        ),
        Mistake(
            "no gradient",
            LOGPROBS,
            LOGPROBS.replace("logits[", "logits.detach()["),
            "No gradient gets back to the logits, so nothing could be learned from it. Whether "
            "gradients are wanted is decided by the caller, who scores the reference inside "
            "torch.no_grad().",
        ),
    ],
    "reward_loss": [
        Mistake(
            "chosen and rejected swapped",
            REWARD,
            REWARD.replace("chosen - rejected", "rejected - chosen"),
            "The difference is the wrong way round: this loss falls when the rejected reply's reward "
            "rises above the chosen one's. It is the loss of the opposite preference.",
        ),
        Mistake(
            "sigmoid without a logarithm",
            REWARD,
            REWARD.replace("F.logsigmoid", "torch.sigmoid"),
            "This is the mean probability itself, not minus its logarithm. Where the model is surely "
            "wrong the sigmoid is flat, so that hardly any gradient is left just where the most is to "
            "be learned.",
        ),
        Mistake(
            "probability of losing",
            REWARD,
            REWARD.replace("-F.logsigmoid(chosen - rejected)", "(1 - torch.sigmoid(chosen - rejected))"),
            "This is the probability that the preferred reply loses. It has the right direction, but "
            "where the model is surely wrong it is flat and teaches nothing: maximum likelihood asks "
            "for minus the logarithm of the probability of winning.",
        ),
        Mistake(
            "logarithm of a sigmoid",
            REWARD,
            REWARD.replace("F.logsigmoid(chosen - rejected)", "torch.log(torch.sigmoid(chosen - rejected))"),
            FAR,
        ),
        Mistake(
            "a small number under the logarithm",
            REWARD,
            "return -torch.log(torch.sigmoid(chosen - rejected) + 1e-8).mean()",
            "The small number keeps the logarithm finite and the loss wrong: a pair that is wrong by "
            "1000 costs no more than one that is wrong by 20, and has no gradient. The loss is the "
            "distance itself there; one function of torch does sigmoid and logarithm in one step.",
        ),
        Mistake(
            "difference cut off",
            REWARD,
            "return -F.logsigmoid((chosen - rejected).clamp(-50, 50)).mean()",
            "You cut the difference off. Far out the loss is then too small, and has no gradient, just "
            "where the most is to be learned. logsigmoid needs no help.",
        ),
        Mistake(
            "difference of logarithms",
            REWARD,
            "return -(F.logsigmoid(chosen) - F.logsigmoid(rejected)).mean()",
            "This is the difference of two logarithms of sigmoids. It is the rewards that are "
            "subtracted, and the sigmoid of their difference is the probability of a win.",
        ),
        Mistake(
            "mean probability first",
            REWARD,
            "return -torch.log(torch.sigmoid(chosen - rejected).mean())",
            "The probabilities are averaged, and then comes the logarithm. Each pair has a loss of its "
            "own, minus the logarithm of its own probability; the mean is of these.",
        ),
        Mistake("softplus by hand", REWARD, "return torch.log1p(torch.exp(rejected - chosen)).mean()", FAR),
        Mistake(
            "sign forgotten",
            REWARD,
            REWARD.replace("-F", "F"),
            "The sign of a loss is missing: log sigmoid is larger, the better the preferred reply "
            "does, and a loss is to become smaller.",
        ),
        Mistake(
            "sum instead of mean",
            REWARD,
            REWARD.replace(".mean()", ".sum()"),
            "The pairs are summed. With the mean the size of the step does not depend on how many "
            "pairs are in the batch.",
        ),
        Mistake(
            "one loss per pair",
            REWARD,
            REWARD.replace(".mean()", ""),
            "There is one loss per pair. Asked for is a scalar, the mean over the pairs.",
        ),
        Mistake(
            "mean before the loss",
            REWARD,
            REWARD.replace("(chosen - rejected).mean()", "((chosen - rejected).mean())"),
            "The differences are averaged first. Then one pair that is right by far hides another one "
            "that is wrong: each pair has its own probability, and its own loss.",
        ),
        Mistake(
            "each by itself",
            REWARD,
            "return -(F.logsigmoid(chosen) + F.logsigmoid(-rejected)).mean()",
            "Each reward is judged by itself, as if it said good or bad on a scale that everybody "
            "shares. People only said which of the two is better: only the difference counts, and "
            "adding a constant to both rewards must change nothing.",
        ),
        Mistake(
            "hinge",
            REWARD,
            "return F.relu(1 - (chosen - rejected)).mean()",
            "A hinge asks for a difference of 1 and then stops. Bradley and Terry's model says how "
            "likely a win is at each difference: the loss is minus the logarithm of that probability.",
        ),
        Mistake(
            "difference alone",
            REWARD,
            "return (rejected - chosen).mean()",
            "This is the difference itself, without a sigmoid. It can fall forever, so a pair that has "
            "long been learned pulls as hard as one that is wrong.",
        ),
    ],
    "dpo_loss": [
        Mistake(
            "reference ignored",
            LOSS,
            "loss = -F.logsigmoid(beta * (policy_chosen - policy_rejected)).mean()\n",
            "The loss compares the policy's two log-probabilities and leaves the reference out. A "
            "short reply is likelier than a long one before anything is learned; only what the policy "
            "has gained over the reference is a reward.",
        ),
        Mistake(
            "reference ignored in the rewards",
            REWARDS,
            "    chosen = beta * policy_chosen\n    rejected = beta * policy_rejected\n",
            "The rewards are beta times the policy's log-probabilities, without the reference. Then "
            "there is nothing that holds the policy near where it started: subtract what the reference "
            "says of the same reply.",
        ),
        Mistake(
            "reference added",
            REWARDS,
            REWARDS.replace(" - reference", " + reference"),
            "The reference is added. A ratio of probabilities becomes a difference of logarithms: how "
            "much likelier than for the reference?",
        ),
        Mistake(
            "reference crossed",
            REWARDS,
            f"    {CHOSEN.replace('reference_chosen', 'reference_rejected')}\n"
            f"    {REJECTED.replace('reference_rejected', 'reference_chosen')}\n",
            "Each reply is compared with what the reference says of the other one. A reward belongs to "
            "one reply: the policy and the reference are asked about the same text.",
        ),
        Mistake(
            "policy and reference swapped",
            REWARDS,
            "    chosen = beta * (reference_chosen.detach() - policy_chosen)\n"
            "    rejected = beta * (reference_rejected.detach() - policy_rejected)\n",
            "Policy and reference are swapped: a reply would get a reward for becoming less likely. "
            "The reward is how much likelier it is for the policy than for the reference.",
        ),
        Mistake(
            "chosen and rejected swapped",
            LOSS,
            LOSS.replace("chosen - rejected", "rejected - chosen"),
            "The loss is the wrong way round: it falls when the rejected reply becomes likelier. The "
            "model would learn the opposite of what people prefer, with a curve that looks perfect.",
        ),
        Mistake(
            "rewards returned in the other order",
            RETURN,
            "return loss, rejected.detach(), chosen.detach()",
            "The rewards come back in the wrong order: first those of the chosen replies, then those "
            "of the rejected ones. Nothing breaks, but every curve shows a margin that falls.",
        ),
        Mistake(
            "quotient of the logarithms",
            REWARDS,
            REWARDS.replace(" - ", " / "),
            "You divide one log-probability by the other. The logarithm of a quotient is the difference "
            "of the logarithms: policy minus reference.",
        ),
        Mistake(
            "logarithm taken again",
            REWARDS,
            REWARDS.replace("(policy", "(torch.log(policy")
            .replace(" - ref", ") - torch.log(ref")
            .replace("detach())", "detach()))"),
            "What comes in are log-probabilities already, negative numbers. They have no logarithm.",
        ),
        Mistake(
            "ratio of the probabilities",
            REWARDS,
            REWARDS.replace("(policy", "torch.exp(policy"),
            "The reward is beta times the logarithm of the ratio of the two probabilities. The "
            "difference is that logarithm; exp takes it away again.",
        ),
        Mistake(
            "replies compared first",
            REWARDS,
            "    chosen = beta * (policy_chosen - policy_rejected)\n"
            "    rejected = beta * (reference_chosen - reference_rejected).detach()\n",
            "The loss is right, for the same four numbers are in it; the rewards are not. A reply's "
            "reward is how much likelier the policy finds it than the reference does: policy minus "
            "reference, of the same reply.",
        ),
        Mistake(
            "beta left out",
            REWARDS,
            REWARDS.replace("beta * ", ""),
            "beta is not used. It sets how far the policy may go from the reference for a given "
            "preference; without it, it is 1.",
        ),
        Mistake(
            "beta in the loss alone",
            f"{REWARDS}    {LOSS}",
            REWARDS.replace("beta * ", "")
            + "    "
            + LOSS.replace("(chosen - rejected)", "(beta * (chosen - rejected))"),
            "The loss is right, but the rewards come back without beta. beta belongs to the reward "
            "itself, so that its curve has the unit in which the loss compares.",
        ),
        Mistake(
            "beta squared",
            LOSS,
            LOSS.replace("(chosen - rejected)", "(beta * (chosen - rejected))"),
            "beta is used twice, in the rewards and once more in the loss. The loss is the reward "
            "model's loss on the rewards as they are.",
        ),
        Mistake(
            "beta divided",
            REWARDS,
            REWARDS.replace("beta * (", "(1 / beta) * ("),
            "You divide by beta. A large beta is to hold the policy close: then a small change of a "
            "log-probability is already worth a large reward, and no more is needed. So it multiplies.",
        ),
        Mistake(
            "beta fixed",
            REWARDS,
            REWARDS.replace("beta * ", "0.1 * "),
            "beta is written into the code as 0.1, which is only its default. Use the argument.",
        ),
        Mistake(
            "loss for each reply alone",
            LOSS,
            "loss = -(F.logsigmoid(chosen) + F.logsigmoid(-rejected)).mean()\n",
            "Each reward is judged by itself: the chosen one above 0, the rejected one below. A "
            "preference is about the pair, and only the difference of its two rewards counts. (There "
            "is a method that does this, KTO, for data without pairs.)",
        ),
        Mistake(
            "sigmoid without a logarithm",
            LOSS,
            LOSS.replace("F.logsigmoid", "torch.sigmoid"),
            "This is minus the probability itself, not minus its logarithm. Where the policy is surely "
            "wrong the sigmoid is flat, and hardly any gradient is left.",
        ),
        Mistake(
            "logarithm of a sigmoid",
            LOSS,
            LOSS.replace("F.logsigmoid(chosen - rejected)", "torch.log(torch.sigmoid(chosen - rejected))"),
            "On paper this is right. But log-probabilities of whole replies are large numbers: far out "
            "the sigmoid rounds to 0 and its logarithm is minus infinity. There is one function for "
            "both steps.",
        ),
        Mistake(
            "sign forgotten",
            LOSS,
            LOSS.replace("-F", "F"),
            "The sign of a loss is missing: log sigmoid of the margin is to become larger, and "
            "training makes the loss smaller.",
        ),
        Mistake(
            "sum instead of mean",
            LOSS,
            LOSS.replace(".mean()", ".sum()"),
            "The pairs are summed. With the mean the size of the step does not depend on how many "
            "pairs are in the batch.",
        ),
        Mistake(
            "one loss per pair",
            LOSS,
            LOSS.replace(".mean()", ""),
            "There is one loss per pair. Asked for is a scalar, the mean over the pairs.",
        ),
        Mistake(
            "mean before the loss",
            LOSS,
            LOSS.replace("(chosen - rejected).mean()", "((chosen - rejected).mean())"),
            "The margins are averaged first. Then one pair that is right by far hides another one that "
            "is wrong: each pair has its own probability, and its own loss.",
        ),
        Mistake(
            "mean rewards",
            RETURN,
            RETURN.replace("detach()", "detach().mean()"),
            "The rewards are averaged. One for each pair is asked for, [B]; who draws a curve can take the mean.",
        ),
        Mistake(
            "rewards not detached",
            RETURN,
            RETURN.replace(".detach()", ""),
            "The returned rewards still hang on the graph of the computation. They are meant for "
            "curves; whoever keeps them in a list would keep every step's activations in memory.",
        ),
        Mistake(
            "rewards detached too early",
            REWARDS,
            REWARDS.replace("beta * (", "(beta * (").replace("detach())", "detach())).detach()"),
            "The rewards are detached before the loss is made of them, so no gradient reaches the "
            "policy and nothing is learned. Detach only what is returned.",
        ),
        Mistake(
            "gradient into the reference",
            REWARDS,
            REWARDS.replace(".detach()", ""),
            "The loss sends gradients to the reference. It is a fixed measure: if it may move, it can "
            "lower its own log-probabilities instead of the policy raising its own.",
        ),
        Mistake(
            "loss alone",
            RETURN,
            "return loss",
            "Only the loss is returned. The rewards are asked for too: their margin is the curve that "
            "tells whether DPO works.",
        ),
    ],
}

# Changes that `python3 -m course audit` makes to the solution and that are no mistakes, with the reason.
HARMLESS = {
    "sequence_logprobs": {
        "sequence_logprobs: :-1 -> :": "gather reads as many positions as there are targets",
        "sequence_logprobs: the result's type changed": "float32 at least is asked for: float64 is good too",
    }
}
