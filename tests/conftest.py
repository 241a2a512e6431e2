"""
What holds for every test: a property is true or not, however busy the machine is.
"""

import pytest
from hypothesis import HealthCheck, settings

# What a helper asserts is told with its values, too.
pytest.register_assert_rewrite("tests.support")

# By default an example that takes 200 ms, or examples that are slow to make, fail the test: that measures the machine.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
