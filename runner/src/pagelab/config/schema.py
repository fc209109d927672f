"""Every key of an experiment's configuration, with its default and its meaning."""

import hashlib
import json
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pagelab.config.expectation import parse_expectation
from pagelab.config.factors import FactorLists
from pagelab.config.model_specs import ModelSpec
from pagelab.units import GIB, MIB, parse_bytes

ByteCount = Annotated[int, BeforeValidator(parse_bytes), Field(ge=0)]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


def _or_bool(true: str) -> BeforeValidator:
    """Takes true and false too, which YAML 1.1 also reads of a bare `on` and `off`: as the word `true`, and as off."""
    return BeforeValidator(lambda value: (true if value else "off") if isinstance(value, bool) else value)


class Section(BaseModel):
    """Base of all sections: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InferenceSettings(Section):
    """What llama.cpp is asked to do in every trial."""

    prompt: str = Field(default="Once upon a time", min_length=1)
    tokens: int = Field(default=100, ge=2, description="tokens to generate; decode is timed from the first to the last")
    threads: Annotated[int, Field(ge=1)] | Literal["physical"] = "physical"
    context: int = Field(default=512, ge=8)
    seed: int = Field(default=1, ge=0)
    repack: bool = Field(
        default=False, description="true lets llama.cpp copy weights into anonymous memory in a layout of its own"
    )

    @model_validator(mode="after")
    def _fits_the_context(self) -> "InferenceSettings":
        if self.tokens >= self.context:
            raise ValueError(
                f"tokens ({self.tokens}) must be below context ({self.context}), which holds the prompt too"
            )
        return self


class MemorySettings(Section):
    """Bytes that the two kinds of pressure leave, beside the share of the weights."""

    os_reserve: ByteCount = Field(
        default=2 * GIB, ge=512 * MIB, description="pin: what is left to the kernel and other processes"
    )
    fence_reserve: bool = Field(
        default=False,
        description=(
            "pin: hold the reserve back from the model too, by a group around the locked memory and llama.cpp; without "
            "it (the notes' way) the page cache may use whatever part of the reserve the host leaves unused"
        ),
    )
    floor: ByteCount = Field(
        default=32 * MIB,
        ge=4 * MIB,
        description="page cache that a group keeps even at resident 0.0, so that the kernel can make progress",
    )
    follow_anonymous: bool = Field(
        default=True,
        description=(
            "let the limit follow what the group holds beside the weights, so that they keep exactly their share; "
            "false: the limit stays where the calibration put it"
        ),
    )
    swap_disk: Literal["same", "any"] = Field(
        default="same", description="any: swap may be on another disk than the model; zram never counts as a disk"
    )
    swap_minimum: ByteCount = Field(default=1 * GIB, description="preflight refuses to start with less swap")


class TraceSettings(Section):
    """Which traces to record where the host allows it."""

    block: Annotated[Literal["auto", "tracefs", "blktrace", "off"], _or_bool("auto")] = Field(
        default="auto", description="reads and writes of the disk; auto: tracefs, else blktrace, else none"
    )
    issues: bool = Field(default=True, description="block: when each was issued too, for latency and order of issue")
    page_cache: Annotated[Literal["auto", "faults", "entered", "all", "off"], _or_bool("all")] = Field(
        default="auto",
        description="events of the model's pages (tracefs). faults: which the process touched; entered: also each page "
        "that enters the page cache; all, or true: also each that leaves it; auto: entered where requests of the disk "
        "cannot tell which are the model's, else faults",
    )
    most_bytes: ByteCount = Field(
        default=256 * MIB,
        ge=MIB,
        description="of a trial's compressed raw files; there the page cache is traced no more, then the disk neither",
    )


class Hypothesis(Section):
    """What the experiment should show, in words and as something to compute (see pagelab.config.expectation)."""

    claim: str = Field(min_length=1)
    expect: str

    @model_validator(mode="after")
    def _can_be_read(self) -> "Hypothesis":
        parse_expectation(self.expect)
        return self


class Config(Section):
    """One experiment."""

    experiment: str = Field(pattern=NAME_PATTERN)
    models: list[ModelSpec] = Field(min_length=1)
    factors: FactorLists = FactorLists()
    repetitions: int = Field(default=5, ge=1)
    order_seed: int = Field(default=1, ge=0, description="seed of the random order within each repetition")
    trial_timeout_seconds: float = Field(
        default=3600, gt=0, description="a trial that takes longer is stopped, invalid"
    )
    inference: InferenceSettings = InferenceSettings()
    memory: MemorySettings = MemorySettings()
    trace: TraceSettings = TraceSettings()
    hypotheses: list[Hypothesis] = []

    @model_validator(mode="after")
    def _models_differ(self) -> "Config":
        names = [model.name for model in self.models]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two models are called {name!r}; give each a name of its own")
        return self

    def resolved_yaml(self) -> str:
        """The configuration with every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def sha256(self) -> str:
        """Hash of the resolved values, independent of comments, order and spelling in the file."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
