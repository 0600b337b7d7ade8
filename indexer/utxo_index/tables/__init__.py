"""The index folder: Parquet parts, supply checkpoints, the manifest that names them; how they are committed and read.

Importing this package imports neither Arrow nor numba; its modules do when they are used.
"""
