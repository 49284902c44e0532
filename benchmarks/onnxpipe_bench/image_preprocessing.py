"""Making a graph's pixels of a picture, beside transformers' slow (Pillow) and fast (torchvision) image processors.

    python -m onnxpipe_bench.image_preprocessing [--repeats 25] [--torchvision .cache/torchvision]

A photo of 12 megapixels to 224 x 224 as ViT wants it, and one of 640 x 480 to 800 pixels at the shortest edge as DETR
does; from the bytes of the JPEG file, and from the decoded picture. The fast processors are measured where torchvision
is installed, or in a folder of its own (`peers.torchvision_transforms`); else only the slow ones are. Both they and
onnxpipe with one thread and with as many as the machine is planned to use.
"""

import argparse
import functools
import importlib.metadata
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from onnxpipe.bundle import Graph, Tensor
from onnxpipe.machine import inspect_machine
from onnxpipe.vision.image import Picture
from onnxpipe.vision.pixels import PixelReader
from onnxpipe_bench.measure import TEST_DATA, interleave, percentiles, write_result
from onnxpipe_bench.peers.torchvision_transforms import import_torchvision
from onnxpipe_export.source import SourceModel
from onnxpipe_export.vision import image_section

_PHOTO = TEST_DATA / "images/coco/000000039769.png"
# what is compared with, and what all ratios are to
_REFERENCE = "transformers, slow"
_GRAPH = Graph(
    inputs=(Tensor(name="pixel_values", dtype="float32", shape=("batch", 3, "height", "width")),),
    outputs=(Tensor(name="logits", dtype="float32", shape=("batch", 2)),),
)
# what the table calls it, the class of the slow processor, the size of the file's picture
CASES = (
    ("12 megapixels to 224 x 224", "ViTImageProcessor", (4000, 3000)),
    ("640 x 480 to 800 at the shortest edge", "DetrImageProcessor", (640, 480)),
)


def main() -> None:
    """Measure every case and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--torchvision", type=Path, default=Path(".cache/torchvision"), help="a folder with it")
    args = parser.parse_args()
    # before anything imports transformers
    fast = import_torchvision(args.torchvision)
    rows = []
    for name, processor, size in CASES:
        rows += measure_case(name, engines(processor, fast=fast), make_photo(size), args.repeats)
    model = ", ".join(f"{package} {version}" for package, version in versions(fast=fast))
    file = write_result("image_preprocessing", {"model": model, "repeats": args.repeats, "rows": rows})
    print(f"-> {file}")


def versions(*, fast: bool) -> Iterator[tuple[str, str]]:
    """The libraries the numbers depend on."""
    for package in ("transformers", "pillow", "torch", *(["torchvision"] if fast else [])):
        yield package, importlib.metadata.version(package)


def measure_case(
    name: str, calls: Mapping[str, Callable[[bytes | Image.Image], object]], content: bytes, repeats: int
) -> list[dict[str, Any]]:
    """A row per engine: percentiles from the file and from the decoded picture, and ratios to the slow processor."""
    decoded = _load(content)
    from_file = {engine: functools.partial(call, content) for engine, call in calls.items()}
    from_pixels = {engine: functools.partial(call, decoded) for engine, call in calls.items()}
    # apart, so that decoding and its memory do not stand between two calls from pixels
    files, pixels = (interleave(calls, repeats=repeats, warm_up=3) for calls in (from_file, from_pixels))
    rows: list[dict[str, Any]] = []
    for engine in files:
        row: dict[str, Any] = {"picture": name, "engine": engine}
        for scope, times in (("file", files), ("decoded", pixels)):
            figures, reference = percentiles(times[engine]), percentiles(times[_REFERENCE])
            row |= {f"{scope}_ms": figures, f"{scope}_ratio": round(figures["p50"] / reference["p50"], 3)}
        rows.append(row)
        print(f"{name:<38} {engine:<29} {row['file_ms']['p50']:>8.2f} {row['decoded_ms']['p50']:>8.2f}  (ms)")
    return rows


def engines(name: str, *, fast: bool) -> Mapping[str, Callable[[bytes | Image.Image], object]]:
    """Calls from a file's bytes or a decoded picture to pixels, by what the table calls them.

    Of the slow processor `name`, of the fast one if `fast`, and of onnxpipe in its place.
    """
    import transformers

    slow = getattr(transformers, name)()
    section = image_section(SourceModel(Path(), name, None, {}), slow)
    threads = {1: "1 thread", (most := inspect_machine().threads): f"{most} threads" if most > 1 else "1 thread"}
    calls: dict[str, Callable[[bytes | Image.Image], object]] = {
        _REFERENCE: lambda source: slow(_load(source), return_tensors="pt")
    }
    if fast:
        tensors = getattr(transformers, f"{name}Fast")()
        for count, words in threads.items():
            calls[f"transformers, fast, {words}"] = functools.partial(_with_threads, tensors, count)
    for count, words in threads.items():
        calls[f"onnxpipe, {words}"] = functools.partial(_row, PixelReader(section, _GRAPH, threads=count))
    reader = PixelReader(section, _GRAPH, fast=True, threads=most)
    return {**calls, f"onnxpipe, `fast`, {threads[most]}": functools.partial(_row, reader)}


def make_photo(size: tuple[int, int]) -> bytes:
    """A JPEG file of (width, height): a real photo, laid side by side with its mirror images until it is filled.

    Enlarged, it would decode faster than photos do.
    """
    with Image.open(_PHOTO) as opened:
        photo = opened.convert("RGB")
    tiles = [photo, ImageOps.mirror(photo), ImageOps.flip(photo), ImageOps.mirror(ImageOps.flip(photo))]
    sheet = Image.new("RGB", size)
    for left in range(0, size[0], photo.width):
        for top in range(0, size[1], photo.height):
            sheet.paste(tiles[left // photo.width % 2 + 2 * (top // photo.height % 2)], (left, top))
    content = io.BytesIO()
    sheet.save(content, "JPEG", quality=90)
    return content.getvalue()


def _load(source: bytes | Image.Image) -> Image.Image:
    """As transformers' pipelines load what they are given."""
    from transformers.image_utils import load_image

    image: Image.Image = load_image(Image.open(io.BytesIO(source)) if isinstance(source, bytes) else source)
    return image


def _row(reader: PixelReader, source: bytes | Image.Image) -> object:
    return reader.row(Picture.read(source))


def _with_threads(processor: Any, count: int, source: bytes | Image.Image) -> object:  # untyped in transformers
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return processor(_load(source), return_tensors="pt")
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    main()
