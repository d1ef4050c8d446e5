def learning_rate(step, config):
    if step + 1 <= config.warmup_steps:
        return torch.linspace(0, config.learning_rate, config.warmup_steps + 1)[step + 1]
    s = torch.tensor(float(min(step, config.max_steps) - config.warmup_steps))
    half = torch.cos(math.pi * s / (config.max_steps - config.warmup_steps)).add(1).div(2)
    return torch.lerp(torch.tensor(config.min_lr), torch.tensor(config.learning_rate), half)
