"""A question to a model: evidence, and what is asked for."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from simgraph.compile.names import check_askable
from simgraph.dsl import Node
from simgraph.errors import QueryError
from simgraph.query.attach import attach, sort
from simgraph.query.check import Check
from simgraph.query.density import check_density, check_flow, log_prob, merged, why_no_density
from simgraph.query.flow import Flow
from simgraph.query.functions import check_curves, refuse, without_curves
from simgraph.query.methods import Method, find_method
from simgraph.query.mode import mode
from simgraph.query.predictive import replicates
from simgraph.query.ragged import RaggedQuery, pieces_of
from simgraph.query.restrictions import Condition
from simgraph.query.settling import Settling
from simgraph.query.sizes import told
from simgraph.query.solvers import DEFAULT_SAMPLER, Sampler
from simgraph.traces.seeds import check_seed

__all__ = ["Query", "numerics"]


class Query(Settling):
    """A model with evidence: knows what is given, and is asked by name.

    Args:
        trained: The model.
        evidence: Checked evidence by name.
        size: Number of pieces of evidence.
        batched: Whether results have a batch axis.
        restrictions: Checked intervals, constraints and predicates that draws have to satisfy.
        curves: Checked evidence on functions, by name.
        looked: Elements of an index's axis at which a function is asked for, by its name, once points are settled.
        points: The points of these elements, (points, coordinates), by name of the index.
    """

    def given(
        self, /, *conditions: Mapping[str | Node, Any] | Condition, strict: bool = False, **values: Any
    ) -> Query | RaggedQuery:
        """Attaches more evidence; see :meth:`Model.given`."""
        named, demands = sort(self, conditions, values)
        layout = self.trained.compiled.layout
        pieces = pieces_of(layout, named)
        if pieces is None:
            return self._given_one(named, demands, strict)
        if self.batched:
            raise QueryError(
                "given(...) has a list of pieces beside a batch of evidence.\n"
                "  Hand over all evidence of the pieces in one call of given(...)."
            )
        return RaggedQuery([self._given_one(piece, demands, strict) for piece in pieces])

    def _given_one(self, named: Mapping[str, Any], demands: Sequence[Condition], strict: bool) -> Query:
        """Attaches one piece of evidence, or a batch of pieces of one size."""
        layout = self.trained.compiled.layout
        refuse(layout, (name for demand in demands for name in demand.names), "a constraint", "Draw, and select draws.")
        plain, curves = without_curves(layout, named)
        check_curves(layout, curves, strict=strict)
        query = self.sized(told(layout, plain))._with(plain, demands, strict)
        if not curves:
            return query
        query = query.changed(curves=self.curves | curves)
        query.looked_at({}, (), strict=strict)  # so that all that can be wrong with the values is said now
        return query

    def _with(self, named: Mapping[str, Any], demands: Sequence[Condition], strict: bool) -> Query:
        """Returns the query with more evidence; the plates that it lies in have their sizes."""
        found = attach(self, named, demands, strict=strict)
        return self.changed(
            evidence=found.evidence, size=found.size, batched=found.batched, restrictions=found.restrictions
        )

    def sample(
        self,
        *names: str | Node | Iterable[str | Node],
        num_samples: int = 1000,
        seed: int | None = None,
        at: Mapping[Any, Any] | None = None,
        exact: bool = False,
        sampler: Sampler | None = None,
        method: str | Method = "auto",
        **unknown: Any,
    ) -> Any:
        """Draws from the law of the named variables given the evidence; all others are marginalised.

        Nuisance variables, which lie between the evidence and the answer, are drawn along and left out.
        A deterministic variable of which nothing is given is its function at draws of its parents, where the model
        has its graph.

        Args:
            *names: One name: the result is a tensor. Several, a list, or none (everything that is not
                given): the result is :class:`Samples`, which also reports draws outside of the bounds that
                their own parents set.
            num_samples: Number of draws, for each piece of evidence.
            seed: Seed of the draws; fresh ones every time if there is none.
            at: Sizes by name of plates whose size varies, where no evidence tells them: ``at={"school": 7}``; and the
                points at which functions are asked for, by name of their index: ``at={"t": [0.0, 1.5]}``.
            exact: Whether to correct the draws by the graph's own density, see :mod:`simgraph.query.exact`: every
                node above evidence returns a distribution, and the model has its graph. Samples then report how many
                draws these are worth (``ess``), how they came about (``notes``), and ``log_evidence``.
            sampler: The solver and its number of network evaluations.
            method: How intervals, constraints and predicates are satisfied: ``"rejection"``, ``"smc"`` (both exact
                for the learned law), ``"guided"`` (fast and approximate), or an object such as ``sg.Splitting()``.
                ``"auto"`` takes rejection, or ``"smc"`` where few draws pass. Samples tell the method, which share of
                the draws satisfies them, and of ``"smc"`` in ``ess`` how many independent ones they are worth.
            **unknown: Refused, with the place where it belongs.

        Returns:
            A tensor ([batch,] num_samples, *event_shape), or Samples of such tensors.

        Raises:
            UnknownNameError: If a name is not in the model.
            QueryError: If a name is wholly given, an option is not valid, or ``exact`` cannot be kept: no graph, a
                black box above evidence, a function as evidence, or evidence that the graph rules out.
            RestrictionError: If no draws that satisfy the restrictions were found within the method's budget.
            SimulationError: If the function of a deterministic variable fails at draws of its parents.
        """
        if unknown:
            name = next(iter(unknown))
            raise QueryError(
                f"sample(...) has no option {name!r}; it has num_samples, seed, at, exact, sampler and method.\n"
                "  Evidence comes first: model.given(x=...).sample('theta')"
            )
        asked, single = self._asked(names)
        if exact:
            layout = self.trained.compiled.layout
            refuse(layout, layout.names, "exact=True", "Leave it out.")
        num_samples, seed, sampler = numerics(num_samples, seed, sampler)
        find_method(method)
        if not isinstance(exact, bool):
            raise QueryError(f"exact={exact!r} is neither True nor False.")
        query = self.settled(at, asked)
        return query.answer(asked, num_samples, seed, sampler, method, exact=exact, single=single)

    def check(
        self,
        *names: str | Node | Iterable[str | Node],
        num_samples: int = 2000,
        seed: int | None = None,
        at: Mapping[Any, Any] | None = None,
        sampler: Sampler | None = None,
    ) -> Check:
        """Holds the network's answer against one that is corrected by the graph's own density.

        It takes as long as ``sample(..., exact=True)``, and can be asked of the same questions. The corrected draws
        start from those of the network: what it never proposes, both may miss.

        Args:
            *names: Names, as in :meth:`sample`.
            num_samples: Number of draws of each of the two answers, for each piece of evidence.
            seed: Seed of the draws; fresh ones every time if there is none.
            at: Sizes by name of plates whose size varies, where no evidence tells them.
            sampler: The solver and its number of network evaluations.

        Returns:
            How far means, standard deviations and distribution functions of all elements are off, and whether that is
            more than chance; it holds both sets of draws. Restrictions are satisfied by rejection, whose draws are
            independent.

        Raises:
            UnknownNameError, QueryError, RestrictionError, SimulationError: As ``sample(..., exact=True)``.

        Warns:
            CoverageWarning: If the network's draws are so far off that the corrected ones may miss parts.

        Example:
            >>> from torch.distributions import Normal
            >>> import simgraph as sg
            >>> @sg.node
            ... def theta():
            ...     return Normal(0.0, 1.0)
            >>> @sg.node
            ... def x(theta):
            ...     return Normal(theta, 0.5)
            >>> settings = sg.Settings(steps=5)
            >>> model = sg.fit(sg.Graph(theta, x), num_simulations=100, preset=settings, progress=False)
            >>> model.given(x=1.0).check("theta", seed=0).differing  # five steps are no training
            ('theta',)
        """
        asked, _ = self._asked(names)
        layout = self.trained.compiled.layout
        refuse(
            layout, layout.names, "check(...)", "Simulate data, and see how often intervals of draws hold the truth."
        )
        num_samples, seed, sampler = numerics(num_samples, seed, sampler)
        query = self.settled(at, asked)
        try:  # first: it is what may be refused
            exact = query.answer(asked, num_samples, seed, sampler, "auto", exact=True, single=False)
        except QueryError as error:
            raise type(error)(f"check(...) needs corrected draws, and these are not possible here: {error}") from error
        method = "rejection" if self.restrictions else "auto"
        plain = query.answer(asked, num_samples, seed, sampler, method, exact=False, single=False)
        return Check(plain, exact, [name for name in asked if layout.tokenizers[name].classes])

    def predict(
        self,
        *names: str | Node | Iterable[str | Node],
        num_samples: int = 1000,
        seed: int | None = None,
        at: Mapping[Any, Any] | None = None,
        sampler: Sampler | None = None,
    ) -> Any:
        """Draws fresh replicates of variables, given what the evidence says about their parents.

        In ``given(x=x_o).predict("x")`` the parents of x are drawn given ``x_o``, and from each draw a new x: the
        posterior predictive. Of several names, a child follows from its parent's replicate.

        Args:
            *names: One name: the result is a tensor. Several, or a list: the result is :class:`Samples`.
            num_samples: Number of replicates, for each piece of evidence.
            seed: Seed of the draws; fresh ones every time if there is none.
            at: Sizes by name of plates whose size varies, where no evidence tells them.
            sampler: The solver and its number of network evaluations.

        Returns:
            A tensor ([batch,] num_samples, *plate sizes, *event_shape), or Samples of such tensors.

        Raises:
            UnknownNameError: If a name is not in the model.
            QueryError: If no name is given, all parents of a variable are given, or an option is not valid.
        """
        asked, single = self.named(names, "predict")
        if not asked:
            raise QueryError("predict(...) needs a name: given(x=...).predict('x')")
        layout = self.trained.compiled.layout
        check_askable(layout, asked)
        refuse(
            layout,
            layout.names,
            "predict(...)",
            "Draw the parameters with sample([...]), and simulate: graph.simulate(given=draws, at={...})",
        )
        num_samples, seed, sampler = numerics(num_samples, seed, sampler)
        found = replicates(self.settled(at, asked), asked, num_samples, sampler, seed)
        return found[asked[0]] if single else found

    def log_prob(
        self,
        values: Mapping[str | Node, Any] | None = None,
        /,
        *,
        at: Mapping[Any, Any] | None = None,
        sampler: Flow | None = None,
        **named: Any,
    ) -> Tensor:
        """Returns the log density of values given the evidence, normalised and in natural units.

        Variables that are neither given nor named are marginalised. Categories and counts have probabilities; a
        vector on a simplex has the density with respect to all of its coordinates but the last, as
        ``torch.distributions.Dirichlet``. The density is that of the probability flow, whose draws :meth:`sample`
        returns. Where variables lie between the evidence and the answer, :meth:`sample` draws them along, but here the
        network sums over them itself, as it seldom does in training: name such a question in ``fit(queries=...)``.

        Args:
            values: Values by name or node: one value, or many of them, (N, *shape). With B pieces of evidence: one
                value for all, (B, *shape), or (B, N, *shape).
            at: Sizes by name of plates whose size varies, where neither evidence nor values tell them.
            sampler: How densities are computed, for example ``sg.Flow(steps=40)``.
            **named: Values by name.

        Returns:
            Float64 tensor: (), (N,), (B,) or (B, N). It is -inf where a value lies outside of its support.

        Raises:
            QueryError: If a name is unknown or given, a variable is deterministic or constant, or the query has
                intervals, constraints or predicates.
            ShapeError: If shapes do not fit one another, or the evidence.
            EvidenceError: If values are no numbers, or NaN.

        Warns:
            SimgraphWarning: If the density is an estimate, because many features depend on one another.

        Example:
            >>> from torch.distributions import Normal
            >>> import simgraph as sg
            >>> @sg.node
            ... def theta():
            ...     return Normal(0.0, 1.0)
            >>> settings = sg.Settings(steps=5)
            >>> model = sg.fit(sg.Graph(theta), num_simulations=100, preset=settings, progress=False)
            >>> model.log_prob(theta=[0.0, 0.5, 1.0]).shape
            torch.Size([3])
        """
        self._unrestricted("log_prob")
        valued = merged(self.trained.compiled, values, named)
        refuse(
            self.trained.compiled.layout, valued, "log_prob(...)", "Ask for the density of plain variables given them."
        )
        query = self.sized(told(self.trained.compiled.layout, valued, "log_prob")).settled(at, valued)
        return log_prob(
            query.trained, query.evidence, query.tokens([]), batched=self.batched, values=valued, sampler=sampler
        )

    def map(
        self,
        *names: str | Node | Iterable[str | Node],
        seed: int | None = None,
        at: Mapping[Any, Any] | None = None,
        sampler: Flow | None = None,
    ) -> Any:
        """Returns the most likely values of the named variables given the evidence; all others are marginalised.

        It is the maximum of the joint density that :meth:`log_prob` tells, probabilities and densities in natural
        units multiplied. The search begins among 256 draws, so that a mode which holds a hundredth of the mass is
        seldom missed. A density that has no maximum (as that of Exponential, at the open end of its support) gives the
        best value that was found.

        Args:
            *names: One name: the result is a tensor. Several, a list, or none (everything that is not given and has
                a density): the result is a dictionary.
            seed: Seed of the draws; fresh ones every time if there is none.
            at: Sizes by name of plates whose size varies, where no evidence tells them.
            sampler: How densities are computed, for example ``sg.Flow(steps=40)``.

        Returns:
            A tensor ([batch,] *event_shape), or a dictionary of such tensors.

        Raises:
            UnknownNameError: If a name is not in the model.
            QueryError: If a name is wholly given, deterministic or constant.
        """
        self._unrestricted("map")
        asked, single = self._asked(names)
        flow = check_flow(sampler)
        if names:
            for name in asked:
                check_density(self.trained, name)
        else:
            asked = [name for name in asked if why_no_density(self.trained, name) is None]
            if not asked:
                raise QueryError("all that is not given is deterministic or constant, so that no density has a mode.")
        seed = secrets.randbits(62) if seed is None else check_seed(seed)
        query = self.settled(at, asked)
        tokens = mode(query.trained, *query.tokens(asked), seed, flow).unsqueeze(1)
        found = {name: query.values(name, tokens).squeeze(1 if self.batched else 0) for name in asked}
        return found[asked[0]] if single else found

    def _asked(self, names: tuple[Any, ...]) -> tuple[list[str], bool]:
        asked, single = self.named(names)
        for name in asked:
            if self.wholly_given(name):
                raise QueryError(f"{name!r} is both given and asked for.\n  Leave it out of one of the two.")
        if not asked:
            layout = self.trained.compiled.layout
            known = {*layout.embedded, *self.curves}
            asked = [name for name in layout.names if name not in known and not self.wholly_given(name)]
        if not asked:
            raise QueryError("every variable that can be asked for is given; nothing is left to sample.")
        return asked, single

    def _unrestricted(self, call: str) -> None:
        if self.restrictions:
            raise QueryError(
                f"{call}(...) answers under values, not under {'; '.join(map(str, self.restrictions))}: the probability"
                " of a restriction is not known.\n  Draw instead: given(...).sample(...)"
            )

    def __repr__(self) -> str:
        given = ", ".join([*self.evidence, *self.curves, *map(str, self.restrictions)]) or "nothing"
        layout = self.trained.compiled.layout
        rest = [name for name in layout.names if not self.wholly_given(name) and name not in layout.embedded]
        batch = f" in {self.size} pieces" if self.batched else ""
        return f"<Query given {given}{batch}; can be asked for {', '.join(rest) or 'nothing'}>"


def numerics(num_samples: Any, seed: int | None, sampler: Any) -> tuple[int, int, Sampler]:
    """Checks the options of drawing, and fills in those that are left out."""
    if isinstance(num_samples, bool) or not isinstance(num_samples, (int, np.integer)) or num_samples < 1:
        raise QueryError(f"num_samples={num_samples!r} is not a whole number of 1 or more.")
    sampler = DEFAULT_SAMPLER if sampler is None else sampler
    if not isinstance(sampler, Sampler):
        raise QueryError(f"sampler={sampler!r} is no sampler.\n  For example: sampler=sg.Heun(evaluations=40)")
    return int(num_samples), secrets.randbits(62) if seed is None else check_seed(seed), sampler
