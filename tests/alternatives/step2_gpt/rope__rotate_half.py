def rotate_half(x):
    d = x.shape[-1]
    return torch.cat((-x[..., d // 2 :], x[..., : d // 2]), -1)


def apply_rope(x, angles):
    angles = torch.cat((angles, angles), -1)
    return (x * angles.cos() + rotate_half(x) * angles.sin()).to(x.dtype)
