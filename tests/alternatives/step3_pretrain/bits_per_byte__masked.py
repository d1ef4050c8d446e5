@torch.no_grad()
def bits_per_byte(model, tokens, num_bytes, context, batch_size=32):
    windows = torch.arange(0, len(tokens) - 1, context - 1, device=tokens.device)
    index = windows[:, None] + torch.arange(context, device=tokens.device)
    there = index < len(tokens)
    ids = tokens[index.clamp(max=len(tokens) - 1)].long()
    before, total = model.training, torch.zeros((), dtype=torch.float64, device=tokens.device)
    model.eval()
    for part, mask in zip(ids.split(batch_size), there.split(batch_size)):
        logits, _ = model(input_ids=part, attention_mask=mask.long())
        each = F.cross_entropy(logits[:, :-1].transpose(1, 2), part[:, 1:], reduction="none")
        total += each[mask[:, 1:]].double().sum()
    model.train(before)
    return total / num_bytes / math.log(2)
