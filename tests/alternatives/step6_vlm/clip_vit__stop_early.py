class CLIPVisionModel:
    # TODO clip_vit
    def forward(self, pixel_values, layer=-2):
        wanted = layer % (self.config.num_hidden_layers + 1)
        hidden = self.pre_layrnorm(self.embeddings(pixel_values))
        for number, block in enumerate(self.encoder.layers):
            if number == wanted:
                break
            hidden = block(hidden)
        _, patches = hidden.split([1, hidden.shape[1] - 1], dim=1)
        return patches
