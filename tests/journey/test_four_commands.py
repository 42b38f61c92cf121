"""From a folder of one's own, in nnU-Net's layout, to a trained model and a prediction in the viewer: four commands.

The fourth is a process of its own, as a user would start it, asked over its address and ended by Ctrl-C.
"""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.journey.test_phantom_journey import TINY

pytest.importorskip("starlette", reason="needs starlette and uvicorn: pip install 'viscera[view]'")


def test_prepare_train_predict_view(viscera: Callable[..., str], tiny_raw: Path, tmp_path: Path) -> None:
    store, run, out = (tmp_path / name for name in ("store", "run", "out"))
    viscera("prepare", tiny_raw, store, "--downsample", 1, "--test-fraction", 0.2)
    viscera("train", store, run, "--preset", "demo", *TINY)
    viscera("predict", run, tiny_raw / "imagesTr", out)
    command = [sys.executable, "-m", "viscera", "view", str(out), "--scans", str(tiny_raw), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as viewing:
        assert viewing.stdout is not None
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+/\S+/", viewing.stdout.readline())
            assert address is not None
            with urlopen(address[0], timeout=30) as page:  # noqa: S310 - this machine's own
                assert "viscera" in page.read().decode()
            with urlopen(f"{address[0]}api/gallery", timeout=30) as answer:  # noqa: S310
                cases = [case["name"] for case in json.load(answer)["cases"]]
        finally:
            viewing.send_signal(signal.SIGINT)
            viewing.wait(timeout=30)
    assert sorted(cases) == [f"case_{number}" for number in range(6)]
