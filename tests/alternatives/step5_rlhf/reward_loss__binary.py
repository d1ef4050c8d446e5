def reward_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    margin = chosen - rejected
    return F.binary_cross_entropy_with_logits(margin, torch.ones_like(margin))
