"""Trained models as files: everything that a query needs, without the simulator's code."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, get_args

import numpy as np
import torch

from simgraph import files
from simgraph.compile import Compiled
from simgraph.compile.course import COURSE, KNOTS
from simgraph.compile.embedded import EmbeddedToken
from simgraph.compile.functions import seen
from simgraph.compile.law import Origin
from simgraph.compile.layout import Layout
from simgraph.compile.links import LinkOrigin
from simgraph.compile.masks import MaskRule
from simgraph.compile.probe import Variable
from simgraph.compile.supports import Support
from simgraph.compile.tokenizer import Tokenizer
from simgraph.compile.tokenizers import tokenizer_for
from simgraph.dsl import Chunks, Convolution, Embedding, Index, Patches, Plate, TokenizerSpec
from simgraph.errors import FileFormatError, QueryError, SimgraphError
from simgraph.graph.dependence import Families
from simgraph.graph.fingerprint import fingerprint
from simgraph.simformer import Architecture
from simgraph.train.fit import Trained, build, build_network
from simgraph.train.history import History
from simgraph.train.ranges import Ranges

__all__ = ["load", "save"]

_KIND = "model"

_MISFITS = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RuntimeError, SimgraphError)

_MOST_PAIRS = 10**8
"""Pairs of tokens, for each plate: a model with more of them could not have been trained."""


def save(path: str | os.PathLike[str], trained: Trained, nodes: dict[str, Any] | None) -> None:
    """Writes a trained model to one file, atomically.

    Args:
        path: Where to write.
        trained: The model.
        nodes: Fingerprint of the graph, for a model that was loaded without it.
    """
    compiled, denoiser = trained.compiled, trained.denoiser
    arrays = {f"weights/{name}": tensor.numpy() for name, tensor in denoiser.state_dict().items()}
    arrays["families/members"] = compiled.rule.families.members.numpy()
    arrays["families/parents"] = compiled.rule.families.parents.numpy()
    variables = []
    for name, tokenizer in compiled.layout.tokenizers.items():
        variable = tokenizer.variable
        arrays |= {f"statistics/{name}/{key}": value for key, value in tokenizer.statistics.items()}
        if isinstance(tokenizer, EmbeddedToken):
            learned = tokenizer.network.state_dict()
            arrays |= {f"embeddings/{name}/{key}": tensor.numpy() for key, tensor in learned.items()}
        arrays[f"low/{name}"], arrays[f"high/{name}"] = trained.ranges.low[name], trained.ranges.high[name]
        variables.append(
            {
                "name": name,
                "plates": compiled.layout.plates[name],
                "plate_shape": variable.plate_shape,
                "event_shape": variable.event_shape,
                "support": variable.support.to_json(),
                "joint_dim": variable.joint_dim,
                "tokenizer": _tokenizer_entry(variable.tokenizer),
            }
        )
    manifest = {
        "variables": variables,
        "ragged": {name: [plate.least, plate.most] for name, plate in compiled.layout.ragged.items()},
        "indices": {name: _index_entry(index) for name, index in compiled.layout.indices.items()},
        "joining": list(compiled.layout.joining),
        "observed": compiled.rule.form,
        "architecture": asdict(denoiser.network.architecture),
        "history": trained.history.rows,
        "num_simulations": trained.ranges.count,
        "scored": list(trained.scored),
        "links": [asdict(link) for link in compiled.links],
        "graph": nodes if compiled.graph is None else fingerprint(compiled.graph),
    }
    files.write(path, _KIND, arrays, manifest)


def load(
    path: str | os.PathLike[str], embeddings: Mapping[str, Embedding] | None = None
) -> tuple[Trained, dict[str, Any] | None]:
    """Reads a model that :func:`save` wrote. No code runs but simgraph's own, and that of networks handed over.

    Args:
        path: The file.
        embeddings: Embeddings of the user's own by name; their networks get the weights of the file.

    Returns:
        The model, with ``compiled.graph`` None, and the fingerprint of its graph.

    Raises:
        FileNotFoundError: If there is no such file.
        FileFormatError: If the file is damaged, or its parts do not fit together.
        QueryError: If the network of an embedding is not at hand.
    """
    arrays, manifest = files.read(path, _KIND)
    try:
        trained = _assemble(arrays, manifest, embeddings or {})
    except QueryError:
        raise
    except _MISFITS as error:
        raise FileFormatError(f"{os.fspath(path)} holds a model whose parts do not fit together: {error}") from error
    return trained, manifest.get("graph")


def _assemble(arrays: dict[str, np.ndarray], manifest: dict[str, Any], embeddings: Mapping[str, Embedding]) -> Trained:
    members, parents = arrays["families/members"], arrays["families/parents"]
    variables = [_variable(entry, embeddings) for entry in manifest["variables"]]
    # Sizes are compared with the arrays that are really there before anything large is built.
    count = sum(math.prod(v.plate_shape) * tokenizer_for(v).num_tokens for v in variables)
    plates = {str(plate) for entry in manifest["variables"] for plate in entry["plates"]}
    if not 0 < count**2 * max(len(plates), 1) <= _MOST_PAIRS:
        raise FileFormatError(f"{count} tokens in {len(plates)} plates.")
    indices = {str(name): _index(str(name), entry) for name, entry in manifest.get("indices", {}).items()}
    functions = [
        v for v, entry in zip(variables, manifest["variables"], strict=True) if indices.keys() & entry["plates"]
    ]
    slots = count + sum(math.prod(function.plate_shape[:-1]) for function in functions)
    if members.shape != parents.shape or members.shape[1:] != (slots,) or (members.astype(bool).sum(0) != 1).any():
        raise FileFormatError(f"families of shape {members.shape} that do not hold each of {slots} slots once.")
    tokenizers = {}
    for variable in variables:
        prefix = f"statistics/{variable.name}/"
        statistics = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        plain = tokenizer_for(variable)
        if isinstance(plain, EmbeddedToken):
            _fill(plain, arrays)
        tokenizers[variable.name] = replace(plain, statistics=statistics)
    ragged = {
        str(name): indices.get(str(name), Plate(str(name), tuple(ends)))
        for name, ends in manifest.get("ragged", {}).items()
    }
    for entry in manifest["variables"]:
        for plate, size in zip(entry["plates"], entry["plate_shape"], strict=True):
            if plate in ragged and size != ragged[plate].most:
                raise FileFormatError(f"{entry['name']!r} has {size} elements of a plate of {ragged[plate].span}.")
    if not plates.issuperset(ragged):
        raise FileFormatError("plates of varying size that no variable is in.")
    if not plates.issuperset(indices) or any(
        set(entry["plates"][:-1]) & set(indices) for entry in manifest["variables"]
    ):
        raise FileFormatError("indices that are no last axis of a variable.")
    inside = {entry["name"]: entry["plates"] for entry in manifest["variables"]}
    # Files that do not say it stem from when the network was told the elements of all plates.
    joining = manifest.get("joining", list(dict.fromkeys(plate for own in inside.values() for plate in own)))
    layout = Layout(tokenizers, inside, ragged, indices, joining)
    if len(layout) != count:
        raise FileFormatError("two variables of one name.")
    families = Families(torch.from_numpy(members.astype(bool)), torch.from_numpy(parents.astype(bool)))
    if manifest["observed"] not in ("relay", "cached"):
        raise FileFormatError(f"observed tokens of the form {manifest['observed']!r}.")
    links = tuple(LinkOrigin(**entry) for entry in manifest["links"])
    if not all(link.child in tokenizers and link.parent in tokenizers for link in links):
        raise FileFormatError("links between variables that are not there.")
    if not all(link.origin in get_args(Origin) and isinstance(link.note, str) for link in links):
        raise FileFormatError("links of unknown origin.")
    compiled = Compiled(layout, seen(families, layout), MaskRule(families, manifest["observed"], layout.order), links)

    architecture = Architecture(**manifest["architecture"])
    weights = {k.removeprefix("weights/"): torch.from_numpy(v) for k, v in arrays.items() if k.startswith("weights/")}
    if sum(name.endswith(".up.weight") for name in weights) != architecture.depth:
        raise FileFormatError(f"weights of another number of blocks than {architecture.depth}.")
    counted = "network.count.weight" in weights  # older files have none
    with torch.device("meta"):
        sizes = build_network(compiled, architecture, counted).state_dict()
    expected = {f"network.{name}": tensor.shape for name, tensor in sizes.items()}
    if expected != {name: tensor.shape for name, tensor in weights.items()}:
        raise FileFormatError("weights of other sizes than the architecture has.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise FileFormatError("weights that are not finite.")
    for name, tokenizer in tokenizers.items():
        _check_statistics(tokenizer, course=layout.can_have_course(name))
    denoiser = build(compiled, architecture, counted)
    denoiser.load_state_dict(weights)
    ranges = Ranges(
        {v.name: arrays[f"low/{v.name}"] for v in variables},
        {v.name: arrays[f"high/{v.name}"] for v in variables},
        int(manifest["num_simulations"]),
    )
    for name, variable in ((v.name, v) for v in variables):
        if ranges.low[name].shape != variable.event_shape or ranges.high[name].shape != variable.event_shape:
            raise FileFormatError(f"ranges of another shape than {name!r} has.")
    scored = tuple(manifest.get("scored", ()))  # older files have none
    if not set(scored) <= set(tokenizers):
        raise FileFormatError("scores of variables that are not there.")
    return Trained(compiled, denoiser.eval().requires_grad_(False), History(manifest["history"]), ranges, scored)


def _fill(tokenizer: EmbeddedToken, arrays: Mapping[str, np.ndarray]) -> None:
    """Fills an embedding network with its weights."""
    name = tokenizer.variable.name
    prefix = f"embeddings/{name}/"
    weights = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in arrays.items() if k.startswith(prefix)}
    expected = {key: tensor.shape for key, tensor in tokenizer.network.state_dict().items()}
    if expected != {key: tensor.shape for key, tensor in weights.items()}:
        raise FileFormatError(f"weights of other sizes than the embedding network of {name!r} has.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values() if tensor.is_floating_point()):
        raise FileFormatError(f"weights of the embedding network of {name!r} that are not finite.")
    tokenizer.network.load_state_dict(weights)


def _variable(entry: dict[str, Any], embeddings: Mapping[str, Embedding]) -> Variable:
    variable = Variable(
        name=str(entry["name"]),
        plate_shape=tuple(map(int, entry["plate_shape"])),
        event_shape=tuple(map(int, entry["event_shape"])),
        support=Support.from_json(entry["support"]),
        joint_dim=int(entry["joint_dim"]),
        tokenizer=_tokenizer(entry["tokenizer"], embeddings.get(str(entry["name"])), str(entry["name"])),
    )
    low, high = variable.support.low, variable.support.high
    fits = np.broadcast_shapes(low.shape, high.shape, variable.event_shape) == variable.event_shape
    if not fits or not (low <= high).all():
        raise FileFormatError(f"bounds that {variable.name!r} cannot have.")
    return variable


def _tokenizer_entry(spec: TokenizerSpec | None) -> dict[str, Any] | None:
    match spec:
        case Chunks():
            return {"kind": "chunks", "size": spec.steps}
        case Patches():
            return {"kind": "patches", "size": spec.size}
        case Convolution():
            return {"kind": "convolution", "options": spec.options}
        case Embedding():
            return {"kind": "embedding"}
        case _:
            return None


def _tokenizer(entry: dict[str, Any] | None, own: Embedding | None, name: str) -> TokenizerSpec | None:
    match entry:
        case None:
            return None
        case {"kind": "chunks", "size": steps}:
            return Chunks(steps)
        case {"kind": "patches", "size": size}:
            return Patches(size)
        case {"kind": "convolution", "options": dict(options)}:
            return Convolution(**options)
        case {"kind": "embedding"}:
            if own is None:
                raise QueryError(
                    f"{name!r} has an embedding network of your own, whose code is not in the file.\n"
                    "  Load the model with its graph: sg.load(path, graph)"
                )
            return own
    raise FileFormatError(f"a tokenizer {entry!r} that is not known.")


def _index_entry(index: Index) -> dict[str, Any]:
    return {"num": index.size, "low": index.low, "high": index.high, "grid": index.grid}


def _index(name: str, entry: dict[str, Any]) -> Index:
    num = tuple(entry["num"]) if isinstance(entry["num"], list) else entry["num"]
    low, high = (tuple(map(float, entry[end])) for end in ("low", "high"))
    return Index(name, num, low, high, entry["grid"])


def _check_statistics(tokenizer: Tokenizer, *, course: bool) -> None:
    event = tokenizer.variable.event_shape
    fitted = tokenizer.fit(np.zeros((1, *event)), np.zeros((1, *event), dtype=bool)).statistics
    expected, found = {key: value.shape for key, value in fitted.items()}, tokenizer.statistics
    if course and set(COURSE) & set(found):  # constants have none, nor have older files
        expected |= dict.fromkeys(COURSE, (KNOTS, tokenizer.num_tokens))
    if {key: value.shape for key, value in found.items()} != expected:
        raise FileFormatError(f"statistics of another shape than {tokenizer.variable.name!r} has.")
    positive = all((found[key] > 0).all() for key in ("scale", "sd", "course_sd") if key in found)
    if not positive or not all(np.isfinite(value).all() for value in found.values()):
        raise FileFormatError(f"statistics of {tokenizer.variable.name!r} that are no numbers.")
