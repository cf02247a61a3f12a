"""Calls of the scripts, one after the other in one process, so that ranks and Ray are started once.

python -m tests.spread.scripts '[["generate_caption", "IN", "OUT"], ...]'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from unittest import mock

from utils import distributed


def call_all(lines: Sequence[Sequence[str]]) -> list[int]:
    """Exit codes of the scripts, whose process group lives to the end."""
    codes = []
    with mock.patch.object(distributed, "stop"):
        for name, *words in lines:
            script = import_module(name)
            codes.append(script.main(script.get_argparser().parse_args(words)))
    distributed.stop()
    return codes


if __name__ == "__main__":
    call_all(json.loads(sys.argv[1]))
