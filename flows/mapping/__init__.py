"""The mapping: which column becomes which attribute of which entity."""

from flows.mapping.read import load_mapping, read_mapping

__all__ = ["load_mapping", "read_mapping"]
