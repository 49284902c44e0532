"""Facts and findings for `onnxpipe doctor`: gathered for a machine or a bundle on it, as lines for a terminal."""

import contextlib
import dataclasses
from collections.abc import Sequence

from onnxpipe.bundle import Bundle, Manifest
from onnxpipe.doctor.facts import BundleFacts, Facts, gather
from onnxpipe.doctor.findings import DOT_PRODUCTS, Finding, judge
from onnxpipe.doctor.nodes import run_nodes
from onnxpipe.errors import ProviderUnavailable
from onnxpipe.session import resolve_providers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What is the case, and what of it is worth changing."""

    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> bool:
        """Whether something does not work at all."""
        return any(finding.severity == "broken" for finding in self.findings)


def diagnose(*, network: bool = False, bundle: BundleFacts | None = None) -> Diagnosis:
    """Look at this machine and environment; nothing is changed.

    With `network` one request goes to the hub, otherwise nothing leaves the machine.
    """
    facts = gather(network=network, bundle=bundle)
    return Diagnosis(facts=facts, findings=judge(facts))


def try_bundle(
    bundle: Bundle, precision: str | None, providers: Sequence[str] | None, threads: int | None
) -> BundleFacts:
    """How one precision of a bundle (the first when None) runs here. Raises InvalidInput for one it does not have."""
    chosen, _ = bundle.variant(precision)
    facts = BundleFacts(
        path=str(bundle.path),
        precision=chosen,
        sizes={
            name: sum(bundle.file(file).stat().st_size for file in {*variant.files.values(), *variant.external_data})
            for name, variant in bundle.manifest.variants.items()
        },
        providers=(),
        threads=threads,
        needs=_needs(bundle.manifest),
    )
    try:
        facts = dataclasses.replace(facts, providers=tuple(resolve_providers(providers)))
    except ProviderUnavailable as error:
        return dataclasses.replace(facts, problem=_first_line(error), unavailable=True)
    try:
        return dataclasses.replace(facts, nodes=run_nodes(bundle, chosen, providers, threads))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the doctor was called for
        facts = dataclasses.replace(facts, problem=_first_line(error))
    # a session refuses a provider that leaves much to the CPU: beside it, what it leaves can be seen
    with contextlib.suppress(Exception):
        facts = dataclasses.replace(facts, nodes=run_nodes(bundle, chosen, [*(providers or ()), "cpu"], threads))
    return facts


def _needs(manifest: Manifest) -> dict[str, str]:
    """The packages, by extra, that the bundle's tasks cannot do without."""
    audio = {"soundfile": "audio"} if manifest.audio else {}
    chat = {"jinja2": "chat"} if manifest.chat else {}
    return {**audio, **chat}


def render(diagnosis: Diagnosis) -> list[str]:
    """The facts as lines for a terminal, then each finding with what mends it."""
    facts = diagnosis.facts
    machine = facts.machine
    limit = machine.memory_limit_bytes
    total, available = _gib(machine.memory_total_bytes), _gib(facts.memory_available_bytes)
    rows = [
        ("platform", facts.platform),
        ("versions", ", ".join(f"{name} {version}" for name, version in facts.versions.items())),
        ("providers", ", ".join(facts.providers) or "none"),
        ("threads", f"{machine.threads} ({machine.reason})"),
        ("memory", f"{total} in all, {available} free, {_gib(limit) if limit else 'no'} limit on this process"),
        ("instructions", ", ".join(machine.isa) or "none that matter were found"),
        ("int8", _int8(machine.isa)),
        ("hub", _hub(facts)),
    ]
    if facts.bundle is not None:
        rows += [("nodes", line) for line in _nodes(facts.bundle)]
    lines = [f"{name:<13} {text}" for name, text in rows]
    for finding in diagnosis.findings:
        lines += ["", f"{finding.severity:<13} {finding.text}", f"{'':<13} $ {finding.remedy}"]
    return lines


def _int8(isa: Sequence[str]) -> str:
    """What the processor's instructions mean for int8."""
    present = set(isa)
    if "amx_int8" in present:
        return "very fast here: products of bytes in tiles (AMX)"
    if fast := sorted(DOT_PRODUCTS & present):
        return f"fast here: dot products of bytes ({', '.join(fast)})"
    if "avx512f" in present:
        return "AVX-512 without VNNI: gains little over fp32, measure before choosing int8"
    return "no int8 dot products: measure before choosing int8"


def _hub(facts: Facts) -> str:
    if facts.offline:
        return "offline (HF_HUB_OFFLINE)"
    if not facts.asked_hub:
        return f"{facts.endpoint}, not asked (--network does)"
    return f"{facts.endpoint} {'answers' if facts.hub_problem is None else 'does not answer'}"


def _nodes(bundle: BundleFacts) -> list[str]:
    if not bundle.nodes:
        return ["not run" if bundle.problem else "not run: the bundle has no golden request"]
    return [
        f"{share.graph}: {share.nodes} on {share.provider}, {share.time_share:.0%} of the time"
        for share in bundle.nodes
    ]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"
