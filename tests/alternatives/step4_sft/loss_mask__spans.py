def loss_mask(ids, special_tokens):
    labels = [IGNORE] * len(ids)
    t = 0
    while t < len(ids):
        if ids[t] == special_tokens["<|assistant|>"]:
            t += 1
            while t < len(ids):
                labels[t] = ids[t]
                if ids[t] == special_tokens["<|end|>"]:
                    break
                t += 1
        t += 1
    return labels
