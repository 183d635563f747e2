"""What stands around a model that is asked: cache, tape, budget, meter, limits and repeats."""
