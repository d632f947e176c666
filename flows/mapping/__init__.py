"""The mapping: which column becomes which attribute of which entity."""
