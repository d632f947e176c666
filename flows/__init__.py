"""Move enterprises from PostgreSQL to DynamoDB, and prove that nothing was lost.

Packages and modules, lowest layer first. A module imports only modules above it in this
list; ``tool.importlinter`` in ``pyproject.toml`` has the exact rules.

Base, without stores and steps:

- ``errors``, ``models``, ``settings``: what can go wrong, what an enterprise is on
  either side, and what is configured.
- ``timing``, ``disk_space``, ``shortage``: durations and deadlines, and the limits of
  the machine.

Stores:

- ``stores.postgres``, ``stores.dynamodb``, ``stores.embedded``: the source, the target,
  and both as child processes for demo and tests.

State and presentation:

- ``state``: the database of runs.
- ``reports``: how any report is rendered.

Steps:

- ``extract``: PostgreSQL to DataFrames, by key range, under one snapshot.
- ``transform``: rows to items.
- ``prepare``: validate rows, transform, validate items.
- ``load``: items to DynamoDB, and the outcome of each.
- ``reconciliation``: rows against items, the proof.

Work over the steps:

- ``planning``: estimates of a migration.
- ``run``: one run, from preflight to report.
- ``validate``: either side against its suite.
- ``pipeline``: the functions that programs and notebooks call.
- ``doctor``: the checks of an environment.
- ``api``: the HTTP service, which uses only the stores.

Entrypoints:

- ``cli``: the ``enterprises`` command.
- ``prefect_flows``, ``prefect_tasks``, ``prefect_artifacts``, ``prefect_alerts``: what
  Prefect loads.
- ``explore``, ``demo``: functions for notebooks, and stores with sample data.

Import what you need from its module; this package imports nothing.
"""
