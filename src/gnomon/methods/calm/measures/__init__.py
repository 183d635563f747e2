"""From verdicts to numbers: agreement, ratings, cells, profiles, comparisons."""
