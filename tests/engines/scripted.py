"""Engines whose answers, times and failures are scripted, and a machine that has some."""

import contextlib
from dataclasses import dataclass, field

import numpy as np

from veintrack.engines import cache
from veintrack.engines.base import F32, U8, Engine, Progress, chosen_precision
from veintrack.engines.model import ModelInfo

SHAPE = (1, 1, 64, 64)


@dataclass(frozen=True)
class Form:
    """What an engine does in one precision: the vessels of its first class lie `shift_px` off."""

    latency_ms: int
    shift_px: int = 0
    fault: Exception | None = None
    failure: BaseException | None = None


GOOD = {"int8": Form(10), "bf16": Form(20), "fp32": Form(40)}


@dataclass
class Machine:
    """The engines of a machine, and what became of them."""

    forms: dict[str, dict[str, Form]]
    now_ns: int = 0
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    @property
    def tried(self) -> list[str]:
        return [what for what in self.opened if not what.startswith("onnxruntime")]

    @property
    def still_open(self) -> list[str]:
        left = list(self.opened)
        for what in self.closed:
            left.remove(what)
        return left

    def clock(self) -> int:
        return self.now_ns


class Factory:
    """One kind of engine."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name

    def offers(self, device: str = "auto") -> tuple[str, ...]:
        del device
        return tuple(self.machine.forms[self.name])

    def __call__(
        self,
        model: ModelInfo,
        *,
        precision: str,
        device: str,
        slots: int | None,
        progress: Progress | None,
    ) -> Engine:
        del device, slots, progress
        precision = chosen_precision(self.name, self.offers(), model, precision)
        form = self.machine.forms[self.name][precision]
        if form.fault is not None:
            raise form.fault
        return Fake(self.machine, self.name, precision, form, model)


class Fake:
    """An engine that sees a vessel where it is bright, in the first of two classes."""

    device, slots = "abacus", 1

    def __init__(
        self, machine: Machine, name: str, precision: str, form: Form, model: ModelInfo
    ) -> None:
        self.name, self.precision = name, precision
        self.machine, self.form = machine, form
        self.frames: U8 = np.zeros(SHAPE, np.uint8)
        self.key = {"library": name, "precision": precision, "model_sha256": model.sha256}
        if cache.load(self.key) is None:
            with contextlib.suppress(OSError):
                cache.store(self.key, b"compiled")
        machine.opened.append(f"{name} {precision}")

    def buffer(self, slot: int) -> U8:
        del slot
        return self.frames

    def start(self, slot: int) -> None:
        del slot
        if self.form.failure is not None:
            raise self.form.failure

    def ready(self, slot: int) -> bool:
        return slot == 0

    def result(self, slot: int) -> F32:
        del slot
        self.machine.now_ns += self.form.latency_ms * 1_000_000
        seen = np.roll(self.frames, self.form.shift_px, axis=3) / np.float32(255)
        rough = np.roll(self.frames, 9 if self.precision == "int8" else 0, axis=2) / np.float32(255)
        return np.concatenate([seen, rough], axis=1, dtype=np.float32)

    def close(self) -> None:
        self.machine.closed.append(f"{self.name} {self.precision}")
