class Projection:
    # TODO projection
    def __init__(self, vision_dim: int, text_dim: int):
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(text_dim), nn.GELU(), nn.LazyLinear(text_dim))

    # TODO projection
    def forward(self, features):
        return self.layers(features)
