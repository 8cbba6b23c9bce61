"""Random clients against the real server for as long as it is asked: `python -m tests.soak`."""
