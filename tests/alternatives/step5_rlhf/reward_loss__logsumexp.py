def reward_loss(chosen, rejected):
    losses = [torch.logaddexp(good, bad) - good for good, bad in zip(chosen, rejected)]
    return sum(losses) / len(losses)
