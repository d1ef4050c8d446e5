def train_step(model, optimizer, batches, max_grad_norm, loss_fn=model_loss):
    optimizer.zero_grad(set_to_none=True)
    tokens = sum(int((batch["labels"][:, 1:] != IGNORE).sum()) for batch in batches)
    mean = 0.0
    for batch in batches:
        loss, n = loss_fn(model, batch)
        share = loss * n / tokens
        share.backward()
        mean += share.item()
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    nn.utils.clip_grads_with_norm_(model.parameters(), max_grad_norm, norm)
    optimizer.step()
    return mean, float(norm)
