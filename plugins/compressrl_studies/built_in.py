"""The TOML files beside this module (`compressrl.interfaces.StudySource`)."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent


class Paper:
    """arXiv 2407.04803: five algorithms, five environments, three quantizers, two pruners."""

    def path(self) -> Path:
        return HERE / "paper.toml"


class Recovered:
    """The same policies, compressed so that they keep their return."""

    def path(self) -> Path:
        return HERE / "recovered.toml"
