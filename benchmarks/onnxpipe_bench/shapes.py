"""Pictures of circles, squares and triangles on noise, and a small detector trained on them in minutes on a CPU."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

SHAPES = ("circle", "square", "triangle")

_EDGES = (64, 97)  # of a picture
_SIZES = (14, 37)  # of a shape
_SEEN = 70  # of 255, how far a shape's colour is from the background's at least, in some channel
_MODEL_EDGE = 64
_BATCH = 16

# an RT-DETR of 0.6 million parameters, all of which learn; the hub's smallest has 20 million
_BACKBONE = {
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64, 64],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}
_CONFIG: Mapping[str, object] = {
    "freeze_backbone_batch_norms": False,
    "encoder_in_channels": [32, 64, 64],
    "encoder_hidden_dim": 64,
    "encoder_ffn_dim": 128,
    "encoder_attention_heads": 4,
    "hidden_expansion": 0.5,
    "d_model": 64,
    "decoder_in_channels": [64, 64, 64],
    "decoder_ffn_dim": 128,
    "decoder_attention_heads": 4,
    "decoder_layers": 2,
    "num_queries": 20,
    "num_denoising": 20,
}


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture, and the shapes on it: their corners (N, 4) in pixels and their names."""

    picture: Image.Image
    boxes: NDArray[np.float32]
    labels: tuple[str, ...]


def draw_scenes(seed: int, count: int) -> list[Scene]:
    """Pictures with one to three shapes each that do not touch; the same for the same seed."""
    draws = np.random.default_rng(seed)
    return [_draw_scene(draws) for _ in range(count)]


def _draw_scene(draws: np.random.Generator) -> Scene:
    width, height = (int(edge) for edge in draws.integers(*_EDGES, 2))
    ground = draws.integers(40, 216, 3)
    grains = np.clip(ground + draws.normal(0, 20, (height, width, 3)), 0, 255)
    picture = Image.fromarray(grains.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    squares: list[tuple[int, int, int]] = []
    labels = []
    for _ in range(int(draws.integers(1, 4))):
        size = int(draws.integers(*_SIZES))
        left, top = int(draws.integers(0, width - size)), int(draws.integers(0, height - size))
        if any(left < x + edge and x < left + size and top < y + edge and y < top + size for x, y, edge in squares):
            continue
        color = ground
        while np.abs(color - ground).max() < _SEEN:
            color = draws.integers(0, 256, 3)
        labels.append(SHAPES[int(draws.integers(len(SHAPES)))])
        _draw_shape(pen, labels[-1], (left, top, size), (int(color[0]), int(color[1]), int(color[2])))
        squares.append((left, top, size))
    boxes = np.array([(x, y, x + edge, y + edge) for x, y, edge in squares], np.float32)
    return Scene(picture, boxes, tuple(labels))


def _draw_shape(
    pen: ImageDraw.ImageDraw, shape: str, square: tuple[int, int, int], color: tuple[int, int, int]
) -> None:
    left, top, size = square
    right, bottom = left + size - 1, top + size - 1
    if shape == "circle":
        pen.ellipse((left, top, right, bottom), fill=color)
    elif shape == "square":
        pen.rectangle((left, top, right, bottom), fill=color)
    else:
        pen.polygon([((left + right) / 2, top), (left, bottom), (right, bottom)], fill=color)


def train_detector(out: Path, *, steps: int) -> None:
    """Train an RT-DETR on fresh scenes from random weights, and write it with its processor to `out` in hub layout.

    AdamW with a linear schedule, seeded; the same machine gives the same weights.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(1)  # threads that wait for each other cost a model this small more than they gain
    names = {"id2label": dict(enumerate(SHAPES)), "label2id": {label: i for i, label in enumerate(SHAPES)}}
    backbone = transformers.RTDetrResNetConfig(**_BACKBONE)
    model = transformers.RTDetrForObjectDetection(
        transformers.RTDetrConfig(backbone_config=backbone, **_CONFIG, **names)
    )
    _draw_weights(model)
    processor = transformers.RTDetrImageProcessor(size={"height": _MODEL_EDGE, "width": _MODEL_EDGE})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    for step in tqdm(range(steps), desc=f"train {out.parent.name}", disable=None):
        scenes = draw_scenes(1000 + step, _BATCH)
        pixels = processor([scene.picture for scene in scenes], return_tensors="pt")["pixel_values"]
        model(pixel_values=pixels, labels=_targets(scenes)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(out, safe_serialization=True)
    processor.save_pretrained(out)


def _draw_weights(model: Any) -> None:  # a torch module: torch is untyped here
    """transformers' own start is for fine-tuning: its batch norms let a hundredth through."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)


def _targets(scenes: Sequence[Scene]) -> list[dict[str, Any]]:  # tensors
    import torch

    targets = []
    for scene in scenes:
        boxes = scene.boxes / np.array([*scene.picture.size] * 2, np.float32)
        centers = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=-1)
        labels = torch.tensor([SHAPES.index(label) for label in scene.labels])
        targets.append({"class_labels": labels, "boxes": torch.from_numpy(centers)})
    return targets
