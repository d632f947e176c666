"""One run, from preflight to report."""
