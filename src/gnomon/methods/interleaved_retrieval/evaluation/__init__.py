"""What finds what: arms and controls on judged queries, the price of each modality, and why a document was found."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Judged": "judged",
        "alarm": "controls",
        "Arms": "arms",
        "by_length": "controls",
        "by_pool": "controls",
        "explain": "explanation",
        "leaks": "controls",
        "read_judged": "judged",
        "section_stage": "sections",
        "swapped": "controls",
        "without_images": "controls",
    },
)
