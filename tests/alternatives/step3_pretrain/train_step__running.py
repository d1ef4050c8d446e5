def train_step(model, optimizer, batches, max_grad_norm, loss_fn=model_loss):
    optimizer.zero_grad(set_to_none=True)
    total, mean = 0, 0.0
    for batch in batches:
        loss, n = loss_fn(model, batch)
        total += n
        for parameter in model.parameters():  # what was there is now a smaller share of the whole
            if parameter.grad is not None:
                parameter.grad.mul_(1 - n / total)
        (loss * (n / total)).backward()
        mean += (loss.item() - mean) * n / total
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    nn.utils.clip_grads_with_norm_(model.parameters(), max_grad_norm, norm)
    optimizer.step()
    return mean, float(norm)
