"""Try code that uses a GPU on the fake driver, in a process of its own.

``python -m tests.engines.fakecuda BACKEND`` needs the fake as its ``libcuda.so.1``. It prints, as
JSON, why each scenario failed; an empty text means that it did not.
"""

import gc
import json
import os
import sys
import tempfile
import traceback

from tests.engines.fakecuda import driver_scenarios, engine_scenarios
from tests.engines.fakecuda.fake import SCENARIOS, Fake, Patch, Scenario
from veintrack.engines import cuda, tensorrt_plan

__all__ = ["driver_scenarios", "engine_scenarios"]


def failure(fake: Fake, scenario: Scenario) -> str:
    fake.reset()
    with Patch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("VEINTRACK_CACHE", folder)
        patch.setattr(tensorrt_plan, "build_plan", fake.build)
        patch.setattr(cuda, "BACKENDS", {fake.backend: cuda.BACKENDS[fake.backend]})
        try:
            scenario(fake, patch)
            gc.collect()
            assert not fake.faults, fake.faults
            assert fake.depth == 0, "a context was left on the thread"
            assert fake["live"] == 0, f"{fake['live']} things of the device were not freed"
        except BaseException:
            return traceback.format_exc()
    return ""


def main(backend: str) -> None:
    # pycuda refers to many functions that the fake lacks: they are looked up when called.
    sys.setdlopenflags(os.RTLD_LAZY)
    from tests.engines.fakecuda import double

    double.__name__ = "tensorrt"
    sys.modules["tensorrt"] = double
    fake = Fake(backend)
    json.dump({name: failure(fake, s) for name, s in SCENARIOS.items()}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
