def next_token_batch(tokens, context, uniforms):
    if context > len(tokens):
        raise ValueError("the text is too short")
    rows = []
    for u in uniforms.tolist():
        start = int(u * (len(tokens) - context + 1))
        rows.append(tokens[start : start + context])
    ids = torch.stack(rows).to(torch.int64)
    return {"input_ids": ids, "labels": ids}
