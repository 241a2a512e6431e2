"""
One company with its PKI, and a service that judges for it, for each file that asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import partners, real_service


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[partners.Company]:
    with partners.company(tmp_path_factory.mktemp("co")) as made:
        yield made


@pytest.fixture(scope="module")
def service(company: partners.Company) -> Iterator[real_service.Service]:
    with real_service.running(company.configure()) as running:
        yield running
        assert [] == running.failures()
