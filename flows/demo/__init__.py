"""A migration between stores of this machine, and the days after its cutover."""
