"""The hello: what an engine says of itself to the supervisor and, first of all, to every frontend.

    {"protocol": 2, "streams", "models": [{"name", "version", "digest", "facts", "golden", "verification",
                                           "golden_line", "placement_line", "example", "plan"}]}

`name` to `verification` are those of `served_model.hello_entry`; the lines and `plan` say how the model was proved,
where it runs and how it is going to be run; `example` is a request that works; `streams` says where streams are kept
and what a restart does to them. A model's place in the list is its number in the frames.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..served_model import ServedModel, hello_entry
from .frames import PROTOCOL, FrameError


def make_hello(models: Sequence[ServedModel], plans: Sequence[str], streams: str = "") -> dict[str, Any]:
    """Return the hello of an engine.

    Args:
        models: in the order of the frames.
        plans: one for each.
        streams: where they are kept, and what a restart does to them.
    """
    entries = [
        {**hello_entry(model), **_lines(model), "example": model.example, "plan": plan}
        for model, plan in zip(models, plans, strict=True)
    ]
    return {"protocol": PROTOCOL, "models": entries, "streams": streams}


def check_hello(hello: Any, models: Sequence[ServedModel]) -> None:
    """Check that an engine serves what this frontend parses and renders for.

    A restarted engine reads its bundles again, and somebody may have replaced them meanwhile.

    Raises:
        FrameError: another protocol, or other models, or another order.
    """
    if not isinstance(hello, Mapping) or hello.get("protocol") != PROTOCOL:
        raise FrameError("hello", f"protocol {PROTOCOL}", hello)
    found = [(entry["name"], entry["digest"]) for entry in hello["models"]]
    expected = [(model.name, model.digest) for model in models]
    if found != expected:
        raise FrameError("hello", f"the models {expected}", found)


def _lines(model: ServedModel) -> dict[str, str]:
    return {
        "golden_line": f"{model.golden.cases} reproduced, {model.golden.summary()}",
        "placement_line": f"{model.facts.graph}, {model.facts.placement.line()}",
    }
