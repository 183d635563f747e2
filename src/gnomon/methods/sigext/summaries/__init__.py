"""Summaries by a language model with the phrases of any arm, and their evaluation."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "page_rank": "baselines",
        "by_lines": "evaluation",
        "copy_rate": "evaluation",
        "evaluate": "evaluation",
        "in_source": "evaluation",
        "inventions": "evaluation",
        "matched_length": "evaluation",
        "uptake": "evaluation",
        "SETS": "prompts",
        "fitted_prompt": "prompts",
        "load_template": "prompts",
        "shown_as": "prompts",
        "Summary": "summaries",
        "fault_of": "summaries",
    },
)
