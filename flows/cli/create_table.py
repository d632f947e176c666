"""``enterprises create-table``: create the target table if it is missing."""

from flows.cli.exits import reporting
from flows.cli.options import AllowInsecure, AsJson, Overrides
from flows.cli.output import print_json, put


def create_table(
    *,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Create the DynamoDB table, on-demand, or check it."""
    with reporting(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        from flows.settings import load_settings
        from flows.stores.dynamodb.schema import create_table as create
        from flows.stores.dynamodb.table import open_table

        table = open_table(load_settings())
        status = "created" if create(table) else "exists"
        if as_json:
            where = {"region": table.region, "endpoint": table.endpoint}
            print_json({"status": status, "table": table.name} | where)
        else:
            put(f"{status}: {table.where}")
