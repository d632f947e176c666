"""The checks of ``doctor``: the usual causes of failure, in order, with remedies."""

from collections.abc import Sequence

from flows.doctor import runs, source, target
from flows.doctor.diagnosis import (
    CHECK_SECONDS,
    Check,
    CheckContext,
    Diagnosis,
    diagnose,
)
from flows.stores.dynamodb.iam import Purpose


def checks_for(purpose: Purpose) -> Sequence[Check]:
    """Return the checks in order; the permissions are those of *purpose*."""
    asked = ("aws", "table", "greeting")
    described = ("aws", "description")
    of_runs = (
        Check("lease", runs.check_lease, described),
        Check("runs", runs.check_runs, ("lease",)),
        Check("Prefect", runs.check_prefect, ("lease",)),
    )
    return (
        Check("settings", source.check_settings),
        Check("PostgreSQL", source.check_postgresql, ("arguments",)),
        Check("table and columns", source.check_table, ("connection",)),
        Check("row-level security", source.check_row_security, ("sources",)),
        Check("locks", source.check_locks, ("sources",)),
        Check("clock", target.check_clock, ("aws",)),
        Check("credentials", target.check_credentials, ("aws",)),
        Check("region", target.check_region, ("aws",)),
        Check("endpoint", target.check_endpoint, ("aws",)),
        Check("DynamoDB table", target.check_table, asked),
        Check("indexes", target.check_indexes, described),
        Check("point-in-time recovery", target.check_backups, described),
        Check("throughput", target.check_throughput, described),
        *target.permission_checks(purpose),
        # The service has no permission to read the lease.
        *(of_runs if purpose != "serve" else ()),
        Check("disk", runs.check_disk, ("settings",)),
    )


def examine(
    purpose: Purpose = "migrate", *, seconds: float = CHECK_SECONDS
) -> Diagnosis:
    """Check all that a command needs under the current settings; change nothing.

    A check takes at most *seconds*. Write permissions are tested with a condition
    that no item meets.
    """
    context = CheckContext(purpose=purpose)
    return Diagnosis(tuple(diagnose(context, checks_for(purpose), seconds)))
