"""Some courses of the state machine of adapters' life; `make lifecycle` runs thousands of steps."""

import os

from hypothesis import HealthCheck, settings

from tests.unit.lifecycle import Lifecycle

TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(
    max_examples=int(os.environ.get("LIFECYCLE_COURSES", "10")),
    stateful_step_count=int(os.environ.get("LIFECYCLE_STEPS", "20")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
