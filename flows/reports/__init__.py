"""Rendering of reports, independent of any particular report."""
