"""Our pipelines over the reference's own torch model.

Which of two nearly equal answers wins can hang on a logit's last digit, and what follows from it need not be near. On
the very same logits everything has to be equal.
"""

import dataclasses

from onnxpipe.pipeline import AnyPipeline
from onnxpipe_export.verify import TorchEngine


def with_torch(ours: AnyPipeline, torch_model: object) -> AnyPipeline:
    """The same pipeline, each row run alone through the torch model as the reference does."""
    variant = dataclasses.replace(ours.model.variant, batch_invariant=False)
    sessions = {"model": TorchEngine(torch_model, ours.model.graph())}
    return type(ours)(dataclasses.replace(ours.model, variant=variant, sessions=sessions))
