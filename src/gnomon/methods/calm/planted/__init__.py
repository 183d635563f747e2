"""Judges whose biases are known, against which the estimates are checked."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Judge": "characters",
        "Rewriter": "characters",
        "through_text": "study",
        "world_items": "study",
        "Held": "lengths",
        "plant_lengths": "lengths",
        "pair_truth": "truth",
        "score_truth": "truth",
        "turn_truth": "truth",
        "PLANTED": "validation",
        "judged": "validation",
        "turned_verdicts": "validation",
        "JudgedWorld": "world",
        "UNIT": "world",
        "quality": "world",
        "seen": "world",
        "sums": "world",
        "worked": "world",
    },
)
