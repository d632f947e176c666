"""Move enterprises from PostgreSQL to DynamoDB, and prove that nothing was lost.

The modules, in the order in which data passes through them:

- ``settings``, ``errors``, ``disk``, ``models``, ``stamps``: what is configured, what
  can go wrong, what an enterprise is on either side, and which is newer.
- ``stores``: PostgreSQL, DynamoDB, and both embedded for demo and tests.
- ``extract``, ``transform``, ``load``, ``reconcile``: one step each.
- ``verdict``, ``history``: what a reconciliation found, and what those before it did.
- ``manifest``, ``state_tables``, ``state``, ``report``: what a run remembers and shows.
- ``opening``, ``partition``, ``run``, ``settle``: both stores checked before a run, a
  part of it, its beginning, and its end.
- ``workers``, ``cluster``: who does the parts, on this machine or on many.
- ``units``, ``measure``, ``prices``, ``planning``: what a run would take and cost.
- ``permissions``, ``doctor``: what AWS must allow, and whether all is as it must be.
- ``pipeline``: the driver over these; ``demo``: the same on embedded stores.
- ``notebooks``, ``rehearsal``: what the notebooks call beside these.
- ``migrate``, ``artifacts``, ``alert``: the Prefect flows over that driver, what the
  pages of their runs show, and who is called.
- ``api``: the HTTP service, which rests on the stores alone.
- ``cli``, ``options``, ``console``: the ``enterprises`` command and what it says.

Import what you need from its module; this package imports nothing.
"""
