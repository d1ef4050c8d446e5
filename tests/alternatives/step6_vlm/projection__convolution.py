class Projection:
    # TODO projection
    def __init__(self, vision_dim: int, text_dim: int):
        super().__init__()
        self.conv = nn.Conv1d(vision_dim, text_dim, kernel_size=1)

    # TODO projection
    def forward(self, features):
        return self.conv(features.transpose(1, 2)).transpose(1, 2)
