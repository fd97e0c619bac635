"""A stand-in for the network: a latent variable is the sum of its observed values plus its number, plus the row."""

import torch

from simgraph.compile.masks import LATENT, OBSERVED


def observe_draws(monkeypatch):
    """Replaces draws of the network by sums; returns the list of what is asked: (latent, observed, evidence, draws)."""
    asked = []

    def draw(compiled, denoiser, values, states, num_samples, sampler, seed):
        layout = compiled.layout
        of = lambda state: [n for n in layout.names if (states[:, layout.slots(n)] == state).any()]  # noqa: E731
        latent, observed = of(LATENT), of(OBSERVED)
        asked.append((latent, observed, len(values), num_samples))
        total = sum((layout.detokenize(n, values[:, layout.slots(n)]) for n in observed), torch.zeros(len(values)))
        rows = total[:, None] + torch.arange(num_samples)
        out = values[:, None].repeat(1, num_samples, 1, 1)
        for name in latent:
            own = rows + 10.0 ** layout.names.index(name)
            out[:, :, layout.slots(name)] = layout.tokenize(name, own.reshape(-1, 1)).reshape(*own.shape, 1, -1)
        return out

    monkeypatch.setattr("simgraph.query.answering.draw", draw)
    return asked
