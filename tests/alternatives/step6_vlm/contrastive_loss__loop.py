def contrastive_loss(image, text, logit_scale):
    scale, total = logit_scale.exp(), 0.0
    for i in range(len(image)):
        to_texts = torch.stack([scale * F.cosine_similarity(image[i], t, dim=0) for t in text])
        to_images = torch.stack([scale * F.cosine_similarity(text[i], p, dim=0) for p in image])
        total = total + (to_texts.logsumexp(0) - to_texts[i]) + (to_images.logsumexp(0) - to_images[i])
    return total / (2 * len(image))
