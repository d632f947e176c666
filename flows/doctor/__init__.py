"""The checks of ``doctor``, and how they are made."""
