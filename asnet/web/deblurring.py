"""One photograph of the server: from uploaded files to the files to download."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from asnet.deblurring.deblurrer import Deblurrer, Progress, remarks
from asnet.deblurring.kernel_search import Scale, Status
from asnet.deblurring.regions import Region
from asnet.deblurring.resampling import kernel_extent, shown_kernel
from asnet.errors import InputError
from asnet.imaging import (
    PHOTOGRAPH_SUFFIXES,
    READABLE_SUFFIXES,
    Photograph,
    kernel_picture,
    read_kernel,
    read_photograph,
    write_bytes,
    write_kernel,
    write_photograph,
    write_picture,
)
from asnet.imaging.decoding import read_size

#: Largest side in pixels of an uploaded blur kernel.
LARGEST_KERNEL = 1024


@dataclass(frozen=True)
class DeblurRequest:
    """A request to deblur; see `Deblurrer.deblur`.

    Parameters
    ----------
    name : str
        The user's name of the photograph; no file on disk has this name.
    photograph : Path
        The uploaded file, in its own folder, which receives all other files.
    kernel : Path or Tensor, optional
        An uploaded blur kernel, or one that was drawn.
    """

    name: str
    photograph: Path
    kernel: Path | Tensor | None = None
    scale: Scale = "auto"
    region: Region | None = None
    strength: float = 1.0
    denoise: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """Result of a request.

    Parameters
    ----------
    result_name : str
        File name of the result.
    files : dict of str to Path
        By the names under which they are downloaded.
    width, height : int
        Pixels of the photograph, upright.
    kernel_size, kernel_extent : int
        Side of the blur kernel's grid, and of the part that the kernel occupies.
    scale, status
        See `asnet.deblurring.deblurrer.Deblurred`.
    notes : tuple of str
        What could not be kept from the photograph's file, in sentences.
    remarks : tuple of str
        The meaning of status and scale, in sentences.
    """

    result_name: str
    files: dict[str, Path]
    width: int
    height: int
    kernel_size: int
    kernel_extent: int
    scale: int
    status: Status
    notes: tuple[str, ...]
    remarks: tuple[str, ...]


def deblur_upload(
    request: DeblurRequest, deblurrer: Deblurrer, *, largest: int, previews: bool, progress: Progress
) -> Outcome:
    """Deblur an uploaded photograph as the command does a file.

    Parameters
    ----------
    request : DeblurRequest
        The request.
    deblurrer : Deblurrer
        The networks.
    largest : int
        Pixels that a photograph may have.
    previews : bool
        Also write photograph, result and cropped kernel in formats that browsers show.
    progress : callable
        See `asnet.deblurring.deblurrer.Progress`.

    Raises
    ------
    AsnetError
        If the photograph, the kernel or an option is unusable; the message names no file of the server.
    """
    kernel = request.kernel
    if isinstance(kernel, Path):
        kernel = _read_uploaded_kernel(kernel)
    photograph = read_photograph(request.photograph, name=request.name, max_pixels=largest)
    deblurred = deblurrer.deblur(
        photograph.pixels,
        kernel,
        scale=request.scale,
        region=request.region,
        strength=request.strength,
        denoise=request.denoise,
        alpha=photograph.alpha,
        progress=progress,
    )
    notes: list[str] = []
    folder = request.photograph.parent
    restored = replace(photograph, pixels=deblurred.image)
    result_name = _result_name(request.name, photograph.own_format)
    files = {"result": folder / f"result{Path(result_name).suffix}"}
    if deblurred.status != "blurred" and photograph.format == photograph.own_format:
        # Copied byte for byte: nothing is lost, so there is nothing to note.
        write_bytes(files["result"], request.photograph.read_bytes())
    else:
        notes += photograph.notes
        notes += [
            note.replace(str(files["result"]), result_name)
            for note in write_photograph(files["result"], restored)
        ]
    for name in ("kernel.png", "kernel.npy"):
        files[name] = folder / name
        write_kernel(files[name], deblurred.kernel)
    if previews:
        files["before"] = _write_preview(folder / "before", photograph)
        files["after"] = _write_preview(folder / "after", restored)
        files["kernel-view.png"] = folder / "kernel-view.png"
        write_picture(files["kernel-view.png"], kernel_picture(shown_kernel(deblurred.kernel)))
    height, width = photograph.pixels.shape[1:]
    return Outcome(
        result_name=result_name,
        files=files,
        width=width,
        height=height,
        kernel_size=deblurred.kernel.shape[-1],
        kernel_extent=kernel_extent(deblurred.kernel),
        scale=deblurred.scale,
        status=deblurred.status,
        notes=tuple(notes),
        remarks=tuple(remarks(deblurred, request.name, request.scale)),
    )


def _result_name(name: str, file_format: str) -> str:
    """Return a photograph's name with the suffix of a format; its own if that fits."""
    suffix = Path(name).suffix.lower()
    if PHOTOGRAPH_SUFFIXES.get(suffix) == file_format:
        return name
    stem = Path(name).stem if suffix in READABLE_SUFFIXES else name
    return stem + next(ending for ending, written in PHOTOGRAPH_SUFFIXES.items() if written == file_format)


def _read_uploaded_kernel(path: Path) -> Tensor:
    if path.suffix == ".npy":
        # float64 values after a header.
        if path.stat().st_size > 8 * LARGEST_KERNEL**2 + 1024:
            raise InputError(
                f"{path} has {path.stat().st_size / 1e6:.1f} megabytes; a blur kernel may have "
                f"{LARGEST_KERNEL}x{LARGEST_KERNEL} numbers"
            )
    else:
        width, height, _ = read_size(path)
        if max(width, height) > LARGEST_KERNEL:
            raise InputError(
                f"{path} has {width}x{height} pixels; a blur kernel may have "
                f"{LARGEST_KERNEL}x{LARGEST_KERNEL}"
            )
    return read_kernel(path)


def _write_preview(stem: Path, photograph: Photograph) -> Path:
    """Write a photograph in a format that every browser shows, at full size."""
    path = stem.with_suffix(".jpg" if photograph.alpha is None else ".png")
    write_photograph(path, photograph)
    return path
