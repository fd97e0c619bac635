"""Masks as lists of pairs are the same masks."""

import pytest
import torch

from simgraph.benchmark.mask_speed import graphs, random_states
from simgraph.compile import masks as rules
from simgraph.compile.edges import EdgeList, joined
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED, MaskRule
from simgraph.graph.bitsets import pack

GRAPHS = graphs(250)


def generator():
    return torch.Generator().manual_seed(0)


def tables(batch=4, queries=70, keys=70, share=0.1):
    return torch.rand(batch, queries, keys, generator=generator()) < share


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 9), (4, 70, 70), (2, 64, 129)])
def test_a_table_comes_back(shape):
    table = tables(*shape)
    edges = EdgeList.of_dense(table)
    assert len(edges) == shape[0]
    assert torch.equal(edges.dense(), table)
    assert edges.starts.diff().tolist() == table.sum((1, 2)).tolist()


def test_sets_are_listed_as_tables_are():
    table = tables(keys=70)
    first, second = EdgeList.of_words(pack(table.numpy()), 70), EdgeList.of_dense(table)
    for name in ("query", "key", "starts", "number"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


@pytest.mark.parametrize("rows", [[2], [0, 1, 2, 3], [3, 3, 0], []])
def test_masks_are_picked_by_number(rows):
    table, rows = tables(), torch.tensor(rows, dtype=torch.long)
    assert torch.equal(EdgeList.of_dense(table)[rows].dense(), table[rows])


def test_batches_are_split_and_joined():
    table = tables(5)
    edges = EdgeList.of_dense(table)
    parts = edges.split(2)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert torch.equal(EdgeList.joined(parts).dense(), table)
    assert isinstance(joined(parts), EdgeList)
    mixed = joined([parts[0], table[2:4], parts[2]])
    assert isinstance(mixed, torch.Tensor)
    assert torch.equal(mixed, table)


def test_masks_of_fewer_tokens_keep_their_order():
    table, order = tables(), torch.randperm(70, generator=generator())
    queries, keys = order[:20], order[10:50]
    fewer = EdgeList.of_dense(table).among(queries, keys)
    assert torch.equal(fewer.dense(), table[:, queries[:, None], keys])


def test_new_tokens_read_themselves_alone():
    table, tokens = tables(3, 4, 4, 0.5), torch.tensor([0, 2, 3, 5])
    expected = torch.eye(7, dtype=torch.bool).repeat(3, 1, 1)
    expected[:, tokens[:, None], tokens] = table
    wider = EdgeList.of_dense(table).spread(tokens, 7)
    assert torch.equal(wider.dense(), expected)
    assert torch.equal(wider.query, EdgeList.of_dense(expected).query)
    assert torch.equal(wider.among(tokens, tokens).dense(), table)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("form", ["relay", "cached"])
def test_a_rule_lists_the_pairs_of_its_masks(name, form, monkeypatch):
    monkeypatch.setattr(rules, "_MOST_WORDS", 3_000)  # several parts
    monkeypatch.setattr(rules, "SPARSE", 1.0)
    rule = MaskRule(GRAPHS[name], form)
    states = random_states(GRAPHS[name].members.shape[1], 6, generator())
    found = rule.masks(states, 4)
    assert isinstance(found, EdgeList)
    assert torch.equal(found.dense(), rule.edge_mask(states, 4))


@pytest.mark.parametrize(
    ("graph", "latent", "listed"),
    [("chain", 250, True), ("chain", rules.SHORT, False), ("black box", 250, False)],
)
def test_long_sparse_masks_are_lists(graph, latent, listed):
    rule, tokens = MaskRule(GRAPHS[graph]), GRAPHS[graph].members.shape[1]
    states = torch.where(torch.arange(tokens) < latent, LATENT, ABSENT).repeat(2, 1)
    found = rule.masks(states, 4)
    assert isinstance(found, EdgeList) == listed
    table = found.dense() if isinstance(found, EdgeList) else found
    assert torch.equal(table, rule.edge_mask(states, 4))


def test_what_counts_is_the_share_of_the_pairs_of_present_tokens(monkeypatch):
    rule = MaskRule(GRAPHS["chain"])
    states = torch.where(torch.arange(250) % 3 == 0, OBSERVED, LATENT)[None]
    share = float(rule.edge_mask(states, 4).float().mean())
    for factor, listed in ((1.01, True), (0.99, False)):
        monkeypatch.setattr(rules, "SPARSE", factor * share)
        assert isinstance(rule.masks(states, 4), EdgeList) == listed


@pytest.mark.parametrize(("sparse", "listed"), [(1.0, True), (0.02, False)])
def test_rows_that_lack_tokens_have_lists_too(sparse, listed, monkeypatch):
    monkeypatch.setattr(rules, "SPARSE", sparse)
    rule = MaskRule(GRAPHS["chain"])
    exists = torch.ones(5, 250, dtype=torch.bool)
    exists[[1, 3], 240:] = False
    exists[2, 100:] = False  # fewer than SHORT, which does not matter beside longer rows
    states = torch.where(exists, random_states(250, 5, generator()), ABSENT)
    found = rule.masks(states, 4, exists)
    assert isinstance(found, EdgeList) == listed
    table = found.dense() if isinstance(found, EdgeList) else found
    assert torch.equal(table, rule.edge_mask(states, 4, exists))
