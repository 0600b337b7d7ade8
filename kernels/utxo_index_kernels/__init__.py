"""The reductions on an NVIDIA card: CUDA C++ in `kernels.cu`, launched through CuPy.

    probe.py          whether a card can be used here, and what to do where not
    launcher.py       every call into CuPy while computing
    device_rows.py    columns on the card: kept between queries, or streamed through it
    cuda_backend.py   the reductions, by the names of `utxo_index.backend.Backend`

Importing this loads none of them, and CuPy only when a card is asked for.
"""
