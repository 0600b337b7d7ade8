"""CUDA twins of the reductions; empty until they come."""
