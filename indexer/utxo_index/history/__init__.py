"""One pass over `spends`, and the state of the coins at every day or block that follows from it."""
