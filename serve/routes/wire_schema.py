"""The protocol's objects as schemas, for the OpenAPI page only.

Rules of this file: nothing is parsed with these records (`json_request` does that, faster and with better messages);
they describe what it accepts, and a test holds them together.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel

Parameters = dict[str, bool | int | float | str]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InputTensor(_Strict):
    """One input of a request."""

    name: str = Field(description="The sequence, `lengths`, or a state; see the model's metadata.")
    shape: list[int] = Field(description="Each at least 1; rows first.", min_length=1, max_length=8)
    datatype: str = Field(description="FP32, INT32 or INT64; in binary also FP16.")
    parameters: Parameters | None = Field(
        default=None, description="`binary_data_size`: the tensor's bytes follow the JSON, and `data` is left out."
    )
    data: list[Any] | None = Field(default=None, description="Numbers, nested to the shape or flat, row-major.")


class RequestedOutput(_Strict):
    """One output asked for by name."""

    name: str
    parameters: Parameters | None = Field(default=None, description="`binary_data`: whether it comes in binary.")


class InferenceRequest(_Strict):
    """One or several sequences, padded to the longest."""

    id: str | None = Field(default=None, description="Echoed in the answer.", max_length=1024)
    model_name: str | None = Field(default=None, description="Ignored; the path names the model.", max_length=1024)
    parameters: Parameters | None = Field(
        default=None,
        description="`priority` 1 .. 9; `timeout` in microseconds; `binary_data_output`. Of a stream, whose state the "
        "server keeps: `sequence_id` names it, `sequence_start` and `sequence_end` begin and end it, `sequence_step` "
        "numbers its requests from 0 on, so that each counts once. `sequence_state`: a state that the client carries.",
    )
    inputs: list[InputTensor] = Field(description="The sequence, and optionally lengths and states.")
    outputs: list[RequestedOutput] | None = Field(default=None, description="Left out: all but the states.")


class OutputTensor(BaseModel):
    """One output of a response."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | None = Field(default=None, description="`binary_data_size` where it follows the JSON.")
    data: list[float] | None = Field(default=None, description="Flat, in row-major order; absent where binary.")


class InferenceResponse(BaseModel):
    """The outputs, in the order asked for."""

    model_name: str
    model_version: str
    id: str | None = Field(default=None, description="Present where the request had one.")
    parameters: Parameters | None = Field(
        default=None,
        description="Of a stream: `sequence_id`, `sequence_step` where it was given, `replayed`, `sequence_state`.",
    )
    outputs: list[OutputTensor]


class StreamFacts(BaseModel):
    """What the server knows of a stream."""

    model_name: str
    sequence_id: int | str
    sequence_step: int = Field(description="Of the request that was applied last.")
    rows: int
    ended: str | None = Field(description="Null while it lives, else `end`, `expired` or `closed`.")
    idle_s: float
    state_bytes: int
    repeatable: bool = Field(description="Whether the last request can be repeated.")
    bundle_digest: str


class ErrorAnswer(BaseModel):
    """What every failure looks like."""

    error: str = Field(description="The thing, what was expected, what was found, and the remedy.")
    code: str = Field(description="A stable word for programs.")
    request_id: str | None = Field(default=None, description="With status 500: what to look for in the log.")
    expected_step: int | None = Field(
        default=None, description="With 409 and 422: the stream's next step, where it has one."
    )


class Live(BaseModel):
    """Whether the process answers."""

    live: bool


class Ready(BaseModel):
    """Whether requests are taken."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model takes requests."""

    name: str
    ready: bool


class ServerMetadata(BaseModel):
    """Name, version and protocol extensions of the server."""

    name: str
    version: str
    extensions: list[str]


class ModelList(BaseModel):
    """Names of the served models."""

    models: list[str]


class TensorMetadata(BaseModel):
    """Name, datatype and shape; a free dimension is -1."""

    name: str
    datatype: str
    shape: list[int]


class ModelStatistics(BaseModel):
    """Counts and durations of each model, as the statistics extension says them."""

    model_stats: list[dict[str, Any]]


class ModelConfig(BaseModel):
    """A model as Triton's clients see it; further fields are those of its `ModelConfig`."""

    name: str
    platform: str
    backend: str
    max_batch_size: int = Field(description="0: shapes are whole, and no row is left out of them.")
    input: list[dict[str, Any]]
    output: list[dict[str, Any]]


class IndexEntry(BaseModel):
    """A model and whether it can be asked."""

    name: str
    version: str
    state: str = Field(description="READY or UNAVAILABLE.")
    reason: str


class RepositoryIndex(RootModel[list[IndexEntry]]):
    """All models."""


class ModelMetadata(BaseModel):
    """What a model takes and returns."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: dict[str, str]
