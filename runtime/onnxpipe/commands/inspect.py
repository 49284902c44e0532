"""`onnxpipe inspect`: what is in a bundle, for people or as JSON; `--verify` checks digests and golden answers."""

import argparse
import json

from onnxpipe.bundle import Bundle, Tensor, open_bundle
from onnxpipe.errors import BundleError
from onnxpipe.golden import check_golden
from onnxpipe.load import load_model
from onnxpipe.recipe import find_recipe
from onnxpipe.records import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")
    parser.add_argument("--verify", action="store_true", help="check every digest and ask the golden requests again")


def run(args: argparse.Namespace) -> int:
    """Print the bundle; with `--verify` also what is wrong with it, and then 1."""
    bundle = open_bundle(args.bundle)
    problems = _verify(bundle) if args.verify else []
    if args.json:
        checked = {"problems": problems} if args.verify else {}
        print(json.dumps(plain(bundle.manifest) | {"digest": bundle.digest} | checked, indent=2, ensure_ascii=False))
    else:
        for line in [*_summary(bundle), "", *_variants(bundle)]:
            print(line)
        if args.verify:
            print()
            print("\n".join(problems) if problems else "verified: every digest and every golden answer is as recorded")
    return 1 if problems else 0


def _verify(bundle: Bundle) -> list[str]:
    problems = []
    for name in bundle.manifest.files:
        try:
            bundle.verify([name])
        except BundleError as error:
            problems.append(str(error))
    return problems or [
        f"{precision}: {problem}"
        for precision in bundle.manifest.variants
        for problem in check_golden(load_model(bundle.path, precision=precision))
    ]


def _summary(bundle: Bundle) -> list[str]:
    manifest = bundle.manifest
    revision = f" at {manifest.source.revision}" if manifest.source.revision else ""
    rows = [
        ("id", manifest.id),
        ("tasks", ", ".join(manifest.tasks)),
        ("source", f"{manifest.source.model}{revision}"),
        ("digest", bundle.digest[:16]),
        ("tools", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
    ]
    for name, graph in manifest.graphs.items():
        rows.append((f"graph {name}", f"{_tensors(graph.inputs)} -> {_tensors(graph.outputs)}"))
    if recipe := find_recipe(bundle):
        how = f"{recipe.precision}, {recipe.threads} threads, {', '.join(recipe.providers)}"
        rows.append(("recipe", f"{how}: tuned for this machine, used where nothing else is asked for"))
    if manifest.text:
        limit = manifest.text.max_tokens or "unlimited"
        rows.append(("text", f"{limit} tokens, prompts: {', '.join(manifest.text.prompts) or 'none'}"))
    if manifest.embedding:
        pooling = " + ".join(manifest.embedding.pooling)
        rows.append(("embedding", f"pooling {pooling}, {'' if manifest.embedding.normalize else 'not '}normalized"))
    if manifest.classification:
        labels = manifest.classification.labels
        more = f", ... ({len(labels)})" if len(labels) > 8 else ""
        rows.append(("labels", f"{', '.join(labels[:8])}{more}, {manifest.classification.activation}"))
    return [f"{name:<12} {text}" for name, text in rows]


def _tensors(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype}[{', '.join(map(str, tensor.shape))}]" for tensor in tensors)


def _variants(bundle: Bundle) -> list[str]:
    """One line per precision: size, how it runs in batches, and the figures it was accepted with."""
    lines = [f"{'precision':<12} {'MB':>8}  {'batches':<14}  measured beside the reference"]
    for precision, variant in bundle.manifest.variants.items():
        files = (*variant.files.values(), *variant.external_data)
        size = sum(bundle.file(file).stat().st_size for file in files) / 1e6
        batches = "together" if variant.batch_invariant else "row by row"
        figures = ", ".join(f"{name} {value:.4g}" for name, value in variant.measured.items())
        lines.append(f"{precision:<12} {size:>8.1f}  {batches:<14}  {figures}")
    return lines
