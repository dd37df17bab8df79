"""What a calibration is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from vita_edge.engines.bundle.component_spec import COMPONENT_SPECS, LLM
from vita_edge.engines.errors import Misuse

from .ranges import METHODS
from .weight_scales import SMALLEST_BLOCK

__all__ = ["Choices"]

KEEP_BELOW_DB = {8: 20.0, 4: 8.0}
REACH_DB = 20.0


@dataclass(frozen=True)
class Choices:
    """See `vita-edge calibrate --help`.

    Raises:
        Misuse: a value that does not exist.
    """

    precision: Literal["int8", "int4"] = "int8"
    method: str = "auto"
    smoothing: bool = True
    decoder_activations: bool = False
    """At int8: also 8-bit activations in the decoders."""
    keep_below_db: float | None = None
    reach_db: float | None = None
    """Signal to noise of a component below which the worst quarter of its layers gets more bits, up to three times;
    None: 20, and of weights alone whatever comes out, as they are rounded for their size."""
    weights: Literal["rtn", "searched", "gptq"] = "searched"
    block: int = 128
    head: Literal["int8", "int4"] = "int8"
    samples: int = 32
    rows: int = 512
    """Rows of an activation that ways are tried on, from all samples together; GPTQ reads eight times as many."""

    def __post_init__(self) -> None:
        allowed: dict[str, tuple[Any, ...]] = {
            "precision": ("int8", "int4"),
            "method": ("auto", *METHODS),
            "weights": ("rtn", "searched", "gptq"),
            "head": ("int8", "int4"),
        }
        for name, known in allowed.items():
            if getattr(self, name) not in known:
                raise Misuse(
                    f"There is no {name} {getattr(self, name)}.",
                    why=f"Known: {', '.join(known)}.",
                    fix="Choose one of them.",
                )
        for name, minimum in (("samples", 1), ("rows", 1), ("block", SMALLEST_BLOCK)):
            if getattr(self, name) < minimum:
                raise Misuse(f"{name} is {getattr(self, name)}.", why=f"The least is {minimum}.", fix="Give more.")

    def weights_alone(self, component: str) -> bool:
        """Whether activations of a component keep their type."""
        return COMPONENT_SPECS[component].cached and not (self.decoder_activations and self.precision == "int8")

    def bits(self, component: str, *, first: bool, head: bool) -> int:
        """Of a weight that is quantised alone. The error of a first layer runs through all others."""
        if self.precision == "int8" or component != LLM.name or first:
            return 8
        return 8 if head and self.head == "int8" else 4

    def target_db(self, component: str) -> float | None:
        """Signal to noise that the output of a component is to have."""
        return REACH_DB if self.reach_db is None and not self.weights_alone(component) else self.reach_db

    def keeps(self, snr_db: float, bits: int) -> bool:
        """Whether a layer is good enough at ``bits``."""
        return snr_db >= (KEEP_BELOW_DB[bits] if self.keep_below_db is None else self.keep_below_db)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
