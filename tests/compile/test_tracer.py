"""Sets of input elements carried through tensor operations, against Jacobians."""

import copy
import math
import pickle
import warnings
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from simgraph.compile.traced import dependence
from simgraph.compile.tracer import Untraceable

CONSTANT = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def in_place(t):
    out = torch.zeros(4)
    out[0] = t[0]
    out[1:3] = t[1:3] * 2
    last = out[3:]
    last += t[0] * t[2]
    return out


def by_mask_in_place(t):
    out = t.clone()
    out[torch.tensor([True, False, True])] = t[1]
    return out


def overwritten(t):
    out = t * 1
    out[1] = 5.0
    out.view(3)[2:].zero_()
    return out


def accumulated(t):
    return torch.zeros(2).index_put_((torch.tensor([0, 0, 1]),), t, accumulate=True)


def written_twice(t):
    out = torch.zeros(2)
    out[torch.tensor([0, 0, 1])] = t
    return out


def written_where(t):
    out = torch.zeros(3)
    out[t > 0] = t[1]
    return out


def in_memory(t):
    return torch.as_strided(t[:, None] + torch.zeros(2, 3).T, (6,), (1,)) * 1


def strided(t):
    out = torch.zeros(2, 3)
    out.as_strided((3,), (2,))[1] = t[0]
    return out


def view_of_a_transpose(t):
    made = torch.outer(t, t[:2]).T.contiguous().T * 1
    made.T.view(-1)[1] = t[0]
    return made


# Traced exactly: the sets equal the support of the Jacobian.
EXACT = {
    "add": lambda t: t + 1,
    "subtract": lambda t: 1 - t,
    "square": lambda t: t * t,
    "divide": lambda t: 1 / (t + 9),
    "power": lambda t: (t + 9) ** 2.5,
    "exp": torch.exp,
    "sin": torch.sin,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "lgamma": lambda t: torch.lgamma(t + 9),
    "digamma": lambda t: torch.digamma(t + 9),
    "polygamma": lambda t: torch.special.polygamma(1, t + 9),
    "erf": torch.erf,
    "abs": torch.abs,
    "silu": F.silu,
    "hypot": lambda t: torch.hypot(t, t.flip(0)),
    "lerp": lambda t: torch.lerp(t, t.flip(0), 0.3),
    "addcmul": lambda t: torch.addcmul(t, t.roll(1), t.roll(2)),
    "cross entropy": lambda t: F.binary_cross_entropy_with_logits(t, torch.ones(3), reduction="none"),
    "mean cross entropy": lambda t: F.binary_cross_entropy_with_logits(t, torch.ones(3)),
    "where": lambda t: torch.where(torch.tensor([True, False, True]), t, t.flip(0) * 3),
    "masked fill": lambda t: t.masked_fill(torch.tensor([True, False, True]), 2.0),
    "number": lambda t: t[0],
    "slice": lambda t: t[1:],
    "negative": lambda t: t[-1] * t[:2],
    "none": lambda t: t[..., None] * t[None],
    "list": lambda t: t[[1, 1, 0]],
    "index": lambda t: t[torch.tensor([2, 0])],
    "mask": lambda t: t[torch.tensor([True, False, True])],
    "triangle": lambda t: torch.outer(t, t)[torch.triu_indices(3, 3)[0], torch.triu_indices(3, 3)[1]],
    "gather": lambda t: t.gather(0, torch.tensor([2, 2])),
    "index_select": lambda t: t.index_select(0, torch.tensor([1])),
    "take": lambda t: torch.take(t, torch.tensor([0])),
    "flip": lambda t: t.flip(0),
    "roll": lambda t: t.roll(1),
    "cat": lambda t: torch.cat([t[:1], t[2:]]),
    "stack": lambda t: torch.stack([t[0], t[2] ** 2]),
    "outer": lambda t: torch.outer(t, t),
    "kron": lambda t: torch.kron(t, torch.tensor([1.0, 2.0])),
    "expand": lambda t: t.expand(2, 3),
    "repeat": lambda t: t.repeat(2),
    "repeat_interleave": lambda t: t.repeat_interleave(2),
    "tile": lambda t: torch.tile(t, (2,)),
    "reshape": lambda t: (t[:, None] * t[:2]).reshape(2, 3),
    "transpose": lambda t: (t[:, None] * t[:2]).T,
    "movedim": lambda t: (t[:, None] * t[:2]).movedim(0, 1),
    "unfold": lambda t: t.unfold(0, 2, 1),
    "chunk": lambda t: torch.chunk(t, 3)[1],
    "split": lambda t: t.split([1, 2])[1],
    "unbind": lambda t: t.unbind()[2],
    "meshgrid": lambda t: torch.meshgrid(t, t, indexing="ij")[0],
    "pad": lambda t: F.pad(t, (1, 2)),
    "tril": lambda t: torch.tril(torch.outer(t, t)),
    "diag": torch.diag,
    "diag_embed": torch.diag_embed,
    "diagonal": lambda t: torch.outer(t, t).diagonal(),
    "scatter": lambda t: torch.zeros(4).scatter(0, torch.tensor([1, 3, 0]), t),
    "one_hot": lambda t: F.one_hot(torch.tensor(1), 3) * t,
    "sum": lambda t: t.sum(),
    "sum of an axis": lambda t: (t[:, None] * t[None, :2]).sum(1),
    "mean": lambda t: torch.outer(t, t).mean(0, keepdim=True),
    "prod": lambda t: t.prod(),
    "logsumexp": lambda t: torch.logsumexp(t, 0),
    "var": lambda t: t.var(),
    "norm": lambda t: t.norm(),
    "cumsum": lambda t: t.cumsum(0),
    "cumprod": lambda t: t.cumprod(0),
    "logcumsumexp": lambda t: t.logcumsumexp(0),
    "diff": lambda t: t.diff(),
    "softmax": lambda t: t.softmax(0),
    "log_softmax": lambda t: F.log_softmax(t, 0),
    "mv": lambda t: CONSTANT @ t,
    "mm": lambda t: CONSTANT @ t[:, None],
    "dot": lambda t: t @ t,
    "linear": lambda t: F.linear(t, CONSTANT),
    "zeros": lambda t: torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]]) @ t,
    "zero factor": lambda t: torch.tensor([1.0, 0.0, 2.0]) * t,
    "einsum": lambda t: torch.einsum("ij,j->i", CONSTANT, t),
    "outer einsum": lambda t: torch.einsum("i,j->ij", t, t),
    "bmm": lambda t: torch.bmm(t.expand(2, 1, 3), CONSTANT.T.expand(2, 3, 4)),
    "addmm": lambda t: torch.addmm(t[:2, None].expand(2, 4), t.expand(2, 3), CONSTANT.T),
    "tensordot": lambda t: torch.tensordot(t, t, 1),
    "polynomial": lambda t: t[0] + t[1] * torch.arange(1, 4) + t[2] * torch.arange(1, 4) ** 2,
    "accumulated": accumulated,
    "index_add": lambda t: torch.zeros(2).index_add(0, torch.tensor([0, 1, 0]), t),
    "index_add in place": lambda t: torch.ones(2).index_add_(0, torch.tensor([0, 1, 0]), t),
    "index_copy": lambda t: torch.zeros(2, 3).index_copy(0, torch.tensor([1]), t[None]),
    "index_fill": lambda t: t.index_fill(0, torch.tensor([1]), t[0]),
    "index_put": lambda t: torch.zeros(2, 3).index_put((torch.tensor([1]),), t),
    "scatter_add": lambda t: torch.zeros(2, 3).scatter_add(0, torch.tensor([[0, 1, 0]]), t[None]),
    "masked_select": lambda t: torch.masked_select(t, torch.tensor([True, False, True])),
    "combinations": torch.combinations,
    "in memory": in_memory,
    "strided": strided,
    "view of a transpose": view_of_a_transpose,
    "in place": in_place,
    "mask in place": by_mask_in_place,
    "overwritten": overwritten,
    "constant": lambda t: torch.arange(3.0) * 2,
}
# Traced to more than the Jacobian shows at any one point, or to more than there is.
LOOSE = {
    "amax": lambda t: t.amax(),
    "sort": lambda t: t.sort().values,
    "topk": lambda t: t.topk(2).values,
    "median": lambda t: t.median(),
    "quantile": lambda t: t.quantile(0.5),
    "max of an axis": lambda t: torch.outer(t, t).max(1).values,
    "branching where": lambda t: torch.where(t > 0, t, 2 * t.flip(0)),
    "clamp": lambda t: t.clamp(-0.5, 0.5),
    "relu": F.relu,
    "inverse": lambda t: torch.linalg.inv(torch.diag(t + 9)),
    "determinant": lambda t: torch.linalg.det(torch.diag(t + 9)),
    "slogdet": lambda t: torch.linalg.slogdet(torch.diag(t + 9))[1],
    "solve": lambda t: torch.linalg.solve(torch.diag(t + 9), t),
    "cholesky": lambda t: torch.linalg.cholesky(torch.diag(t**2 + 1) + 0.1 * torch.outer(t, t)),
    "triangular": lambda t: torch.linalg.solve_triangular(torch.eye(3) + torch.diag(t**2), t[:, None], upper=False),
    "matrix_exp": lambda t: torch.matrix_exp(torch.diag(t)),
    "pinv": lambda t: torch.linalg.pinv(torch.diag(t + 9)),
    "matrix norm": lambda t: torch.linalg.matrix_norm(torch.outer(t, t)),
    "cov": lambda t: torch.cov(torch.stack([t, t**2])),
    "cross": lambda t: torch.linalg.cross(t, torch.tensor([1.0, 2.0, 3.0])),
    "convolution": lambda t: F.conv1d(t[None, None], torch.ones(1, 1, 2)),
    "interpolate": lambda t: F.interpolate(t[None, None], size=5, mode="linear"),
    "cdist": lambda t: torch.cdist(t[:, None], t[:, None] + 1),
    "layer_norm": lambda t: F.layer_norm(t, (3,)),
    "searchsorted": lambda t: t * torch.searchsorted(torch.tensor([0.0, 1.0]), t),
    "trapezoid": torch.trapezoid,
    "written twice": written_twice,
    "scattered twice": lambda t: torch.zeros(3).scatter(0, torch.tensor([1, 1, 0]), t),
    "fourier": lambda t: torch.fft.fft(t).abs(),
    "foreach": lambda t: torch._foreach_mul([t, t * 2], 2.0)[1],
    "written where": written_where,
    "own index": lambda t: (lambda order: t[order[order]])(t.argsort()),
    "masked by itself": lambda t: t.masked_fill(t > 0, 0.0) + t,
}


def support(function, points):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jacobians = [torch.autograd.functional.jacobian(function, point) for point in points]
    return torch.stack([jacobian.abs() > 1e-9 for jacobian in jacobians]).any(0).numpy()


def points(seed=0, count=4):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("name", EXACT)
def test_sets_are_the_support_of_the_jacobian(name):
    found = dependence(EXACT[name], points()[0])[0]
    assert np.array_equal(found, support(EXACT[name], points()))


@pytest.mark.parametrize("name", LOOSE)
def test_sets_contain_the_support_of_the_jacobian(name):
    found = dependence(LOOSE[name], points()[0])[0]
    assert not (support(LOOSE[name], points(count=8)) & ~found).any()


def test_linear_algebra_keeps_matrices_of_a_batch_apart():
    def solve(t):
        matrices = torch.diag_embed(torch.stack([t[:2], t[1:]]) + 9)
        return torch.linalg.inv(matrices).sum((-1, -2))

    assert dependence(solve, points()[0])[0].tolist() == [[True, True, False], [False, True, True]]


def test_a_cholesky_factor_depends_on_what_lies_above_and_left():
    def factor(t):
        return torch.linalg.cholesky(torch.diag(t + 9))

    found = dependence(factor, points()[0])[0]
    expected = np.zeros((3, 3, 3), dtype=bool)
    for i in range(3):
        for j in range(i + 1):
            expected[i, j, : i + 1] = True
    assert not (found & ~expected).any()
    assert not (support(factor, points()) & ~found).any()


def test_columns_of_a_triangular_system_are_solved_for_one_by_one():
    def solve(t):
        return torch.linalg.solve_triangular(torch.eye(2), torch.stack([t[:2], t[1:]]), upper=False)

    found = dependence(solve, points()[0])[0]
    assert found[:, 0].any(0).tolist() == [True, True, False]
    assert found[:, 1].any(0).tolist() == [False, True, True]


def test_an_index_that_is_an_input_reaches_all_that_it_may_pick():
    table, label = torch.randn(3, 2), torch.tensor(1)
    of_table, of_label = dependence(lambda table, label: table[label], table, label)
    assert of_label.all()
    expected = np.zeros((2, 3, 2), dtype=bool)
    expected[0, :, 0] = expected[1, :, 1] = True
    assert np.array_equal(of_table, expected)
    labels = torch.tensor([0, 2])
    of_labels = dependence(lambda labels: torch.tensor([1.0, 2.0, 3.0])[labels], labels)[0]
    assert of_labels.tolist() == [[True, False], [False, True]]
    of_labels = dependence(lambda labels: table[labels, 1], labels)[0]
    assert of_labels.tolist() == [[True, False], [False, True]]
    of_labels = dependence(lambda labels: table.gather(0, labels[:, None]), labels)[0]
    assert of_labels[:, 0].tolist() == [[True, False], [False, True]]
    table3, ones = torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    for function in (
        lambda i: table3[1, i, 2],
        lambda i: table3[..., i, None, 1:3],
        lambda i: table3[ones, i],
        lambda i: table3[i, torch.tensor([0])],
        lambda i: table3[[0, 1], i],
    ):
        found = dependence(function, label)[0]
        assert found.shape == function(label).shape
        assert found.all()
    one = dependence(lambda i, j: table[:, None, :][i, :, j], label, torch.tensor(0))
    assert all(part.all() for part in one)


OUTSIDE = torch.zeros(3)


def writes_outside(t):
    OUTSIDE[0] = t[0]
    return OUTSIDE


def writes_to_an_array(t):
    array = np.zeros(3, dtype=np.float32)
    torch.as_tensor(array)[0] = t[0]
    return torch.as_tensor(array) * 1


def replaces_memory(t):
    out = torch.zeros(3)
    out.data = t
    return out


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda t: t if t[0] > 0 else -t, "its Python code branches on a value"),
        (lambda t: t * t[0].item(), "it takes a value out of a tensor (item)"),
        (lambda t: t * float(t[0]), "it takes a value out of a tensor (float)"),
        (lambda t: t * math.exp(t[0]), "it takes a value out of a tensor (float)"),
        (lambda t: t * int(t[0]), "it takes a value out of a tensor (int)"),
        (lambda t: torch.tensor(t.tolist()), "it takes values out of a tensor (tolist)"),
        (lambda t: torch.tensor([t[0], t[1]]), "it takes a value out of a tensor"),
        (lambda t: torch.as_tensor(np.sin(t)), "it calls NumPy"),
        (lambda t: torch.as_tensor(np.asarray(t)), "it calls NumPy"),
        (lambda t: torch.from_numpy(t.numpy()), "it calls NumPy"),
        (lambda t: t[t > 0], "the shape of a result depends on a value (index)"),
        (lambda t: t.nonzero(), "the shape of a result depends on a value (nonzero)"),
        (lambda t: t + torch.randn(3), "it draws random numbers"),
        (lambda t: torch.from_dlpack(t) * 1, "it hands the memory of a tensor on"),
        (lambda t: torch.as_tensor(np.from_dlpack(t)), "it hands the memory of a tensor on"),
        (lambda t: torch.from_dlpack(torch.utils.dlpack.to_dlpack(t)) * 1, "its code fails when it is traced"),
        (lambda t: torch.tensor(t.untyped_storage()[0]), "it looks at the memory of a tensor"),
        (lambda t: t * t.data_ptr(), "it looks at the memory of a tensor"),
        (lambda t: t.clone().share_memory_(), "it looks at the memory of a tensor"),
        (lambda t: t.clone().apply_(lambda number: number), "it calls a Python function on each number"),
        (lambda t: torch.as_tensor(torch.Tensor.numpy(t)), "it calls NumPy"),
        (lambda t: copy.deepcopy(t), "it copies a tensor in Python"),
        (lambda t: pickle.loads(pickle.dumps(t)), "it copies a tensor in Python"),
        (lambda t: t * float(repr(t[0])[7:-1]), "its code fails when it is traced (ValueError)"),
        (lambda t: t.view(torch.int32), "it looks at the memory of a tensor in another way (view)"),
        (lambda t: t.to_sparse().to_dense(), "it works on sparse tensors"),
        (replaces_memory, "it replaces the memory of a tensor"),
        (writes_to_an_array, "it writes into a tensor from outside of the function"),
        (writes_outside, "it writes into a tensor from outside of the function"),
        (lambda t: [t], "it returns a list, not a tensor"),
        (lambda t: t.no_such_thing(), "its code fails when it is traced (AttributeError)"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(function, reason):
    with pytest.raises(Untraceable) as caught:
        dependence(function, torch.tensor([0.3, 0.1, 0.2]))
    assert str(caught.value).startswith(reason)


KEPT = {}


def test_constants_that_a_function_keeps_stay_usable():
    def function(t):
        if "grid" not in KEPT:
            KEPT["grid"] = torch.arange(3.0)
        return t + KEPT["grid"]

    assert np.array_equal(dependence(function, points()[0])[0], np.eye(3, dtype=bool))
    assert function(torch.ones(3)).tolist() == [1.0, 2.0, 3.0]


def test_the_larger_of_two_numbers_depends_on_both():
    assert dependence(lambda t: torch.max(t[0], t[1]), points()[0])[0].tolist() == [True, True, False]


def test_python_may_branch_on_shapes_and_constants():
    limit = torch.tensor(1.0)

    def function(t):
        scale = float(torch.arange(3.0).sum())
        return t * scale if t.shape == (3,) and limit > 0 and len(t) == 3 else t.sum()

    assert np.array_equal(dependence(function, points()[0])[0], np.eye(3, dtype=bool))


def test_long_vectors_are_traced_element_by_element():
    long = torch.randn(1000)
    assert np.array_equal(dependence(lambda t: torch.exp(t) * 2 + 1, long)[0], np.eye(1000, dtype=bool))


def test_more_numbers_than_can_be_followed_are_refused():
    with pytest.raises(Untraceable, match="it works on too many numbers"):
        dependence(lambda t: (t[:, None] * t).exp().sum(0), torch.randn(2000))


STEPS = [
    lambda a, b: a + b,
    lambda a, b: a * b.roll(1),
    lambda a, b: torch.where(torch.tensor([True, False, True]), a, b),
    lambda a, b: torch.stack([a[0], b[1], a[2]]),
    lambda a, b: torch.cat([a[:1], b[1:]]),
    lambda a, b: a.cumsum(0),
    lambda a, b: a.flip(0),
    lambda a, b: torch.tanh(a),
    lambda a, b: a.sum() * torch.tensor([1.0, 0.0, 2.0]) + b,
    lambda a, b: torch.outer(a, b).diagonal(),
    lambda a, b: torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ a,
    lambda a, b: torch.outer(a, b)[torch.tensor([0, 2, 1]), torch.tensor([1, 1, 0])],
    lambda a, b: a.softmax(0),
    lambda a, b: a.clone().index_put_((torch.tensor([1]),), b[:1]),
    lambda a, b: torch.linalg.cholesky(torch.diag(a**2 + 1))[:, 0],
    lambda a, b: torch.minimum(a, b),
    lambda a, b: F.pad(a, (1, 0))[:3],
    lambda a, b: a.repeat(2).reshape(3, 2)[:, 0],
]


VIEWS = [
    lambda a: a.T,
    lambda a: a[1:] if a.dim() and len(a) > 1 else a,
    lambda a: a[..., ::2] if a.dim() else a,
    lambda a: a[0] if a.dim() > 1 else a,
    lambda a: a.unsqueeze(-1),
    lambda a: a.view(-1) if a.is_contiguous() else a,
    lambda a: a.diagonal() if a.dim() == 2 else a,
    lambda a: a.unfold(0, 1, 1) if a.dim() else a,
]
WRITES = [
    lambda a, value: a.copy_(value),
    lambda a, value: a.add_(value),
    lambda a, value: a.mul_(torch.zeros(())),
    lambda a, value: a.zero_(),
    lambda a, value: a.reshape(-1)[:1].fill_(1.0),
    lambda a, value: a.index_put_((torch.tensor([0, 0]),), value, accumulate=True),
    lambda a, value: a.masked_fill_(torch.tensor(True), value),
]


@pytest.mark.filterwarnings("ignore:The use of")
@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1))
def test_writes_reach_all_views_of_the_same_memory(seed):
    random = Random(seed)
    plan = [
        ([random.choice(VIEWS) for _ in range(random.randint(0, 3))], random.choice(WRITES), random.randrange(3))
        for _ in range(random.randint(1, 4))
    ]
    turned = random.random() < 0.5

    def program(t):
        out = torch.outer(t, torch.tensor([1.0, 0.0, 2.0])) + 0
        out = (out.T.contiguous().T if turned else out).clone()
        for views, write, place in plan:
            seen = out
            for view in views:
                seen = view(seen) if seen.dim() < 3 else seen
            if seen.numel() and seen.dim():
                write(seen, t[place] ** 2)
        return out

    at = points(seed % 1000, count=2)
    assert not (support(program, at) & ~dependence(program, at[0])[0]).any()


@pytest.mark.parametrize("examples", [60, pytest.param(400, marks=pytest.mark.slow)])
def test_random_programs_depend_on_no_more_than_their_sets(examples):
    @settings(max_examples=examples)
    @given(st.integers(0, 2**32 - 1))
    def holds(seed):
        random = Random(seed)
        chosen = [(random.choice(STEPS), random.random(), random.random()) for _ in range(random.randint(1, 6))]

        def program(t):
            known = [t]
            for step, first, second in chosen:
                known.append(step(known[int(first * len(known))], known[int(second * len(known))]))
            return known[-1]

        at = points(seed % 1000, count=3)
        assert not (support(program, at) & ~dependence(program, at[0])[0]).any()

    holds()
