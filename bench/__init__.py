"""Speed and memory, measured on a chain of any size that `generate_chain` makes. `python -m bench` runs them all."""
