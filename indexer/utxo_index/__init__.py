"""Exact cost-basis history of every Bitcoin coin, straight from Bitcoin Core's own files."""

__version__ = "0.1.0"
