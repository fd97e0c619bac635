"""Graph -> tensors: tokens, supports, tokenizers and the mask rule."""

from simgraph.compile.compiled import Compiled, compile

__all__ = ["Compiled", "compile"]
