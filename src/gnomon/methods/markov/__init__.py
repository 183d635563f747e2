"""LLMs as Markov chains (arXiv 2410.02724): the exact chain of a model, how it mixes, bounds, and chains learned in context."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Chain": "chain.chain",
        "Classes": "chain.chain",
        "Curve": "chain.rates",
        "Cycle": "chain.rates",
        "MarkovLM": "chain.lm",
        "StateSpace": "chain.states",
        "Stationary": "chain.equilibrium",
        "forgetting": "chain.forget",
        "greedy_cycle": "chain.rates",
        "greedy_cycles": "chain.rates",
        "likely_states": "chain.rates",
        "log_epsilon": "chain.rates",
        "mass_on": "chain.rates",
        "measure": "chain.rates",
        "mixing_time": "chain.rates",
        "relaxation_time": "chain.rates",
        "second_eigenvalue": "chain.equilibrium",
        "stationary": "chain.equilibrium",
        "t_min": "chain.rates",
    },
)
