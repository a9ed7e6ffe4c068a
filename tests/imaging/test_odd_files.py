"""Photographs as people have them: kinds of files that make programs fail, each generated here."""

import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy
import pytest
import tifffile
from PIL import ExifTags, Image, features

from asnet.errors import ImageFileError
from asnet.imaging import Photograph, read_kernel, read_photograph, write_photograph
from asnet.imaging.containers import Chunk, Segment, with_chunks, with_segments
from asnet.imaging.exif import LONG, RATIONAL, SHORT, Entry, Exif, parse_exif

RANDOM = numpy.random.default_rng(7)
COLOUR = RANDOM.integers(0, 256, (20, 30, 3), dtype=numpy.uint8)
DEEP = RANDOM.integers(0, 65536, (20, 30, 3), dtype=numpy.uint16)
SUFFIXES = [".jpg", ".png", ".tif", ".webp"]
#: A gradient that JPEG hardly changes.
SMOOTH = numpy.add.outer(numpy.arange(48), numpy.arange(64)).astype(numpy.uint8)


def array(photograph: Photograph) -> Any:
    """(H, W) or (H, W, 3) of a photograph."""
    values = photograph.pixels.permute(1, 2, 0).numpy()
    return values[..., 0] if values.shape[2] == 1 else values


def entry(kind: int, *values: int) -> Entry:
    form = {SHORT: "H", LONG: "I", RATIONAL: "I"}[kind]
    data = struct.pack(f"<{len(values)}{form}", *values)
    return Entry(kind, len(values) // (2 if kind == RATIONAL else 1), data)


def text(words: bytes) -> Entry:
    return Entry(2, len(words) + 1, words + b"\0")


def jpeg(exif: Exif | None = None, *segments: Segment) -> bytes:
    buffer = BytesIO()
    Image.fromarray(SMOOTH).save(buffer, "JPEG", quality=100)
    block = [] if exif is None else [Segment(0xE1, b"Exif\0\0" + exif.to_bytes())]
    return with_segments(buffer.getvalue(), [*block, *segments])


def png(*chunks: Chunk, values: Any = COLOUR) -> bytes:
    return with_chunks(imagecodecs.png_encode(numpy.ascontiguousarray(values)), chunks)


def tiff(values: Any, **options: Any) -> bytes:
    buffer = BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **options)
    return buffer.getvalue()


def passed_on(tmp_path: Path, data: bytes, suffix: str) -> tuple[Path, tuple[str, ...]]:
    """Read a file, write it again in a format, and return it with all notes."""
    photograph = read_photograph(BytesIO(data), name="source")
    target = tmp_path / f"target{suffix}"
    notes = write_photograph(target, photograph)
    assert all("\n" not in note for note in notes)
    return target, (*photograph.notes, *notes)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "tags",
    [
        {256: entry(LONG, 64), 257: entry(LONG, 48)},
        {256: entry(SHORT, 9999), 257: entry(SHORT, 1), 273: entry(LONG, 8), 279: entry(LONG, 3)},
        {258: entry(SHORT, 16, 16, 16, 16), 262: entry(SHORT, 5), 277: entry(SHORT, 4)},
        {262: entry(SHORT, 0), 339: entry(SHORT, 3), 284: entry(SHORT, 2), 317: entry(SHORT, 2)},
        {322: entry(LONG, 16), 324: entry(LONG, 16), 338: entry(SHORT, 1), 34675: text(b"no profile")},
    ],
)
def test_tags_that_describe_a_file_stay_behind(tmp_path: Path, suffix: str, tags: dict[int, Entry]) -> None:
    data = jpeg(Exif(main={**tags, 271: text(b"Maker")}))
    target, notes = passed_on(tmp_path, data, suffix)
    assert notes == ()
    with Image.open(target) as picture:
        assert picture.size == (64, 48)
        assert picture.getexif()[ExifTags.Base.Make] == "Maker"
    written = array(read_photograph(target)).astype(int)
    difference = written - (SMOOTH[..., None] if written.ndim == 3 else SMOOTH).astype(int)
    assert numpy.abs(difference).max() <= (0 if suffix in (".png", ".tif") else 8) + 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sizes_in_exif_and_xmp_are_those_of_the_upright_result(tmp_path: Path, suffix: str) -> None:
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" tiff:ImageWidth="64">'
        b"<exif:PixelXDimension>64</exif:PixelXDimension></rdf:Description></x:xmpmeta>"
    )
    exif = Exif(
        main={274: entry(SHORT, 6), 282: entry(RATIONAL, 300, 1), 283: entry(RATIONAL, 200, 1)},
        camera={40962: entry(SHORT, 64), 40963: entry(SHORT, 48), 33434: entry(RATIONAL, 1, 30)},
    )
    data = jpeg(exif, Segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp))
    target, notes = passed_on(tmp_path, data, suffix)
    assert notes == ()
    again = read_photograph(target)
    assert array(again).shape[:2] == (64, 48)
    assert again.metadata.resolution == pytest.approx((200, 300), abs=0.1)
    with Image.open(target) as picture:
        camera = picture.getexif().get_ifd(ExifTags.IFD.Exif)
        assert (camera[40962], camera[40963]) == (48, 64)
        assert float(camera[33434]) == pytest.approx(1 / 30)
        assert picture.getexif().get(274, 1) == 1
    assert again.metadata.xmp is not None
    for words in (b'tiff:Orientation="1"', b'tiff:ImageWidth="48"', b">48</exif:PixelXDimension>"):
        assert words in again.metadata.xmp


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_tables_of_exif_lead_where_they_should(tmp_path: Path, suffix: str) -> None:
    exif = Exif(
        order=">",
        main={271: text(b"Maker of cameras")},
        camera={33434: Entry(RATIONAL, 1, struct.pack(">II", 1, 8)), 37500: Entry(7, 9, b"makernote")},
        position={1: text(b"N"), 2: Entry(RATIONAL, 3, struct.pack(">6I", 48, 1, 7, 1, 30, 1))},
        interoperability={1: text(b"R98"), 2: Entry(7, 4, b"0100")},
    )
    target, _ = passed_on(tmp_path, jpeg(exif), suffix)
    kept = read_photograph(target).metadata.exif
    assert kept is not None
    for name in ("main", "camera", "position", "interoperability"):
        found = getattr(kept, name)
        described = {tag: value for tag, value in found.items() if tag not in (282, 283, 296)}
        assert described == getattr(exif, name)
    assert kept.order == ">"
    # Another reader finds the same.
    with Image.open(target) as picture:
        block = picture.getexif()
        assert block.get_ifd(ExifTags.IFD.Exif)[37500] == b"makernote"
        assert block.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
        assert block.get_ifd(ExifTags.IFD.Interop)[1] == "R98"


@pytest.mark.parametrize(
    "odd",
    [
        Entry(RATIONAL, 1, b"\0" * 8),
        Entry(2, 4, b"abc\0"),
        Entry(12, 1, struct.pack("<d", float("nan"))),
        Entry(7, 3, b"\xff\xff\xff"),
    ],
)
@pytest.mark.parametrize("tag", [271, 282, 296, 274, 305, 33432, 18246])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_odd_exif_affects_nothing_else(tmp_path: Path, odd: Entry, tag: int, suffix: str) -> None:
    exif = Exif(main={tag: odd, 272: text(b"Model")}, camera={33434: odd, 37386: odd})
    target, _ = passed_on(tmp_path, jpeg(exif), suffix)
    kept = read_photograph(target).metadata.exif
    assert kept is not None
    assert kept.main[272] == text(b"Model")


@pytest.mark.parametrize("cut", [4, 9, 12, 20, 30, 40])
def test_damaged_exif_is_reported_and_left_out(tmp_path: Path, cut: int) -> None:
    block = Exif(main={271: text(b"Maker of cameras"), 272: text(b"A model")}).to_bytes()[:cut]
    target, notes = passed_on(tmp_path, jpeg(None, Segment(0xE1, b"Exif\0\0" + block)), ".png")
    assert len(notes) == 1
    assert "EXIF" in notes[0]
    assert numpy.abs(array(read_photograph(target)).astype(int) - SMOOTH).max() <= 2


@pytest.mark.parametrize("resolution", [(0, 0), (1, 0), (0, 1), (2**32 - 1, 0)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_resolution_that_is_no_number_is_left_out(
    tmp_path: Path, resolution: tuple[int, int], suffix: str
) -> None:
    usable = struct.pack("<II", 72, 1)
    data = tiff(COLOUR, resolution=(72, 72), resolutionunit="INCH", byteorder="<")
    assert usable in data
    data = data.replace(usable, struct.pack("<II", *resolution))
    target, notes = passed_on(tmp_path, data, suffix)
    assert "unusable resolution" in notes[0]
    assert read_photograph(target).metadata.resolution is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_resolution_stays_none(tmp_path: Path, suffix: str) -> None:
    target, notes = passed_on(tmp_path, tiff(COLOUR), suffix)
    assert notes == ()
    with Image.open(target) as picture:
        assert "dpi" not in picture.info or picture.info["dpi"] == (72, 72)
        assert read_photograph(target).metadata.resolution is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_resolution_larger_than_a_format_holds_is_reported(tmp_path: Path, suffix: str) -> None:
    target, notes = passed_on(tmp_path, tiff(COLOUR, resolution=(70000, 70000), resolutionunit=2), suffix)
    kept = read_photograph(target).metadata.resolution
    if suffix == ".jpg":
        assert kept is None
        assert "lacks the resolution" in notes[0]
    else:
        assert kept == pytest.approx((70000, 70000), rel=1e-4)


@pytest.mark.parametrize("inch", [10**8, 4 * 10**8, 999_999_999])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_resolution_of_tiff_is_kept_or_named(tmp_path: Path, suffix: str, inch: int) -> None:
    usable = struct.pack("<II", 72, 1)
    data = tiff(COLOUR, resolution=(72, 72), resolutionunit="INCH", byteorder="<")
    target, notes = passed_on(tmp_path, data.replace(usable, struct.pack("<II", inch, 1)), suffix)
    found = read_photograph(target).metadata.resolution
    if found is None:
        assert len(notes) == 1
        assert "lacks the resolution" in notes[0]
    else:
        assert found == pytest.approx((inch, inch), rel=2e-3)
        assert notes == ()


@pytest.mark.parametrize("metres", [2**32 - 1, 2**31 + 3, 17_000_001, 1])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_resolution_of_png_is_kept_or_named(tmp_path: Path, suffix: str, metres: int) -> None:
    data = png(Chunk(b"pHYs", struct.pack(">IIB", metres, metres, 1)))
    target, notes = passed_on(tmp_path, data, suffix)
    found = read_photograph(target).metadata.resolution
    if suffix == ".jpg":
        assert found is None
        assert len(notes) == 1
        assert "lacks the resolution" in notes[0]
    else:
        assert found == pytest.approx((metres * 0.0254,) * 2, rel=2e-3)
        assert notes == ()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize(
    ("values", "options"),
    [
        (DEEP, {"photometric": "rgb"}),
        (numpy.moveaxis(DEEP, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        (65535 - DEEP[..., 0], {"photometric": "miniswhite"}),
        (DEEP[..., 0], {"photometric": "minisblack"}),
        (DEEP, {"photometric": "rgb", "tile": (16, 16)}),
        (DEEP, {"photometric": "rgb", "bigtiff": True}),
        ((DEEP / numpy.float32(65535)).astype(numpy.float32), {"photometric": "rgb"}),
        (numpy.dstack([DEEP, DEEP[..., 0]]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    ],
    ids=["rgb", "planes", "white is zero", "grey", "tiles", "bigtiff", "float", "alpha"],
)
def test_deep_tiff_is_read_as_it_is_meant(
    values: Any, options: dict[str, Any], compression: str | None, order: str
) -> None:
    data = tiff(values, byteorder=order, compression=compression, **options)
    photograph = read_photograph(BytesIO(data), name="deep.tif")
    found = array(photograph)
    expected = DEEP if found.ndim == 3 else DEEP[..., 0]
    scale = 65535 if found.dtype == numpy.float32 else 1
    assert numpy.abs(found.astype(numpy.float64) * scale - expected).max() < 0.01
    assert photograph.bits == 16
    if "extrasamples" in options:
        assert numpy.array_equal(photograph.alpha, DEEP[..., 0])


def test_colours_multiplied_by_their_opacity_are_divided_again() -> None:
    alpha = RANDOM.integers(20000, 65536, (20, 30)).astype(numpy.uint16)
    multiplied = (DEEP * (alpha[..., None] / 65535)).round().astype(numpy.uint16)
    data = tiff(numpy.dstack([multiplied, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    photograph = read_photograph(BytesIO(data), name="deep.tif")
    assert numpy.abs(array(photograph).astype(int) - DEEP).max() <= 3
    assert numpy.array_equal(photograph.alpha, alpha)


@pytest.mark.parametrize("source", ["png", "tiff"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_are_kept_where_the_format_can(
    tmp_path: Path, source: str, suffix: str, channels: int
) -> None:
    values = RANDOM.integers(0, 65536, (20, 30, channels), dtype=numpy.uint16)
    if channels == 1:
        values = values[..., 0]
    if source == "png":
        data = imagecodecs.png_encode(values)
    else:
        extra = None if channels % 2 else ["unassalpha"]
        photometric = "minisblack" if channels < 3 else "rgb"
        layout = None if channels == 1 else "contig"
        data = tiff(values, photometric=photometric, extrasamples=extra, planarconfig=layout)
    target, notes = passed_on(tmp_path, data, suffix)
    again = read_photograph(target)
    colours = values[..., :3] if channels > 2 else values.reshape(20, 30, channels)[..., 0]
    if suffix in (".png", ".tif"):
        assert notes == ()
        assert numpy.array_equal(array(again), colours)
        if channels in (2, 4):
            assert numpy.array_equal(again.alpha, values[..., -1])
    else:
        assert "8 bits a channel instead of 16" in notes[0]
        assert again.bits == 8


@pytest.mark.parametrize("values", [[-0.5, 0.5], [0.0, 7.0], [0.0, float("nan")], [0.0, float("inf")]])
def test_floats_that_are_no_colours_are_refused(values: list[float]) -> None:
    pixels = numpy.resize(numpy.array(values, numpy.float32), (20, 30))
    with pytest.raises(ImageFileError, match=r"cannot use odd.tif: .*(range|finite)"):
        read_photograph(BytesIO(tiff(pixels)), name="odd.tif")


def test_whole_numbers_of_32_bits_are_refused() -> None:
    with pytest.raises(ImageFileError, match=r"cannot use odd\.tif: .*uint32"):
        read_photograph(BytesIO(tiff(numpy.ones((20, 30), numpy.uint32))), name="odd.tif")


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_kernels_of_every_depth_are_the_same(tmp_path: Path, kind: str, order: str, photometric: str) -> None:
    kernel = numpy.zeros((5, 5))
    kernel[2] = [1, 2, 5, 2, 0]
    kernel[0, 4] = 1
    largest = 1.0 if kind.startswith("f") else min(numpy.iinfo(kind).max, 10**6)
    values = (kernel / 5 * largest).astype(kind)
    if photometric == "miniswhite":
        top = 1.0 if kind.startswith("f") else values.max() if kind == "int32" else numpy.iinfo(kind).max
        values = (top - values).astype(kind)
    path = tmp_path / "kernel.tif"
    path.write_bytes(tiff(values, photometric=photometric, byteorder=order))
    found = read_kernel(path).numpy()
    assert numpy.abs(found - kernel / kernel.sum()).max() < 0.002


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 5), ",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-5, 5), }",
        "((((((((((",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (5,), }",
    ],
)
def test_headers_of_npy_files_that_make_no_sense(tmp_path: Path, header: str) -> None:
    words = header.encode().ljust(118) + b"\n"
    path = tmp_path / "kernel.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words + b"\0" * 100)
    with pytest.raises(ImageFileError, match=r"kernel\.npy") as error:
        read_kernel(path)
    assert "\n" not in str(error.value)


def test_a_photograph_is_no_kernel(tmp_path: Path) -> None:
    Image.new("L", (5000, 10), 3).save(tmp_path / "photo.png")
    with pytest.raises(ImageFileError, match="up to 4096 pixels a side"):
        read_kernel(tmp_path / "photo.png")


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">words</x:xmpmeta>'
IPTC = b"8BIM\x04\x04\0\0\0\0\0\x0c\x1c\x02x\0\x07caption"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_xmp_is_kept(tmp_path: Path, suffix: str) -> None:
    data = jpeg(None, Segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP))
    target, notes = passed_on(tmp_path, data, suffix)
    assert notes == ()
    assert read_photograph(target).metadata.xmp == XMP


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_iptc_and_comments_are_kept_or_named(tmp_path: Path, suffix: str) -> None:
    data = jpeg(None, Segment(0xED, b"Photoshop 3.0\0" + IPTC), Segment(0xFE, b"a comment"))
    target, notes = passed_on(tmp_path, data, suffix)
    kept = read_photograph(target).metadata
    said = " ".join(notes)
    assert len(notes) <= 1
    assert (kept.photoshop == IPTC) != ("IPTC" in said)
    has_comment = kept.comments == (b"a comment",) or any(b"a comment" in chunk.data for chunk in kept.chunks)
    assert has_comment != ("the comment" in said)
    assert (kept.photoshop is not None) == (suffix in (".jpg", ".tif"))
    assert has_comment == (suffix in (".jpg", ".png"))


def test_iptc_of_a_tiff_file_is_kept(tmp_path: Path) -> None:
    data = tiff(COLOUR, extratags=[(33723, 7, 12, b"\x1c\x02x\0\x07caption", True)])
    target, notes = passed_on(tmp_path, data, ".jpg")
    assert notes == ()
    with Image.open(target) as picture:
        assert picture.info["photoshop"][0x0404] == b"\x1c\x02x\0\x07caption"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (Chunk(b"tEXt", b"Title\0words"), "'Title'"),
        (Chunk(b"zTXt", b"Long\0\0" + zlib.compress(b"words " * 10**6)), "'Long'"),
        (Chunk(b"iTXt", "Titel\0\0\0de\0Titel\0Wörter".encode()), "'Titel'"),
        (Chunk(b"gAMA", struct.pack(">I", 100000)), "gAMA"),
        (Chunk(b"cICP", b"\x09\x10\0\x01"), "cICP"),
        (Chunk(b"gAMA", struct.pack(">I", 45455)), None),
        (Chunk(b"sRGB", b"\0"), None),
    ],
    ids=["tEXt", "zTXt", "iTXt", "gAMA", "cICP", "gamma of sRGB", "sRGB"],
)
def test_texts_and_colours_of_png_are_kept_or_named(
    tmp_path: Path, suffix: str, chunk: Chunk, words: str | None
) -> None:
    target, notes = passed_on(tmp_path, png(chunk), suffix)
    if suffix == ".png":
        assert notes == ()
        assert chunk in read_photograph(target).metadata.chunks
    elif words is None:
        assert notes == ()
    else:
        assert len(notes) == 1
        assert words in notes[0]


@pytest.mark.parametrize(("values", "key"), [(DEEP[..., 0], 1), (DEEP, 3)])
def test_a_transparent_colour_of_sixteen_bits_is_kept(tmp_path: Path, values: Any, key: int) -> None:
    colour = numpy.atleast_1d(values[3, 4])
    data = png(Chunk(b"tRNS", colour.astype(">u2").tobytes()), values=values)
    target, notes = passed_on(tmp_path, data, ".png")
    assert notes == ()
    photograph = read_photograph(target)
    assert len(colour) == key
    assert photograph.alpha is not None
    assert photograph.alpha[3, 4] == 0
    assert (photograph.alpha == 65535).sum() >= 590
    assert numpy.array_equal(array(photograph), values)


def test_only_a_damaged_optional_chunk_is_lost(tmp_path: Path) -> None:
    data = bytearray(png(Chunk(b"tEXt", b"Title\0words"), Chunk(b"tEXt", b"Author\0name")))
    data[data.index(b"words")] ^= 1
    target, notes = passed_on(tmp_path, bytes(data), ".png")
    assert len(notes) == 1
    assert "damaged optional chunk" in notes[0]
    assert numpy.array_equal(array(read_photograph(target)), COLOUR)
    assert [chunk.data for chunk in read_photograph(target).metadata.chunks] == [b"Author\0name"]


def test_a_jpeg_that_lacks_its_end_mark_alone_is_read() -> None:
    data = jpeg()
    whole = array(read_photograph(BytesIO(data), name="whole"))
    assert numpy.array_equal(array(read_photograph(BytesIO(data[:-2]), name="cut")), whole)
    assert numpy.array_equal(array(read_photograph(BytesIO(data[:-1]), name="cut")), whole)
    for missing in (12, 40, len(data) // 3):
        with pytest.raises(ImageFileError, match="cut is truncated"):
            read_photograph(BytesIO(data[:-missing]), name="cut")


def test_a_jpeg_whose_last_part_is_zeros_is_refused() -> None:
    data = jpeg()
    for kept in (len(data) // 2, len(data) - 30):
        with pytest.raises(ImageFileError, match="copy is truncated"):
            read_photograph(BytesIO(data[:kept] + b"\0" * 2000), name="copy")
    whole = array(read_photograph(BytesIO(data), name="whole"))
    assert numpy.array_equal(array(read_photograph(BytesIO(data + b"\0" * 2000), name="padded")), whole)


@pytest.mark.parametrize("dtype", [numpy.uint8, numpy.uint16])
@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "a further channel, which is left out"), (2, "2 further channels, which are left out")],
)
def test_channels_beyond_colour_and_opacity_are_named(dtype: Any, count: int, words: str) -> None:
    values = numpy.dstack([COLOUR, COLOUR[..., :count]]).astype(dtype)
    data = tiff(values, photometric="rgb", extrasamples=["unspecified"] * count)
    photograph = read_photograph(BytesIO(data), name="many.tif")
    assert numpy.array_equal(array(photograph), COLOUR)
    assert photograph.notes == (f"many.tif has {words}",)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "webp", "jpegxl", "lerc", "png"])
def test_tiff_of_8_bits_is_read_in_every_byte_order_and_compression(order: str, compression: Any) -> None:
    lossless = {"compressionargs": {"lossless": True}} if compression in ("webp", "jpegxl") else {}
    options: dict[str, Any] = {"byteorder": order, "compression": compression, **lossless}
    for bigtiff in (False, True):
        data = tiff(COLOUR, photometric="rgb", bigtiff=bigtiff, **options)
        assert numpy.array_equal(array(read_photograph(BytesIO(data), name="photo.tif")), COLOUR)
        with pytest.raises(ImageFileError, match="truncated or damaged"):
            read_photograph(BytesIO(data[:-200]), name="cut.tif")


@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_of_tiff_that_are_not_read_are_not_called_damaged_alone(order: str) -> None:
    for values, photometric in ((DEEP, "cielab"), (numpy.dstack([COLOUR, COLOUR[..., 0]]), "separated")):
        data = tiff(values, photometric=photometric, byteorder=order, bigtiff=True)
        if photometric == "separated" and order == "<":
            assert array(read_photograph(BytesIO(data), name="print.tif")).shape == COLOUR.shape
        else:
            with pytest.raises(ImageFileError, match=r"odd\.tif is .*neither grey nor RGB"):
                read_photograph(BytesIO(data), name="odd.tif")


FILM = struct.pack(">I", 24) + b"ftypmp42\0\0\0\0mp42isom" + bytes(range(1, 200))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize(
    ("behind", "words"),
    [
        (b"", None),
        (b"\0" * 5000, None),
        (FILM, "contains a video; only the photograph is used"),
        (b"\0\0\1\n Image_UTC_Data1700000000000SEFT", "has 34 bytes after its picture, which are not kept"),
    ],
)
def test_data_after_a_picture_is_not_lost_silently(kind: str, behind: bytes, words: str | None) -> None:
    data = jpeg() if kind == "jpeg" else png()
    photograph = read_photograph(BytesIO(data + behind), name="phone")
    assert photograph.notes == (() if words is None else (f"phone {words}",))
    assert numpy.array_equal(array(photograph), array(read_photograph(BytesIO(data), name="plain")))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_a_film_in_the_container_is_named() -> None:
    buffer = BytesIO()
    Image.fromarray(COLOUR).save(buffer, "AVIF", xmp=b'<rdf:Description GCamera:MotionPhoto="1"/>')
    photograph = read_photograph(BytesIO(buffer.getvalue()), name="phone.avif")
    assert photograph.notes == ("phone.avif contains a video; only the photograph is used",)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("lowest", [255, 254])
def test_only_transparency_that_is_there_is_reported_as_lost(tmp_path: Path, depth: str, lowest: int) -> None:
    alpha = numpy.full((20, 30), 255, numpy.uint8)
    alpha[3, 4] = lowest
    values = numpy.dstack([COLOUR, alpha]).astype(depth) * (257 if depth == "uint16" else 1)
    _, notes = passed_on(tmp_path, png(values=values), ".jpg")
    assert any("is opaque, because JPEG cannot hold transparency" in note for note in notes) == (lowest < 255)


def test_an_animation_without_transparency_loses_none(tmp_path: Path) -> None:
    buffer = BytesIO()
    frames = [Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    _, notes = passed_on(tmp_path, buffer.getvalue(), ".jpg")
    assert notes == ("source holds several pictures; only the first is used",)


def test_png_files_that_apple_packs_into_apps_are_named() -> None:
    data = png()
    data = data[:8] + Chunk(b"CgBI", b"\x50\0\x20\2").to_bytes() + data[8:]
    with pytest.raises(ImageFileError, match=r"icon\.png is a PNG in Apple's format for apps"):
        read_photograph(BytesIO(data), name="icon.png")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_colour_profile_that_is_none_is_left_out(tmp_path: Path, file_format: str) -> None:
    buffer = BytesIO()
    Image.fromarray(COLOUR).save(buffer, file_format, icc_profile=b"no profile at all" * 9)
    target, notes = passed_on(tmp_path, buffer.getvalue(), ".png")
    assert len(notes) == 1
    assert "damaged colour profile" in notes[0]
    with Image.open(target) as picture:
        assert "icc_profile" not in picture.info


def test_a_png_that_lacks_its_end_chunk_alone_is_read() -> None:
    for values in (COLOUR, DEEP):
        data = png(values=values)
        assert numpy.array_equal(array(read_photograph(BytesIO(data[:-12]), name="cut")), values)
        with pytest.raises(ImageFileError, match="cut is truncated or damaged"):
            read_photograph(BytesIO(data[:-40]), name="cut")


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_a_deep_tiff_that_is_cut_off_is_refused(compression: str | None) -> None:
    data = tiff(DEEP, photometric="rgb", compression=compression, rowsperstrip=5)
    for missing in (1, 100, len(data) // 2):
        with pytest.raises(ImageFileError, match="is truncated or damaged"):
            read_photograph(BytesIO(data[:-missing]), name="cut.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("layout", ["strips", "tiles", "planes"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_tiff_that_lists_fewer_parts_than_its_size_needs_is_refused(
    compression: str | None, layout: str, deep: bool
) -> None:
    values = DEEP if deep else COLOUR
    options: dict[str, Any] = {"photometric": "rgb", "compression": compression, "byteorder": "<"}
    if layout == "planes":
        values = numpy.moveaxis(values, 2, 0)
        options["planarconfig"] = "separate"
    options |= {"tile": (16, 16)} if layout == "tiles" else {"rowsperstrip": 5}
    data = tiff(values, **options)
    assert array(read_photograph(BytesIO(data), name="whole.tif")).shape == COLOUR.shape
    height = struct.pack("<HHII", 257, 4, 1, 20)
    if height not in data:
        height = struct.pack("<HHIHH", 257, 3, 1, 20, 0)
    assert data.count(height) == 1
    for claimed in (33, 60000):
        cut = data.replace(height, struct.pack("<HHII", 257, 4, 1, claimed))
        with pytest.raises(ImageFileError, match=r"cut\.tif is truncated or damaged: it holds fewer pixels"):
            read_photograph(BytesIO(cut), name="cut.tif")


def test_exif_larger_than_a_segment_of_jpeg_is_shortened(tmp_path: Path) -> None:
    exif = Exif(main={270: text(b"x" * 70000), 271: text(b"Maker")})
    target, notes = passed_on(tmp_path, png(Chunk(b"eXIf", exif.to_bytes())), ".jpg")
    assert "lacks the EXIF tags 270" in notes[0]
    with Image.open(target) as picture:
        assert picture.getexif()[271] == "Maker"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_second_picture_is_named(tmp_path: Path, suffix: str) -> None:
    buffer = BytesIO()
    Image.fromarray(COLOUR).save(
        buffer, "MPO", save_all=True, append_images=[Image.fromarray(255 - COLOUR)], quality=95
    )
    target, notes = passed_on(tmp_path, buffer.getvalue(), suffix)
    assert len(notes) == 1
    assert "further pictures" in notes[0]
    assert abs(array(read_photograph(target)).mean() - COLOUR.mean()) < 5


def test_references_to_what_is_lost_leave_the_xmp() -> None:
    xmp = (
        b'<rdf:Description hdrgm:Version="1.0" GCamera:MotionPhoto="1" dc:title="kept">'
        b"<Container:Directory><rdf:Seq/></Container:Directory></rdf:Description>"
    )
    photograph = read_photograph(
        BytesIO(jpeg(None, Segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp))), name="phone.jpg"
    )
    assert photograph.metadata.xmp == b'<rdf:Description dc:title="kept"></rdf:Description>'
    assert "video" in photograph.notes[0]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path: Path) -> None:
    Image.fromarray(numpy.dstack([SMOOTH] * 3)).save(
        tmp_path / "photo.avif", quality=100, exif=b"Exif\0\0" + Exif(main={271: text(b"Maker")}).to_bytes()
    )
    photograph = read_photograph(tmp_path / "photo.avif")
    assert numpy.abs(array(photograph).astype(int) - SMOOTH[..., None]).max() <= 8
    assert photograph.metadata.exif is not None
    assert photograph.notes == ()


@pytest.mark.parametrize("bits", [8, 10])
def test_heic_is_read(tmp_path: Path, bits: int) -> None:
    heif = pytest.importorskip("pillow_heif")
    values = numpy.dstack([SMOOTH] * 3)
    exif = Exif(main={271: text(b"Maker"), 274: entry(SHORT, 6)})
    if bits == 8:
        picture = heif.from_pillow(Image.fromarray(values))
    else:
        deep = values.astype(numpy.uint16) * 257
        picture = heif.from_bytes("RGB;16", (64, 48), deep.tobytes())
    picture.save(tmp_path / "photo.heic", quality=100, exif=b"Exif\0\0" + exif.to_bytes(), chroma=444)
    photograph = read_photograph(tmp_path / "photo.heic")
    assert photograph.bits == (8 if bits == 8 else 16)
    found = array(photograph).astype(float) / (1 if bits == 8 else 257)
    expected = values if found.shape == values.shape else numpy.rot90(values, -1)
    assert numpy.abs(found - expected).max() <= 10
    target = tmp_path / "result.png"
    write_photograph(target, photograph)
    with Image.open(target) as written:
        assert written.getexif().get(274, 1) == 1
        assert written.getexif()[271] == "Maker"


def test_heic_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageFileError, match=r"photo is HEIC, .*pip install 'asnet\[heif\]'"):
        read_photograph(BytesIO(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64), name="photo")


@pytest.mark.parametrize("suffix", [".dng", ".CR2", ".nef", ".arw"])
def test_raw_files_are_named_with_the_way_out(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(tiff(COLOUR))
    with pytest.raises(ImageFileError, match="raw file, which asnet does not read: develop it"):
        read_photograph(path)


@pytest.mark.parametrize(
    "data",
    [
        tiff(COLOUR, extratags=[(50706, 1, 4, b"\1\4\0\0", True)]),
        # Canon's, whose first directory is a small preview.
        b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 100,
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + b"\0" * 100,
        b"FUJIFILMCCD-RAW 0201" + b"\0" * 100,
    ],
    ids=["DNG", "CR2", "CR3", "RAF"],
)
def test_a_raw_file_by_another_name_is_recognised(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "photo.tif"
    path.write_bytes(data)
    with pytest.raises(ImageFileError, match="raw file"):
        read_photograph(path)


def test_a_picture_that_claims_to_be_giant_is_refused_unless_allowed() -> None:
    data = bytearray(png())
    with pytest.raises(ImageFileError, match="30x20 pixels, more than the limit of 500"):
        read_photograph(BytesIO(bytes(data)), name="giant.png", max_pixels=500)
    header = struct.pack(">II", 10**6, 10**6) + bytes(data[24:29])
    data[16:29] = header
    data[29:33] = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(ImageFileError, match="1000000x1000000 pixels, more than the limit"):
        read_photograph(BytesIO(bytes(data)), name="giant.png")


@pytest.mark.parametrize("deep", [False, True])
def test_a_small_png_file_that_claims_many_pixels_is_refused_before_they_take_memory(deep: bool) -> None:
    data = png(values=DEEP if deep else COLOUR)
    header = struct.pack(">II", 10**6, 100) + data[24:29]
    claimed = data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]
    with pytest.raises(ImageFileError, match="giant is truncated or damaged: it holds fewer pixels"):
        read_photograph(BytesIO(claimed), name="giant")
    # No more than the compression can gain.
    flat = numpy.zeros((3000, 3000, 3), numpy.uint16 if deep else numpy.uint8)
    assert not array(read_photograph(BytesIO(png(values=flat)), name="flat")).any()


def test_a_device_that_takes_a_part_alone_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files acts as a nearly full disk: the first write comes up short."""
    script = (
        "import resource, signal, sys, numpy\n"
        "from pathlib import Path\n"
        "from PIL import Image\n"
        "from asnet.errors import ImageFileError\n"
        "from asnet.imaging import write_picture\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "noise = numpy.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=numpy.uint8)\n"
        "for target in sys.argv[1:]:\n"
        "    try:\n"
        "        write_picture(Path(target), Image.fromarray(noise))\n"
        "    except ImageFileError as error:\n"
        "        print(error)\n"
    )
    targets = [str(tmp_path / f"target{suffix}") for suffix in SUFFIXES]
    finished = subprocess.run(
        [sys.executable, "-c", script, *targets],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    for target in targets:
        assert f"cannot write {target}: " in finished.stdout, finished.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize(
    "xmp", [b'<x tiff:Orientation="6"/>', b"<x tiff:Orientation='6*/>", b"<x>tiff:Orientation>6"]
)
def test_xmp_alone_does_not_turn_a_picture(tmp_path: Path, xmp: bytes, deep: bool) -> None:
    values = DEEP if deep else COLOUR
    data = tiff(values, photometric="rgb", extratags=[(700, 1, len(xmp), xmp, True)])
    for suffix in SUFFIXES:
        result, _ = passed_on(tmp_path, data, suffix)
        with Image.open(result) as picture:
            picture.load()
            assert picture.size == (values.shape[1], values.shape[0])
        kept = read_photograph(result).metadata.xmp
        assert kept is not None
        assert b"Orientation" in kept
        assert b"6" not in kept


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (DEEP >> 4, {"bitspersample": 12, "level": 100}),
        (DEEP[..., 0] >> 4, {"bitspersample": 12, "level": 100}),
        (DEEP, {"lossless": True, "bitspersample": 16}),
        (DEEP[..., 0] >> 4, {"lossless": True, "bitspersample": 12}),
        (COLOUR, {"lossless": True}),
    ],
    ids=["12 bits", "12 bits of grey", "16 bits lossless", "12 bits of grey lossless", "8 bits lossless"],
)
def test_jpeg_of_more_bits_and_lossless_jpeg_are_read(
    tmp_path: Path, values: Any, options: dict[str, Any]
) -> None:
    data = bytes(imagecodecs.jpeg8_encode(numpy.ascontiguousarray(values), **options))
    found = array(read_photograph(BytesIO(data), name="photo.jpg"))
    bits = options.get("bitspersample", 8)
    assert found.dtype == (numpy.uint16 if bits > 8 else numpy.uint8)
    expected = values * (numpy.iinfo(found.dtype).max / (2**bits - 1))
    if "lossless" in options:
        assert numpy.abs(found - expected).max() <= 1
    else:
        # JPEG does not keep noise, but it keeps its mean.
        assert abs(found.mean() - expected.mean()) < 0.01 * expected.mean()
    with pytest.raises(ImageFileError, match=r"photo\.jpg is truncated or damaged"):
        read_photograph(BytesIO(data[: len(data) // 2]), name="photo.jpg")
    with pytest.raises(ImageFileError, match="more than the limit of 500"):
        read_photograph(BytesIO(data), name="photo.jpg", max_pixels=500)


def test_what_is_no_file_of_bytes_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    for name, words in (
        ("pipe.jpg", "is a device or a pipe, not a file; - reads standard input"),
        ("empty.jpg", "is empty"),
        ("loop.jpg", "Too many levels of symbolic links"),
        (".", "is a folder, not an image"),
    ):
        with pytest.raises(ImageFileError, match=words):
            read_photograph(tmp_path / name)


def test_links_are_followed_and_devices_refused(tmp_path: Path) -> None:
    photograph = read_photograph(BytesIO(png()), name="photo.png")
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "real" / "there.png")
    write_photograph(link, photograph)
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["there.png"]
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    with pytest.raises(ImageFileError, match=r"cannot write .*loop\.png"):
        write_photograph(loop, photograph)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageFileError, match="a device or a pipe"):
        write_photograph(tmp_path / "pipe.png", photograph)


def test_exif_blocks_come_back() -> None:
    exif = Exif(main={271: text(b"Maker"), 18246: entry(SHORT, 3)}, camera={33434: entry(RATIONAL, 1, 8)})
    assert parse_exif(exif.to_bytes()) == exif
    assert parse_exif(b"Exif\0\0" + exif.to_bytes()) == exif
    assert parse_exif(b"no block") is None
