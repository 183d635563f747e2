"""Measures of verdicts: agreement, ratings, cells, profiles, comparisons."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "UNPARSED": "agreement",
        "flips_of": "agreement",
        "measure": "agreement",
        "preference": "agreement",
        "proportion": "agreement",
        "smaller_p": "agreement",
        "measure_rotations": "cells",
        "slot_effect": "cells",
        "LengthModel": "lengths",
        "Pairs": "lengths",
        "SET_OF": "profile",
        "items_needed": "profile",
        "power_of": "profile",
        "smallest_effect": "profile",
        "word_of": "profile",
        "error_rate": "ratings",
        "self_effect": "ratings",
        "z_scores": "ratings",
    },
)
