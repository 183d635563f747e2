"""Simulators: models whose behaviour is known, so that what a method estimates can be checked against the truth."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "SIMULATORS": "simulated",
        "Simulated": "simulated",
        "Simulator": "simulated",
        "open_simulator": "simulated",
        "describe": "simulated",
        "ChatServer": "server",
        "serve": "server",
        "Faults": "faults",
    },
)
