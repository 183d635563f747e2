"""The miniature's page: curves, the control's verdict, other rules, and answers coloured by macro action."""
from __future__ import annotations

from gnomon.core.report import Page
from gnomon.core.study import Results


def write(page: Page, results: Results) -> None:
    """Write the sections of the page."""
