"""The words of reports, commands and guides, each with its meaning.

Nothing is imported here, so that a command's help can use it.
"""

GLOSSARY = {
    "lease": "item in the table that names the one run which may write",
    "cutover marker": "item in the table which records that the application owns the"
    " items",
    "entity": "kind of item that a mapping moves from one table, such as `enterprise`;"
    " its `entity_type`",
    "mapping": "entities, their tables and keys, and what each column becomes",
    "origin": "item in the table that names source, namespace and mapping of its items",
    "moved": "origin of an extra item whose row has another key now",
    "snapshot": "state of the source at one moment, under which all rows are read",
    "partition": "range of ids that one worker moves at a time",
    "manifest": "digests of a partition's items, durable before the items are sent",
    "quarantine": "rows that cannot be items, with their reasons",
    "replay": "run over the rows of a quarantine",
    "watermark": "time from which `--since last` reads",
    "proven": "verdict of a run: the ledger balances, and nothing differs",
    "unproven": "verdict: nothing was proven, or something differs, failed or is in"
    " quarantine beyond what is allowed",
    "incomplete": "verdict of a run that stopped before its end; it can be resumed",
    "clean": "verdict of a reconciliation: nothing differs",
    "different": "verdict of a reconciliation: something is missing, extra, mismatched"
    " or malformed",
    "sampled": "verdict of a comparison of random rows, which is no proof",
    "ledger": "counts of a run; each row is in exactly one column",
    "read": "rows of the snapshot; the sum of the columns that follow",
    "written": "rows whose item the run created or brought to the row's values",
    "unchanged": "rows whose item had the row's values already",
    "kept newer": "rows whose item is newer, or was edited or deleted after the"
    " cutover; it is left as it is",
    "quarantined": "rows that are in the quarantine instead of the table",
    "failed": "rows that could not be written, even when retried",
    "matched": "rows whose item has the row's values in all attributes that are moved",
    "missing": "rows without an item",
    "extra": "items without a row",
    "mismatched": "items that differ from their row",
    "malformed": "invalid items that have no row, or that claim to be newer than it",
    "newer in target": "valid items that were changed later than their row",
    "deleted in target": "rows whose item was deleted after the cutover",
    "explained": "rows in the quarantine, whose items are not compared",
    "created in target": "items that the application created after the cutover",
    "write units": "capacity that writes consumed: a unit for each KB of an item",
    "read units": "capacity that reads consumed: a unit for each 4 KB",
    "throttles": "answers of DynamoDB that a rate was exceeded",
    "retries": "requests that were refused or not answered, and sent again",
}


def meaning_of(name: str) -> str:
    """Return what a word means, also by its name in JSON; empty if it is no term."""
    return GLOSSARY.get(name.replace("_", " "), "")
