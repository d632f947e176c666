"""The database of runs: partitions, manifests, quarantine and reconciliations."""
