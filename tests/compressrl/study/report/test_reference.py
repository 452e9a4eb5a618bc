"""Files of published results that are none."""

from __future__ import annotations

import pytest

from compressrl.errors import UsageError
from compressrl.study.report import reference


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"unknown": 1}', '{"tables": {"returns": {"rows": 1}}}'])
def test_a_file_that_is_no_reference_is_refused_by_name(tmp_path, text):
    path = tmp_path / "published.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"published\.json is no file of published results"):
        reference.load(path)
