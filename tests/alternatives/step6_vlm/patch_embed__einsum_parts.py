class CLIPVisionEmbeddings:
    # TODO patch_embed
    def forward(self, pixel_values):
        B, C, H, W = pixel_values.shape
        p = self.patch_embedding.stride[0]
        grid = pixel_values.reshape(B, C, H // p, p, W // p, p)
        patches = torch.einsum("bchiwj,dcij->bhwd", grid, self.patch_embedding.weight)
        patches = patches.reshape(B, -1, patches.shape[-1]) + self.position_embedding.weight[1:]
        cls = self.class_embedding + self.position_embedding.weight[0]
        return torch.cat([cls.expand(B, 1, -1), patches], dim=1)
