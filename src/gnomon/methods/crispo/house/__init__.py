"""House style: notes of a few facts, and summaries of them in a style that has eight aspects of four levels each."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "ASPECTS": "aspects",
        "Aspect": "aspects",
        "INVENTIONS": "aspects",
        "LENGTH": "aspects",
        "ORDER": "aspects",
        "Style": "aspects",
        "parse_style": "aspects",
        "read_forbidden": "aspects",
        "read_requests": "aspects",
        "with_request": "aspects",
        "with_sentence": "aspects",
        "Fact": "facts",
        "draw_facts": "facts",
        "last_notes": "facts",
        "notes": "facts",
        "phrases": "facts",
        "read_notes": "facts",
        "Document": "summaries",
        "agreement": "summaries",
        "choose": "summaries",
        "draw_documents": "summaries",
        "levels_of_order": "summaries",
        "ordered": "summaries",
        "read_summary": "summaries",
        "same_order": "summaries",
        "style_score": "summaries",
        "summary": "summaries",
    },
)
