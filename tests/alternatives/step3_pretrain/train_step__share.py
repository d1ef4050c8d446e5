def train_step(model, optimizer, batches, max_grad_norm, loss_fn=model_loss):
    model.zero_grad(set_to_none=False)
    outcomes = [loss_fn(model, batch) for batch in batches]
    total = sum(n for _, n in outcomes)
    loss = sum(mean * (n / total) for mean, n in outcomes)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], max_grad_norm)
    optimizer.step()
    return loss.detach(), norm
