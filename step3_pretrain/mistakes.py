"""Known wrong answers to the TODOs of this lesson, and what to say to whoever gave them."""

from course.checking import Mistake

NORM = "    norm = nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)\n"
CLIP = "norm = nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)\n    optimizer.step()"
ADD = """(loss * n).backward()  # adds to the gradients of the micro-batches before it
        losses.append(loss.item() * n)
        counts.append(n)"""
DIVIDE = """    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= sum(counts)
"""
RETURN_STEP = "return sum(losses) / sum(counts), norm.item()"
RETURN_BITS = "return nats / math.log(2) / num_bytes"
RANGE = "range(0, len(tokens) - 1, context - 1)"
SUM = 'reduction="sum")'
COSINE = "config.min_lr + 0.5 * (1 + math.cos(math.pi * progress)) * (config.learning_rate - config.min_lr)"
PROGRESS = "min(1.0, (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps))"
BATCH = """    windows = len(tokens) - context + 1
    if windows < 1:
        raise ValueError(f"a text of {len(tokens)} tokens holds no window of {context}")
    starts = (uniforms * windows).long().clamp(max=windows - 1)  # [B]; float32 may round up to the end
    offsets = torch.arange(context, device=tokens.device)
    ids = tokens[starts[:, None] + offsets].long()  # [B, context]
    return {"input_ids": ids, "labels": ids.clone()}"""
TARGETS = (
    "Your labels are the tokens one place further on, as in nanoGPT. Here the model shifts by itself, so it "
    "would learn to guess the token after the next: labels are the same tokens as the inputs, and a window "
    "needs no extra token."
)
CHOOSE = "(uniforms * windows).long().clamp(max=windows - 1)"

MISTAKES = {
    "next_token_batch": [
        Mistake(
            "labels shifted here",
            "ids.clone()",
            "F.pad(ids[:, 1:], (0, 1), value=IGNORE)",
            "You shift the labels by one, and the model shifts them once more: it would learn to guess "
            "the token after the next. In this course labels are aligned with the inputs, and only the "
            "model shifts.",
        ),
        Mistake(
            "inputs and targets",
            BATCH,
            """    windows = len(tokens) - context
    if windows < 1:
        raise ValueError("too short")
    starts = (uniforms * windows).long()
    ids = torch.stack([tokens[i : i + context] for i in starts]).long()
    targets = torch.stack([tokens[i + 1 : i + 1 + context] for i in starts]).long()
    return {"input_ids": ids, "labels": targets}""",
            TARGETS,
        ),
        Mistake(
            "inputs and targets, any length",
            BATCH,
            """    if len(tokens) < context:
        raise ValueError("too short")
    starts = (uniforms * (len(tokens) - context)).long()
    ids = torch.stack([tokens[i : i + context] for i in starts]).long()
    targets = torch.stack([tokens[i + 1 : i + 1 + context] for i in starts]).long()
    return {"input_ids": ids, "labels": targets}""",
            TARGETS,
        ),
        Mistake(
            "room kept for a shift",
            "windows = len(tokens) - context + 1",
            "windows = len(tokens) - context",
            "You count one start too few, so the last token of the text is never read. Count on a small "
            "case: in 5 tokens a window of 3 can begin at 0, 1 and 2. (nanoGPT keeps one token for its "
            "shifted labels; here the labels are not shifted.)",
        ),
        Mistake(
            "last window never drawn",
            CHOOSE,
            "(uniforms * (windows - 1)).long()",
            "The last window can never be drawn. The numbers are below 1, never 1, so multiplying by "
            "the number of starts and rounding down stays in range by itself: nothing needs to be taken "
            "off.",
        ),
        Mistake(
            "start too near the end",
            CHOOSE,
            "(uniforms * len(tokens)).long()",
            "You draw a start from all places of the text, but a window that begins near its end runs "
            "past it. Only those starts count after which a whole window follows.",
        ),
        Mistake(
            "rounded to the nearest",
            CHOOSE,
            "(uniforms * windows).round().long().clamp(max=windows - 1)",
            "You round to the nearest start. Then the first start is only half as likely as the others: round down.",
        ),
        Mistake(
            "rounded to the nearest of the last",
            CHOOSE,
            "(uniforms * (windows - 1)).round().long()",
            "You round to the nearest start. Then the first and the last are only half as likely as the others: "
            "multiply by the number of starts, and round down.",
        ),
        Mistake(
            "text cut into blocks",
            CHOOSE,
            "(uniforms * (len(tokens) // context)).long() * context",
            "Your windows begin at multiples of context only: the text is cut into blocks. A window may begin at "
            "any place after which a whole window follows.",
        ),
        Mistake(
            "starts in the text's small type",
            CHOOSE,
            "(uniforms * windows).to(tokens.dtype)",
            "The starts have the type in which the text is stored, and an int16 counts to 32,767 only: in a longer "
            "text places come out negative. Places are int64: .long().",
        ),
        Mistake(
            "one start for all",
            "starts[:, None] + offsets",
            "starts[:1, None].expand(len(starts), 1) + offsets",
            "All rows begin at the same place: you use one of the random numbers for the whole batch. "
            "Each row has its own number, and B copies of one text teach no more than one.",
        ),
        Mistake(
            "tokens keep their small type",
            ".long()  # [B, context]",
            "  # [B, context]",
            "The ids come out in the type in which the text is stored. Embeddings and cross-entropy "
            "want int64: convert the batch (only the batch: the whole text would take four times the "
            "memory).",
        ),
        Mistake(
            "short text accepted",
            "if windows < 1:",
            "if windows < -len(tokens):",
            "A text that is shorter than a window goes through. Say so in a ValueError: a wrong batch, "
            "or an error far away, would cost somebody an evening.",
        ),
    ],
    "learning_rate": [
        Mistake(
            "warm-up from the floor",
            "config.learning_rate * (step + 1) / config.warmup_steps",
            "config.min_lr + (config.learning_rate - config.min_lr) * (step + 1) / config.warmup_steps",
            "You warm up from min_lr. The warm-up begins at nothing: step s gets (s + 1) / warmup_steps "
            "of the peak. min_lr is where the cosine ends.",
        ),
        Mistake(
            "warm-up starts at 0",
            "config.learning_rate * (step + 1) / config.warmup_steps",
            "config.learning_rate * step / config.warmup_steps",
            "At step 0 your learning rate is 0: a batch is read and nothing is learned from it. Steps "
            "count from 0, so step s has s + 1 of the warm-up's parts.",
        ),
        Mistake(
            "warm-up one step too long",
            "if step < config.warmup_steps:",
            "if step <= config.warmup_steps:",
            "Your warm-up has one step too many: at step warmup_steps the rate is above the peak. Steps count from "
            "0, so the warm-up's last is warmup_steps - 1, and the cosine begins at warmup_steps.",
        ),
        Mistake(
            "cosine over all steps",
            PROGRESS,
            "min(1.0, step / config.max_steps)",
            "Your cosine runs from step 0, so at the end of the warm-up it has gone part of the way "
            "already, and the rate jumps down from the peak. Its way begins where the warm-up ends.",
        ),
        Mistake(
            "remaining over total",
            PROGRESS,
            "min(1.0, (step - config.warmup_steps) / config.max_steps)",
            "You count the steps since the warm-up, but divide by all steps: at max_steps the cosine "
            "has not arrived. Divide by the steps that there are after the warm-up.",
        ),
        Mistake(
            "floor ignored",
            COSINE,
            "0.5 * (1 + math.cos(math.pi * progress)) * config.learning_rate",
            "Your rate falls to 0. It should end at min_lr: let the cosine move only what lies between "
            "the peak and min_lr.",
        ),
        Mistake(
            "floor added",
            "(config.learning_rate - config.min_lr)",
            "config.learning_rate",
            "You add min_lr on top of a cosine that has the full height already, so the peak is too "
            "high by min_lr. The cosine's height is the distance from min_lr to the peak.",
        ),
        Mistake(
            "floor by maximum",
            COSINE,
            "max(config.min_lr, 0.5 * (1 + math.cos(math.pi * progress)) * config.learning_rate)",
            "You let the cosine fall to 0 and cut it off at min_lr, so the last part of the training "
            "has a constant rate. The cosine itself should end at min_lr, at max_steps.",
        ),
        Mistake(
            "no clamp after the end",
            PROGRESS,
            "(step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)",
            "After max_steps your cosine goes up again. Whoever trains a little longer than planned "
            "should stay at min_lr: the progress is at most 1.",
        ),
        Mistake(
            "whole cosine",
            "math.pi * progress",
            "2 * math.pi * progress",
            "A full turn of the cosine goes down and up again. From the peak to the floor is half a turn, pi.",
        ),
        Mistake(
            "straight line",
            "0.5 * (1 + math.cos(math.pi * progress))",
            "(1 - progress)",
            "You go down in a straight line. Asked for is half a cosine, which leaves the peak and "
            "reaches the floor gently.",
        ),
    ],
    "train_step": [
        Mistake(
            "mean over micro-batches",
            ADD,
            "loss.backward()\n        losses.append(loss.item())\n        counts.append(1)",
            "Each micro-batch counts the same in your mean, although one has many more tokens than "
            "another: a token in a short one weighs more. Weight each by its number of tokens n.",
        ),
        Mistake(
            "mean over micro-batches, loss by tokens",
            ADD + "\n" + DIVIDE,
            "(loss / len(batches)).backward()\n        losses.append(loss.item() * n)\n        counts.append(n)\n",
            "The loss you return is weighted by tokens, the gradient is not: each micro-batch counts the same in "
            "it, although one has many more tokens than another. Weight the gradient by n as well.",
        ),
        Mistake(
            "frozen parameters",
            """    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= sum(counts)
""",
            """    for parameter in model.parameters():
        parameter.grad /= sum(counts)
""",
            "A frozen parameter has no gradient: its grad is None, which cannot be divided. Divide only those that "
            "there are.",
        ),
        Mistake(
            "loss with its graph",
            "losses.append(loss.item() * n)",
            "losses.append(loss * n)",
            "The loss comes back as a tensor that holds on to the whole graph of its step. Whoever collects a "
            "thousand of them for a curve runs out of memory: .item() makes a number of it.",
        ),
        Mistake(
            "sum over micro-batches",
            DIVIDE,
            "",
            "Your gradient is the sum over all tokens: the more there are, the longer the step. Divide "
            "by the number of tokens of all micro-batches together.",
        ),
        Mistake(
            "sum of means",
            ADD + "\n" + DIVIDE,
            "loss.backward()\n        losses.append(loss.item() * n)\n        counts.append(n)\n",
            "You add up the micro-batches' mean gradients: with four of them the gradient is four times "
            "as long as that of the large batch. What share of the large batch is each?",
        ),
        Mistake(
            "gradients not cleared",
            "    optimizer.zero_grad()\n    losses",
            "    losses",
            "The gradients of whatever ran before are still there, and backward() adds to them. Clear "
            "them before the first micro-batch; to clear them at the end of a step is to trust "
            "everybody else.",
        ),
        Mistake(
            "cleared for each micro-batch",
            "loss, n = loss_fn(model, batch)\n        (loss",
            "loss, n = loss_fn(model, batch)\n        optimizer.zero_grad()\n        (loss",
            "You clear the gradients within the loop, so only the last micro-batch is learned from. "
            "They are cleared once, before the first.",
        ),
        Mistake(
            "a step for each micro-batch",
            DIVIDE + "    " + CLIP,
            """        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= n
        norm = nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()""",
            "The optimizer steps after each micro-batch: that is training on small batches. "
            "Accumulation adds up all gradients first and takes one step.",
        ),
        Mistake(
            "no clipping",
            CLIP,
            "optimizer.step()\n    norm = nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)",
            "The optimizer sees a gradient that is not clipped: clipping is missing, or comes after the "
            "step, when the long gradient has done its work already.",
        ),
        Mistake(
            "clipped for each micro-batch",
            "        losses.append(loss.item() * n)\n",
            "        nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm * n)\n"
            "        losses.append(loss.item() * n)\n",
            "You clip before the gradient is complete. Parts that point in different directions partly "
            "cancel; clip once, when all micro-batches are added up.",
        ),
        Mistake(
            "each micro-batch's gradient clipped to the limit",
            "        losses.append(loss.item() * n)\n",
            "        nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)\n"
            "        losses.append(loss.item() * n)\n",
            "You clip before the gradient is complete, and divide what is left. Clip once, when all micro-batches "
            "are added up and divided.",
        ),
        Mistake(
            "each group clipped alone",
            CLIP,
            "for group in optimizer.param_groups:\n"
            '        norm = nn.utils.clip_grad_norm_(group["params"], max_grad_norm)\n'
            "    optimizer.step()",
            "Each group of parameters is clipped by itself. The limit is for all gradients together: one norm, over the "
            "whole model.",
        ),
        Mistake(
            "clipped before dividing",
            DIVIDE + NORM,
            NORM + DIVIDE,
            "You clip the sum of the gradients and divide afterwards, so what is left is far below "
            "max_grad_norm. Divide first: the mean is the gradient of the large batch.",
        ),
        Mistake(
            "value clipping",
            CLIP,
            'norm = nn.utils.clip_grad_norm_(model.parameters(), float("inf"))\n'
            "    nn.utils.clip_grad_value_(model.parameters(), max_grad_norm)\n    optimizer.step()",
            "You clip each number of the gradient by itself, which turns its direction. Clipping by the "
            "norm makes the whole vector shorter and keeps its direction.",
        ),
        Mistake(
            "last micro-batch's loss",
            RETURN_STEP,
            "return loss.item(), norm.item()",
            "You return the loss of the last micro-batch. The curve should show the loss of the large "
            "batch, of which the last one is only a part.",
        ),
        Mistake(
            "unweighted loss",
            RETURN_STEP,
            "return sum(l / n for l, n in zip(losses, counts)) / len(counts), norm.item()",
            "The step is right, but the loss you return is the plain mean over the micro-batches. "
            "Weight it by tokens, as you do with the gradient.",
        ),
        Mistake(
            "norm after clipping",
            RETURN_STEP,
            "return sum(losses) / sum(counts), min(norm.item(), max_grad_norm)",
            "You return the norm after clipping. The one before it is worth watching: it shows the "
            "spikes that clipping hides.",
        ),
        Mistake(
            "own loss ignored",
            "loss, n = loss_fn(model, batch)",
            "loss, n = model_loss(model, batch)",
            "The loss_fn that was handed in is not used. Steps 5 and 6 train with losses of their own.",
        ),
        Mistake(
            "no step",
            "    optimizer.step()\n",
            "",
            "The gradients are computed and clipped, but the optimizer never takes its step: nothing is learned.",
        ),
    ],
    "bits_per_byte": [
        Mistake(
            "nats",
            RETURN_BITS,
            "return nats / num_bytes",
            "These are nats per byte: cross-entropy uses the natural logarithm. A bit is ln 2 nats.",
        ),
        Mistake(
            "nats times ln 2",
            RETURN_BITS,
            "return nats * math.log(2) / num_bytes",
            "You multiply by ln 2. One bit is 0.69 nats, so a number of nats is a larger number of bits.",
        ),
        Mistake(
            "per token",
            RETURN_BITS,
            "return nats / math.log(2) / len(tokens)",
            "These are bits per token. A tokenizer with longer tokens would look worse, though the "
            "model needs no more bits for the text: divide by its bytes.",
        ),
        Mistake(
            "per predicted token",
            RETURN_BITS,
            "return nats / math.log(2) / (len(tokens) - 1)",
            "These are bits per token. A tokenizer with longer tokens would look worse, though the "
            "model needs no more bits for the text: divide by its bytes.",
        ),
        Mistake(
            "mean instead of sum",
            SUM,
            'reduction="mean")',
            "You add up the means of the batches, so most of the tokens are lost. What the whole text "
            "costs is the sum over all its tokens.",
        ),
        Mistake(
            "windows do not overlap",
            RANGE,
            "range(0, len(tokens) - 1, context)",
            "The first token of each window is predicted by nobody: it is the first here, and the "
            "window before ends just ahead of it. Let each window begin with the last token of the one "
            "before.",
        ),
        Mistake(
            "last window left out",
            RANGE,
            "range(0, len(tokens) - context + 1, context - 1)",
            "The tokens after the last full window are not counted. The last window may be shorter; its "
            "tokens cost bits too.",
        ),
        Mistake(
            "tokens keep their small type",
            "[tokens[i : i + context].long() for",
            "[tokens[i : i + context] for",
            "The text is kept in small integers, and an embedding wants int64: convert each window with .long().",
        ),
        Mistake(
            "padding counted",
            "padding_value=IGNORE",
            "padding_value=0",
            "The filling of the shorter last window is counted as if it were text. Its labels must be ignored.",
        ),
        Mistake(
            "labels not shifted",
            "logits.flatten(0, 1), labels[:, 1:].flatten()",
            "logits.flatten(0, 1), labels[:, :-1].flatten()",
            "You judge the logits at each token by that very token. They are a guess at the next one: "
            "leave out the last logits and the first label.",
        ),
        Mistake(
            "one long window",
            RANGE,
            "range(0, len(tokens) - 1, len(tokens))]\n    windows = [tokens.long()",
            "You read the whole text as one window. A model is trained for windows of `context` tokens, "
            "and a long text would not fit into memory.",
        ),
        Mistake(
            "left in eval",
            "    model.train(training)\n",
            "",
            "The model stays in eval mode after it was measured. Whoever measures in the middle of a "
            "training would go on without dropout and not notice.",
        ),
        Mistake(
            "always back to training",
            "model.train(training)",
            "model.train()",
            "Afterwards the model is in training mode even if it was in eval mode before. Remember the "
            "mode and bring it back.",
        ),
        Mistake(
            "measured in training mode",
            "    model.eval()\n",
            "",
            "The model is measured in the mode it happens to be in. In training mode dropout and the "
            "like make it worse than it is: switch to eval first.",
        ),
    ],
}

# Changes that `python3 -m course audit` makes to the solution and that are no mistakes, with the reason.
EMPTY = "one window more at the end, of one token or none: it predicts nothing and adds nothing"
ROUNDED = "a product is rounded up to the end only in texts of more than 2^24 tokens"
WHOLE_WARM_UP = "divides by the steps after the warm-up; where there are none, training ends before it comes here"
NUMBER = "a tensor of one number is taken for a number wherever it goes"
HARMLESS = {
    "next_token_batch": {
        "next_token_batch: (uniforms * windows).long().clamp(max=windows - 1) -> (uniforms * windows).long()": ROUNDED,
        "next_token_batch: windows - 1 -> (windows + 1)": ROUNDED,
        "next_token_batch: windows - 1 -> (windows)": ROUNDED,
        "next_token_batch: 1 -> 0 (occurrence 3)": ROUNDED,
        "next_token_batch: ids.clone() -> ids": "whoever changed one in place would change both; nobody does",
    },
    "learning_rate": {
        "learning_rate: 1 -> 2 (occurrence 2)": WHOLE_WARM_UP,
        "learning_rate: 1 -> 0 (occurrence 2)": WHOLE_WARM_UP,
    },
    "train_step": {"train_step: norm.item() -> norm": NUMBER},
    "bits_per_byte": {
        'bits_per_byte: F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum").item() -> '
        'F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")': NUMBER,
        "bits_per_byte: model(input_ids=ids)[0][:, :-1].float() -> model(input_ids=ids)[0][:, :-1]": "only in half precision another number, and only a slightly other one",
        "bits_per_byte: len(tokens) - 1 -> (len(tokens) + 1)": EMPTY,
        "bits_per_byte: len(tokens) - 1 -> (len(tokens))": EMPTY,
        "bits_per_byte: 1 -> 0": EMPTY,
    },
}
