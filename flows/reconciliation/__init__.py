"""Rows against items: the proof."""
