"""The models of one connection to the engine: how their frames are packed, and how many wait for each.

Rules of this file: hot path, one lookup for a request. A number is given once, so that an answer on its way is still
understood when its model is not offered any more.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..models.model_table import unknown_model
from ..models.served_model import ServedModel
from .backlog import Backlog
from .frames import FrameError
from .hello import Offer
from .tensor_frames import ModelCodec


class LinkModel(NamedTuple):
    """A model: its frames, and what waits for it."""

    codec: ModelCodec
    backlog: Backlog


class LinkModels:
    """What an engine offers.

    Args:
        max_lanes: rows of a model that are on their way at once.
    """

    def __init__(self, max_lanes: int) -> None:
        self._max_lanes = max_lanes
        self._served: tuple[ServedModel, ...] = ()
        self._by_number: dict[int, LinkModel] = {}  # also those of which somebody waits for answers
        self._by_key: dict[str, LinkModel] = {}  # and the current ones by name

    def take(self, offers: Sequence[Offer]) -> None:
        """Know these, and no others, from now on."""
        self._served = tuple(offer.served for offer in offers)
        self._by_key = {}
        for offer in offers:
            model = self._by_number.get(offer.number)
            if model is None:
                codec = ModelCodec(offer.number, offer.served.key, offer.served.manifest.graph)
                model = self._by_number[offer.number] = LinkModel(codec, Backlog(self._max_lanes))
            self._by_key[offer.served.key] = model
            if offer.is_current:
                self._by_key[offer.served.name] = model
        offered = {offer.number for offer in offers}
        self._by_number = {
            number: model for number, model in self._by_number.items() if number in offered or model.backlog.inside
        }

    def find(self, key: str) -> LinkModel:
        """Return the model that a work names.

        Raises:
            UnknownModel: there is none.
        """
        found = self._by_key.get(key)
        if found is None:
            raise unknown_model(key, self._served)
        return found

    def codec_of(self, number: int) -> ModelCodec:
        """Return what unpacks the answers of a model.

        Raises:
            FrameError: no model was ever offered under this number.
        """
        found = self._by_number.get(number)
        if found is None:
            raise FrameError("model", f"one of {list(self._by_number)}", number)
        return found.codec
