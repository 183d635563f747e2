"""Non-negative factorisation that finds its own number of topics: NMFk, SPLIT, HNMFk, RESCALk."""
