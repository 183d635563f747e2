"""Students: light classifiers that learn the judge's verdicts."""
