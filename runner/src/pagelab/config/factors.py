"""The factors of an experiment, one class each: its values, how it is applied, and how it is named.

A trial takes one value of each factor. To add one, write its class and a field of `Factors`: the configuration, the
plan, `--only`, hypotheses, preflight, labels and tables follow from that.
"""

from collections.abc import Collection, Iterable, Mapping
from math import inf
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from pagelab.config.values import Number, ThreadCount, Whole
from pagelab.errors import quoted
from pagelab.host.cgroup import Group
from pagelab.host.journal import selected
from pagelab.host.kernel_setting import KernelSetting
from pagelab.host.procfs import read_text
from pagelab.host.storage import Disk

HUGE_PAGES_FILE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SWAPPINESS_FILE = Path("/proc/sys/vm/swappiness")
MOST_KIB = 1024 * 1024  # of readahead


class FoundSetting(NamedTuple):
    """What preflight says of a setting that a trial would leave as it is: its name, its value, and why it matters."""

    name: str
    value: str | None
    why: str


class Factor:
    """Something that a trial sets; subclasses say how.

    `default` are the values of a configuration that does not name the factor. `usual` is the value that labels leave
    out, because it changes nothing. `calibrated` says that the factor changes what llama.cpp keeps in RAM beside the
    weights, so that each of its values needs a calibration.
    """

    help: ClassVar[str]
    default: ClassVar[tuple[Any, ...]] = ("default",)
    usual: ClassVar[Any] = "default"
    calibrated: ClassVar[bool] = False

    def settings(self, value: Any, disk: Disk, group: Group) -> Iterable[KernelSetting]:
        """The kernel settings of a trial whose model is on `disk` and whose processes are in `group`."""
        return ()

    def inference(self, value: Any) -> dict[str, Any]:
        """The keys of `inference` in the configuration that it replaces."""
        return {}

    def found(self, disk: Disk | None) -> FoundSetting | None:
        """What the host has now, None where the factor is no setting of the host; the models may be on no disk."""
        return None

    def words(self, name: str, value: Any) -> str:
        """A value in words."""
        return f"{name.replace('_', ' ')} {as_text(value)}"

    def matters(self, factors: "Factors") -> bool:
        """Whether its value changes anything beside the other ones."""
        return True


def as_text(value: Any) -> str:
    """A value as a configuration has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class ResidentShare(Factor):
    """How much of the weights may stay in RAM; pressure makes it so."""

    help = "share of the weights that may stay in RAM; 1.0 is the baseline without pressure"
    default = (1.0, 0.5, 0.0)
    usual = None

    def words(self, name: str, value: Any) -> str:
        return f"{name} {value:g}"


class Pressure(Factor):
    """What keeps the rest of the weights out of RAM (pagelab.pressure)."""

    help = "cgroup: memory limit of a group; pin: locked dummy memory"
    default = ("cgroup",)
    usual = None

    def words(self, name: str, value: Any) -> str:
        return str(value)


class Weights(Factor):
    """Whether the weights are pages of their file or anonymous memory, and how they come there."""

    help = (
        "anonymous: read into memory of their own, which goes to swap; direct: the same by direct I/O (engine newest)"
    )
    default = ("mmap",)
    usual = "mmap"


class Readahead(Factor):
    """The largest readahead window of the model's disk, or of its file system where that has its own (btrfs)."""

    help = "the largest readahead window of the model's disk in KiB"

    def settings(self, value: Any, disk: Disk, group: Group) -> Iterable[KernelSetting]:
        return [] if value == "default" else [KernelSetting(disk.readahead_file, str(value))]

    def found(self, disk: Disk | None) -> FoundSetting:
        kib = disk.readahead_kib() if disk else None
        found = f"{kib} KiB on {disk.readahead_owner}" if disk and kib is not None else None
        return FoundSetting("readahead", found, "it dominates mapped reads")

    def words(self, name: str, value: Any) -> str:
        return f"readahead {value}" if value == "default" else f"readahead {value} KiB"


class Swappiness(Factor):
    """How the kernel weighs anonymous memory against the page cache."""

    help = "how willingly anonymous memory is swapped out, against dropping page cache; 0 to 200"

    def settings(self, value: Any, disk: Disk, group: Group) -> Iterable[KernelSetting]:
        """The group's own where the kernel has it (cgroup v1), else the host's.

        vm.swappiness does not reach into v1 groups, which copy it when they are made.
        """
        return [] if value == "default" else [KernelSetting(group.swappiness_file or SWAPPINESS_FILE, str(value))]

    def found(self, disk: Disk | None) -> FoundSetting:
        return FoundSetting(
            "swappiness", read_text(SWAPPINESS_FILE), "it balances the page cache against anonymous memory"
        )


class HugePages(Factor):
    """Transparent huge pages of anonymous memory."""

    help = "mode of transparent huge pages"
    calibrated = True

    def settings(self, value: Any, disk: Disk, group: Group) -> Iterable[KernelSetting]:
        return [] if value == "default" else [KernelSetting(HUGE_PAGES_FILE, value)]

    def found(self, disk: Disk | None) -> FoundSetting:
        return FoundSetting(
            "huge pages", selected(read_text(HUGE_PAGES_FILE)), "they change how much one fault brings in"
        )


class Strategy(Factor):
    """Who decides which pages stay in RAM: the kernel, or a keeper beside llama.cpp (pagelab.keeper)."""

    help = (
        "who decides what stays in RAM: the kernel, or a keeper that holds a part of the weights, lets go of what was "
        "used (behind), and reads ahead what comes next (stream)"
    )
    default = ("kernel",)
    usual = "kernel"


class Held(Factor):
    """How much of the weights a keeper holds, where the strategy has it hold."""

    help = "share of the weights that a strategy with hold locks; auto: all that fits beside what is being read"
    default = ("auto",)
    usual = "auto"

    def matters(self, factors: "Factors") -> bool:
        return "hold" in factors.strategy.split("+")


class Engine(Factor):
    """Which build of llama.cpp runs; each keeps what it likes beside the weights."""

    help = "which llama.cpp: pin, the commit that results are comparable at, or newest, a later one"
    default = ("pin",)
    usual = "pin"
    calibrated = True


class Threads(Factor):
    """How many threads llama.cpp computes with; each has memory of its own."""

    help = "threads of llama.cpp: numbers, physical (one a core), or default for what inference.threads says"
    calibrated = True

    def inference(self, value: Any) -> dict[str, Any]:
        return {} if value == "default" else {"threads": value}


class Repack(Factor):
    """Whether llama.cpp copies weights into anonymous memory in a layout of its own.

    What is copied are the weights and not what llama.cpp keeps beside them, so calibrations measure memory without it,
    and the time of a token with it.
    """

    help = "true lets llama.cpp copy weights into anonymous memory; default stands for what inference.repack says"
    calibrated = True

    def inference(self, value: Any) -> dict[str, Any]:
        return {} if value == "default" else {"repack": value}


class Factors(BaseModel):
    """What one trial sets: the model, and a value of each factor; the usual one where it is not named."""

    model_config = ConfigDict(extra="forbid")

    model: str
    resident: Annotated[Number, Field(ge=0, le=1), ResidentShare()]
    pressure: Annotated[Literal["cgroup", "pin"], Pressure()]
    weights: Annotated[Literal["mmap", "anonymous", "direct"], Weights()] = "mmap"
    readahead_kib: Annotated[Annotated[Whole, Field(ge=0, le=MOST_KIB)] | Literal["default"], Readahead()] = "default"
    swappiness: Annotated[Annotated[Whole, Field(ge=0, le=200)] | Literal["default"], Swappiness()] = "default"
    huge_pages: Annotated[Literal["default", "always", "madvise", "never"], HugePages()] = "default"
    strategy: Annotated[Literal["kernel", "behind", "hold", "hold+behind", "hold+behind+stream"], Strategy()] = "kernel"
    held: Annotated[Annotated[Number, Field(ge=0, le=1)] | Literal["auto"], Held()] = "auto"
    engine: Annotated[Literal["pin", "newest"], Engine()] = "pin"
    threads: Annotated[ThreadCount | Literal["physical", "default"], Threads()] = "default"
    repack: Annotated[bool | Literal["default"], Repack()] = "default"

    def document(self) -> dict[str, Any]:
        """The values as plain JSON."""
        return self.model_dump(mode="json")

    @property
    def limited(self) -> bool:
        """Whether there is pressure; resident 1.0 is the baseline without any."""
        return self.resident < 1.0

    def settings(self, disk: Disk, group: Group) -> list[KernelSetting]:
        """The kernel settings of a trial with these values."""
        return [one for name, factor in FACTORS.items() for one in factor.settings(getattr(self, name), disk, group)]

    def inference(self) -> dict[str, Any]:
        """The keys of `inference` in the configuration that these values replace."""
        return {
            key: new for name, factor in FACTORS.items() for key, new in factor.inference(getattr(self, name)).items()
        }

    def calibrated(self) -> "Factors":
        """The same model with only those values that need a calibration of their own, without pressure."""
        usual = {name: factor.default[0] if factor.usual is None else factor.usual for name, factor in FACTORS.items()}
        kept = {name: getattr(self, name) for name, factor in FACTORS.items() if factor.calibrated}
        return self.model_copy(update=usual | {"resident": 1.0} | kept)

    def label(self, without: Collection[str] = ()) -> str:
        """The model, and each value that is not the usual one, in words."""
        values = {name: getattr(self, name) for name in FACTORS if name not in without}
        words = [] if "model" in without else [self.model]
        words += [FACTORS[name].words(name, value) for name, value in values.items() if value != FACTORS[name].usual]
        return ", ".join(words)


def _factor_of(metadata: Iterable[Any]) -> Factor | None:
    return next((one for one in metadata if isinstance(one, Factor)), None)


FACTORS: dict[str, Factor] = {
    name: factor for name, field in Factors.model_fields.items() if (factor := _factor_of(field.metadata)) is not None
}
"""Each factor by its name, in the order of the configuration."""


def unknown_factor(name: str) -> str:
    """What is said of a name that is no factor's."""
    return f"unknown factor {quoted(name)}; valid factors: {', '.join(Factors.model_fields)}"


def _lists() -> Any:
    """A model that has for each factor a list of its values."""
    values = get_type_hints(Factors, include_extras=True)
    fields: dict[str, Any] = {
        name: (
            GenericAlias(list, (values[name],)),
            Field(list(factor.default), min_length=1, fail_fast=True, description=factor.help),
        )
        for name, factor in FACTORS.items()
    }
    return create_model("FactorLists", __config__=ConfigDict(extra="forbid", frozen=True), **fields)


_Lists = _lists()


class FactorLists(_Lists):  # type: ignore[misc,valid-type] # what it has follows from the factors
    """The trials are the product of these lists; a trial takes one value of each."""

    @model_validator(mode="after")
    def _no_repeats(self) -> "FactorLists":
        refuse_repeats({name: getattr(self, name) for name in FACTORS})
        return self


def key_of(factors: Factors, *without: str) -> tuple[str, ...]:
    """A key that is equal for factors that are equal but for some."""
    return tuple(str(value) for name, value in factors if name not in without)


def order_of(factors: Factors, *without: str) -> tuple[tuple[float, str], ...]:
    """What factors are sorted by, but for some: numbers by size, and after them words."""
    values = [value for name, value in factors if name not in without]
    return tuple((float(value), "") if isinstance(value, int | float) else (inf, str(value)) for value in values)


def refuse_repeats(lists: Mapping[str, list[Any]]) -> None:
    """Raise ValueError where a list of values, by the name of its factor, has one of them twice."""
    for name, values in lists.items():
        if len(set(values)) != len(values):
            raise ValueError(f"{name} names a value twice; use repetitions to run one again")
