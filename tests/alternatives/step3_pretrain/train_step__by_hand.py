def train_step(model, optimizer, batches, max_grad_norm, loss_fn=model_loss):
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    sums, total_loss, total = [torch.zeros_like(p) for p in learning], 0.0, 0
    for batch in batches:
        loss, n = loss_fn(model, batch)
        for so_far, gradient in zip(sums, torch.autograd.grad(loss, learning, allow_unused=True)):
            if gradient is not None:
                so_far += n * gradient
        total_loss, total = total_loss + n * float(loss.detach()), total + n
    norm = math.sqrt(sum(float((s / total).pow(2).sum()) for s in sums))
    for p, s in zip(learning, sums):
        p.grad = s / total * min(1.0, max_grad_norm / norm)
    optimizer.step()
    return total_loss / total, norm
