"""The one error of this package."""

from __future__ import annotations


class DeviceError(RuntimeError):
    """No card can be used, or it failed at work.

    what : what is wrong, a sentence without a full stop
    remedy : what the user can do about it, with one
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}. {remedy}")
        self.what = what
        self.remedy = remedy
