"""The ledger beside a model of it."""

import pytest

# Its assertions say what differs, as those of test modules do.
pytest.register_assert_rewrite("tests.property.comparison")
