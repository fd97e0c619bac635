"""Tensors -> denoiser: the Simformer, a transformer that learns the score of a joint distribution."""

from simgraph.simformer.denoiser import Denoiser
from simgraph.simformer.network import Architecture, Simformer

__all__ = ["Architecture", "Denoiser", "Simformer"]
