"""A judge for the tour: a rule with words in it, in the place of a language model that would cost money.

gnomon sieve fit ... --judge rule:examples/tour_judge.py:about_files
"""

import re

THINGS = {
    "a file": r"\bfiles?\b|\bfilenames?\b",
    "a folder": r"\bfolders?\b|\bdirector(?:y|ies)\b|\bsubdirector(?:y|ies)\b",
    "its place": r"\bpaths?\b|\bpathnames?\b|\bsymlinks?\b|\bsymbolic links?\b",
    "what is done to it": r"\b(?:open|close|delete|remove|rename|copy|move|create|overwrite)[sd]?\b",
    "who may": r"\bpermissions?\b|\bread-only\b|\bwritable\b|\bexecutable\b|\bowner\b|\bexists?\b",
}
"""What a text about files talks about, and the words it does so in."""


def about_files(text: str) -> bool:
    """Whether a text talks about at least two of the things above, one of them a file or a folder."""
    said = {thing for thing, words in THINGS.items() if re.search(words, text, re.IGNORECASE)}
    return len(said) >= 2 and bool(said & {"a file", "a folder"})
