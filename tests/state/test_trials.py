"""Which items trials created, by the manifests of all runs in a state."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flows.models import Ledger, PartitionLedger, PartitionSpec, digest
from flows.settings import Settings
from flows.state.runs import State, fingerprint
from flows.state.tables import TRIAL
from tests.support.source_table import make_source_table
from tests.support.target_table import as_items, make_items, numbered

IDENTITY = {"source": {"host": "a"}, "target": ["T", "eu-west-1"], "account": "1"}
SOURCE = make_source_table()
IDS = numbered(4)["id"].tolist()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """Open an empty state."""
    state = State.open(Settings.isolated(state_url=f"sqlite:///{tmp_path / 's.db'}"))
    yield state
    state._database.engine.dispose()


def run(
    state: State,
    run_id: str,
    outcomes: Sequence[str],
    *,
    status: str = TRIAL,
    identity: Any = IDENTITY,
    there: Sequence[str] = (),
    names: Sequence[str] = (),
) -> None:
    """Record a run that sent the first items; without outcomes, it died before."""
    state.start_run(run_id, identity, status=status)
    if status == TRIAL:
        state.manifests.save_ids(run_id, there, "there")
    spec = PartitionSpec(run_id, 1, SOURCE)
    state.begin_partition(spec)
    items = make_items(names) if names else numbered(4)
    state.manifests.save(spec, items[: len(outcomes) or 4])
    if outcomes:
        ledger = PartitionLedger(run_id, 1, Ledger(), {}, {}, {})
        nothing = state.source.quarantine("nobody")
        state.finish_partition(ledger, nothing, outcomes)


def left(state: State) -> tuple[set[str], int]:
    """Return the ids of the items that trials alone created, and how many are not."""
    found = state.trials.created(fingerprint(IDENTITY), IDENTITY)
    return set(found.left), found.rightful


def test_only_what_a_trial_wrote_was_created_by_it(state: State) -> None:
    """An equal, a newer and a refused item were there before, or were not sent."""
    run(state, "trial", ["written", "unchanged", "kept_newer", "refused"])

    assert left(state) == ({IDS[0]}, 0)
    assert state.trials.of_migration(fingerprint(IDENTITY)) == ["trial"]
    assert state.trials.of_migration("another") == []


def test_what_a_dead_trial_may_have_sent_is_its_own(state: State) -> None:
    """Without outcomes, and after a failure, an item may be there all the same."""
    run(state, "dead", [])
    assert left(state) == (set(IDS), 0)
    run(state, "failed", ["failed"])

    assert left(state) == (set(IDS), 0)


def test_what_was_there_before_is_not_the_trials(state: State) -> None:
    """That holds whatever the trial wrote, also if an earlier one had created it."""
    run(state, "first", ["written", "written"])
    run(state, "second", ["written", "written", "written"], there=[IDS[1], IDS[2]])

    assert left(state) == ({IDS[0]}, 0)


def test_an_item_may_be_as_the_last_trial_left_it(state: State) -> None:
    """A trial that failed to write may have left it as the trial before did."""
    run(state, "first", ["written"])
    run(state, "second", ["failed"], names=["other"])
    run(state, "third", ["unchanged"], names=["other"])
    before, other = (
        digest(as_items(items)[0].values())
        for items in (numbered(1), make_items(["other"]))
    )
    (found,) = state.trials.created(fingerprint(IDENTITY), IDENTITY).left.values()

    assert found.digests == {other}
    assert before != other


@pytest.mark.parametrize("status", ["proven", "running", "repair"])
def test_what_another_run_has_sent_too_is_rightful(state: State, status: str) -> None:
    """Before or after the trial, finished or not: it may be that run's item."""
    run(state, "trial", ["written", "written"])
    run(state, "other", ["unchanged"], status=status)
    assert left(state) == ({IDS[1]}, 1)
    run(state, "dead", [], status=status)

    assert left(state) == (set(), 2)


def test_runs_into_the_same_table_count_whatever_their_source_is_called(
    state: State,
) -> None:
    """Another name of the same host makes another migration with the same items."""
    run(state, "trial", ["written", "written"])
    elsewhere = IDENTITY | {"target": ["T", "us-east-1"]}
    run(state, "elsewhere", ["written"], status="proven", identity=elsewhere)
    assert left(state) == (set(IDS[:2]), 0)
    renamed = IDENTITY | {"source": {"host": "b"}}
    run(state, "renamed", ["unchanged"], status="proven", identity=renamed)

    assert left(state) == ({IDS[1]}, 1)


def test_a_deletion_is_followed_by_its_repetition(state: State) -> None:
    """Its ids are saved before the items go: a repetition must still look for them."""
    run(state, "trial", ["written", "written"])
    state.manifests.save_ids("trial", [IDS[0]], "deleted")

    assert left(state) == (set(IDS[:2]), 0)
    known = state.manifests.known_items(fingerprint(IDENTITY), set(IDS))
    assert {key: trace.there for key, trace in known.items()} == {
        IDS[0]: False,
        IDS[1]: True,
    }


def test_what_was_there_before_is_nobodys_write(state: State) -> None:
    """For the rules of writing, an item that a trial found has no last write."""
    run(state, "trial", ["refused"], there=[IDS[0], IDS[3]])

    assert state.manifests.known_items(fingerprint(IDENTITY), set(IDS)) == {}
