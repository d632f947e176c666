"""Move enterprises from PostgreSQL to DynamoDB, and prove that nothing was lost.

The modules, in the order in which data passes through them:

- ``settings``, ``errors``, ``models``: what is configured, what can go wrong, and
  what an enterprise is on either side.
- ``stores``: PostgreSQL, DynamoDB, and both embedded for demo and tests.
- ``extract``, ``transform``, ``load``, ``reconcile``: one step each.
- ``state``, ``report``: what a run remembers and what it shows.
- ``pipeline``: the driver that puts the steps through once.
- ``migrate``: the Prefect flows over that driver.
- ``cli``: the ``enterprises`` command.

Import what you need from its module; this package imports nothing.
"""
