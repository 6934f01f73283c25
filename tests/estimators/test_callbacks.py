import importlib.util
import sys

import pytest

from flowdetect.estimators import _callbacks


def test_before_scikit_learn_1_9_estimators_take_no_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    spec = importlib.util.spec_from_file_location("old_callbacks", _callbacks.__file__)
    assert spec is not None and spec.loader is not None
    old = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(old)

    class Estimator(old.CallbackSupportMixin):
        def fit(self) -> str:
            return "fitted"

    assert not hasattr(Estimator(), "set_callbacks")
    assert old.with_callbacks(Estimator.fit) is Estimator.fit
