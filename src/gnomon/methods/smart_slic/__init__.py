"""smart-slic: a domain corpus into topics, a graph and answers that can be checked."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Agent": "knowledge.agent",
        "Decision": "corpus.pruning",
        "Expanded": "corpus.expansion",
        "HNMFk": "factors.joint",
        "LocalProvider": "corpus.expansion",
        "NMFk": "factors.nmfk",
        "NMFkResult": "factors.nmfk",
        "Options": "factors.multiplicative",
        "Paper": "corpus.papers",
        "PaperTopic": "knowledge.building",
        "Plan": "knowledge.planner",
        "Planner": "knowledge.planner",
        "PruneOptions": "corpus.pruning",
        "RESCALk": "factors.joint",
        "SPLIT": "factors.joint",
        "Rules": "knowledge.building",
        "clean": "corpus.cleaning",
        "cooccurrence": "factors.matrices",
        "expand": "corpus.expansion",
        "prune": "corpus.pruning",
        "read_papers": "corpus.papers",
        "rows_of": "knowledge.building",
        "sppmi": "factors.matrices",
        "tfidf": "factors.matrices",
    },
)
