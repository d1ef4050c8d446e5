def freeze(module):
    for _, p in module.named_parameters():
        p.requires_grad = False
        p.grad = None
    module.train(False)
    return module


class VLM:
    # TODO freeze
    def train(self, mode=True):
        nn.Module.train(self, mode)
        if getattr(self, "vision", None) is not None:
            freeze(self.vision)
        return self
