@torch.no_grad()
def bits_per_byte(model, tokens, num_bytes, context, batch_size=32):
    mode = model.training
    model.train(False)
    row = tokens.to(torch.int64)
    full = row.unfold(0, context, context - 1) if len(row) >= context else row.new_zeros(0, context)
    groups = list(full.split(batch_size)) if len(full) else []
    rest = row[len(full) * (context - 1) :]
    if len(rest) > 1:
        groups.append(rest[None])
    bits = 0.0
    for ids in groups:
        logprobs = model(ids)[0].log_softmax(-1)[:, :-1]
        bits -= logprobs.gather(-1, ids[:, 1:, None]).sum().item() / math.log(2.0)
    model.train(mode)
    return bits / num_bytes
