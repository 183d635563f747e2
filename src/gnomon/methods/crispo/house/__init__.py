"""House style: notes of a few facts, and summaries of them in a style that has eight aspects of four levels each."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Fact": "facts",
        "draw_facts": "facts",
        "notes": "facts",
        "read_notes": "facts",
        "last_notes": "facts",
        "phrases": "facts",
        "ASPECTS": "aspects",
        "Aspect": "aspects",
        "INVENTIONS": "aspects",
        "Style": "aspects",
        "parse_style": "aspects",
        "read_requests": "aspects",
        "read_forbidden": "aspects",
        "with_request": "aspects",
        "summary": "summaries",
        "read_summary": "summaries",
        "levels_of_order": "summaries",
        "agreement": "summaries",
        "style_score": "summaries",
        "expected_score": "summaries",
        "Document": "summaries",
        "draw_documents": "summaries",
    },
)
