import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import golden


@pytest.fixture(scope="session")
def models() -> dict[str, Any]:
    return golden.models()
