def dpo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta=0.1):
    policy = torch.stack([policy_chosen, policy_rejected])
    reference = torch.stack([reference_chosen, reference_rejected]).detach()
    rewards = (policy - reference).mul(beta)
    loss = -rewards.log_softmax(0)[0].mean()
    good, bad = rewards.detach().unbind(0)
    return loss, good, bad
