"""Every exception Carina raises on purpose, and nothing else.

    CarinaError
    ├── ImageError            one file cannot be used as a film
    │   ├── NotAnImage            its content is no image format we read
    │   ├── UnreadableImage       it claims a format, and its content contradicts the claim
    │   ├── TruncatedImage        its pixel stream ends early: half of a film is not a film
    │   ├── ImageTooLarge         more pixels (or inflated bytes) than are read
    │   ├── MultiFrame            several frames: a cine or a volume, not a film
    │   ├── NoPixels              a DICOM file without pixel data
    │   ├── NotAFilm              a picture that Carina drew over a film
    │   └── UnsupportedImage      a valid file of a kind that is not read (codec, bit depth, kind of object)
    ├── DataError             folders, labels, catalogue
    │   ├── SourceError           a folder is not what it was said to be
    │   ├── LabelError            a label map is wrong or does not cover the labels found
    │   ├── SplitError            the data cannot carry the split asked for
    │   ├── CatalogueError        a catalogue is missing, incomplete or damaged
    │   ├── CacheError            a prepared film cannot be had
    │   ├── DecisionError         a file does not hold a person's decisions
    │   ├── FetchError            a public set cannot be had whole, or must be asked for
    │   └── RemoteError           a store of films does not answer
    ├── RecipeError           a recipe key is unknown, wrong or contradicts another
    ├── WeightsError          weights do not fit the network they were meant for
    ├── RunError              a run folder cannot be started, resumed or finished
    ├── ExportError           the exported network is not the trained one
    ├── BundleError           a bundle is missing, incomplete or does not match its manifest
    ├── ClaimError            a claim the data cannot carry, or one that makes no sense
    ├── RulesError            a department's priority rules cannot be used
    ├── OutputError           a result cannot be written
    ├── StoreError            an instance that was sent cannot be taken in
    │   ├── StoreFull             no room: send it again later
    │   ├── StoreFault            disk or database failed; send it again later
    │   ├── NotDicom              it is no DICOM instance
    │   ├── NotStored             a DICOM object of a kind that is not taken
    │   └── InstanceTooLarge      more bytes than one instance may have
    ├── RequestError          a request breaks the form it claims to have
    ├── ListenerError         the DICOM port cannot be opened, or would be open to anybody
    ├── ServiceError          the service cannot be started as it was asked to
    ├── DatabaseError         the database cannot be used as it is
    ├── PeopleError           a user or a key cannot be made, changed or found
    ├── SignInRefused         the name and the password were not taken, or not looked at
    ├── DeliveryError         a result cannot be built or sent
    │   ├── Unreachable           nobody answers there: the same result is sent later
    │   └── Rejected              somebody answered, and did not take it
    ├── StepError             the roll-out may not go to that step yet
    ├── ReportError           a table of reports cannot be read
    ├── DecoderError          no process can be started that decodes films
    ├── ClusterError          a cluster cannot be reached, or cannot score what it was given
    └── MissingExtra          an optional part of Carina is not installed

A message names the thing, what is wrong with it, and the cure, in one line:
``IM0007.dcm: the JPEG stream ends early; fetch the file again from its source``.
The command line prints ``CarinaError`` as one line and exits with 1; anything else is our bug and
keeps its traceback.
"""

from __future__ import annotations

from typing import ClassVar


class CarinaError(Exception):
    """Root of everything Carina raises on purpose."""


class ImageError(CarinaError):
    """One file cannot be used as a film.

    ``name`` is the file as the user knows it, ``fault`` what is wrong, ``cure`` what a person can do.
    ``code`` is stable and machine-readable; it stands in score tables and metrics.
    """

    code: ClassVar[str] = "image"

    def __init__(self, name: object, fault: str, cure: str) -> None:
        self.name, self.fault, self.cure = str(name), fault, cure
        super().__init__(f"{self.name}: {fault}; {cure}")

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str, str]]:
        return type(self), (self.name, self.fault, self.cure)  # crosses process borders whole

    @property
    def reason(self) -> str:
        """The message without the file's name: what a score table says beside the name."""
        return f"{self.code}: {self.fault}; {self.cure}"


class NotAnImage(ImageError):
    """Its content is no image format we read."""

    code = "not_an_image"


class UnreadableImage(ImageError):
    """It claims a format, and its content contradicts the claim."""

    code = "unreadable"


class TruncatedImage(ImageError):
    """Its pixel stream ends early."""

    code = "truncated"


class ImageTooLarge(ImageError):
    """More pixels, or more inflated bytes, than are read."""

    code = "too_large"


class MultiFrame(ImageError):
    """Several frames: a cine or a volume, not a film."""

    code = "multi_frame"


class NoPixels(ImageError):
    """A DICOM file without pixel data."""

    code = "no_pixels"


class NotAFilm(ImageError):
    """A picture that Carina drew over a film, such as a heat map."""

    code = "not_a_film"


class UnsupportedImage(ImageError):
    """A valid file of a kind that is not read."""

    code = "unsupported"


class DataError(CarinaError):
    """Folders, labels, catalogue."""


class SourceError(DataError):
    """A folder is not what it was said to be."""


class LabelError(DataError):
    """A label map is wrong or does not cover the labels found."""


class SplitError(DataError):
    """The data cannot carry the split asked for."""


class CatalogueError(DataError):
    """A catalogue is missing, incomplete or damaged."""


class CacheError(DataError):
    """A prepared film cannot be had."""


class DecisionError(DataError):
    """A file does not hold a person's decisions."""


class FetchError(DataError):
    """A public set cannot be had whole, or must be asked for."""


class RemoteError(DataError):
    """A store of films does not answer."""


class RecipeError(CarinaError):
    """A recipe key is unknown, wrong or contradicts another."""


class WeightsError(CarinaError):
    """Weights do not fit the network they were meant for."""


class RunError(CarinaError):
    """A run folder cannot be started, resumed or finished."""


class ExportError(CarinaError):
    """The exported network is not the trained one."""


class BundleError(CarinaError):
    """A bundle is missing, incomplete or does not match its manifest."""


class ClaimError(CarinaError):
    """A claim the data cannot carry, or one that makes no sense."""


class RulesError(CarinaError):
    """A department's priority rules cannot be used."""


class OutputError(CarinaError):
    """A result cannot be written."""


class StoreError(CarinaError):
    """An instance that was sent cannot be taken in.

    ``status`` is the status of a C-STORE response and the failure reason of a STOW response (PS3.4 B.2.3,
    PS3.18 table I.2-2), ``http`` the status of a web request that holds nothing else.
    """

    status: ClassVar[int] = 0x0110
    http: ClassVar[int] = 500


class StoreFull(StoreError):
    """No room: the sender keeps it and sends it again."""

    status, http = 0xA700, 507


class StoreFault(StoreError):
    """Disk or database failed: the sender keeps it and sends it again."""


class NotDicom(StoreError):
    """It is no DICOM instance, or one that cannot be told from others."""

    status, http = 0xC000, 415


class NotStored(StoreError):
    """A DICOM object of a kind that is not taken: a report, a document, a list of files."""

    status, http = 0x0122, 415


class InstanceTooLarge(StoreError):
    """More bytes than one instance may have."""

    status, http = 0xC001, 413


class RequestError(CarinaError):
    """A request breaks the form it claims to have; a web server answers 400."""


class ListenerError(CarinaError):
    """The DICOM port cannot be opened, or would be open to anybody."""


class ServiceError(CarinaError):
    """The service cannot be started as it was asked to: open to anybody, a port that is taken."""


class DatabaseError(CarinaError):
    """The database cannot be used as it is: of a newer version, not yet made, out of reach."""


class PeopleError(CarinaError):
    """A user or a key cannot be made, changed or found."""


class SignInRefused(CarinaError):
    """The name and the password were not taken, or not looked at. ``wait`` is in seconds."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        self.wait = wait
        super().__init__(message)


class DeliveryError(CarinaError):
    """A result cannot be built or sent."""


class Unreachable(DeliveryError):
    """Nobody answers there: the same result is sent later."""


class Rejected(DeliveryError):
    """Somebody answered, and did not take it."""


class StepError(CarinaError):
    """The roll-out may not go to that step yet."""


class ReportError(CarinaError):
    """A table of reports cannot be read."""


class DecoderError(CarinaError):
    """No process can be started that decodes films."""


class ClusterError(CarinaError):
    """A cluster cannot be reached, or cannot score what it was given."""


class MissingExtra(CarinaError):
    """An optional part of Carina is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(f"{what} needs an optional part; install it with: pip install 'carina[{extra}]'")

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return type(self), (self.what, self.extra)
