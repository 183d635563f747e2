"""The stream of snippets, and the selection of those to be labelled."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Design": "intervals",
        "EVERYTHING": "intervals",
        "estimate": "intervals",
        "risk_steps": "intervals",
        "Pick": "rounds",
        "Round": "rounds",
        "cut": "snippets",
        "pieces_of": "snippets",
        "snippets_of": "snippets",
        "Reservoir": "strategies",
        "plan": "strategies",
        "Feed": "stream",
        "split_by_document": "stream",
    },
)
