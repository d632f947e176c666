"""A migration between embedded stores, and the days after its cutover."""
