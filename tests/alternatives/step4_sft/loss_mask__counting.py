import numpy as np


def loss_mask(ids, special_tokens):
    row = np.array(ids)
    begun = np.cumsum(row == special_tokens["<|assistant|>"])
    ended = np.cumsum(row == special_tokens["<|end|>"])
    before = lambda counts: np.concatenate([[0], counts[:-1]])
    return np.where(before(begun) > before(ended), row, IGNORE).tolist()
