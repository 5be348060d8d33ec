"""What a backend must get right with memory, streams, events, graphs and contexts."""

import contextlib
import gc
from collections.abc import Iterator

import numpy as np
import pytest

from tests.engines.fakecuda.fake import SHAPE, Fake, Patch, picture, scenario
from veintrack.engines.cuda import CudaBackend, wait
from veintrack.errors import EngineError


class Pipe:
    """Memory, stream and event of one picture, for scenarios that need no engine."""

    def __init__(self, fake: Fake, device: CudaBackend) -> None:
        self.fake, self.device = fake, device
        self.up = device.pinned(SHAPE, np.uint8)
        self.down = device.pinned(SHAPE, np.float32)
        self.frame, self.answer = device.alloc(self.up.nbytes), device.alloc(self.down.nbytes)
        self.stream, self.event = device.stream(), device.event()

    def enqueue(self) -> None:
        self.device.copy_in(self.frame, self.up, self.stream)
        at = self.stream.handle, int(self.frame), int(self.answer)
        self.fake.infer(*at, self.up.size)
        self.device.copy_out(self.down, self.answer, self.stream)

    def finish(self) -> None:
        self.device.record(self.event, self.stream)
        wait(self.device, self.event, 1.0)


@contextlib.contextmanager
def pipe(fake: Fake, index: int = 0) -> Iterator[Pipe]:
    device = fake.open(index)
    with device.active():
        made = Pipe(fake, device)
        yield made
        gc.collect()


@scenario
def device_says_what_it_is(fake: Fake, _patch: Patch) -> None:
    device = fake.open(1)
    assert (device.device, device.model) == ("cuda:1 (Fake B)", "Fake B")
    assert (device.compute_capability, device.cuda_version) == ((8, 7), "13.0")


@scenario
def work_is_done_when_it_has_been_waited_for(fake: Fake, _patch: Patch) -> None:
    with pipe(fake) as p:
        p.up[...] = picture(1)
        p.enqueue()
        assert set(p.down.tobytes()) == {0xCD}, "the fake driver must be lazy"
        p.finish()
        np.testing.assert_array_equal(p.down, picture(1) / np.float32(255))


@scenario
def recorded_work_is_done_at_each_launch(fake: Fake, _patch: Patch) -> None:
    with pipe(fake) as p:
        launch = p.device.capture(p.stream, p.enqueue)
        assert launch is not None
        for seed in range(3):
            p.up[...] = picture(seed)
            launch()
            p.finish()
            np.testing.assert_array_equal(p.down, picture(seed) / np.float32(255))
        assert fake["graph_launches"] == 3


@scenario
def refused_recording_leaves_the_stream_usable(fake: Fake, _patch: Patch) -> None:
    fake["refuses_capture"] = 1
    with pipe(fake) as p:
        assert p.device.capture(p.stream, p.enqueue) is None
        p.up[...] = picture(1)
        p.enqueue()
        p.finish()
        np.testing.assert_array_equal(p.down, picture(1) / np.float32(255))


@scenario
def failure_while_recording_leaves_the_stream_usable(fake: Fake, _patch: Patch) -> None:
    with pipe(fake) as p:
        fake["error"] = 719
        assert p.device.capture(p.stream, p.enqueue) is None
        fake["error"] = 0
        p.enqueue()
        p.finish()


@scenario
def two_devices_do_not_mix(fake: Fake, _patch: Patch) -> None:
    a, b = fake.open(0), fake.open(1)
    with a.active():
        first = Pipe(fake, a)
        with b.active():
            second = Pipe(fake, b)
            second.up[...] = picture(2)
            second.enqueue()
        first.up[...] = picture(1)
        first.enqueue()
        first.finish()
    with b.active():
        second.finish()
        np.testing.assert_array_equal(second.down, picture(2) / np.float32(255))
    with a.active():
        del first
    with b.active():
        del second


@scenario
def wrong_context_is_a_fault(fake: Fake, _patch: Patch) -> None:
    a, b = fake.open(0), fake.open(1)
    with a.active():
        p = Pipe(fake, a)
    with contextlib.suppress(EngineError), b.active():
        p.enqueue()
    assert "another context" in fake.faults
    with a.active():
        del p
    fake.forgive()


@scenario
def pinned_array_outlives_what_it_was_made_with(fake: Fake, _patch: Patch) -> None:
    device = fake.open()
    with device.active():
        array = device.pinned((4,), np.uint8)
    del device
    gc.collect()
    array[:] = 7
    view = array[1:]
    del array
    assert view.tolist() == [7, 7, 7]
    assert fake["live"] == 1


@scenario
def device_that_is_not_there_is_named(fake: Fake, _patch: Patch) -> None:
    with pytest.raises(EngineError, match="no device cuda:2; this machine has cuda:0 to cuda:1"):
        fake.open(2)


@scenario
def machine_without_devices_says_so(fake: Fake, _patch: Patch) -> None:
    fake["devices"] = 0
    with pytest.raises(EngineError, match="no NVIDIA driver here"):
        fake.open()


@scenario
def memory_that_runs_out_names_the_device(fake: Fake, _patch: Patch) -> None:
    device = fake.open(1)
    with device.active():
        memory = device.alloc(8)
    fake["limit"] = fake["allocations"]
    with pytest.raises(EngineError, match=r"cuda:1 \(Fake B\) failed"), device.active():
        device.alloc(8)
    assert int(memory)
