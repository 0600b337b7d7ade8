"""Price series: read a file, validate it, map it to blocks. Prices are integers in micro-USD per BTC."""
