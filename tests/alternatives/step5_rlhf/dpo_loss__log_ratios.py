def dpo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta=0.1):
    with torch.no_grad():
        reference = reference_chosen - reference_rejected
        rewards_chosen = (policy_chosen - reference_chosen) * beta
        rewards_rejected = (policy_rejected - reference_rejected) * beta
    logits = (policy_chosen - policy_rejected) - reference
    return F.softplus(-beta * logits).mean(), rewards_chosen, rewards_rejected
