"""The units, time and cost of a migration, determined before anything is written."""
