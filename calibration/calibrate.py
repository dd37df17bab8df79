"""From a bundle at full width and recorded feeds to a bundle with explicit Q/DQ.

Same feeds, same bytes, if numpy's products have the same number of threads: they add in another order with another.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vita_edge.engines.bundle.atomic_folder import free_place, whole_folder
from vita_edge.engines.bundle.component_spec import COMPONENT_SPECS, COMPONENTS
from vita_edge.engines.bundle.format import MANIFEST, MANIFEST_FILE, Bundle, sha256_of
from vita_edge.engines.bundle.replace import refusal
from vita_edge.engines.errors import BadBundle, Misuse
from vita_edge.engines.onnxruntime.version import check_version
from vita_edge.engines.reading.file_kind import FileKind
from vita_edge.engines.reading.json_file import read_json

from .choices import Choices
from .component import calibrate_component
from .component_graph import ComponentGraph
from .decide import asked_bits
from .feeds import PREFIX, Feeds, Sample, whole_feeds
from .layers import find_groups
from .report.calibration_report import CalibrationReport, LayerReport, StageReport
from .report.picture import picture_png
from .walk import run_graph

__all__ = ["Choices", "calibrate"]

WIDE, NARROW = ("fp32", "fp16"), ("int4", "int8")
SCALE_BITS = 0.5
"""For each weight: more than what its share of a scale takes, at every size of a block that is used."""
REPORT = "calibration"
"""Folder of the bundle for the report and its picture."""
EARLIER = FileKind(
    BadBundle, "the report", fix="Copy the bundle again, or calibrate the one that it was made of again."
)

Progress = Callable[[str, int, int], object]
"""Called with (component, nodes done, nodes in all)."""


def calibrate(
    bundle_path: str | Path,
    feeds_path: str | Path,
    output: str | Path,
    choices: Choices | None = None,
    *,
    components: Sequence[str] | None = None,
    threads: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> CalibrationReport:
    """Write to ``output`` the bundle with the layers of ``components`` quantised, and a report beside them.

    Args:
        components: names; None takes all that the feeds have samples of.
        force: replace a bundle that is already there.

    Raises:
        BadBundle: the bundle is damaged; files that are read are compared with their checksums.
        BadInput: the feeds are damaged, of another model, or hold nothing of a component that was named.
        Misuse: a component is unknown or already quantised; something is in the way at ``output``.
        OutputFailed: no space or no permission.
    """
    choices = choices or Choices()
    bundle, feeds = Bundle.open(bundle_path), Feeds.open(feeds_path)
    feeds.check(bundle)
    check_version(bundle.path, bundle.target, bundle.onnxruntime)
    names, notes = _chosen(bundle, feeds, components)
    manifest = read_json(bundle.path / MANIFEST, MANIFEST_FILE)
    sources = {"bundle": bundle.path, "recording": Path(feeds_path)}
    place = free_place(output, lambda there: refusal(there, force=force, sources=sources))
    over = force and (place / MANIFEST).is_file()
    _check_sources(bundle, names)
    graphs = {name: ComponentGraph(bundle.components[name].graph) for name in names}
    earlier = _earlier_report(bundle, manifest, names)
    layers: list[LayerReport] = []
    stages: list[StageReport] = []
    needed = _expected_bytes(bundle, graphs, choices)
    with whole_folder(place, needed, what="bundle", replace=over) as folder:
        changed = {file for name in names for file in bundle.components[name].files}
        copied = _copy(bundle, folder, changed)
        (folder / "components").mkdir(exist_ok=True)
        for name in names:
            prefill = _prefill(bundle, name)
            raw = feeds.samples(name, choices.samples, graphs[name].inputs, prefill.inputs if prefill else ())
            inputs = _whole(graphs[name], prefill, raw, threads)
            stage, own = calibrate_component(
                name,
                graphs[name],
                inputs,
                choices,
                bundle.target,
                folder / "components",
                raw,
                threads=threads,
                progress=_named(progress, name),
            )
            stages.append(stage)
            layers += own
            notes += _found(stage, own)
        report = CalibrationReport(
            choices.precision, choices.to_json(), tuple(layers), tuple(stages), tuple(notes), earlier
        )
        report = _with_picture(report, folder)
        (folder / REPORT / "report.json").write_text(
            json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n", "utf-8"
        )
        _write_manifest(manifest, folder, names, report, {name: manifest["files"][name] for name in copied})
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return replace(report, bytes=size)


def _expected_bytes(bundle: Bundle, graphs: Mapping[str, ComponentGraph], choices: Choices) -> int:
    """Of the bundle that is to be written, if every layer takes the bits that it is asked to."""
    saved = 0.0
    for name, graph in graphs.items():
        for layer, bits in asked_bits(name, find_groups(graph), choices):
            weight = graph.array(layer.weight)
            saved += weight.nbytes - weight.size * (bits + SCALE_BITS) / 8
    return bundle.bytes - int(saved)


def _chosen(bundle: Bundle, feeds: Feeds, components: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Names to calibrate in the order of a bundle, and what should be known about the others."""
    if unknown := sorted(set(components or ()) - set(COMPONENTS)):
        raise Misuse(
            f"There is no component {unknown[0]}.", why=f"Known: {', '.join(COMPONENTS)}.", fix="Choose one of them."
        )
    requested = [name for name in COMPONENTS if components is None or name in components]
    narrow = [name for name in requested if bundle.components[name].precision not in WIDE]
    if narrow:
        raise Misuse(
            f"{', '.join(narrow)} of {bundle.path} cannot be calibrated.",
            why=f"Its precision is {bundle.components[narrow[0]].precision}: what was rounded is not rounded again.",
            fix="Export the checkpoint at --precision fp32 or fp16, and calibrate that.",
        )
    missing = [name for name in requested if not feeds.files.get(name)]
    if missing and (components is not None or len(missing) == len(requested)):
        feeds.samples(missing[0], 1, ())  # says that there are none
    names = [name for name in requested if name not in missing]
    return names, [f"{name} was left as it is: the feeds hold nothing of it" for name in missing]


def _prefill(bundle: Bundle, name: str) -> ComponentGraph | None:
    """The graph that fills the cache of a component before it begins, where one does."""
    filled_by = COMPONENT_SPECS[name].filled_by
    return ComponentGraph(bundle.components[filled_by].graph) if filled_by else None


def _whole(graph: ComponentGraph, prefill: ComponentGraph | None, raw: Sequence[Sample], threads: int) -> list[Sample]:
    """What the graph takes for each sample; the speech decoder's cache is filled as in a talk."""
    filled = [i for i, sample in enumerate(raw) if prefill and PREFIX in sample]
    prefixes: dict[int, Sample] = {}
    if prefill and filled:
        sentences = [whole_feeds(prefill.inputs, {PREFIX: raw[i][PREFIX]}) for i in filled]
        prefixes = dict(zip(filled, run_graph(prefill, sentences, threads=threads)))
    return [whole_feeds(graph.inputs, sample, prefixes.get(i)) for i, sample in enumerate(raw)]


def _found(stage: StageReport, layers: Sequence[LayerReport]) -> Iterator[str]:
    """What should be known of a component that was calibrated."""
    if unknown := [layer.name for layer in layers if layer.snr_db is None]:
        names = ", ".join(unknown)
        yield f"{stage.component}: left at full precision, since all inputs were zero, NaN or infinite: {names}"
    if not stage.reached:
        yield (
            f"{stage.component} reaches {stage.snr_db:.1f} dB and not {stage.target_db:g}, with {stage.wider} of "
            f"{len(layers)} layers wider than asked: more different feeds, another --method or --weights, or "
            f"--keep-below may bring it nearer"
        )


def _named(progress: Progress | None, name: str) -> Callable[[int, int], object]:
    return lambda done, total: progress(name, done, total) if progress else None


def _check_sources(bundle: Bundle, names: Sequence[str]) -> None:
    """What is rounded gets checksums of its own: damage would be found no more."""
    read = {*names, *(COMPONENT_SPECS[name].filled_by for name in names)}
    for file in (file for name in COMPONENTS if name in read for file in bundle.components[name].files):
        name = file.relative_to(bundle.path).as_posix()
        if sha256_of(file) != bundle.files[name][1]:
            raise BadBundle(
                f"The bundle {bundle.path} is damaged.",
                why=f"{name} does not have the checksum of its manifest.",
                fix="Copy the bundle again, or export the checkpoint again.",
            )


def _copy(bundle: Bundle, folder: Path, changed: set[Path]) -> list[str]:
    """Files that stay as they are, and keep the checksums that they had: damage stays to be found."""
    names = [name for name in bundle.files if bundle.path / name not in changed and not name.startswith(f"{REPORT}/")]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, folder / name)
    return names


def _with_picture(report: CalibrationReport, folder: Path) -> CalibrationReport:
    (folder / REPORT).mkdir(exist_ok=True)
    try:
        (folder / REPORT / "report.png").write_bytes(picture_png(report))
    except ModuleNotFoundError as error:
        note = f"there is no picture: {error.name} is not installed (extra: bench)"
        return replace(report, notes=(*report.notes, note))
    return report


def _write_manifest(
    manifest: dict[str, Any],
    folder: Path,
    names: Sequence[str],
    report: CalibrationReport,
    known: Mapping[str, Mapping[str, Any]],
) -> None:
    """What is true of the bundle now; ``known`` are bytes and checksums of files that were copied."""
    for name in names:
        retained = {layer.stored_as.split()[0] for layer in report.layers if layer.component == name}
        if narrow := [precision for precision in NARROW if precision in retained]:
            manifest["components"][name]["precision"] = narrow[0]
    everywhere = {part["precision"] for part in manifest["components"].values()}
    manifest["precision"] = next((each for each in NARROW if each in everywhere), manifest["precision"])
    earlier = manifest.get("calibration", {"components": [], "feeds": {}})
    manifest["calibration"] = {
        "components": [name for name in COMPONENTS if name in (*earlier["components"], *names)],
        "feeds": {**earlier["feeds"], **{stage.component: stage.feeds for stage in report.stages}},
        "report": f"{REPORT}/report.json",
    }
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST)
    manifest["files"] = {
        name: known.get(name) or {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file, name in ((file, file.relative_to(folder).as_posix()) for file in files)
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _earlier_report(bundle: Bundle, manifest: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any] | None:
    """What was found of other components when the bundle was calibrated before."""
    calibration = manifest.get("calibration")
    reported = calibration.get("report") if isinstance(calibration, Mapping) else None
    if not isinstance(reported, str) or reported not in bundle.files:
        return None
    file = bundle.path / reported
    report = read_json(file, EARLIER)
    try:
        return _without(names, report)
    except (KeyError, TypeError) as error:
        raise EARLIER.refusal(file, f"{type(error).__name__}: {error}.") from error


def _without(names: Sequence[str], report: dict[str, Any]) -> dict[str, Any]:
    """A report and those before it, of all components but ``names``."""
    for key in ("stages", "layers"):
        report[key] = [each for each in report[key] if each["component"] not in names]
    if report.get("earlier"):
        report["earlier"] = _without(names, report["earlier"])
    return report
