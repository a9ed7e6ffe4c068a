"""The upload form: photograph, blur kernel and options."""

import inspect
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import File, Form, Request, UploadFile

from asnet.deblurring.line_kernels import parse_line
from asnet.deblurring.regions import Region
from asnet.errors import AsnetError, InputError
from asnet.web.deblurring import DeblurRequest

#: Formats of photographs.
PHOTOGRAPH_FORMATS = "JPEG, PNG, TIFF, WebP, AVIF, or HEIC where the server has pillow-heif."

_LONGEST_NAME, _LONGEST_SUFFIX = 200, 10
_LONGEST_QUOTE = 40
_LONGEST_TEXT = 100


class StorageError(AsnetError):
    """The server has no place for an upload."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the server cannot store the upload: {error.strerror}")


class DeblurForm:
    """The fields of the form, as FastAPI reads them and the API's schema describes them."""

    def __init__(
        self,
        photograph: Annotated[UploadFile, File(description=PHOTOGRAPH_FORMATS)],
        kernel: Annotated[
            UploadFile | None, File(description="The blur kernel, if it is known: .npy, or an image of it.")
        ] = None,
        line: Annotated[
            str | None,
            Form(
                max_length=_LONGEST_TEXT,
                description="A straight motion instead of a kernel, LENGTH,ANGLE: pixels, and degrees "
                "counter-clockwise from the horizontal.",
                examples=["12,30"],
            ),
        ] = None,
        region: Annotated[
            str | None,
            Form(
                max_length=_LONGEST_TEXT,
                description="LEFT,TOP,RIGHT,BOTTOM in pixels of the upright photograph: the part from which "
                "the blur kernel is estimated.",
                examples=["400,300,1200,900"],
            ),
        ] = None,
        scale: Annotated[
            str,
            Form(
                pattern="^(auto|[1-9][0-9]?)$",
                description="Work on the photograph downscaled by this factor; 'auto' decides whether that "
                "is needed and leaves sharp photographs alone.",
            ),
        ] = "auto",
        strength: Annotated[
            float, Form(ge=0, le=1, description="Weight of the restoration in the blend with the photograph.")
        ] = 1.0,
        denoise: Annotated[
            float, Form(ge=0, le=1, description="Noise suppression, at the cost of detail.")
        ] = 0.0,
    ) -> None:
        self.photograph = photograph
        self.kernel = kernel
        self.line = line or None
        self.region = region or None
        self.scale = scale
        self.strength = strength
        self.denoise = denoise

    def save(self, parent: Path) -> DeblurRequest:
        """Put the uploaded files into a new folder.

        Raises
        ------
        InputError
            If an option is unusable.
        StorageError
            If the files cannot be written; nothing is left behind.
        """
        region = None if self.region is None else Region.parse(self.region)
        if self.line is not None and self.kernel is not None:
            raise InputError("give a kernel or a line, not both")
        kernel = None if self.line is None else parse_line(self.line)
        name = _clean_name(self.photograph.filename)
        folder = Path(tempfile.mkdtemp(dir=parent))
        uploaded = None
        try:
            photograph = _save_upload(self.photograph, folder / "photograph")
            if self.kernel is not None:
                suffix = ".npy" if (self.kernel.filename or "").lower().endswith(".npy") else ".png"
                uploaded = _save_upload(self.kernel, folder / f"given-kernel{suffix}")
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise StorageError(error) from None
        return DeblurRequest(
            name=name,
            photograph=photograph,
            kernel=kernel if uploaded is None else uploaded,
            scale="auto" if self.scale == "auto" else int(self.scale),
            region=region,
            strength=self.strength,
            denoise=self.denoise,
        )


_FIELDS = tuple(inspect.signature(DeblurForm).parameters)


async def check_fields(request: Request) -> None:
    """Refuse unknown fields: a misspelt option would be ignored silently.

    Raises
    ------
    InputError
        If there is a field of another name, or one comes more than once.
    """
    form = await request.form()
    for name in form:
        if name not in _FIELDS:
            raise InputError(f"there is no field {name[:_LONGEST_QUOTE]!r}; it may be {', '.join(_FIELDS)}")
        if len(form.getlist(name)) > 1:
            raise InputError(f"the field {name} must be given once, got it {len(form.getlist(name))} times")


def _clean_name(name: str | None) -> str:
    """Return a name for display and saving: without folders and control characters, of limited length."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    printable = Path("".join(character for character in last if character.isprintable()).strip())
    return f"{printable.stem[:_LONGEST_NAME]}{printable.suffix[:_LONGEST_SUFFIX]}" or "photograph"


def _save_upload(upload: UploadFile, path: Path) -> Path:
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)
    return path
