"""Checks before an experiment: what was found, why it matters, and what would put it right.

A failed check refuses the run unless it is forced; a warning is recorded with the result.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pagelab.config.factors import FACTORS, FoundSetting
from pagelab.config.model_specs import ModelSpec, SyntheticSource
from pagelab.config.schema import Config
from pagelab.errors import HostError, InferenceError, ModelError, PagelabError, printable
from pagelab.host import cpu, environment, kernel
from pagelab.host.cgroup import new_group, remove_parent
from pagelab.host.procfs import if_known, meminfo_bytes, swap_areas
from pagelab.host.storage import Disk, free_bytes
from pagelab.host.swap import SwapPlace, swap_places
from pagelab.inference.build import PINNED_COMMIT, altered_files, open_build, version_of
from pagelab.models.catalog import read_model, verify_model
from pagelab.models.gguf_header import integer
from pagelab.observe.tracer import choose
from pagelab.pressure.pin import can_lock_page
from pagelab.run.estimate import estimate
from pagelab.run.lab import Lab
from pagelab.run.models_disk import disks_of_models, models_disk_check
from pagelab.run.plan import known_weights_bytes, longest, make_plan, needed_bytes
from pagelab.store.record import CheckRecord, CheckVerdict
from pagelab.units import MIB, format_bytes


def run_checks(config: Config, lab: Lab) -> list[CheckRecord]:
    """Run every check, in the order in which they depend on each other; none raises."""
    return [record for check in CHECKS for record in _records(check, config, lab)]


def _records(check: "Check", config: Config, lab: Lab) -> list[CheckRecord]:
    """What a check finds; where it cannot look, a failed one beside what it found before."""
    records = []
    try:
        for record in check(config, lab):
            records.append(record)
    except (PagelabError, OSError) as error:
        name, why = check.__name__.strip("_").replace("_", " "), "what cannot be looked at can change what is measured"
        fix = "see to what it says, or start through `make`"
        records.append(CheckRecord(name=name, verdict="fail", found=printable(str(error)), why=why, fix=fix))
    return records


def refusals(checks: list[CheckRecord]) -> list[CheckRecord]:
    """The failed checks."""
    return [check for check in checks if check.verdict == "fail"]


def _check(name: str, passed: bool, found: str, why: str, fix: str, otherwise: CheckVerdict = "fail") -> CheckRecord:
    """A check that passes or does not, and then says what to do."""
    verdict: CheckVerdict = "pass" if passed else otherwise
    return CheckRecord(name=name, verdict=verdict, found=found, why=why, fix=None if passed else fix)


def _swap(config: Config, _lab: Lab) -> Iterator[CheckRecord]:
    areas, minimum = swap_areas(), config.memory.swap_minimum
    total = sum(area.size_bytes for area in areas)
    yield _check(
        "swap",
        total >= minimum,
        found=f"{format_bytes(total)} in {', '.join(printable(area.path) for area in areas) or 'no area'}",
        why="without swap the kernel cannot move anonymous memory out of the way and kills llama.cpp instead",
        fix="run `make provision`, or lower memory.swap_minimum in the configuration",
    )


def _models_disk(config: Config, lab: Lab) -> Iterator[CheckRecord]:
    set_here = any(factors.readahead_kib != "default" for factors in config.combinations())
    for disk in disks_of_models(config, lab.models_directory):
        yield models_disk_check(disk, set_here)


def _swap_disk(config: Config, lab: Lab) -> Iterator[CheckRecord]:
    for models_disk in if_known(disks_of_models, config, lab.models_directory) or []:
        for place in swap_places():
            yield swap_disk_check(place, models_disk, config.memory.swap_disk)


def swap_disk_check(place: SwapPlace, models_disk: Disk, declared: Literal["same", "any"]) -> CheckRecord:
    """Whether a swap area is on the models' disk, or on another one that memory.swap_disk allows."""
    path, compressed, shared = printable(place.area.path), place.is_compressed_memory, place.is_on(models_disk)
    undeclared = shared is False and declared == "same"
    disk = place.disk.name if place.disk else "a disk that is not visible here"
    fix = None
    if compressed:
        fix = f"swapoff {path}"
    elif undeclared:
        fix = "put the swap file on the models' disk, or declare memory.swap_disk: any"
    return CheckRecord(
        name="swap disk",
        verdict="fail" if compressed or undeclared else "pass" if shared else "warn",
        found=f"{path} on {disk}, the models on {models_disk.name}",
        why="zram is memory, and swap on another disk than the model changes what is measured",
        fix=fix,
    )


def _zswap(_config: Config, _lab: Lab) -> Iterator[CheckRecord]:
    yield zswap_check(kernel.zswap())


def zswap_check(setting: str | None) -> CheckRecord:
    """Whether zswap is on, which a run may go on with: its share of the swap is then no disk."""
    return _check(
        "zswap",
        setting != "Y",
        found={"Y": "on", None: "this kernel has none"}.get(setting, "off"),
        why="zswap keeps swapped pages compressed in RAM, so that part of the swap is no disk",
        fix="echo N > /sys/module/zswap/parameters/enabled",
        otherwise="warn",
    )


def _proactive_reclaim(_config: Config, _lab: Lab) -> Iterator[CheckRecord]:
    found = kernel.proactive_reclaim()
    yield _check(
        "proactive reclaim",
        not found,
        found=", ".join(found) or "none",
        why="it pages out cold memory without any shortage, pages of the model among it",
        fix="echo off > /sys/kernel/mm/damon/admin/kdamonds/0/state, if it is yours to stop",
        otherwise="warn",
    )


def _memory_lock(config: Config, _lab: Lab) -> Iterator[CheckRecord]:
    able, capable = can_lock_page(), environment.CAP_IPC_LOCK in environment.capabilities()
    yield _check(
        "memory lock",
        able and capable,
        found=f"a page {'was' if able else 'could not be'} locked, CAP_IPC_LOCK is {'there' if capable else 'missing'}",
        why="pinning locks dummy memory; with the capability `ulimit -l` does not matter",
        fix="start through `make`, which gives the container CAP_IPC_LOCK",
        otherwise="fail" if any(factors.pressure == "pin" for factors in config.combinations()) else "warn",
    )


def _models(config: Config, lab: Lab) -> Iterator[CheckRecord]:
    for spec in config.models:
        yield _model(spec, lab.models_directory)


def _model(spec: ModelSpec, models_directory: Path) -> CheckRecord:
    name, why = f"model {spec.name}", "a damaged or other model gives numbers that nobody can compare"
    try:
        sha256 = verify_model(spec, models_directory)
        model = read_model(spec, models_directory)
    except ModelError as error:
        return CheckRecord(name=name, verdict="fail", found=str(error), why=why, fix="run `make provision CONFIG=…`")
    kind = f"mixture of {model.experts} experts, {model.experts_used} used" if model.experts else "dense"
    origin = "generated" if isinstance(spec.source, SyntheticSource) else "checked"
    files = f" in {len(model.parts)} files" if len(model.parts) > 1 else ""
    found = f"{model.architecture}, {kind}, {model.quantisation}, {format_bytes(model.weights_bytes)} of weights{files}"
    return CheckRecord(name=name, verdict="pass", found=f"{found}; sha256 {sha256[:12]}… {origin}", why=why)


def _contexts(config: Config, lab: Lab) -> Iterator[CheckRecord]:
    for spec in config.models:
        try:
            model = read_model(spec, lab.models_directory)
        except ModelError:
            continue  # the model's own check says so
        trained, asked = integer(model.metadata, f"{model.architecture}.context_length"), config.inference.context
        if trained:
            yield _check(
                f"context of {spec.name}",
                asked <= trained,
                found=f"{asked} tokens, of {trained} that the model was trained for",
                why="llama.cpp keeps memory for each token of the context, also where no model can use it",
                fix="lower inference.context",
            )


def _llama_cpp(config: Config, lab: Lab) -> Iterator[CheckRecord]:
    for engine in config.engines():
        yield _engine(engine, lab.builds_directory / engine)


def _engine(engine: str, directory: Path) -> CheckRecord:
    name = "llama.cpp" if engine == "pin" else f"llama.cpp, engine {engine}"
    why = "results of different llama.cpp builds are different experiments"
    try:
        build = open_build(directory)
        number, commit = version_of(build)
    except InferenceError as error:
        return CheckRecord(name=name, verdict="fail", found=str(error), why=why, fix="run `make provision CONFIG=…`")
    altered = altered_files(build)
    same = number == build.build_number and build.commit.startswith(commit[:7]) and not altered
    stands_in = engine == "pin" and not build.is_pin
    return CheckRecord(
        name=name,
        verdict="fail" if not same else "warn" if stands_in else "pass",
        found=f"build {number} ({commit}) from {build.source}"
        + (f", the stand-in for the pin {PINNED_COMMIT[:9]}" if stands_in else "")
        + (f"; altered: {', '.join(altered)}" if altered else ""),
        why=why,
        fix=None if same else "remove the build directory and run `make provision`",
    )


def _memory_controller(_config: Config, _lab: Lab) -> Iterator[CheckRecord]:
    why = "the group's limit is what keeps the model out of RAM"
    try:
        group = new_group(f"preflight-{os.getpid()}")
        group.create()
        try:
            limit = group.set_limit(64 * MIB)
        finally:
            group.remove()
            remove_parent()
    except HostError as error:
        fix = "start through `make`, which gives the container the host's control groups"
        yield CheckRecord(name="memory controller", verdict="fail", found=str(error), why=why, fix=fix)
        return
    found = f"cgroup v{group.version}: a group was made in {group.path.parent}, limited to {limit} bytes and read back"
    yield CheckRecord(name="memory controller", verdict="pass", found=found, why=why)


def _free_memory(config: Config, lab: Lab) -> Iterator[CheckRecord]:
    memory = meminfo_bytes()
    available, total = memory.get("MemAvailable", 0), memory.get("MemTotal", 0)
    for spec in config.models:
        try:
            weights = read_model(spec, lab.models_directory).weights_bytes
        except ModelError:
            continue  # the model's own check says so
        needed = needed_bytes(config, spec.name, weights, total)
        yield _check(
            f"free memory for {spec.name}",
            available >= needed,
            found=f"{format_bytes(available)} available of {format_bytes(total)}, up to {format_bytes(needed)} needed",
            why="a baseline whose model does not fit is no baseline, and pinning more than is free kills the host",
            fix="stop other programs, lower factors.resident or raise memory.os_reserve",
        )


def _free_disk(config: Config, lab: Lab) -> Iterator[CheckRecord]:
    plan = longest(make_plan(config))
    needed = estimate(plan, known_weights_bytes(config, lab.models_directory)).result_bytes
    free = free_bytes(_existing(lab.results_directory))
    yield _check(
        "free disk for results",
        free >= needed,
        found=f"{format_bytes(free)} free in {lab.results_directory}, about {format_bytes(needed)} needed",
        why="a full disk ends the experiment",
        fix="make room there, or name another place with --results",
    )


def _existing(path: Path) -> Path:
    """The path or the nearest directory above it that exists."""
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())


def _settings(config: Config, lab: Lab) -> Iterator[CheckRecord]:
    disks: Sequence[Disk | None] = if_known(disks_of_models, config, lab.models_directory) or [None]
    per_disk = [factor.found(disk) for disk in disks for factor in FACTORS.values()]
    recorded = [found for found in dict.fromkeys(per_disk) if found is not None]
    recorded += [
        FoundSetting("CPU governor", cpu.cpu_governor(), "a clock that varies makes repetitions differ"),
        FoundSetting(
            "multi-generational LRU", kernel.multi_generational_lru(), "it evicts by other rules than the older LRU"
        ),
    ]
    for name, value, why in recorded:
        yield CheckRecord(name=name, verdict="info", found=value or "this kernel has none", why=why)


def _trace(config: Config, lab: Lab) -> Iterator[CheckRecord]:
    settings = config.trace
    if settings.block == "off" and settings.page_cache == "off":
        return
    why = "a trace says which part of the model was read when, and in what order"
    try:
        choice = choose(settings, lab.models_directory)
    except HostError as error:
        yield CheckRecord(name="trace", verdict="fail", found=str(error), why=why, fix="set trace.block to auto")
        return
    found = [f"reads of the disk by {choice.block}"] if choice.block else []
    found += ["pages of the model by tracefs"] if choice.pages else []
    yield _check(
        "trace",
        not choice.notes,
        found="; ".join([", ".join(found) or "nothing can be traced", *choice.notes]),
        why=why,
        fix="set trace.block and trace.page_cache to off where that is all the same",
        otherwise="warn",
    )


Check = Callable[[Config, Lab], Iterator[CheckRecord]]
CHECKS: tuple[Check, ...] = (
    _models_disk,
    _swap,
    _swap_disk,
    _zswap,
    _proactive_reclaim,
    _memory_lock,
    _memory_controller,
    _llama_cpp,
    _models,
    _contexts,
    _free_memory,
    _free_disk,
    _settings,
    _trace,
)
