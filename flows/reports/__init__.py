"""How any report is shown; nothing here knows a particular report."""
