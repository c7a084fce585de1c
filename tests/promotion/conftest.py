import pytest


@pytest.fixture(scope="session")
def project(miniature):
    return miniature
