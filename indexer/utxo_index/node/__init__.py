"""Where a Bitcoin Core node keeps its files, found as Core itself finds them."""
