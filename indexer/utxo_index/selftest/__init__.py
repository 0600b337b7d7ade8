"""Every reduction on every backend that runs here: compared with ==, then timed.

made_up_rows.py   coins and spends: random, adversarial, as many as the main chain's
cases.py          calls of reductions, small and odd
real_rows.py      the same of an index
compare.py        the calls on all backends, and what differs
speed.py          rows a second, and the share of the memory's bandwidth
report.py         what is shown
"""
