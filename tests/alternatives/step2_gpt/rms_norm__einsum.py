def rms_norm(x, weight, eps):
    y = x.double()
    mean_square = torch.einsum("...d,...d->...", y, y) / y.shape[-1]
    return (y / torch.sqrt(mean_square[..., None] + eps) * weight.double()).to(x.dtype)
