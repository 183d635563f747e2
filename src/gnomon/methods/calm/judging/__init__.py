"""Judges and what they are asked: trials, prompts, judges of every kind, mitigations, the plan and the audit."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "run_plan": "audit",
        "run_trials": "audit",
        "scoring_trials": "audit",
        "cut_to_shortest": "mitigations",
        "turned": "mitigations",
        "without_sources": "mitigations",
        "CHANGED_DRAW": "plan",
        "plan_audit": "plan",
        "harmless": "prompts",
        "read_letter": "prompts",
        "read_opinion": "prompts",
        "read_score": "prompts",
        "read_template": "prompts",
        "TIE": "trials",
        "verdict_of": "trials",
    },
)
