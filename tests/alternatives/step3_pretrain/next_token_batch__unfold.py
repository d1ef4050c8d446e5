def next_token_batch(tokens, context, uniforms):
    if tokens.numel() < context:
        raise ValueError(f"need at least {context} tokens")
    windows = tokens.unfold(0, context, 1)  # [windows, context], a view
    batch = windows[torch.floor(uniforms * windows.shape[0]).to(torch.int64)].to(torch.long)
    return dict(labels=batch.clone(), input_ids=batch)
