"""The proof: every row is compared with its item."""
