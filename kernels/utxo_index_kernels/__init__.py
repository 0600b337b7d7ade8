"""The reductions on an NVIDIA card: CUDA C++ in `kernels.cu`, launched through CuPy.

    kernels.cu           the kernels
    probe.py             whether a card can be used here, and what to do where not
    launcher.py          every call into CuPy while computing
    device_rows.py       rows on the card: kept between queries, or streamed through it
    staging.py           … on their way there
    kept_columns.py      … and how many bytes of them stay
    height_tables.py     what rows are joined with by height
    coin_reductions.py   reductions over coins
    spend_reductions.py  reductions over the history
    cuda_backend.py      all of them, by the names of `utxo_index.backend.Backend`
    bandwidth.py         how fast the card copies

Importing this loads none of them, and CuPy only when a card is asked for.
"""
