"""Some of the kills of `tests.client_kills`, which does many."""

import pytest

from tests import client_kills


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("kind", ["extraction", "file"])
@pytest.mark.parametrize("whose", ["clients", "servers"])
def test_a_kill_loses_nothing_and_makes_nothing_wrong(kind, whose):
    outcome = client_kills.run(3, 7, kind=kind, whose=whose, jobs=2)
    assert (outcome.lost, outcome.wrong) == ([], [])
    assert outcome.met
