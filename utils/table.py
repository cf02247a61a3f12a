"""``python -m utils.table``: the published name of ``results.table``."""

from __future__ import annotations

import sys

from results.table import get_argparser, main

__all__ = ["get_argparser", "main"]

if __name__ == "__main__":
    sys.exit(main())
