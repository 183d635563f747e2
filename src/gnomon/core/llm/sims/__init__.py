"""Simulators: models whose behaviour is known, so that what a method estimates can be checked against the truth."""

from gnomon.lazy import exports

SIMULATORS = {
    "summariser": "gnomon.core.llm.sims.summariser:Summariser",
    "judge": "gnomon.core.llm.sims.judge:Judge",
    "rewriter": "gnomon.core.llm.sims.rewriter:Rewriter",
    "verdict": "gnomon.core.llm.sims.verdict:Verdict",
    "styler": "gnomon.core.llm.sims.styler:Styler",
    "critic": "gnomon.core.llm.sims.critic:Critic",
    "optimizer": "gnomon.core.llm.sims.optimizer:Optimizer",
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
