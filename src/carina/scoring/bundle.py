"""The bundle: the folder that is the model. Written in one piece, opened only when it is whole.

Knows files, hashes and what the manifest promises; does not run the model. Nothing in a bundle is
ever unpickled, and no file is used whose bytes were not hashed first.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from carina.errors import BundleError
from carina.images.preparation import Preparation
from carina.scoring import receipts
from carina.scoring.contents import (
    AT_START,
    EMBEDDINGS,
    FILES,
    LITTER,
    MANIFEST,
    MODEL,
    TRAINING_IMAGES,
    WEIGHTS,
)

if TYPE_CHECKING:  # pydantic is loaded where a manifest is read, not where a known bundle is opened
    from carina.scoring.graph import Value
    from carina.scoring.manifest import Manifest

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_MAX_MANIFEST = 16 << 20  # bytes
_CHUNK = 1 << 20  # bytes
_AGAIN = "copy the bundle again, or export it again"


class Bundle:
    """A verified bundle.

    ``root`` is its folder, ``classes`` stand in the order of the logits, ``healthy`` are those that mean
    "nothing found", ``model_sha256`` is that of the model, ``manifest`` all that the bundle says of itself.
    What the gate asks of it (``sections``, ``features`` of the embedding, ``embeddings_sha256``) is known
    without reading the manifest again.
    """

    def __init__(self, root: Path, receipt: receipts.Receipt, model: bytes | None = None) -> None:
        self.root = root
        self.classes, self.healthy, self.model_sha256 = receipt.classes, receipt.healthy, receipt.model
        self.preparation = Preparation.from_dict(receipt.preparation)
        self.name, self.features = receipt.name, receipt.features
        self.embeddings_sha256, self.sections = receipt.embeddings, receipt.sections
        self._model = model

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Verify everything a bundle promises and answer with it.

        Checked: the manifest; each file's presence and sha256; that no other file and no link lies
        there; that the model brings no external data and no unknown operators; that its inputs and
        outputs are those of the manifest; that the training films are those of the fingerprint.
        Raises :class:`~carina.errors.BundleError`.
        """
        root = Path(path)
        before = receipts.stamps(root)
        manifest = _read_manifest(root)
        _check_names(root, manifest)
        model = b""
        for name, sha256 in manifest.files.items():
            data, found = _read_hashed(root, name, keep=name == MODEL)
            model = data or model
            if found != sha256:
                raise BundleError(f"{root}: {name} is not the file that {MANIFEST} lists; {_AGAIN}")
        preparation = _check_preparation(root, manifest)
        _check_model(root, manifest, preparation, model)
        _check_weights(root, manifest)
        receipt = receipts.Receipt(
            classes=manifest.classes,
            healthy=frozenset(manifest.healthy),
            preparation=preparation.to_dict(),
            model=manifest.files[MODEL],
            name=manifest.name,
            features=int(manifest.outputs["embedding"][1]),
            embeddings=manifest.files.get(EMBEDDINGS),
            sections={key: manifest.sections[key] for key in AT_START if key in manifest.sections},
        )
        receipts.issue(root, before, receipt)
        bundle = cls(root, receipt, model)
        bundle.__dict__["manifest"] = manifest
        return bundle

    @classmethod
    def known(cls, path: str | os.PathLike[str]) -> Bundle | None:
        """The bundle at ``path`` without reading it, if it was verified before and not touched since.

        ``None`` where it was not: then :meth:`open` it.
        """
        receipt = receipts.receipt(path)
        return None if receipt is None else cls(Path(path), receipt)

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest; a bundle that was known before reads it when it is first asked for."""
        return _read_manifest(self.root)

    @property
    def model_path(self) -> Path:
        """Where the model lies. To run it use :meth:`model`, whose bytes are the verified ones."""
        return self.root / MODEL

    def model(self) -> bytes:
        """The verified bytes of the model.

        They are handed over and let go, so that a session does not keep them twice; asked again,
        they are read and hashed again. Raises :class:`~carina.errors.BundleError` when they changed.
        """
        held, self._model = self._model, None
        return held if held is not None else self.read(MODEL)

    def read(self, name: str) -> bytes:
        """The bytes of one of the files that the manifest lists, hashed again.

        Raises :class:`~carina.errors.BundleError` when they are not those of the manifest any more,
        ``KeyError`` for a file it does not list.
        """
        data, found = _read_hashed(self.root, name, keep=True)
        expected = {MODEL: self.model_sha256, EMBEDDINGS: self.embeddings_sha256}.get(name)
        if found != (expected or self.manifest.files[name]):
            raise BundleError(f"{self.root}: {name} was changed after the bundle was opened; {_AGAIN}")
        return data


def write_bundle(out: Path, manifest: Manifest, files: Mapping[str, bytes | Path]) -> Bundle:
    """Write a bundle at ``out`` in one piece, replacing the bundle there, and open it.

    It is built and verified in a hidden folder beside ``out``, then renamed; a kill at any moment
    leaves the old bundle, the new one or none, never a mix. ``files`` are contents or files to copy;
    ``manifest.files`` is filled in. Raises :class:`~carina.errors.BundleError` when the parts do not
    fit together or ``out`` is something else, ``OSError`` when the disk fails.
    """
    from pydantic import ValidationError

    from carina.folders import beside
    from carina.scoring.manifest import Manifest, first_fault

    out = Path(out)
    strange = sorted(set(files).difference(FILES))
    if strange:
        raise BundleError(f"{out}: {strange[0]!r} is no file of a bundle; known are {', '.join(FILES)}")
    check_may_write(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with beside(out) as new:
        hashes = {name: _copy(source, new / name) for name, source in sorted(files.items())}
        try:
            manifest = Manifest.model_validate({**manifest.model_dump(), "files": hashes})
        except ValidationError as error:
            raise BundleError(f"{out}: {first_fault(error)}; this is a fault of the export") from error
        text = json.dumps(manifest.model_dump(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        _copy(text.encode(), new / MANIFEST)
        _sync_folder(new)
        Bundle.open(new)
        _swap(new, out)
    return Bundle.open(out)


def check_may_write(out: Path) -> None:
    """Raises BundleError where ``out`` is something else than a bundle or an empty folder."""
    if out.is_symlink() or (out.exists() and not (out / MANIFEST).is_file() and not _is_empty_folder(out)):
        raise BundleError(
            f"{out}: there is something that is no bundle; name another folder, or move it away"
        )


def _read_manifest(root: Path) -> Manifest:
    from pydantic import ValidationError

    from carina.scoring.manifest import Manifest, first_fault

    if not os.path.isdir(root):  # noqa: PTH112 - Path's own raises where access is denied
        raise BundleError(f"{root}: no such folder; name the folder that holds {MANIFEST}")
    if not (root / MANIFEST).exists():
        inner = root / "bundle"
        cure = (
            f"did you mean {inner}?"
            if (inner / MANIFEST).exists()
            else "the export did not end; train again to finish it"
        )
        raise BundleError(f"{root}: no {MANIFEST}, so it is no (complete) bundle; {cure}")
    data, _ = _read_hashed(root, MANIFEST, keep=True, limit=_MAX_MANIFEST)
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{root}: {MANIFEST} is not valid JSON; {_AGAIN}") from error
    if isinstance(raw, dict) and raw.get("format") != 1:
        raise BundleError(
            f"{root}: {MANIFEST} has format {raw.get('format')!r}, this Carina reads format 1; update Carina"
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        raise BundleError(f"{root}: {MANIFEST}: {first_fault(error)}; {_AGAIN}") from error


def _check_names(root: Path, manifest: Manifest) -> None:
    """Exactly the listed files lie in the folder; links are refused when the files are opened."""
    if MODEL not in manifest.files:
        raise BundleError(f"{root}: {MANIFEST} lists no {MODEL}; {_AGAIN}")
    there = set(os.listdir(root)) - LITTER  # noqa: PTH208 - names, not paths
    missing = sorted(set(manifest.files) - there)
    if missing:
        raise BundleError(f"{root}: {missing[0]} is missing; {_AGAIN}")
    strange = sorted(there - set(manifest.files) - {MANIFEST})
    if strange:
        raise BundleError(f"{root}: {strange[0]!r} is not listed in {MANIFEST}; remove it, or {_AGAIN}")


def _check_preparation(root: Path, manifest: Manifest) -> Preparation:
    try:
        return Preparation.from_dict(manifest.preparation)
    except (ValueError, TypeError) as error:
        raise BundleError(f"{root}: {MANIFEST}: preparation: {error}; {_AGAIN}") from error


def _check_model(root: Path, manifest: Manifest, preparation: Preparation, model: bytes) -> None:
    """The graph is what the manifest says, and brings nothing along."""
    from carina.scoring.graph import declared

    again = "export it again"
    try:
        graph = declared(model)
    except ValueError as error:
        raise BundleError(f"{root}: {MODEL} is no ONNX model ({error}); {again}") from error
    if graph.external_data:
        raise BundleError(f"{root}: {MODEL} refers to data outside itself; export it as one file")
    unknown = sorted(graph.domains - _DOMAINS)
    if unknown:
        raise BundleError(
            f"{root}: {MODEL} uses operators of {unknown[0]!r}, which nobody here knows; {again}"
        )
    if graph.opset != manifest.opset:
        raise BundleError(f"{root}: {MANIFEST} says opset {manifest.opset}, {MODEL} {graph.opset}; {again}")
    size, classes = preparation.size, len(manifest.classes)
    _check_input(root, manifest, graph.inputs, size)
    outputs = {value.name: value for value in graph.outputs}
    for name, rank in (("logits", 2), ("embedding", 2), ("cam", 4)):
        value = outputs.get(name)
        if value is None:
            raise BundleError(f"{root}: {MODEL} has no output {name!r}; {again}")
        fixed = [size for size in value.shape[1:] if isinstance(size, int) and size > 0]
        if value.dtype != "float32" or len(value.shape) != rank or len(fixed) != rank - 1:
            raise BundleError(f"{root}: {MODEL} gives {name} as {value.dtype} {value.shape}; {again}")
        if name != "embedding" and value.shape[1] != classes:
            given = value.shape[1]
            raise BundleError(
                f"{root}: {MANIFEST} lists {classes} classes, {MODEL} gives {given} ({name}); {again}"
            )
        if manifest.outputs.get(name, ())[1:] != value.shape[1:]:
            listed = manifest.outputs.get(name, "nothing")
            raise BundleError(f"{root}: {MANIFEST} says {name} is {listed}, {MODEL} {value.shape}; {again}")
    _check_training_images(root, manifest)


def _check_input(root: Path, manifest: Manifest, inputs: tuple[Value, ...], size: int) -> None:
    shape = (1, size, size)
    fits = len(inputs) == 1 and (inputs[0].name, inputs[0].dtype) == ("pixels", "uint8")
    if not fits or isinstance(inputs[0].shape[0], int) or inputs[0].shape[1:] != shape:
        found = ", ".join(f"{value.name} {value.dtype} {value.shape}" for value in inputs) or "no input"
        raise BundleError(
            f"{root}: {MODEL} takes {found}, not pixels uint8 (N, 1, {size}, {size}); export it again"
        )
    if manifest.input.shape[1:] != shape:
        raise BundleError(
            f"{root}: {MANIFEST} says the input is {manifest.input.shape}, the preparation {size}; {_AGAIN}"
        )


def _check_weights(root: Path, manifest: Manifest) -> None:
    """The weights begin as safetensors do: a length, then JSON. What begins otherwise may hold programs."""
    if WEIGHTS not in manifest.files:
        return
    with (root / WEIGHTS).open("rb") as file:
        start, size = file.read(9), file.seek(0, os.SEEK_END)
    if start[8:] != b"{" or not 2 <= int.from_bytes(start[:8], "little") <= size - 8:
        raise BundleError(f"{root}: {WEIGHTS} is no safetensors file; export it again")


def _check_training_images(root: Path, manifest: Manifest) -> None:
    """``training-images.txt`` is hashed like every file, and its hash is the data fingerprint."""
    listed = manifest.files.get(TRAINING_IMAGES)
    if listed is not None and listed != manifest.data.fingerprint:
        raise BundleError(
            f"{root}: {TRAINING_IMAGES} and the data fingerprint in {MANIFEST} differ; export it again"
        )


def _read_hashed(root: Path, name: str, *, keep: bool, limit: int | None = None) -> tuple[bytes, str]:
    """The bytes of a file (empty unless ``keep``) and their sha256, read once; no link is followed."""
    digest, parts, count = hashlib.sha256(), [], 0
    try:
        handle = os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise BundleError(f"{root}: {name} is no regular file; {_AGAIN}")
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                count += len(chunk)
                if limit is not None and count > limit:
                    raise BundleError(f"{root}: {name} is larger than {limit >> 20} MB; {_AGAIN}")
                if keep:
                    parts.append(chunk)
    except OSError as error:
        link = " (a link is not followed)" if (root / name).is_symlink() else ""
        raise BundleError(f"{root}: {name} cannot be read{link}: {error.strerror}; {_AGAIN}") from error
    return b"".join(parts), digest.hexdigest()


def _copy(source: bytes | Path, target: Path) -> str:
    """Write ``target`` through to the disk and answer its sha256."""
    digest = hashlib.sha256()
    with target.open("xb") as file:
        for chunk in _chunks(source):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _chunks(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _swap(new: Path, out: Path) -> None:
    """Put ``new`` where ``out`` is. A folder cannot replace a full one, so the old one steps aside first."""
    aside = new.with_name(f"{new.name.removesuffix('.partial')}.old.partial")
    if out.exists():
        out.rename(aside)
    try:
        new.rename(out)
    except OSError:
        if aside.exists():
            aside.rename(out)
        raise
    _sync_folder(out.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
