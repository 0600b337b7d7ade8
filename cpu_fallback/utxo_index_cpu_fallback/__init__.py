"""The reductions on the CPU: `numpy_backend` is their plain and exact form."""
