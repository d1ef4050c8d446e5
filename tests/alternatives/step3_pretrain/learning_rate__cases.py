def learning_rate(step, config):
    peak, floor = config.learning_rate, config.min_lr
    if step < config.warmup_steps:
        return peak / config.warmup_steps * (step + 1)
    if step >= config.max_steps:
        return floor
    ratio = (step - config.warmup_steps) / (config.max_steps - config.warmup_steps)
    weight = (1.0 + math.cos(ratio * math.pi)) / 2
    return weight * peak + (1 - weight) * floor
