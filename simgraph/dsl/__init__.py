"""What the user writes: nodes, plates and indices, as pure data."""

from simgraph.dsl.axes import Plate, plate
from simgraph.dsl.chunks import Chunks
from simgraph.dsl.curve import Curve
from simgraph.dsl.declare import deterministic, node
from simgraph.dsl.embedding import Convolution, Embedding
from simgraph.dsl.index import Index, index
from simgraph.dsl.links import causal, lagged, window
from simgraph.dsl.node import Node
from simgraph.dsl.patches import Patches
from simgraph.dsl.tokenizer import Pieces, TokenizerSpec

__all__ = [
    "Chunks",
    "Convolution",
    "Curve",
    "Embedding",
    "Index",
    "Node",
    "Patches",
    "Pieces",
    "Plate",
    "TokenizerSpec",
    "causal",
    "deterministic",
    "index",
    "lagged",
    "node",
    "plate",
    "window",
]
