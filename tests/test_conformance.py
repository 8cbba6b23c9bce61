"""Our server by the measure that it offers to all: `conformance/`, at its strictest."""

import subprocess
import sys
from pathlib import Path

from tests.serving import serving

SUITE = Path(__file__).parents[1] / "conformance"


def test_no_must_and_no_should_fails(tmp_path: Path) -> None:
    """A client that was written to the specification works here."""
    with serving(tmp_path / "uploads", "--max-size", "5TiB") as server:
        judged = subprocess.run(
            [sys.executable, "-m", "tus_conformance", server.url, "--strict"],
            cwd=SUITE,
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert judged.returncode == 0, judged.stdout[-6000:] + judged.stderr
    assert "No case at MUST and SHOULD fails." in judged.stdout
