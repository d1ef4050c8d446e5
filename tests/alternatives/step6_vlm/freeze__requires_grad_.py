def freeze(module):
    return module.eval().requires_grad_(False)


class VLM:
    # TODO freeze
    def train(self, mode=True):
        super().train(mode)
        if self.vision:
            self.vision.train(False)
        return self
