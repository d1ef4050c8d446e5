@torch.no_grad()
def bits_per_byte(model, tokens, num_bytes, context, batch_size=32):
    was_training = model.training
    model.eval()
    total, start = 0.0, 0
    while start < len(tokens) - 1:
        window = tokens[start : start + context].long()[None]
        total += float(model(input_ids=window, labels=window)[1]) * (window.shape[1] - 1)
        start += context - 1
    if was_training:
        model.train()
    return total / (num_bytes * math.log(2))
