def reward_loss(chosen, rejected):
    both = torch.stack([chosen, rejected], dim=1)
    return F.cross_entropy(both, torch.zeros(len(both), dtype=torch.long, device=both.device))
