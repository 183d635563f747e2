"""LLMs as Markov chains (arXiv 2410.02724): the exact chain of a model, how it mixes, bounds, and chains learned in context."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Chain": "chain",
        "Classes": "chain",
        "Curve": "rates",
        "Cycle": "loops",
        "MarkovLM": "lm",
        "StateSpace": "states",
        "Stationary": "equilibrium",
        "forgetting": "forget",
        "greedy_cycle": "loops",
        "greedy_cycles": "loops",
        "likely_states": "loops",
        "log_epsilon": "rates",
        "mass_on": "loops",
        "measure": "rates",
        "mixing_time": "rates",
        "relaxation_time": "rates",
        "second_eigenvalue": "equilibrium",
        "stationary": "equilibrium",
        "t_min": "rates",
    },
)
