"""Sizes on a command line."""

from __future__ import annotations

import argparse
import re


def byte_count(text: str) -> int:
    """20GB, 1.7GB, 300MB or a plain number of bytes; units are powers of 1000."""
    match = re.fullmatch(r"([\d.]+)\s*(|k|M|G)B?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"not a number of bytes: {text}")
    return int(float(match[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[match[2]])
