"""What the trials of one model share on this host, and what its calibration found."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pagelab.config.factors import Factors
from pagelab.config.schema import Config
from pagelab.host.disk_rates import DiskRates
from pagelab.host.journal import Journal
from pagelab.host.procfs import PAGE_BYTES, total_memory_bytes
from pagelab.host.storage import Disk
from pagelab.inference.build import Build
from pagelab.models.gguf_map import GgufMap, bytes_per_token
from pagelab.observe.host_memory import observed_host
from pagelab.observe.tracer import NOTHING, Choice, Tracer
from pagelab.pressure.applied import Sizes
from pagelab.run.plan import PlannedTrial
from pagelab.store.files import Owner
from pagelab.store.observation import Observation, ObservedModel


@dataclass(frozen=True)
class Calibration:
    """Bytes that llama.cpp's group is charged beside page cache.

    That is anonymous memory (KV cache, compute buffers, heap) and the kernel's own memory that is charged to the group,
    such as page tables. `needed_bytes` is the most it ever held without pressure. `kept_bytes` is what it kept in RAM
    while decoding at the lowest limit, the rest being cold and swapped out: a limit of kept_bytes + share leaves that
    share to the weights, and needed_bytes + share would leave more. `evicted_bytes` of the model were in the page cache
    before, put there by whoever read it last. `compute_seconds_per_token` is the median time from one token to the next
    without pressure, when all weights are in RAM.
    """

    needed_bytes: int
    kept_bytes: int
    evicted_bytes: int
    compute_seconds_per_token: float | None


@dataclass(frozen=True)
class TrialSetup:
    """What all trials of one model share on this host; `builds` of llama.cpp go by the factor `engine`.

    `skip_eviction` is for finding out what an eviction is good for: such trials are invalid.
    """

    config: Config
    builds: Mapping[str, Build]
    model: GgufMap
    disk: Disk
    journal: Journal
    disk_rates: DiskRates | None = None
    recorders: Choice = NOTHING
    skip_eviction: bool = False

    def tracer(self, directory: Path, owner: Owner | None = None) -> Tracer:
        """What records the reads of a trial, into a directory."""
        return Tracer(self.config.trace, self.recorders, self.model, self.disk, self.journal, directory, owner)

    def sizes(self, factors: Factors, non_file_bytes: int, keeper_bytes: int = 0) -> Sizes:
        """What the pressure's sizes are computed from."""
        return Sizes(
            weights=self.model.weights_ranges(),
            weights_bytes=self.model.weights_bytes,
            are_mapped=self.config.maps_weights(factors),
            non_file_bytes=non_file_bytes,
            host_bytes=total_memory_bytes(),
            memory=self.config.memory,
            keeper_bytes=keeper_bytes,
        )

    def observation(self, trial: PlannedTrial, calibration: Calibration) -> Observation:
        """What is known of a trial before it begins."""
        model = self.model
        return Observation(
            trial=trial.number,
            factors=trial.factors,
            repetition=trial.repetition,
            order=trial.number,
            model=ObservedModel(
                weights_bytes=model.weights_bytes, file_bytes=model.file_bytes, bytes_per_token=bytes_per_token(model)
            ),
            calibrated_non_file_bytes=calibration.kept_bytes,
            compute_seconds_per_token=calibration.compute_seconds_per_token,
            disk_rates=self.disk_rates,
            page_bytes=PAGE_BYTES,
            before=observed_host(),
        )
