"""Measurements, each behind its own command; never part of the test run."""
