"""The hello: what an engine says of itself to the supervisor and, first of all, to every frontend.

    {"protocol": 3, "generation", "names", "models": [{"number", "path", "is_current", "golden_line", "placement_line",
                                                       "plan", ...}], "streams"}

`...` are the values of `served_model.hello_entry`; `number` stands for the model in the frames, for ever; `path` is
where its bundle lies; of each name one version is current at most, the others are there for their streams. The lines
and `plan` say how the model was proved, where it runs and how it is going to be run. `names` are those of all models
that were ever served, in their order; `streams` says where streams are kept and what a restart does to them.
`generation` grows with every change of the models: the engine says hello again, and a frontend that has taken it says
so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..models.served_model import ServedModel, hello_entry, served_model_from_hello
from .frames import PROTOCOL, FrameError


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A model that an engine offers.

    Attributes:
        served: what the protocols know of it.
        number: in the frames.
        plan: how it is going to be run, in words.
        path: of its bundle.
        is_current: what a request without a version means.
    """

    served: ServedModel
    number: int
    plan: str = ""
    path: str = ""
    is_current: bool = True

    def entry(self) -> dict[str, Any]:
        """Return what is said of it, as plain JSON values."""
        model = self.served
        return {
            **hello_entry(model),
            "number": self.number,
            "path": self.path,
            "is_current": self.is_current,
            "golden_line": model.golden.line(),
            "placement_line": f"{model.facts.graph}, {model.facts.placement.line()}",
            "plan": self.plan,
        }


def make_hello(
    offers: Sequence[Offer], streams: str = "", generation: int = 0, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the hello of an engine.

    Args:
        offers: the current ones in the order of the command line, and the others.
        streams: where they are kept, and what a restart does to them.
        generation: grows with every change.
        names: of all models that were ever served; none: those of the offers.
    """
    return {
        "protocol": PROTOCOL,
        "generation": generation,
        "names": list(dict.fromkeys(offer.served.name for offer in offers) if names is None else names),
        "models": [offer.entry() for offer in offers],
        "streams": streams,
    }


def offers_of(hello: Any) -> list[Offer]:
    """Return what an engine offers.

    Raises:
        FrameError: it speaks another protocol.
    """
    if not isinstance(hello, Mapping) or hello.get("protocol") != PROTOCOL:
        raise FrameError("hello", f"protocol {PROTOCOL}", hello)
    return [
        Offer(
            served=served_model_from_hello(entry),
            number=entry["number"],
            plan=entry["plan"],
            path=entry["path"],
            is_current=entry["is_current"],
        )
        for entry in hello["models"]
    ]
