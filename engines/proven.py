"""The fastest engine that still gives the same answer.

A precision is taken only if its answers pass the parity gate (:mod:`veintrack.engines.parity`)
against ONNX Runtime in FP32, on typical pictures. What was found is written down beside the engine
in the cache, so that only the first use of a model on a machine takes the time.
"""

import contextlib
import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from veintrack.engines import cache
from veintrack.engines.base import (
    RUNS_ON,
    U8,
    Engine,
    Pictures,
    Progress,
    engine_names,
    factory,
    first_that_opens,
    infer,
    open_engine,
)
from veintrack.engines.model import ModelInfo
from veintrack.engines.parity import DEFAULT_LIMITS, Answer, Parity, ParityLimits, compare
from veintrack.engines.quantise import RECIPE, can_quantise, find_quantised, quantisable, quantised
from veintrack.errors import EngineError

__all__ = ["SLOWER", "Proof", "Proven", "made_by", "open_form", "open_proven", "prove"]

log = logging.getLogger(__name__)
_CHOICE = "1"  # counts up when the same facts would lead to another choice
SLOWER = ("int8", "bf16", "fp16", "fp32")
"""Precisions, the fastest first: the order in which a refused one is followed by the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What an engine is held against.

    Attributes
    ----------
    frames, calibration : Pictures
        Those to judge on, and others to make a model INT8 with.
    channel : int
        Of the model's classes, the one that counts.
    limits : ParityLimits
        What the answers may differ by.
    afresh : bool
        Judge again what was judged before.
    """

    frames: Pictures
    calibration: Pictures
    channel: int = 0
    limits: ParityLimits = DEFAULT_LIMITS
    afresh: bool = False


@dataclass(frozen=True, slots=True)
class Proven:
    """What was found of one engine.

    Attributes
    ----------
    engine : Engine
        Open.
    parity : Parity
        How far its answers are from the reference's.
    latency_ms : float
        Median time from a picture's start to its answer.
    """

    engine: Engine
    parity: Parity
    latency_ms: float


def open_proven(
    model: ModelInfo,
    name: str = "auto",
    *,
    precision: str = "auto",
    device: str = "auto",
    slots: int | None = 1,
    proof: Proof,
    progress: Progress | None = None,
) -> Engine:
    """Open a model in the fastest form that passes the gate on this machine.

    Parameters
    ----------
    model, name, device, slots, progress
        As for :func:`veintrack.engines.base.open_engine`.
    precision : str
        What to begin with; where it is refused, the next slower one is taken, saying so. ``auto``
        tries all that the engine offers up to FP32: on a CPU it takes the one that answers
        fastest, on a GPU, where a build may take minutes, the first that passes.
    proof : Proof
        The pictures and the limits.

    Raises
    ------
    ValueError, EngineError, BackendMissingError
        As for :func:`~veintrack.engines.base.open_engine`; also if no precision passes.
    """

    def attempt(name: str) -> Engine:
        if name == "onnxruntime" and precision in ("auto", "fp32"):  # the reference itself
            return open_engine(model, name, precision=precision, slots=slots)
        search = _Search(model, name, device, slots, proof, progress)
        return search.fastest() if precision == "auto" else search.first_from(precision)

    return first_that_opens(engine_names(name, precision, device), attempt)


def open_form(
    model: ModelInfo,
    name: str,
    *,
    precision: str,
    device: str = "auto",
    slots: int | None = 1,
    calibration: Pictures,
    progress: Progress | None = None,
) -> Engine:
    """Open a model in one precision, without a proof; for INT8 its quantised form.

    Parameters
    ----------
    model, name, precision, device, slots, progress
        As for :func:`veintrack.engines.base.open_engine`.
    calibration : Pictures
        To make the model INT8 with, where it is not yet.

    Raises
    ------
    ValueError, EngineError, BackendMissingError
        As for :func:`~veintrack.engines.base.open_engine`.
    """
    if precision == "int8":
        model = quantised(model, calibration, progress=progress)
    return open_engine(
        model, name, precision=precision, device=device, slots=slots, progress=progress
    )


def prove(model: ModelInfo, engine: Engine, proof: Proof) -> Proven:
    """Hold an engine against the reference, or read what was written down when that was done.

    Raises
    ------
    EngineError
        If a device failed.
    """
    known = None if proof.afresh or engine.key is None else cache.facts_of(engine.key)
    with contextlib.suppress(KeyError, TypeError):  # never judged, or by an older version
        facts = (known or {})[_fact(model, proof)]
        return Proven(engine, Parity.from_json(facts["parity"]), float(facts["latency_ms"]))
    frames = proof.frames.make()
    reference = open_engine(model, "onnxruntime", precision="auto")
    try:
        parity = compare(
            _one_class(reference, proof.channel),
            _one_class(engine, proof.channel),
            frames,
            threshold=model.threshold,
            sure=proof.limits.sure,
        )
    finally:
        reference.close()
    found = Proven(engine, parity, _latency_ms(engine, frames))
    if engine.key is not None:
        facts = {
            "frames": proof.frames.name,
            "parity": parity.to_json(),
            "latency_ms": found.latency_ms,
        }
        with contextlib.suppress(OSError):  # it only saves time
            cache.annotate(engine.key, {_fact(model, proof): facts})
    return found


def _fact(model: ModelInfo, proof: Proof) -> str:
    """Name what was judged: an INT8 form may be held against itself, or against its model."""
    reference = model.sha256[:12]
    return f"against {reference}, class {proof.channel}, sure from {proof.limits.sure:g}"


def _one_class(engine: Engine, channel: int) -> Answer:
    return lambda frame: infer(engine, frame)[:, channel : channel + 1]


def _latency_ms(engine: Engine, frames: Sequence[U8]) -> float:
    """Time an engine alone: next to the reference, whose threads spin on, it is half as fast."""
    times_ns = []
    for frame in frames:
        begun_ns = time.perf_counter_ns()
        infer(engine, frame)
        times_ns.append(time.perf_counter_ns() - begun_ns)
    return round(statistics.median(times_ns) * 1e-6, 3)


@dataclass(frozen=True, slots=True)
class _Search:
    """A way through the precisions of one kind of engine."""

    model: ModelInfo
    name: str
    device: str
    slots: int | None
    proof: Proof
    progress: Progress | None

    def fastest(self) -> Engine:
        """Take what was taken before, or try all up to FP32."""
        precisions = self._possible()
        key = self._key(precisions)
        remembered = self._recall(key)
        if remembered is not None:
            return remembered
        log.info(
            "first use of %s in %s here: trying %s",
            self.model.name,
            self.name,
            ", ".join(precisions),
        )
        best: Proven | None = None
        failure: EngineError | None = None
        for precision in precisions:
            try:
                found = self._open(precision)
            except EngineError as error:
                log.info("%s: %s", precision, error)
                failure = error
                continue
            except BaseException:
                if best is not None:
                    best.engine.close()
                raise
            self._tell(found)
            if not self._passes(found) or (best and found.latency_ms >= best.latency_ms):
                found.engine.close()
                continue
            if best is not None:
                best.engine.close()
            best = found
            if RUNS_ON[self.name] != "cpu":
                break
        if best is None:
            raise failure or self._none_passes()
        with contextlib.suppress(OSError):  # it only saves time
            cache.store(key, best.engine.precision.encode(), {"model": self.model.name})
        return best.engine

    def first_from(self, precision: str) -> Engine:
        """Take the precision that is asked for, or the first slower one that passes."""
        possible = self._possible()
        slower = SLOWER[SLOWER.index(precision) + 1 :]
        for tried in (precision, *(p for p in slower if p in possible)):
            found = self._open(tried)
            if self._passes(found):
                return found.engine
            found.engine.close()
            reason = found.parity.reason(self.proof.limits)
            log.warning("%s is refused, its answers differ too much: %s", tried, reason)
        raise self._none_passes()

    def _passes(self, found: Proven) -> bool:
        return found.parity.passes(self.proof.limits)

    def _tell(self, found: Proven) -> None:
        refused = "" if self._passes(found) else "refused: "
        reason = found.parity.reason(self.proof.limits)
        log.info(
            "%s: %.1f ms a frame; %s%s", found.engine.precision, found.latency_ms, refused, reason
        )

    def _open(self, precision: str) -> Proven:
        engine = open_form(
            self.model,
            self.name,
            precision=precision,
            device=self.device,
            slots=self.slots,
            calibration=self.proof.calibration,
            progress=self.progress,
        )
        try:
            return prove(self.model, engine, self.proof)
        except BaseException:
            engine.close()
            raise

    def _possible(self) -> tuple[str, ...]:
        if self.model.quantised:
            return ("int8",)
        offered = factory(self.name).offers(self.device)
        int8 = find_quantised(self.model) or (can_quantise() and quantisable(self.model))
        return tuple(p for p in offered[: offered.index("fp32") + 1] if p != "int8" or int8)

    def _none_passes(self) -> EngineError:
        return EngineError(
            f"no precision of {self.name} gives the answers of {self.model.name} within Dice "
            f"{self.proof.limits.dice} and {self.proof.limits.centroid_shift_px} px: "
            "use --engine onnxruntime"
        )

    def _key(self, possible: tuple[str, ...]) -> dict[str, str]:
        return {
            "library": "choice",
            "version": _CHOICE,
            "model_sha256": self.model.sha256,
            "engine": self.name,
            "device": self.device,
            "possible": ", ".join(possible),
            "slots": "many" if self.slots is None else str(self.slots),
            "judged": f"{_fact(self.model, self.proof)}, {self.proof.limits}",
        }

    def _recall(self, key: dict[str, str]) -> Engine | None:
        chosen = None if self.proof.afresh else cache.load(key)
        if chosen is None:
            return None
        try:
            found = self._open(chosen.decode())
        except (EngineError, ValueError):  # what it came from is gone
            return None
        if self._passes(found):
            return found.engine
        found.engine.close()
        return None


def made_by() -> dict[str, str]:
    """List the installed libraries whose engines the cache keeps, for `cache.prune`."""
    found = {"quantisation": RECIPE, "choice": _CHOICE}
    for library in ("openvino", "tensorrt", "tensorrt_rtx"):
        with contextlib.suppress(ImportError, OSError):
            module = import_module(library)
            found[library] = str(getattr(module, "get_version", lambda m=module: m.__version__)())
    return found
