"""Schools whose number varies from trace to trace, in small."""

from torch.distributions import Normal

from simgraph import Graph, node, plate

school = plate("school", size=(2, 5))


@node
def mu():
    return Normal(0.0, 1.0)


@node(plates=school)
def effect(mu):
    return Normal(mu, 1.0)


@node(plates=school)
def score(effect):
    return Normal(effect, 1.0)


@node
def level(effect):
    return Normal(effect.mean(), 0.1)


schools = Graph(mu, effect, score)
"""Nothing outside of the plate sees how many schools there are."""

counted = Graph(mu, effect, score, level)
"""The level does."""
