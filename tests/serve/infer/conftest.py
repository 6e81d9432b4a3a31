"""Signatures that requests are checked against."""

import pytest


@pytest.fixture
def steps(make_network):
    return make_network("steps").signature


@pytest.fixture
def tokens(make_network):
    return make_network("tokens").signature
