"""What makes an estimator take scikit-learn's callbacks, which exist from version 1.9."""

from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # remove when scikit-learn >= 1.9 is required

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in for scikit-learn before 1.9: no ``set_callbacks``."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``method`` as it is: there is nothing to tear down."""
        return method


__all__ = ["CallbackSupportMixin", "with_callbacks"]
