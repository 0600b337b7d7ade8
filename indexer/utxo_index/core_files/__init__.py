"""Bytes of Bitcoin Core's block files to columns. Knows NumPy and numba, not Arrow.

In the order data flows: `block_folder` (files, XOR key, network) → `record_scan` (records and headers) →
`header_tree` (links, heights, work) → `undo_pairing` (which undo belongs to which block) → `best_chain` →
`range_reader` (columns of a range of heights). Hot loops are in the `*_fns` modules; every raw load is in `raw_load`.
"""
