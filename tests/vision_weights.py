"""Weights of tiny vision models, drawn for outputs that depend on the picture."""

from collections.abc import Iterable

import torch


@torch.no_grad()
def draw_weights(model: torch.nn.Module) -> None:
    """Matrices and kernels of about unit gain, batch norms that have seen something, and a last layer that decides."""
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)]
    for module in layers:
        fan_in = module.weight[0].numel()
        module.weight.normal_(std=(1.5 if module is not layers[-1] else 4.0) / fan_in**0.5)
        if module.bias is not None:
            module.bias.normal_(std=0.1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    for name, parameter in model.named_parameters():
        if "layer_scale" in name or "lambda_" in name:  # begins near zero, which would leave its layer out
            parameter.uniform_(0.5, 1.5)
        elif "bias_table" in name:  # of relative positions; begins as zeros
            parameter.normal_(std=0.5)


@torch.no_grad()
def draw_queries(model: torch.nn.Module) -> None:
    """Queries that look at different places, and classes that are far apart: each finds something of its own."""
    classes = (model.config.num_labels, model.config.num_labels + 1)
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.weight.normal_(std=2.0)
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.weight.uniform_(0.4, 0.8)
        elif isinstance(module, torch.nn.Linear) and module.out_features in classes:
            module.weight.normal_(std=3.0 / module.in_features**0.5)
            module.bias.normal_(-3.0, 0.5)
        elif isinstance(module, torch.nn.Linear):
            module.weight.normal_(std=1.5 / module.in_features**0.5)
    for name, parameter in model.named_parameters():
        if name.endswith(("detection_tokens", "position_embeddings")):
            parameter.normal_()


@torch.no_grad()
def draw_masks(model: torch.nn.Module) -> None:
    """Queries that are sure of different labels, and masks that cover a part of the picture each.

    No more than needed: what makes queries different also makes rounding larger, and scores have to agree within 1e-4.
    """
    classifiers = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding):
            module.weight.normal_(std=2.0)
        elif name.endswith(("class_predictor", "class_labels_classifier")):
            module.weight.normal_(std=12.0 / module.in_features**0.5)
            classifiers.append(module)
        elif name.endswith(("q_proj", "k_proj")):  # attention that picks, or all queries would see the same
            module.weight.normal_(std=1.5 / module.in_features**0.5)
        elif name.endswith("mask_projection"):  # a mask is the product of these and the embedding of a query ...
            module.weight.normal_(std=2.0 / module.weight[0].numel() ** 0.5)
            module.bias.fill_(0.5)
        elif name.endswith("mask_embedder.2.0"):
            module.weight.normal_(std=1.0 / module.in_features**0.5)
            module.bias.fill_(-0.4)  # ... so this makes it smaller, and the same for all
        elif "mask_head.adapter" in name or name.endswith(("input_projection", "sampling_offsets")):
            module.weight *= 0.1  # of a backbone with frozen norms; of places that rounding would move
        elif name.endswith("mask_head.lay1"):  # the last of its inputs are where each query looks
            module.weight[:, -model.config.encoder_attention_heads :] *= 50
        elif name.endswith("mask_head.out_lay"):
            module.weight.normal_(std=6.0 / module.weight[0].numel() ** 0.5)
            module.bias.fill_(-1.0)
    _center_labels(model, classifiers)


def _center_labels(model: torch.nn.Module, classifiers: Iterable[torch.nn.Linear]) -> None:
    """Take out of the logits what all queries have in common, which would give them all one label."""
    for module in classifiers:
        hook = module.register_forward_hook(
            lambda own, inputs, _: own.bias.copy_(-own.weight @ inputs[0].flatten(0, -2).mean(dim=0))
        )
        model.eval()(torch.randn(2, 3, 64, 96).cumsum(dim=2).cumsum(dim=3) / 10)
        hook.remove()


@torch.no_grad()
def see_pictures(model: torch.nn.Module) -> None:
    """Batch norms with the statistics of some coloured, grainy pictures: without, deep networks answer all alike."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    model.eval()
    for norm in norms:
        norm.weight.uniform_(0.5, 1.5)  # some begin at a fiftieth
        norm.reset_running_stats()
        norm.momentum = None  # the mean of what is seen
        norm.train()
    edge = getattr(model.config, "image_size", 64)
    patches = torch.randn(16, 3, 8, 8) + torch.randn(16, 3, 1, 1)
    pictures = torch.nn.functional.interpolate(patches, (edge, edge), mode="bilinear")
    model(pictures + torch.rand(16, 1, 1, 1) * torch.randn(16, 3, edge, edge))
