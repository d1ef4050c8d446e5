import numpy as np


def learning_rate(step, config):
    way = np.interp(step, [config.warmup_steps, config.max_steps], [0, np.pi / 2])
    rate = config.min_lr + (config.learning_rate - config.min_lr) * np.cos(way) ** 2
    return rate if step >= config.warmup_steps else config.learning_rate * (1 + step) / config.warmup_steps
