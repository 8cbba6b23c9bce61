"""A black-box conformance suite for tus 1.0 servers."""

__version__ = "0.1.0"
