def reward_loss(chosen, rejected):
    return F.softplus(rejected - chosen).mean()
