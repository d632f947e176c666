"""The verdict on a reconciliation, in words: what differs, and what proves nothing."""

from typing import TYPE_CHECKING

from flows.models import CLASSES, DIFFERENT, DifferenceClass, describe_coverage
from flows.reconciliation.confidence import largest_share

if TYPE_CHECKING:
    from flows.reconciliation.report import ReconciliationReport


def explain_unproven(report: "ReconciliationReport") -> str:
    """Return why nothing is proven although nothing differs; empty if it is proven.

    Rows in quarantine are equal to nothing. A comparison of some rows is proven if
    there are none of them, or if one of them is not in quarantine. Of several entities,
    those without rows need no proof if another one has rows.
    """
    if report.unaccepted:
        return (
            f"{report.unaccepted:,} rows are in quarantine, and no proven run"
            " accepted them"
        )
    if not report.source_rows:
        accepted = report.allow_empty or report.mode == "partial"
        return "" if accepted else "the source has no rows (--allow-empty)"
    if not report.parts:
        return _without_equal_row(report)
    reasons = (
        f"{name}: {reason}"
        for name, part in report.parts.items()
        if part.source_rows and (reason := _without_equal_row(part))
    )
    return next(reasons, "")


def _without_equal_row(report: "ReconciliationReport") -> str:
    """Return why the rows of a report prove nothing; empty if they do."""
    if report.counts["explained"] == report.source_rows:
        return "all rows are in quarantine"
    proven = report.counts["matched"] or report.mode == "partial"
    return "" if proven else "no row is equal to its item"


def describe_wrong(report: "ReconciliationReport") -> str:
    """Return the counts of the classes that make the two sides different."""
    wrong = {name: report.counts[name] for name in DIFFERENT if report.counts[name]}
    return ", ".join(f"{count:,} {name}" for name, count in wrong.items())


def describe_items_left(report: "ReconciliationReport") -> str:
    """Return a clause about explained rows that have an item anyway."""
    left = report.explained_with_item
    return f" ({left:,} of them with an item, left as it is)" if left else ""


def state_verdict(report: "ReconciliationReport") -> str:
    """Return the verdict as one sentence."""
    at = f", at {report.taken}" if report.taken else ""
    if report.sample is not None:
        return f"{_state_sample(report)}{at}{_beside(report)}. A sample is no proof."
    if report.wrong:
        return f"Different: {report.wrong}{at}{_beside(report)}."
    counts, covered = report.counts, describe_coverage(report.sources)
    parts = [
        f"{counts['matched']:,} of {report.source_rows:,} rows proven equal{covered}"
    ]
    others = CLASSES[CLASSES.index(DifferenceClass.NEWER_IN_TARGET) :]
    parts += [
        f"{counts[n]:,} {n.replace('_', ' ')}{report.left if n == 'explained' else ''}"
        for n in others
        if counts[n]
    ]
    reason = f"; {report.unproven}" if report.unproven else ""
    end = f"{at}{reason}{_beside(report)}."
    return f"{report.status.capitalize()}: {', '.join(parts)}{end}"


def _state_sample(report: "ReconciliationReport") -> str:
    counts = report.counts
    wrong = sum(counts[name] for name in DIFFERENT)
    # The bound applies to the rows that were compared.
    compared = report.source_rows - counts["explained"]
    most = 100 * largest_share(wrong, compared)
    explained = f", {counts['explained']:,} explained{report.left}"
    return (
        f"Sampled: {wrong:,} of {compared:,} differ; with 95 % confidence"
        f" at most {most:.3g} % do{explained if counts['explained'] else ''}"
    )


def _beside(report: "ReconciliationReport") -> str:
    """Return a clause about a run under way, since its unwritten rows differ."""
    if not report.under_way:
        return ""
    run, since = report.under_way["run"], report.under_way["since"]
    held = f"has held the lease since {since}" if since else "holds the lease"
    return f"; run {run} {held}: reconcile again after it ends"
