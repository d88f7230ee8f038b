"""Requests and answers about models, in the shape of Ollama's API; what Ollama has not is added to it."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from mecha.daemon.status_api import ModelAnswer

_ONE_NAME: JsonDict = {"anyOf": [{"required": ["model"]}, {"required": ["name"]}]}


class Named(BaseModel):
    """A request about one model; other keys are passed over, as Ollama does."""

    model_config = ConfigDict(strict=True, extra="ignore", json_schema_extra=_ONE_NAME)

    model: str = Field(default="", min_length=1, description="Name of the model.")
    name: str = Field(default="", min_length=1, description="The same, as older clients call it.")

    @model_validator(mode="after")
    def _one_is_there(self) -> Self:
        if not (self.model or self.name):
            raise ValueError('got no "model"; expected the name of one')
        return self


def _whole(value: object) -> object:
    """JSON has one kind of number: 5.0 is 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class PullRequest(Named):
    """What to pull, and how. All but `model`, `name`, `stream` and `insecure` are as of `mecha models pull`."""

    stream: bool = Field(default=True, description="Answer with a line for each step, or once, when it is done.")
    insecure: bool = Field(default=False, description="Has no effect.")
    force: bool = False
    revision: str | None = None
    offline: bool = False
    frozen: bool = False
    quantize: bool = True
    method: Literal["dynamic_int8", "static_int8", "auto"] | None = None
    limit_bytes_per_s: Annotated[int | None, BeforeValidator(_whole)] = Field(default=None, ge=1)
    settings: str | None = Field(
        default=None,
        description="Digest of what the caller's environment says of the Hub; 412 where the daemon's differs.",
    )


class Details(BaseModel):
    """What kind of model it is.

    `parameter_size` follows from the size of the file; `quantization_level` is FP32 or INT8.
    """

    parent_model: str = ""
    format: str = "onnx"
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class LocalModel(BaseModel):
    """A model that is published. `size` is that of all its files, `digest` that of its manifest."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class LocalModels(BaseModel):
    """All models that are published."""

    models: list[LocalModel]


class LoadedModel(BaseModel):
    """A model that a node runs; `size` is that of the file it runs. It stays loaded until the node ends."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int = 0
    precision: str
    node: str


class LoadedModels(BaseModel):
    """All models that nodes run."""

    models: list[LoadedModel]


class ShownModel(BaseModel):
    """One model that is published."""

    license: str
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class Version(BaseModel):
    """The version of mecha."""

    version: str


class ModelLine(BaseModel):
    """A line of `mecha models list`, with what the gate measured on this device and what the daemon does about it.

    `fp32_ms` and `int8_ms` are of the gate's middle round; `status` is null where the daemon has nothing to do with it.
    """

    name: str
    state: Literal["available", "ready", "fp32-only", "broken"]
    fp32_bytes: int | None
    int8_bytes: int | None
    method: str | None
    verdict: str | None
    source: str
    licence: str
    description: str
    speedup: float | None
    agreement: float | None
    fp32_ms: float | None
    int8_ms: float | None
    provisional: bool
    status: ModelAnswer | None


class Models(BaseModel):
    """All models; `fault` says why the catalog cannot be read, and then only those are here that are published."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    models: list[ModelLine]
    fault: str
