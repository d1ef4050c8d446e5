def contrastive_loss(image, text, logit_scale):
    image = image / image.norm(dim=1, keepdim=True)
    text = text / text.norm(dim=1, keepdim=True)
    table = torch.exp(logit_scale) * torch.einsum("id,jd->ij", image, text)
    pictures = table.log_softmax(dim=1).diagonal()
    captions = table.log_softmax(dim=0).diagonal()
    return -(pictures + captions).mean() / 2
