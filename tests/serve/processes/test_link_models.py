"""The models of a connection to the engine, while versions come and go."""

import pytest

from cellgate.serve.errors import UnknownModel
from cellgate.serve.processes.frames import FrameError
from cellgate.serve.processes.hello import Offer
from cellgate.serve.processes.link_models import LinkModels


@pytest.fixture
def offer(served_models):
    def make(number):
        return Offer(served=served_models["steps"], number=number, is_current=True)

    return make


def test_of_versions_that_come_and_go_none_is_kept(offer):
    models = LinkModels(max_lanes=4)
    for number in range(100):
        models.take([offer(number)])

    assert list(models._by_number) == [99]
    with pytest.raises(FrameError, match="model"):
        models.codec_of(98)


def test_a_version_that_is_gone_is_understood_until_the_last_answer_has_come(offer):
    models = LinkModels(max_lanes=4)
    models.take([offer(1)])
    codec, backlog = models.find("steps")
    backlog.came(0.0)
    models.take([])

    with pytest.raises(UnknownModel):
        models.find("steps")
    assert models.codec_of(1) is codec

    backlog.left(1.0)
    models.take([])
    with pytest.raises(FrameError):
        models.codec_of(1)
