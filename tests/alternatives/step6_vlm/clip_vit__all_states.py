class CLIPVisionModel:
    # TODO clip_vit
    def forward(self, pixel_values, layer=-2):
        states = [self.pre_layrnorm(self.embeddings(pixel_values))]
        for block in self.encoder.layers:
            states.append(block(states[-1]))
        return states[layer][:, 1:, :]
