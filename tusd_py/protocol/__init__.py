"""What the bytes mean: tus 1.0.0 without input or output.

Pure functions and frozen records over the standard library: no clock, no files, no logging.
A request becomes a command (`tus1`), a command and an upload become a plan (`decide`), and an
outcome becomes the head of a response (`tus1`).
"""
