"""A router that draws experts with known probabilities, for synthetic mixtures of experts.

In every layer a token draws its experts without replacement, each with a weight that its rank has: of the experts that
are left, the next is theirs in proportion to their weights (the Plackett-Luce distribution). Ranks are dealt to the
experts of each layer anew, by the seed. A token that comes again draws the same experts again.

A skew is a power law, rank r has a weight of r ** -skew. A preset says instead which share of the tokens is to use each
expert. That share is close to 1 - exp(-weight), where the weights are such that these shares add up to the experts that
a token uses (Rosen 1972, "Asymptotic theory for successive sampling"), so the weight is -log(1 - share).

llama.cpp takes the experts with the largest router logits. With a logit of log(weight) plus Gumbel noise, independent
for every expert, those are exactly such a draw (Yellott 1977; Kool, van Hoof and Welling 2019, "Stochastic beams and
where to find them"). The noise is in the embedding: the first dimension of the hidden state is 1 for every token, the
next ones hold Gumbel noise of the token's own, and no layer adds anything to either. A row of the router, which is one
expert's, reads its log weight off the first and its noise off one of the others. The norm before the router scales all
logits of a token alike, which leaves their order as it is.

All of it is made of operations that IEEE 754 rounds in one way only, so that the bytes are the same on any machine.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagelab.config.synthetic_spec import RouterPreset, preset_shares

Floats = NDArray[np.float64]

_LOG_2 = 0.6931471805599453
_MEAN_OF_GUMBEL = 0.5772156649015329
_SERIES_TERMS = 18  # the argument of the series is at most 1/3: what is left out is below 1e-17


def log_weights(skew: float | RouterPreset, experts: int, experts_used: int) -> Floats:
    """Logarithm of the weight of each rank, the busiest expert first."""
    if isinstance(skew, str):
        used_by = np.array([float(experts_used * share) for share in preset_shares(skew, experts)])
        return _log(-_log(1 - used_by))
    return -skew * _log(np.arange(1.0, experts + 1))


@dataclass(frozen=True)
class Routing:
    """How the experts of one model are chosen; `log_weights` has that of each rank.

    Layers draw independently of each other while layers * experts noise dimensions fit into less than half of the
    `width`. Where they do not, layers share some of them: the draw of each layer is as said, those of two are related.
    """

    layers: int
    width: int
    log_weights: Floats

    @property
    def experts(self) -> int:
        """Of a layer."""
        return len(self.log_weights)

    @property
    def noise_dimensions(self) -> int:
        """Dimensions of the hidden state that hold noise."""
        return min(self.layers * self.experts, self.width // 2 - 1)

    @property
    def dimensions(self) -> int:
        """The leading dimensions of the hidden state that are the router's alone."""
        return 1 + self.noise_dimensions

    def write_features(self, words: NDArray[np.uint16]) -> None:
        """Turn random words, of shape (tokens, dimensions), into the router's part of an F16 embedding, in place."""
        uniform = (words[:, 1:] + 0.5) / 65536
        noise = -_log(-_log(uniform)) - _MEAN_OF_GUMBEL
        words[:, 0] = np.array(1, dtype="<f2").view("<u2")
        words[:, 1:] = noise.astype("<f2").view("<u2")

    def router(self, layer: int, generator: np.random.PCG64) -> NDArray[np.float32]:
        """The router's weights in one layer, of shape (experts, width)."""
        by_rank = _permutation(self.experts, generator)
        weights = np.zeros((self.experts, self.width), dtype="<f4")
        weights[by_rank, 0] = self.log_weights
        weights[np.arange(self.experts), 1 + self._noise_of(layer, generator)] = 1
        return weights

    def _noise_of(self, layer: int, generator: np.random.PCG64) -> NDArray[np.int64]:
        """Which noise dimension each expert of a layer reads: its own, or one of a random choice where they are few."""
        if self.layers * self.experts <= self.noise_dimensions:
            return layer * self.experts + np.arange(self.experts)
        return _permutation(self.noise_dimensions, generator)[: self.experts]


def _permutation(count: int, generator: np.random.PCG64) -> NDArray[np.int64]:
    return np.argsort(np.asarray(generator.random_raw(count)), kind="stable")


def _log(values: Floats) -> Floats:
    """Natural logarithm, by frexp and the series of atanh: the one of a C library may differ in the last bit."""
    mantissa, exponent = np.frexp(values)
    ratio = (mantissa - 1) / (mantissa + 1)
    square, series = ratio * ratio, np.zeros_like(ratio)
    for term in range(_SERIES_TERMS, -1, -1):
        series = series * square + 1 / (2 * term + 1)
    result: Floats = exponent * _LOG_2 + 2 * ratio * series
    return result
