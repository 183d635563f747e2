"""Simulators: models whose behaviour is known, so that what a method estimates can be checked against the truth."""

from gnomon.lazy import exports

SIMULATORS = {
    "judge": "gnomon.core.llm.sims.judge:Judge",
    "rewriter": "gnomon.core.llm.sims.rewriter:Rewriter",
    "verdict": "gnomon.core.llm.sims.verdict:Verdict",
}
"""Name -> where its class is. A new simulator is one file and one line here."""

__getattr__, __dir__ = exports(
    __name__,
    {
        "Simulated": "simulated",
        "Simulator": "simulated",
        "open_simulator": "simulated",
        "describe": "simulated",
        "ChatServer": "server",
        "serve": "server",
        "Faults": "faults",
    },
)
