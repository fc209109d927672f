"""All trials of a plan, in order, resumable: finished trials are kept whatever happens later."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from pagelab.analysis.analyze import derive, read_config
from pagelab.analysis.trial_table import summary_table
from pagelab.config.model_specs import ModelSpec
from pagelab.config.schema import Config
from pagelab.errors import HostError, InferenceError, PreflightRefusedError, StoreError, TraceError
from pagelab.host.disk_rates import DiskRates
from pagelab.host.facts import build_facts, manifest, model_file_facts
from pagelab.host.journal import Journal, exclusive, restore
from pagelab.host.procfs import total_memory_bytes
from pagelab.host.storage import disk_of_all
from pagelab.inference.build import Build, open_builds, threads_of
from pagelab.models.catalog import read_model, require_files, verify_model
from pagelab.observe.tracer import choose
from pagelab.run.budget import to_repeat
from pagelab.run.calibration import calibrate
from pagelab.run.disk_profile import disk_rates_of
from pagelab.run.lab import Lab
from pagelab.run.plan import Plan, PlannedTrial, check_sizes, known_weights_bytes, make_plan, select
from pagelab.run.preflight import refusals, run_checks
from pagelab.run.trial import refuse_trial, run_trial
from pagelab.run.trial_setup import Calibration, TrialSetup
from pagelab.store.record import CheckRecord, Identity, RunRecord, TrialRecord
from pagelab.store.run_store import RunStore, find_runs
from pagelab.store.verify import refuse, shortened, verify
from pagelab.units import format_bytes

Builds = Mapping[str, Build]
"""The builds of llama.cpp that the trials use, by the factor `engine`; the pin is the first where it is one of them."""


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

    def planned(self, trials: int) -> None:
        """So many trials are planned from now on."""


@dataclass
class RunInProgress:
    """The state of a run between its trials."""

    store: RunStore
    record: RunRecord
    setups: dict[str, TrialSetup] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)

    def calibration(self, trial: PlannedTrial) -> Calibration:
        """That of the trial's model and settings."""
        return self.calibrations[trial.factors.calibrated().label()]


def run_experiment(
    plan: Plan,
    lab: Lab,
    observer: Observer,
    *,
    resume: bool = False,
    force: bool = False,
    skip_eviction: bool = False,
) -> RunStore:
    """Run what is left of a plan and return the store of the run.

    Raises:
        ModelError: a model's file is missing; nothing was touched.
        ConfigError: a size cannot fit this host; nothing was touched.
        PreflightRefusedError: a check failed and nothing was forced.
        HostError: another experiment runs on this host, or the host refused a step before the first trial.
        StoreError: a result could not be written; what was finished is kept.
    """
    config = plan.config
    for spec in config.models:
        require_files(spec, lab.models_directory)
    check_sizes(config, known_weights_bytes(config, lab.models_directory), total_memory_bytes())
    with exclusive(lab.state_directory):
        for sentence in restore(lab.state_directory):
            observer.note(f"left by an earlier run: {sentence}")
        checks = checked(config, lab, force, observer)
        builds = open_builds(lab.builds_directory, config.engines())
        run = (resumed(config, lab, builds, observer) if resume else None) or started(config, lab, builds)
        if run.record.status == "complete":
            return run.store
        run.record.preflight = checks
        run.record.forced = [check.name for check in refusals(checks)]
        if skip_eviction:
            run.record.forced.append("eviction skipped")
        try:
            while left := next_trials(plan, run, observer):
                prepare(left, config, lab, builds, run, observer, skip_eviction)
                for trial in left:
                    run_one(run.setups[trial.factors.model], trial, run, observer)
            close(run)
        finally:
            restore(lab.state_directory)
    return run.store


def checked(config: Config, lab: Lab, force: bool, observer: Observer) -> list[CheckRecord]:
    """The preflight's verdicts; refuses where one failed and nothing is forced."""
    checks = run_checks(config, lab)
    for check in checks:
        if check.verdict == "warn":
            observer.note(f"{check.name}: {check.found}")
    failed = refusals(checks)
    if failed and not force:
        first = failed[0]
        more = f" ({len(failed) - 1} more: `pagelab preflight`)" if len(failed) > 1 else ""
        raise PreflightRefusedError(f"preflight: {first.name}: {first.found}; {first.fix}{more}")
    return checks


def identity_of(config: Config, lab: Lab, builds: Builds) -> Identity:
    """What must be equal for two runs to be the same experiment."""
    build, *_ = builds.values()
    others = {engine: other.sha256 for engine, other in builds.items() if other is not build}
    return Identity(
        config_sha256=config.sha256(),
        llama_cpp_commit=build.commit,
        llama_cpp_sha256=build.sha256,
        other_engines_sha256=others,
        image_digest=lab.image_digest,
        model_sha256={spec.name: verify_model(spec, lab.models_directory) for spec in config.models},
    )


def started(config: Config, lab: Lab, builds: Builds) -> RunInProgress:
    """A new run, on disk as incomplete before anything is measured."""
    now, identity = datetime.now(UTC), identity_of(config, lab, builds)
    run_id = f"{now:%Y%m%dT%H%M%S}-{identity.config_sha256[:8]}"
    facts = manifest(lab.models_directory)
    engines = {name: build_facts(build.directory) | {"is_pin": build.is_pin} for name, build in builds.items()}
    facts["llama_cpp"] = next(iter(engines.values()))
    if len(engines) > 1:
        facts["engines"] = engines
    numbers = sorted({threads_of(config.inference_with(factors)) for factors in config.combinations()})
    facts["threads"] = numbers[0] if len(numbers) == 1 else numbers
    record = RunRecord(
        run_id=run_id,
        experiment=config.experiment,
        host=lab.host,
        status="incomplete",
        identity=identity,
        manifest=facts,
        started_at=now.isoformat(),
        trials_planned=len(make_plan(config).trials),
        notes=[sentence for item in builds.items() if (sentence := other_than_pin(*item))],
    )
    store = RunStore.create(lab.results_directory, config.experiment, lab.host, run_id, lab.owner)
    store.write_config(config.resolved_yaml())
    store.write_run(record)
    return RunInProgress(store, record)


def other_than_pin(engine: str, build: Build) -> str | None:
    """That a build is not the pinned commit, in a sentence; None where it is."""
    if build.is_pin:
        return None
    which = "llama.cpp is the declared stand-in" if engine == "pin" else f"engine {engine} is llama.cpp"
    return f"{which}, build {build.build_number} from {build.source}, not the pinned commit"


def resumed(config: Config, lab: Lab, builds: Builds, observer: Observer) -> RunInProgress | None:
    """The newest run of the same experiment that lacks trials, or its page; None where there is none."""
    identity = identity_of(config, lab, builds)
    for directory in find_runs(lab.results_directory, config.experiment, lab.host):
        store = RunStore.open(directory, lab.owner)
        try:
            record = store.read_run()
            if record.identity != identity or (record.status == "complete" and store.page_path.exists()):
                continue
            mend(store, config, observer)
        except StoreError as error:  # a run of an older pagelab, or a damaged one, is no reason not to go on
            observer.note(f"passed over: {error}")
            continue
        if record.status == "complete":  # killed before its page was written, or the disk was full
            observer.note(f"{directory} is complete: nothing is measured again, only its page is written")
        else:
            observer.note(f"going on with {directory}: {len(store.observed_trials())} trials are finished")
        return RunInProgress(store, record)
    observer.note("no unfinished run of this very experiment to go on with; starting a new one")
    return None


def mend(store: RunStore, config: Config, observer: Observer) -> None:
    """Remove what a killed run left unfinished, compute what it did not, and say what of its record is damaged.

    Raises:
        StoreError: a file of the run itself is damaged, or the disk refused.
    """
    store.discard_unfinished()
    found = verify(store)
    refuse(store, [one for one in found if one.kind == "run"])
    damaged = {one.trial for one in found if one.kind == "recorded"}
    for sentence in shortened(str(one) for one in found if one.kind in ("recorded", "unchecked")):
        observer.note(sentence)
    outdated = {one.trial for one in found if one.kind == "derived"}
    for number in store.observed_trials():
        if number not in damaged and (number in outdated or not store.is_computed(number)):
            derived(store, number, config, observer)
    if store.read_run().status == "complete":
        store.write_summary(summary_table(store.read_trials()))


def next_trials(plan: Plan, run: RunInProgress, observer: Observer) -> list[PlannedTrial]:
    """The trials that were not measured yet or, after the last of them, those that the budget adds.

    What is added is written down before it is run, so that a run that is gone on with has the same plan.
    """
    now = select(make_plan(plan.config, run.record.repeated), plan.only)
    left = remaining(now, run.store)
    if left or plan.config.until is None or not (added := to_repeat(now, run.store.read_trials())):
        return left
    run.record.repeated += added
    run.record.trials_planned += len(added)
    run.store.write_run(run.record)
    observer.planned(run.record.trials_planned)
    noun = "combination is" if len(added) == 1 else "combinations are"
    observer.note(f"{len(added)} {noun} not known well enough for `until`, and repeated once more")
    return remaining(select(make_plan(plan.config, run.record.repeated), plan.only), run.store)


def prepare(
    left: Sequence[PlannedTrial],
    config: Config,
    lab: Lab,
    builds: Builds,
    run: RunInProgress,
    observer: Observer,
    skip_eviction: bool,
) -> None:
    """What trials share and do not have yet: per model its disk's rate for its file, and calibrations of its memory."""
    models = {trial.factors.model for trial in left} - run.setups.keys()
    combinations = {(calibrated := trial.factors.calibrated()).label(): calibrated for trial in left}
    wanted = {label: factors for label, factors in combinations.items() if label not in run.calibrations}
    if not models and not wanted:
        return
    run.setups |= {
        spec.name: setup_of(spec, config, lab, builds, skip_eviction) for spec in config.models if spec.name in models
    }
    for label, factors in wanted.items():
        observer.begin(f"calibrate {label}", config.inference.tokens)
        found = run.calibrations[label] = calibrate(run.setups[factors.model], factors, observer.phase)
        if found.evicted_bytes:
            size = format_bytes(found.evicted_bytes)
            observer.note(f"{factors.model}: {size} were in the page cache, put there by somebody else; evicted")
    facts, setups = run.record.manifest, run.setups
    rates = {name: setup.disk_rates for name, setup in setups.items() if setup.disk_rates}
    facts["disk_read_bytes_per_second"] = {name: found.direct_bytes_per_second for name, found in rates.items()}
    facts["disk_rates"] = {name: asdict(found) for name, found in rates.items()}
    bursts = [sentence for found in rates.values() if (sentence := burst(found))]
    run.record.notes += [sentence for sentence in dict.fromkeys(bursts) if sentence not in run.record.notes]
    facts["model_files"] = {
        part.name: model_file_facts(part) for setup in setups.values() for part in setup.model.parts
    }
    facts["calibration"] = [{"factors": label, **asdict(found)} for label, found in run.calibrations.items()]
    run.store.write_run(run.record)


def burst(rates: DiskRates) -> str | None:
    """That a disk began faster than it went on, in a sentence; None where it did not."""
    if not rates.gives_bursts:
        return None
    first, last = rates.first_second_bytes_per_second or 0.0, rates.last_second_bytes_per_second or 0.0
    return (
        f"the disk gives bursts: {format_bytes(first)} in the first second and {format_bytes(last)} in the last one "
        "of its measurement; trials that are long enough see the lower rate"
    )


def setup_of(spec: ModelSpec, config: Config, lab: Lab, builds: Builds, skip_eviction: bool) -> TrialSetup:
    """What the trials of one model share."""
    model = read_model(spec, lab.models_directory)
    disk = disk_of_all(model.parts)
    return TrialSetup(
        config=config,
        builds=builds,
        model=model,
        disk=disk,
        journal=Journal(lab.state_directory),
        disk_rates=disk_rates_of(model.largest_part, disk, lab.state_directory),
        recorders=choose(config.trace, model.path),
        skip_eviction=skip_eviction,
    )


def remaining(plan: Plan, store: RunStore) -> list[PlannedTrial]:
    """The trials that were not measured yet."""
    finished = set(store.observed_trials())
    return [trial for trial in plan.trials if trial.number not in finished]


def run_one(setup: TrialSetup, trial: PlannedTrial, run: RunInProgress, observer: Observer) -> None:
    """Run a trial; one that the host or llama.cpp refused is kept as invalid, and the experiment goes on."""
    observer.begin(trial.factors.label(), setup.config.inference.tokens)
    calibration = run.calibration(trial)
    try:
        run_trial(setup, trial, calibration, run.store, observer.phase)
    except (HostError, InferenceError) as error:
        refuse_trial(setup, trial, calibration, run.store, str(error))
    observer.phase("analyze", 0)
    record = derived(run.store, trial.number, setup.config, observer)
    run.record.trials_done = len(run.store.observed_trials())
    run.store.write_run(run.record)
    observer.trial_done(record, run.record.trials_done, run.record.trials_planned)


def derived(store: RunStore, number: int, config: Config, observer: Observer) -> TrialRecord:
    """What follows from a trial's raw files; where its trace cannot be read, what follows from the others."""
    try:
        record, notes = derive(store, number, config)
    except (StoreError, TraceError) as error:
        record, _ = derive(store, number, config, traced=False)
        notes = [f"its trace was not analysed ({error}); `pagelab analyze` tries again"]
    for note in notes:
        observer.note(f"trial {number}: {note}")
    return record


def close(run: RunInProgress) -> None:
    """Write the summary, and call the run complete if every trial of its plan is there and its budget adds none.

    After `--only` the rest is missing; `--resume` without it goes on with them.
    """
    trials = run.store.read_trials()
    run.store.write_summary(summary_table(trials))
    run.record.trials_done = len(trials)
    plan = make_plan(read_config(run.store), run.record.repeated)
    if run.record.trials_done == run.record.trials_planned and not to_repeat(plan, trials):
        run.record.status = "complete"
        run.store.discard_page()  # from here on, a page that is there is that of the complete run
    run.record.ended_at = datetime.now(UTC).isoformat()
    run.store.write_run(run.record)
