"""What a byte costs here, beside what it costs elsewhere: `python -m tests.benchmarks --help`."""
