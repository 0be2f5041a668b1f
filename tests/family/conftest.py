"""A travel agency for the tests of families."""

from collections.abc import Iterator

import pytest

from tests.undo.travel import Travel


@pytest.fixture
def travel() -> Iterator[Travel]:
    with Travel() as service:
        yield service
