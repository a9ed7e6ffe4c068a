"""Metadata of a photograph, without what is no longer true of the result."""

import re
from dataclasses import dataclass, replace

from asnet.imaging.containers import Chunk
from asnet.imaging.exif import ORIENTATION, Exif

#: Signature at byte 36 of every ICC profile.
_PROFILE_SIGNATURE = b"acsp"

#: The gamma of sRGB files, in units of PNG.
_SRGB_GAMMA = range(45000, 46001)
#: Colour primaries and transfer function of cICP for sRGB.
_SRGB_CODES = b"\x01\x0d"

#: Note on videos that telephones append to a photograph or store in the same container.
VIDEO_LOST = "contains a video; only the photograph is used"


@dataclass(frozen=True)
class Metadata:
    """Metadata of a file.

    Parameters
    ----------
    exif : Exif, optional
        The EXIF block.
    xmp : bytes, optional
        The XMP packet.
    icc_profile : bytes, optional
        Colour profile of the pixels.
    photoshop : bytes, optional
        Photoshop's image resources, one of which is IPTC.
    comments : tuple of bytes
        JPEG's comments.
    chunks : tuple of Chunk
        PNG's texts and colour chunks.
    resolution : tuple of float, optional
        Pixels per inch, horizontal and vertical.
    problems : tuple of str
        What could not be kept from the file, one predicate each: "holds several pictures; ...".
    """

    exif: Exif | None = None
    xmp: bytes | None = None
    icc_profile: bytes | None = None
    photoshop: bytes | None = None
    comments: tuple[bytes, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    resolution: tuple[float, float] | None = None
    problems: tuple[str, ...] = ()

    @property
    def orientation(self) -> int:
        """EXIF's orientation, 1 to 8; 1 if it is missing or invalid."""
        found = None if self.exif is None else self.exif.number(ORIENTATION)
        return found if found is not None and 1 <= found <= 8 else 1

    def described(self, width: int, height: int) -> "Metadata":
        """Return what is still true of the upright picture of width x height pixels.

        Orientations are removed, sizes are those of the picture, and entries about the file's storage are
        dropped.
        """
        problems = self.problems
        if self.xmp is not None and b"MotionPhoto" in self.xmp and VIDEO_LOST not in problems:
            problems += (VIDEO_LOST,)
        resolution = self.resolution
        if resolution is not None and not all(0 < value < 1e9 for value in resolution):
            problems += ("has an unusable resolution, which is left out",)
            resolution = None
        if resolution is not None and self.orientation > 4:
            resolution = (resolution[1], resolution[0])
        profile = self.icc_profile
        if profile is not None and profile[36:40] != _PROFILE_SIGNATURE:
            problems += ("has a damaged colour profile, which is left out",)
            profile = None
        exif = None if self.exif is None else self.exif.described(width, height)
        if exif is not None and exif.damaged:
            few = exif.damaged == 1
            tags = "a damaged EXIF tag, which is" if few else f"{exif.damaged} damaged EXIF tags, which are"
            problems += (f"has {tags} left out",)
        return replace(
            self,
            exif=None if exif is None or exif.is_empty else exif,
            xmp=None if self.xmp is None else _described_xmp(self.xmp, width, height),
            icc_profile=profile,
            resolution=resolution,
            problems=problems,
        )

    @property
    def colour_is_srgb(self) -> bool:
        """Whether PNG's colour chunks mean the same as no chunks."""
        for chunk in self.chunks:
            if chunk.name == b"cICP" and chunk.data[:2] != _SRGB_CODES:
                return False
            if chunk.name == b"gAMA" and self.icc_profile is None:
                gamma = int.from_bytes(chunk.data[:4], "big")
                if gamma not in _SRGB_GAMMA:
                    return False
        return True


def _described_xmp(xmp: bytes, width: int, height: int) -> bytes:
    """Return a packet with the size and orientation of the result, and without references to lost parts."""
    true = {
        b"tiff:Orientation": 1,
        b"tiff:ImageWidth": width,
        b"tiff:ImageLength": height,
        b"exif:PixelXDimension": width,
        b"exif:PixelYDimension": height,
    }
    for name, value in true.items():
        number = str(value).encode()
        # Parsed leniently, like other programs do: what follows the number does not matter.
        xmp = re.sub(name + rb"(\s*=\s*[\"']|\s*>)\s*\d+", name + rb"\g<1>" + number, xmp)
    # Gain maps, videos and further XMP were stored after the photograph or outside this packet.
    xmp = re.sub(rb"<Container:Directory\b.*?</Container:Directory>", b"", xmp, flags=re.DOTALL)
    return re.sub(
        rb"\s(?:hdrgm:\w+|GCamera:M\w+|Camera:M\w+|xmpNote:HasExtendedXMP)\s*=\s*(?:\"[^\"]*\"|'[^']*')",
        b"",
        xmp,
    )
