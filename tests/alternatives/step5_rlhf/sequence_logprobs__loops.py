def sequence_logprobs(logits, labels):
    total = []
    for row, marks in zip(logits.float(), labels):
        logprob = row.sum() * 0
        for t in range(1, len(marks)):
            if marks[t] != -100:
                logprob = logprob + row[t - 1, marks[t]] - torch.logsumexp(row[t - 1], dim=0)
        total.append(logprob)
    return torch.stack(total)
