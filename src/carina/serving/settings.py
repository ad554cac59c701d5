"""What a site sets: ports, paths, titles, destinations. Read once, at the start.

From a TOML file (``carina serve --config FILE``), from the environment (``CARINA_PORT``,
``CARINA_DICOM__AE_TITLE`` …) and from the command line, the later over the earlier. Safe by default:
this machine only, no file that others can read. Destinations come from here alone, never from a request
or from a DICOM element.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

Title = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[ -\[\]-~]{1,16}$")
]  # AE: PS3.5, 6.2


class Ladder(StrEnum):
    """The steps of a roll-out, in order; each is reached by evidence (``carina.serving.ladder``)."""

    AUDIT = "audit"
    SILENT = "silent"
    PRIORITISE = "prioritise"
    RULE_OUT = "rule-out suggestion"


class Role(StrEnum):
    """What a process of a site does. ``worker`` also keeps the house and delivers results."""

    ALL = "all"
    LISTENER = "listener"
    WORKER = "worker"
    WEB = "web"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Peer(_Part):
    """One sender: its AE title and the addresses it may come from (networks in CIDR form)."""

    ae_title: Title
    addresses: tuple[str, ...] = ("127.0.0.1", "::1")

    @field_validator("addresses")
    @classmethod
    def _are_networks(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for each in addresses:
            try:
                ipaddress.ip_network(each, strict=False)
            except ValueError:
                raise ValueError(
                    f"{each!r} is no address or network, such as 10.1.0.7 or 10.1.0.0/16"
                ) from None
        return addresses


class Tls(_Part):
    """Certificate and key of this service; ``ca`` also asks senders for a certificate of that authority."""

    certificate: Path
    key: Path
    ca: Path | None = None


class Dicom(_Part):
    """The DICOM listener. ``peers`` empty: any AE title, which is allowed on this machine only."""

    host: str = "127.0.0.1"
    port: int = Field(default=11112, ge=0, le=65535)  # 0: any free one
    ae_title: Title = "CARINA"
    peers: tuple[Peer, ...] = ()
    tls: Tls | None = None
    associations: int = Field(default=30, ge=1, le=1000)
    per_address: int = Field(default=10, ge=1, le=1000)  # associations at once from one address
    largest_pdu: int = Field(default=262144, ge=4096, le=16777216)  # bytes we take
    pdu_seconds: float = Field(default=10.0, gt=0)  # within which a PDU that began must end
    idle_seconds: float = Field(default=30.0, gt=0)
    largest_instance: int = Field(default=512 * 2**20, ge=2**20)  # bytes


class Web(_Part):
    """The page. ``hosts`` are the names it answers to (DNS rebinding); localhost always."""

    host: str = "127.0.0.1"
    port: int = Field(default=8642, ge=0, le=65535)
    hosts: tuple[str, ...] = ()
    tls: Tls | None = None
    sign_in: bool = True
    session_hours: float = Field(default=12.0, gt=0)
    largest_upload: int = Field(default=2 * 2**30, ge=2**20)  # bytes in one request


class Trust(_Part):
    """TLS towards a destination, whose certificate ``ca`` must have signed (None: the system's authorities).

    ``certificate`` and ``key`` are shown to a destination that asks who we are.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Destination(_Part):
    """Where results go.

    ``dicom`` (C-STORE) needs host, port and ae_title; ``stow`` a url; ``webhook`` a url and a secret; ``hl7``
    host and port. A refused result is tried ``tries`` times; one that finds nobody there, for
    ``patience_hours``. Before the roll-out has come to ``since`` nothing is sent.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    kind: Literal["dicom", "stow", "hl7", "webhook"]
    sends: tuple[Literal["sr", "sc"], ...] = ("sr", "sc")  # dicom and stow
    host: str | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    ae_title: Title | None = None
    url: str | None = None
    user: str | None = None
    password: SecretStr | None = None
    secret: SecretStr | None = None  # signs a webhook (HMAC-SHA-256)
    tls: Trust | None = None
    tries: int = Field(default=12, ge=1)
    patience_hours: float = Field(default=72.0, gt=0)
    since: Ladder = Ladder.PRIORITISE

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        needed = {
            "dicom": ("host", "port", "ae_title"), "stow": ("url",), "hl7": ("host", "port"),
            "webhook": ("url", "secret"),
        }[self.kind]  # fmt: skip
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{self.name!r} of kind {self.kind} needs {' and '.join(missing)}")
        if "url" in needed:
            url = urlsplit(self.url or "")
            if url.scheme not in ("http", "https") or not url.hostname:
                raise ValueError(f"{self.name!r}: {self.url!r} is no http or https address")
        return self


class Waits(_Part):
    """The longest anybody waits, in minutes, before a study rises; and how many unflagged are read twice."""

    now: float = Field(default=15.0, gt=0)
    soon: float = Field(default=60.0, gt=0)
    not_analysed: float = Field(default=120.0, gt=0)
    not_flagged: float = Field(default=1440.0, gt=0)
    second_reading: float = Field(default=0.02, ge=0, le=1)  # share of unflagged studies


class RollOut(_Part):
    """What each step of the roll-out asks for, and when missed cases are too many (see ``ladder``)."""

    audit_sensitivity: float = Field(default=0.8, gt=0, lt=1)  # lower limit, on films that were read here
    silent_days: float = Field(default=14.0, ge=0)
    silent_studies: int = Field(default=200, ge=0)
    most_not_analysed: float = Field(default=0.2, ge=0, le=1)
    prioritise_days: float = Field(default=28.0, ge=0)
    prioritise_studies: int = Field(default=500, ge=0)
    least_npv: float = Field(default=0.98, gt=0, lt=1)  # lower limit, of unflagged studies
    sensitivity: float | None = Field(default=None, gt=0, lt=1)  # promised; None: of the operating point
    false_alarm: float = Field(default=0.01, gt=0, lt=1)  # chance that missed cases alarm without cause, ever


class Settings(BaseSettings):
    """Everything a site sets. ``data`` holds the archive, and the database unless ``database`` is set."""

    model_config = SettingsConfigDict(
        env_prefix="CARINA_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data: Path = Path("carina-data")
    database: SecretStr | None = None
    model: Path | None = None
    site: str | None = None  # whose operating point of the bundle is used
    target_sensitivity: float | None = Field(default=None, gt=0, lt=1)
    suggest_clear: float | None = Field(default=None, gt=0, lt=1)  # target of "likely clear"; last step only
    urgent: tuple[str, ...] = ()  # classes that are flagged "now"; none named: Carina's own rules
    dicom: Dicom = Dicom()
    web: Web = Web()
    destinations: tuple[Destination, ...] = ()
    waits: Waits = Waits()
    roll_out: RollOut = RollOut()
    quiet_seconds: float = Field(default=10.0, ge=0)  # after which a study counts as complete
    tries: int = Field(default=2, ge=1)  # of scoring one film
    heat_maps: bool = False  # shown on request and put into results only where a site allows it
    keep_days: float | None = Field(default=None, gt=0)  # pixels of read studies; None: for ever
    free_bytes: int = Field(default=2 * 2**30, ge=0)  # below which nothing more is taken
    threads: int | None = Field(default=None, ge=1)

    @field_validator("destinations")
    @classmethod
    def _have_names_of_their_own(cls, given: tuple[Destination, ...]) -> tuple[Destination, ...]:
        twice = [name for name, times in Counter(each.name for each in given).items() if times > 1]
        if twice:
            raise ValueError(f"two destinations are called {twice[0]!r}; results are kept by that name")
        return given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The command line over the environment over the file; no ``.env``."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def database_url(self) -> str:
        """SQLAlchemy's URL of the database."""
        if self.database is not None:
            return self.database.get_secret_value()
        return f"sqlite:///{(self.data / 'carina.sqlite').resolve()}"

    @property
    def archive(self) -> Path:
        """The folder of the stored films."""
        return self.data / "archive"


def read_settings(config: Path | None = None, **given: object) -> Settings:
    """The settings of ``config`` (TOML), the environment and ``given``, which are names of ``Settings``."""

    class _Read(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    return _Read(**given)  # type: ignore[arg-type]


def is_loopback(host: str) -> bool:
    """Whether ``host`` is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
