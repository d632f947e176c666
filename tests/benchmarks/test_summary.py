"""The benchmarks' ratios match the figures."""

from typing import Any

from tests.benchmarks.summary import summarise


def run(contender: str, rows: int, cpu: float, **more: Any) -> dict[str, Any]:
    """Return the figures of one contender."""
    figures = {"contender": contender, "asked": rows, "rows": rows, "cpu_seconds": cpu}
    return figures | {"wall_seconds": cpu, "peak_rss_mib": 100} | more


def test_a_rate_is_marginal_and_the_start_apart() -> None:
    """The fixed cost of each process must not be part of a rate."""
    runs = [run("load_by_program", n, 4.0 + n / 50_000) for n in (300_000, 1_000_000)]
    runs += [run("load_by_batch_writer", n, 2 + n / 5_000) for n in (300_000, 10**6)]

    summary = summarise(runs)

    assert summary["rates"]["load_by_program"] == {"rate": 50_000, "fixed_seconds": 4}
    assert summary["goals"] == {
        "load to batch_writer": {"value": 10, "at_least": 8, "met": True}
    }


def test_one_size_gives_the_rate_with_the_start_in_it() -> None:
    """A quick run must also have rates."""
    summary = summarise([run("extract_by_program", 20_000, 2.0)])

    assert summary["rates"]["extract_by_program"] == {
        "rate": 10_000,
        "fixed_seconds": 0,
    }


def test_growth_of_memory_and_time_is_held_against_their_bounds() -> None:
    """More than 1.3 times the memory, or superlinear time, must not meet the goal."""
    costs = [(100_000, 10.0, 100), (300_000, 20.0, 110), (1_000_000, 66.0, 140)]
    runs = [
        run("whole_by_program", n, cpu, peak_rss_mib=mib, moving_cpu_seconds=cpu / 2)
        for n, cpu, mib in costs
    ]

    goals = summarise(runs)["goals"]

    assert goals["memory growth"] == {"value": 1.4, "at_most": 1.3, "met": False}
    assert goals["time growth"] == {"value": 1.2, "at_most": 1.15, "met": False}
    assert goals["moving rate"]["met"]


def test_what_could_not_be_had_is_left_out() -> None:
    """A contender without figures must not break the others' ratios."""
    summary = summarise(
        [
            run("load_by_program", 100, 1.0),
            {"contender": "load_by_put_df", "asked": 100, "unavailable": "no network"},
            {"contender": "load_by_batch_writer", "asked": 100, "failed": "why"},
        ]
    )

    assert (list(summary["rates"]), summary["goals"]) == (["load_by_program"], {})
