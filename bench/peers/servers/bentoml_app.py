"""BentoML with adaptive batching.

A batchable API takes a list, and the dispatcher joins the lists of several requests; sequences of unequal length cannot
be one array, so that each is a text of base64 in the JSON body.
"""

import base64
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from network import BATCH, Network

# The content type is said because BentoML otherwise works out a schema for it in each answer, a quarter of its time.


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Speaker:
    """One worker, which is the server's process too."""

    def __init__(self) -> None:
        self.network = Network()

    # The window adapts itself; max_latency_ms is only the time after which a waiting request is refused.
    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=10_000)
    def predict(self, x: list[str]) -> Annotated[list[list[float]], ContentType("application/json")]:
        """Return 9 scores for each sequence."""
        scores = self.network.run([self.network.sequence(base64.b64decode(text)) for text in x])
        return scores.tolist()  # type: ignore[no-any-return]
