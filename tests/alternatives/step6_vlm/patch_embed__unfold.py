class CLIPVisionEmbeddings:
    # TODO patch_embed
    def forward(self, pixel_values):
        p = self.patch_embedding.kernel_size[0]
        pieces = F.unfold(pixel_values, p, stride=p)  # [B, 3 p p, P]
        tokens = pieces.transpose(1, 2) @ self.patch_embedding.weight.flatten(1).T
        cls = self.class_embedding[None, None].repeat(pixel_values.shape[0], 1, 1)
        tokens = torch.cat((cls, tokens), 1)
        return tokens + self.position_embedding(torch.arange(tokens.shape[1], device=tokens.device))
