"""All trials of a plan, in order, resumable: finished trials are kept whatever happens later."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pagelab.analysis.analyze import derive, with_access
from pagelab.analysis.summary import summary_table
from pagelab.config.model_specs import ModelSpec
from pagelab.errors import HostError, InferenceError, PreflightRefusedError, StoreError, TraceError
from pagelab.host.facts import build_facts, manifest, model_file_facts
from pagelab.host.journal import Journal, exclusive, restore
from pagelab.host.procfs import meminfo_bytes
from pagelab.host.storage import disk_of_all, sequential_read_rate
from pagelab.inference.llama_cpp import Build, open_build, threads_of
from pagelab.models.catalog import file_specs, model_path, read_model, verify_model
from pagelab.observe.tracer import choose
from pagelab.run.calibration import Calibration, calibrate
from pagelab.run.plan import Plan, PlannedTrial, check_models, check_sizes, known_weights_bytes, make_plan
from pagelab.run.preflight import Place, refusals, run_checks
from pagelab.run.trial import Bench, run_trial
from pagelab.store.files import Owner
from pagelab.store.record import CheckRecord, Factors, Identity, Limit, RunRecord, TrialRecord, Validity
from pagelab.store.run_store import RunStore, find_runs
from pagelab.units import format_bytes


class Observer(Protocol):
    """Told what the experiment does; the terminal's progress is one."""

    def note(self, sentence: str) -> None:
        """Something that the user should know."""

    def begin(self, label: str, expected_tokens: int) -> None:
        """A calibration or a trial begins."""

    def phase(self, name: str, tokens: int) -> None:
        """A phase of it begins, or one more token came."""

    def trial_done(self, record: TrialRecord, done: int, planned: int) -> None:
        """A trial ended."""


@dataclass(frozen=True)
class Request:
    """One call of `pagelab run`."""

    plan: Plan
    place: Place
    state_directory: Path
    host: str
    image_digest: str | None = None
    owner: Owner | None = None
    resume: bool = False
    force: bool = False
    skip_eviction: bool = False


@dataclass
class Progress:
    """The state of a run between its trials."""

    store: RunStore
    record: RunRecord
    calibrations: dict[tuple[str, str], Calibration] = field(default_factory=dict)

    def anonymous_bytes(self, trial: PlannedTrial) -> int:
        """What the trial's llama.cpp keeps in RAM beside the weights, as calibrated."""
        return self.calibrations[trial.factors.model, trial.factors.huge_pages].kept_bytes


def run_experiment(request: Request, observer: Observer) -> RunStore:
    """Run what is left of a plan and return the store of the run.

    Raises:
        ConfigError: a model's file is missing, or a size cannot fit this host; nothing was touched.
        PreflightRefusedError: a check failed and nothing was forced.
        HostError: another experiment runs on this host, or the host refused a step before the first trial.
        StoreError: a result could not be written; what was finished is kept.
    """
    config, models = request.plan.config, request.place.models_directory
    check_models(config, models)
    check_sizes(config, known_weights_bytes(config, models), meminfo_bytes()["MemTotal"])
    with exclusive(request.state_directory):
        for sentence in restore(request.state_directory):
            observer.note(f"left by an earlier run: {sentence}")
        checks = checked(request, observer)
        build = open_build(request.place.build_directory)
        run = resumed(request, build, observer) or started(request, build)
        run.record.preflight = checks
        run.record.forced = [check.name for check in refusals(checks)]
        if request.skip_eviction:
            run.record.forced.append("eviction skipped")
        try:
            benches = prepare(request, build, run, observer)
            for trial in remaining(request.plan, run.store):
                run_one(benches[trial.factors.model], trial, run, observer)
            close(run)
        finally:
            restore(request.state_directory)
    return run.store


def checked(request: Request, observer: Observer) -> list[CheckRecord]:
    """The preflight's verdicts; refuses where one failed and nothing is forced."""
    checks = run_checks(request.place)
    for check in checks:
        if check.verdict == "warn":
            observer.note(f"{check.name}: {check.found}")
    failed = refusals(checks)
    if failed and not request.force:
        first = failed[0]
        more = f" ({len(failed) - 1} more: `pagelab preflight`)" if len(failed) > 1 else ""
        raise PreflightRefusedError(f"preflight: {first.name}: {first.found}; {first.fix}{more}")
    return checks


def identity_of(request: Request, build: Build) -> Identity:
    """What must be equal for two runs to be the same experiment."""
    config, models = request.plan.config, request.place.models_directory
    return Identity(
        config_sha256=config.sha256(),
        llama_cpp_commit=build.commit,
        llama_cpp_sha256=build.sha256,
        image_digest=request.image_digest,
        model_sha256={spec.name: verify_model(spec, models) for spec in config.models},
    )


def started(request: Request, build: Build) -> Progress:
    """A new run, on disk as incomplete before anything is measured."""
    config, now = request.plan.config, datetime.now(UTC)
    identity = identity_of(request, build)
    run_id = f"{now:%Y%m%dT%H%M%S}-{identity.config_sha256[:8]}"
    facts = manifest(request.place.models_directory)
    facts["llama_cpp"] = {**build_facts(build.directory), "is_pin": build.is_pin}
    facts["threads"] = threads_of(config.inference)
    record = RunRecord(
        run_id=run_id,
        experiment=config.experiment,
        host=request.host,
        status="incomplete",
        identity=identity,
        manifest=facts,
        started_at=now.isoformat(),
        trials_planned=len(make_plan(config).trials),
        notes=[]
        if build.is_pin
        else [
            f"llama.cpp is the declared stand-in, build {build.build_number} from {build.source}, not the pinned commit"
        ],
    )
    store = RunStore.create(request.place.results_directory, config.experiment, request.host, run_id, request.owner)
    store.write_config(config.resolved_yaml())
    store.write_run(record)
    return Progress(store, record)


def resumed(request: Request, build: Build, observer: Observer) -> Progress | None:
    """The newest incomplete run of the same experiment, if the request is to go on with one."""
    if not request.resume:
        return None
    identity = identity_of(request, build)
    config = request.plan.config
    for directory in find_runs(request.place.results_directory, config.experiment, request.host):
        store = RunStore.open(directory, request.owner)
        record = store.read_run()
        if record.status == "incomplete" and record.identity == identity:
            store.discard_unfinished()
            observer.note(f"going on with {directory}: {len(store.read_trials())} trials are finished")
            return Progress(store, record)
    observer.note("no unfinished run of this very experiment to go on with; starting a new one")
    return None


def prepare(request: Request, build: Build, run: Progress, observer: Observer) -> dict[str, Bench]:
    """Per model: its bench, the disk's rate for its file, and its anonymous memory from calibration runs."""
    config = request.plan.config
    left = {trial.factors.model for trial in remaining(request.plan, run.store)}
    if not left:  # killed between the last trial and its end
        return {}
    benches: dict[str, Bench] = {}
    rates: dict[str, float] = {}
    for spec in config.models:
        if spec.name in left:
            benches[spec.name] = bench_of(spec, request, build)
            rates[spec.name] = benches[spec.name].disk_read_bytes_per_second or 0.0
    for name, bench in benches.items():
        for huge_pages in config.factors.huge_pages:
            observer.begin(f"calibrate {name}", config.inference.tokens)
            found = run.calibrations[name, huge_pages] = calibrate(bench, huge_pages, observer.phase)
            if found.evicted_bytes:
                size = format_bytes(found.evicted_bytes)
                observer.note(f"{name}: {size} were in the page cache, put there by somebody else; evicted")
    run.record.manifest["disk_read_bytes_per_second"] = rates
    run.record.manifest["model_files"] = {
        file.name: model_file_facts(model_path(file, request.place.models_directory))
        for spec in config.models
        if spec.name in benches
        for file in file_specs(spec)
    }
    run.record.manifest["calibration"] = [
        {"model": name, "huge_pages": huge_pages, **asdict(found)}
        for (name, huge_pages), found in run.calibrations.items()
    ]
    run.store.write_run(run.record)
    return benches


def bench_of(spec: ModelSpec, request: Request, build: Build) -> Bench:
    """What the trials of one model share."""
    config, model = request.plan.config, read_model(spec, request.place.models_directory)
    return Bench(
        config=config,
        build=build,
        model=model,
        disk=disk_of_all(model.parts),
        journal=Journal(request.state_directory),
        disk_read_bytes_per_second=sequential_read_rate(max(model.parts, key=lambda part: part.stat().st_size)),
        recorders=choose(config.trace, model.path),
        skip_eviction=request.skip_eviction,
    )


def remaining(plan: Plan, store: RunStore) -> list[PlannedTrial]:
    """The trials that have no result yet."""
    finished = {record.trial for record in store.read_trials()}
    return [trial for trial in plan.trials if trial.number not in finished]


def run_one(bench: Bench, trial: PlannedTrial, run: Progress, observer: Observer) -> None:
    """Run a trial; one that the host or llama.cpp refused is kept as invalid, and the experiment goes on."""
    observer.begin(label_of(trial.factors), bench.config.inference.tokens)
    anonymous_bytes = run.anonymous_bytes(trial)
    try:
        record = run_trial(bench, trial, anonymous_bytes, run.store, observer.phase)
    except (HostError, InferenceError) as error:
        record = refused(bench, trial, anonymous_bytes, str(error))
        run.store.write_trial(record)
    else:
        record = analysed(record, run.store, observer)
    run.record.trials_done = len(run.store.read_trials())
    run.store.write_run(run.record)
    observer.trial_done(record, run.record.trials_done, run.record.trials_planned)


def analysed(record: TrialRecord, store: RunStore, observer: Observer) -> TrialRecord:
    """The record with what its trace says of it; where that fails the trial stays as it was measured."""
    if record.trace is None or not record.trace.recorders:
        return record
    observer.phase("analyze", 0)
    try:
        access, notes = derive(store, record)
    except (StoreError, TraceError) as error:
        observer.note(f"trial {record.trial}: its trace was not analysed ({error}); `pagelab analyze` tries again")
        return record
    for note in notes:
        observer.note(f"trial {record.trial}: {note}")
    record = with_access(record, access)
    store.write_trial(record)
    return record


def label_of(factors: Factors) -> str:
    """A trial in a few words: what was not left as it is."""
    words = [factors.model, f"resident {factors.resident:g}", factors.pressure]
    usual = {"default", "mmap", "kernel"}
    others = factors.model_dump(exclude={"model", "resident", "pressure"})
    return ", ".join(words + [f"{name} {value}" for name, value in others.items() if value not in usual])


def refused(bench: Bench, trial: PlannedTrial, anonymous_bytes: int, reason: str) -> TrialRecord:
    """The record of a trial that could not be run."""
    return TrialRecord(
        trial=trial.number,
        factors=trial.factors,
        repetition=trial.repetition,
        order=trial.number,
        started_at=datetime.now(UTC).isoformat(),
        weights_bytes=bench.model.weights_bytes,
        model_file_bytes=bench.model.file_bytes,
        limit=Limit(non_file_bytes=anonymous_bytes),
        validity=Validity(valid=False, reasons=[reason]),
    )


def close(run: Progress) -> None:
    """Write the summary, and call the run complete if every trial of its configuration is there.

    After `--only` the rest is missing; `--resume` without it goes on with them.
    """
    trials = run.store.read_trials()
    run.store.write_summary(summary_table(trials))
    run.record.trials_done = len(trials)
    if run.record.trials_done == run.record.trials_planned:
        run.record.status = "complete"
    run.record.ended_at = datetime.now(UTC).isoformat()
    run.store.write_run(run.record)
