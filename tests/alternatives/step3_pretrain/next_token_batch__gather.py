def next_token_batch(tokens, context, uniforms):
    starts = [math.floor(float(u) * (tokens.shape[0] - context + 1)) for u in uniforms]
    if tokens.shape[0] - context < 0:
        raise ValueError(tokens.shape[0])
    index = torch.tensor([[s + t for t in range(context)] for s in starts], device=tokens.device)
    batch = {}
    batch["input_ids"] = torch.take(tokens, index).long()
    batch["labels"] = torch.take(tokens, index).long()
    return batch
