class CLIPVisionEmbeddings:
    # TODO patch_embed
    def forward(self, pixel_values):
        B, _, H, W = pixel_values.shape
        weight = self.patch_embedding.weight
        p = weight.shape[-1]
        rows = []
        for picture in pixel_values:
            row = [self.class_embedding]
            for y in range(0, H, p):
                for x in range(0, W, p):
                    row.append((weight * picture[:, y : y + p, x : x + p]).sum((1, 2, 3)))
            rows.append(torch.stack([token + self.position_embedding.weight[i] for i, token in enumerate(row)]))
        return torch.stack(rows)
