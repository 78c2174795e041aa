"""Which versions of Ray work: its sandbox API is alpha, and changes without notice."""

from __future__ import annotations

from corral.errors import HostError

WORKING = ("2.60.0",)


def check() -> None:
    """Raises HostError where Ray is missing, or is one that was not tried."""
    try:
        import ray
    except ImportError as error:
        raise HostError(f"there is no Ray here ({error}); install it: pip install 'corral[ray]'") from None
    if ray.__version__ not in WORKING:
        works = ", ".join(WORKING)
        raise HostError(f"Ray {ray.__version__} is here, and Corral works with {works}: pip install ray=={WORKING[-1]}")
    try:
        import ray.experimental.sandbox
    except ImportError as error:
        raise HostError(f"this Ray has no ray.experimental.sandbox ({error}); pip install ray=={WORKING[-1]}") from None
