"""Language models behind an endpoint: one way to ask, whoever answers and wherever it runs."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Message": "base",
        "Request": "base",
        "Usage": "base",
        "Reply": "base",
        "LLM": "base",
        "ask": "base",
        "aclose": "base",
        "is_simulated": "base",
        "complete": "many",
        "acomplete_many": "many",
        "close": "many",
        "open_llm": "references",
        "connect": "stack",
        "LLMConfig": "config",
        "Cached": "cache",
        "Budgeted": "budget",
        "Prices": "budget",
        "Limited": "pace",
        "Retried": "pace",
        "Recorded": "tape",
        "Tape": "tape",
        "Meter": "meter",
        "Metered": "meter",
        "Script": "script",
        "last_verdict": "parse",
        "tagged": "parse",
        "choice": "parse",
        "json_object": "parse",
    },
)
