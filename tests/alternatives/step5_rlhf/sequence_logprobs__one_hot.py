def sequence_logprobs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    labels = torch.roll(labels, shifts=-1, dims=1)
    labels[:, -1] = IGNORE
    counted = labels.ne(IGNORE)
    which = F.one_hot(labels.masked_fill(~counted, 0), logits.size(-1)).float()
    picked = torch.einsum("btv,btv->bt", torch.log_softmax(logits.float(), dim=-1), which)
    return torch.einsum("bt,bt->b", picked, counted.to(picked.dtype))
