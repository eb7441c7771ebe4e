from __future__ import annotations

import pytest

from tests.unit.nodeagent.station import Station


@pytest.fixture
async def station() -> Station:
    station = Station()
    await station.install()
    return station
