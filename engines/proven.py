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
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from veintrack.engines import cache
from veintrack.engines.base import (
    F32,
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

__all__ = ["SLOWER", "Proof", "Proven", "Reference", "made_by", "open_form", "open_proven", "prove"]

log = logging.getLogger(__name__)
_TURNS = 8  # in which two engines are timed
_JUDGEMENT = "1"  # counts up when the same engine would be judged otherwise
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
        reference = Reference(model, proof)
        search = _Search(model, name, device, slots, proof, progress, reference)
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


class Reference:
    """What ONNX Runtime answers in FP32 on a proof's pictures; computed when it is asked for.

    Parameters
    ----------
    model : ModelInfo
        The model.
    proof : Proof
        The pictures, and the class that counts.
    """

    def __init__(self, model: ModelInfo, proof: Proof) -> None:
        self._model, self._proof = model, proof

    @cached_property
    def frames(self) -> Sequence[U8]:
        """The pictures."""
        return self._proof.frames.make()

    @cached_property
    def answers(self) -> tuple[F32, ...]:
        """The answers for the class that counts, one for each picture."""
        engine = open_engine(self._model, "onnxruntime", precision="auto")
        try:
            one_class = _one_class(engine, self._proof.channel)
            return tuple(one_class(frame).copy() for frame in self.frames)
        finally:
            engine.close()  # its threads go on spinning and would slow down what is judged


def prove(
    model: ModelInfo, engine: Engine, proof: Proof, reference: Reference | None = None
) -> Proven:
    """Hold an engine against the reference, or read what was written down when that was done.

    Parameters
    ----------
    model : ModelInfo
        The model.
    engine : Engine
        A form of it, open.
    proof : Proof
        The pictures and the limits.
    reference : Reference, optional
        Of this model and proof, where several engines are judged.

    Raises
    ------
    EngineError
        If a device failed.
    """
    known = None if proof.afresh or engine.key is None else cache.facts_of(engine.key)
    with contextlib.suppress(KeyError, TypeError):  # never judged, or by an older version
        facts = (known or {})[_fact(model, proof)]
        return Proven(engine, Parity.from_json(facts["parity"]), float(facts["latency_ms"]))
    reference = reference or Reference(model, proof)
    expected = iter(reference.answers)
    parity = compare(
        lambda _: next(expected),
        _one_class(engine, proof.channel),
        reference.frames,
        threshold=model.threshold,
        sure=proof.limits.sure,
    )
    found = Proven(engine, parity, _latency_ms(engine, reference.frames))
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
    return (
        f"judgement {_JUDGEMENT} against {reference}, class {proof.channel}, "
        f"sure from {proof.limits.sure:g}"
    )


def _one_class(engine: Engine, channel: int) -> Answer:
    return lambda frame: infer(engine, frame)[:, channel : channel + 1]


def _latency_ms(engine: Engine, frames: Sequence[U8]) -> float:
    """Time an engine alone; the median."""
    times_ns = []
    for frame in frames:
        begun_ns = time.perf_counter_ns()
        infer(engine, frame)
        times_ns.append(time.perf_counter_ns() - begun_ns)
    return round(statistics.median(times_ns) * 1e-6, 3)


def _race(first: Engine, second: Engine) -> tuple[float, float]:
    """Time two engines in turns; the least of each, so that other loads do not decide."""
    black = first.buffer(0).copy()
    turns = [(_latency_ms(first, [black]), _latency_ms(second, [black])) for _ in range(_TURNS)]
    return min(one for one, _ in turns), min(other for _, other in turns)


@dataclass(frozen=True)
class _Search:
    """A way through the precisions of one kind of engine."""

    model: ModelInfo
    name: str
    device: str
    slots: int | None
    proof: Proof
    progress: Progress | None
    reference: Reference

    @cached_property
    def int8(self) -> ModelInfo | None:
        """The model's INT8 form, where there is one already; read once, since it is large."""
        return find_quantised(self.model)

    def fastest(self) -> Engine:
        """Take what was taken before, or try all up to FP32."""
        key = self._key()
        remembered = self._recall(key)
        if remembered is not None:
            return remembered
        precisions = self._possible()
        log.info(
            "first use of %s in %s here: trying %s",
            self.model.name,
            self.name,
            ", ".join(precisions),
        )
        best: Proven | None = None
        failure: EngineError | None = None
        judged = False
        for precision in precisions:
            try:
                found = self._faster(precision, best)
            except EngineError as error:
                log.info("%s: %s", precision, error)
                failure = error
                continue
            except BaseException:
                if best is not None:
                    best.engine.close()
                raise
            judged = True
            if found is None:
                continue
            if best is not None:
                best.engine.close()
            best = found
            if RUNS_ON[self.name] != "cpu":
                break
        if best is None:
            raise failure if failure and not judged else self._none_passes()
        with contextlib.suppress(OSError):  # it only saves time
            cache.store(key, best.engine.precision.encode(), {"model": self.model.name})
        return best.engine

    def first_from(self, precision: str) -> Engine:
        """Take the precision that is asked for, or the first slower one that passes."""
        slower = SLOWER[SLOWER.index(precision) + 1 :]
        for tried in (precision, *(p for p in self._offers() if p in slower)):
            try:
                found = self._prove(self._open(tried))
            except EngineError:
                if tried == precision:
                    raise
                continue  # a quantised model has no other precision
            if found.parity.passes(self.proof.limits):
                return found.engine
            found.engine.close()
            reason = found.parity.reason(self.proof.limits)
            log.warning("%s is refused, its answers differ too much: %s", tried, reason)
        raise self._none_passes()

    def _faster(self, precision: str, best: Proven | None) -> Proven | None:
        """Open a precision; None where it is slower than the best so far, or does not pass."""
        with ExitStack() as losing:
            engine = self._open(precision)
            losing.callback(engine.close)
            if best is not None:
                best_ms, latency_ms = _race(best.engine, engine)
                if latency_ms >= best_ms:
                    log.info("%s: slower, %.1f against %.1f ms", precision, latency_ms, best_ms)
                    return None
            found = prove(self.model, engine, self.proof, self.reference)
            passes = found.parity.passes(self.proof.limits)
            reason = found.parity.reason(self.proof.limits)
            refused = "" if passes else "refused: "
            log.info("%s: %.1f ms a frame; %s%s", precision, found.latency_ms, refused, reason)
            if not passes:
                return None
            losing.pop_all()
            return found

    def _open(self, precision: str) -> Engine:
        return open_form(
            (self.int8 if precision == "int8" else None) or self.model,
            self.name,
            precision=precision,
            device=self.device,
            slots=self.slots,
            calibration=self.proof.calibration,
            progress=self.progress,
        )

    def _prove(self, engine: Engine) -> Proven:
        try:
            return prove(self.model, engine, self.proof, self.reference)
        except BaseException:
            engine.close()
            raise

    def _possible(self) -> tuple[str, ...]:
        if self.model.quantised:
            return ("int8",)
        offered = self._offers()
        int8 = self.int8 or (can_quantise() and quantisable(self.model))
        return tuple(p for p in offered if p != "int8" or int8)

    def _offers(self) -> tuple[str, ...]:
        offered = factory(self.name).offers(self.device)
        return offered[: offered.index("fp32") + 1]

    def _none_passes(self) -> EngineError:
        return EngineError(
            f"no precision of {self.name} gives the answers of {self.model.name} within Dice "
            f"{self.proof.limits.dice} and {self.proof.limits.centroid_shift_px} px: "
            "use --engine onnxruntime"
        )

    def _key(self) -> dict[str, str]:
        form = self.int8
        return {
            "library": "choice",
            "version": _CHOICE,
            "model_sha256": self.model.sha256,
            "engine": self.name,
            "device": self.device,
            "offers": ", ".join(self._offers()),
            "installed": ", ".join(_installed(self.name)),
            "int8": form.sha256 if form else f"to be made: {can_quantise()}",
            "slots": "many" if self.slots is None else str(self.slots),
            "judged": f"{_fact(self.model, self.proof)}, {self.proof.limits}",
        }

    def _recall(self, key: dict[str, str]) -> Engine | None:
        chosen = None if self.proof.afresh else cache.load(key)
        if chosen is None:
            return None
        try:
            found = self._prove(self._open(chosen.decode()))
        except (EngineError, ValueError):  # what it came from is gone
            return None
        if found.parity.passes(self.proof.limits):
            return found.engine
        found.engine.close()
        return None


def _installed(name: str) -> list[str]:
    """Say which versions of an engine's library are installed, without importing it."""
    found = []
    for library in (name, name.replace("-", "_")):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{library} {version(library)}")
    return found[:1]


def made_by() -> dict[str, str]:
    """List the installed libraries whose engines the cache keeps, for `cache.prune`."""
    found = {"quantisation": RECIPE, "choice": _CHOICE}
    for library in ("openvino", "tensorrt", "tensorrt_rtx"):
        with contextlib.suppress(ImportError, OSError):
            module = import_module(library)
            found[library] = str(
                module.get_version() if library == "openvino" else module.__version__
            )
    return found
