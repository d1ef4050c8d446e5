def sequence_logprobs(logits, labels):
    guesses = logits[:, :-1].float().transpose(1, 2)
    losses = F.cross_entropy(guesses, labels[:, 1:], ignore_index=IGNORE, reduction="none")
    return -losses.sum(dim=1)
