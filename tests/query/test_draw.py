"""Tokens as they are drawn."""

import torch

import simgraph as sg
from simgraph.query.draw import draw


def test_drawn_categories_are_codes_and_tokens_have_nothing_that_they_lack(mixed_model):
    compiled, denoiser = mixed_model.compiled, mixed_model._trained.denoiser
    states = compiled.states()[None]
    tokens = draw(compiled, denoiser, torch.zeros(1, *denoiser.own.shape), states, 200, sg.Multistep(), 0)[0]
    assert torch.equal(tokens, denoiser.settled(tokens, torch.arange(tokens.shape[1])))
    codes = compiled.layout.tokenizers["label"].codes()
    found = tokens[:, compiled.layout.slots("label"), : codes.shape[-1]].flatten(0, -2)
    assert len(torch.unique(found, dim=0)) <= len(codes)
