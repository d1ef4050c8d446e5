def sequence_logprobs(logits, labels):
    rows, places = (labels[:, 1:] != IGNORE).nonzero(as_tuple=True)
    told = torch.log_softmax(logits[rows, places].float(), dim=-1)
    told = told[torch.arange(len(rows), device=logits.device), labels[rows, places + 1]]
    return torch.zeros(len(labels), dtype=told.dtype, device=told.device).index_add(0, rows, told)
