"""What c is used for: the best of N, samples on demand, and samples that are given up; live and as replays of a pool."""
