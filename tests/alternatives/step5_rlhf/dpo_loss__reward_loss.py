def dpo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta: float = 0.1):
    reference_chosen, reference_rejected = reference_chosen.detach(), reference_rejected.detach()
    good = beta * policy_chosen - beta * reference_chosen
    bad = beta * policy_rejected - beta * reference_rejected
    return reward_loss(good, bad), good.detach(), bad.detach()
