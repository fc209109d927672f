"""Every key of an experiment's configuration, with its default and its meaning."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from pagelab.config.cases import Case, Exclusion, combinations, count_before_exclusion, refuse_unknown_models
from pagelab.config.expectation import parse_expectation
from pagelab.config.factors import FACTORS, FactorLists, Factors
from pagelab.config.model_specs import ModelSpec
from pagelab.config.values import ByteCount, Name, Number, Percentage, Text, ThreadCount, Whole
from pagelab.documents import dump_yaml
from pagelab.errors import quoted
from pagelab.units import GIB, MIB

MOST_TRIALS = 10_000
LEAST_FOR_INTERVAL = 3  # repetitions: of fewer no interval is known
MOST_PROMPT_BYTES = 128 * 1024 - 1  # an argument of a program, without its end (MAX_ARG_STRLEN of the kernel)
MOST_SEED = 2**32 - 2  # llama.cpp takes the seed modulo 2**32, and 2**32 - 1 for "a new one each time"


def _or_bool(true: str) -> BeforeValidator:
    """Takes true, on and yes too, as the word `true`; and false and no, as off."""
    words: dict[Any, str] = {True: true, "on": true, "yes": true, False: "off", "no": "off"}
    return BeforeValidator(lambda value: words.get(value, value) if isinstance(value, bool | str) else value)


class Section(BaseModel):
    """Base of all sections: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InferenceSettings(Section):
    """What llama.cpp is asked to do in every trial."""

    prompt: Text = Field(default="Once upon a time", min_length=1)
    tokens: Whole = Field(
        default=100, ge=2, le=2**24, description="to generate; decode is timed from the first to the last"
    )
    threads: ThreadCount | Literal["physical"] = "physical"
    context: Whole = Field(default=512, ge=8, le=2**24)
    seed: Whole = Field(default=1, ge=0, le=MOST_SEED)
    repack: bool = Field(
        default=False, description="true lets llama.cpp copy weights into anonymous memory in a layout of its own"
    )

    @field_validator("prompt")
    @classmethod
    def _fits_an_argument(cls, prompt: str) -> str:
        if (size := len(prompt.encode())) > MOST_PROMPT_BYTES:
            raise ValueError(f"has {size} bytes and llama.cpp can be given {MOST_PROMPT_BYTES}; shorten it")
        return prompt

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
        default=2 * GIB,
        ge=512 * MIB,
        description="what pin, and the first calibration, leave to the kernel and other processes",
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


class DiskSettings(Section):
    """What is known of the disk beside what is measured."""

    vendor_bytes_per_second: ByteCount | None = Field(
        default=None, ge=1, description="sequential reads as the vendor states them, to hold the results against"
    )


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

    claim: Text = Field(min_length=1, max_length=1000)
    expect: str = Field(max_length=1000)

    @model_validator(mode="after")
    def _can_be_read(self) -> "Hypothesis":
        parse_expectation(self.expect)
        return self


class Budget(Section):
    """How often a combination is repeated beyond `repetitions`."""

    interval: Percentage = Field(
        description="as 5%: repeat until the upper end of a speed's 95 % interval is at most so far above its lower"
    )
    at_most: Whole = Field(ge=LEAST_FOR_INTERVAL, description="trials of one combination, invalid ones included")


class Config(Section):
    """One experiment."""

    experiment: Name
    models: list[ModelSpec] = Field(min_length=1, max_length=32, fail_fast=True)
    factors: FactorLists = FactorLists()
    cases: list[Case] = Field(
        default=[], max_length=100, fail_fast=True, description="instead of one product, one for each case"
    )
    exclude: list[Exclusion] = Field(default=[], max_length=100, fail_fast=True)
    repetitions: Whole = Field(default=5, ge=1, description="of each combination; with `until` the least number")
    until: Budget | None = Field(default=None, description="goes on where the noise is, once all are repeated")
    order_seed: Whole = Field(default=1, ge=0, lt=2**63, description="seed of the random order within each repetition")
    trial_timeout_seconds: Number = Field(
        default=3600, gt=0, le=30 * 24 * 3600, description="a trial that takes longer is stopped, invalid"
    )
    inference: InferenceSettings = InferenceSettings()
    memory: MemorySettings = MemorySettings()
    trace: TraceSettings = TraceSettings()
    disk: DiskSettings = DiskSettings()
    hypotheses: list[Hypothesis] = Field(default=[], max_length=100, fail_fast=True)

    @model_validator(mode="after")
    def _models_differ(self) -> "Config":
        names = [model.name for model in self.models]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two models are called {quoted(name)}; give each a name of its own")
        return self

    @model_validator(mode="after")
    def _models_of_cases_are_there(self) -> "Config":
        for key, named in (("cases", self.cases), ("exclude", self.exclude)):
            refuse_unknown_models(self._model_names(), key, named)
        return self

    @model_validator(mode="after")
    def _budget_leaves_room(self) -> "Config":
        if self.until is None:
            return self
        if self.repetitions < LEAST_FOR_INTERVAL:
            raise ValueError(
                f"until needs {LEAST_FOR_INTERVAL} repetitions at least, of fewer no interval is known "
                f"(got {self.repetitions}); raise repetitions"
            )
        if self.until.at_most < self.repetitions:
            raise ValueError(
                f"until.at_most ({self.until.at_most}) is below repetitions ({self.repetitions}); "
                "raise it, or lower those"
            )
        return self

    @model_validator(mode="after")
    def _trials_can_be_counted(self) -> "Config":
        count = count_before_exclusion(self._model_names(), self.factors, self.cases)
        if count <= MOST_TRIALS:
            count = len(self.combinations())
        if count == 0:
            raise ValueError("exclude leaves no combination; name fewer values there")
        if (trials := count * self.most_repetitions) > MOST_TRIALS:
            raise ValueError(
                f"models, factors and repetitions make {trials} trials and at most {MOST_TRIALS} can be run; "
                "name fewer values, or make several experiments of it"
            )
        return self

    @model_validator(mode="after")
    def _engines_can_read_directly(self) -> "Config":
        if any(factors.weights == "direct" and factors.engine == "pin" for factors in self.combinations()):
            raise ValueError(
                "weights: direct is not known to engine pin; name engine: newest beside it, or exclude "
                "{engine: pin, weights: direct}"
            )
        return self

    @model_validator(mode="after")
    def _keepers_can_keep(self) -> "Config":
        for one in self.combinations():
            if one.strategy != "kernel" and not self.maps_weights(one):
                raise ValueError(
                    f"strategy {one.strategy} keeps pages of the model's file, and these weights are not such; exclude "
                    "{strategy: ..., weights: ...} or {strategy: ..., repack: true}"
                )
            if one.held != FACTORS["held"].usual and not FACTORS["held"].matters(one):
                raise ValueError(
                    f"held: {one.held} means nothing beside strategy {one.strategy}, which holds nothing; use `cases`"
                )
        return self

    def _model_names(self) -> list[str]:
        return [model.name for model in self.models]

    @property
    def most_repetitions(self) -> int:
        """How many trials of one combination there can be."""
        return self.repetitions if self.until is None else self.until.at_most

    def combinations(self) -> list[Factors]:
        """What the trials set: each combination of a model and values of all factors once."""
        return combinations(self._model_names(), self.factors, self.cases, self.exclude)

    def engines(self) -> list[str]:
        """The builds of llama.cpp that the trials use, the pin first."""
        used = {factors.engine for factors in self.combinations()}
        return sorted(used, key=lambda engine: engine != "pin")

    def inference_with(self, factors: Factors) -> InferenceSettings:
        """What llama.cpp is asked to do in a trial with these factors."""
        return self.inference.model_copy(update=factors.inference())

    def maps_weights(self, factors: Factors) -> bool:
        """Whether the weights of a trial are to stay pages of their file: neither anonymous nor repacked."""
        return factors.weights == "mmap" and not self.inference_with(factors).repack

    def resolved_yaml(self) -> str:
        """The configuration with every default written out."""
        return dump_yaml(self.model_dump(mode="json"))

    def sha256(self) -> str:
        """Hash of the resolved values, independent of comments, order and spelling in the file."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
