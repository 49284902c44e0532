"""The tasks on images: one row each."""

from onnxpipe.verification.found import golden_parameters
from onnxpipe_export.pictures import PICTURES
from onnxpipe_export.recipe import BOXES, MASKS, SCORES, Recipe
from onnxpipe_export.segmentation import HEADS

VISION_RECIPES = (
    Recipe(
        task="image-classification",
        architectures=("ForImageClassification", "ForImageClassificationWithTeacher"),
        sections=("image", "classification"),
        auto_class="AutoModelForImageClassification",
        exporter_task="image-classification",
        judge="scores",
        samples=PICTURES,
        tolerance=SCORES,
    ),
    Recipe(
        task="object-detection",
        architectures=("ForObjectDetection",),
        sections=("image", "detection"),
        auto_class="AutoModelForObjectDetection",
        exporter_task="object-detection",
        outputs=("logits", "pred_boxes"),
        judge="boxes",
        samples=PICTURES,
        golden=PICTURES[7],
        golden_parameters=golden_parameters,
        tolerance=BOXES,
        # pixels, as the integers of a box have them; scores are far inside, what they may be off was judged before
        golden_tolerance={"fp32": 1.0, "int8": 3.0},
    ),
    Recipe(
        task="image-segmentation",
        architectures=("ForSemanticSegmentation", *HEADS),
        sections=("image", "segmentation"),
        auto_class="AutoModelForSemanticSegmentation",
        exporter_task="image-segmentation",
        heads=HEADS,
        judge="masks",
        samples=PICTURES,
        # every model can do it, and it gives each pixel a label, however sure the queries are
        parameters={"subtask": "semantic"},
        tolerance=MASKS,
        # of masks: the share of their pixels
        golden_tolerance={"fp32": 0.005, "int8": 0.2},
    ),
)
