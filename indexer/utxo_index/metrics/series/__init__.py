"""The metrics of a moment, each a function of a `Point` in the file of its name.

`NAME(point)` returns an exact integer or fraction in the unit that `SERIES` in `metrics/__init__.py` states, or
`Undefined` with the reason. The same function serves `utxo-index series`, where points come from a sweep over the
history, and the command of that name, where the point comes from the coins alive at a block.
"""
