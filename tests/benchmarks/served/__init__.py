"""Two servers to compare with, as little as there can be of each."""
