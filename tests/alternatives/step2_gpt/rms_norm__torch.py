def rms_norm(x, weight, eps):
    y = x if x.dtype == torch.float64 else x.to(torch.float32)
    return F.rms_norm(y, (x.shape[-1],), eps=eps).to(x.dtype) * weight
