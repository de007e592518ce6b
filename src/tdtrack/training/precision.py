"""Which number format this machine computes fastest in."""

from __future__ import annotations

import torch

__all__ = ["native_precision"]


def native_precision() -> str:
    """Return "bf16-mixed" where the hardware multiplies bfloat16 itself, else "32-true": emulated, it costs time."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    capabilities = dict(torch.cpu.get_capabilities()) if hasattr(torch.cpu, "get_capabilities") else {}  # torch 2.4 lacks it
    return "bf16-mixed" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "32-true"
