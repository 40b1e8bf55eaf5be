"""How the tests are dealt out to workers."""

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="tests run in one process")
def test_a_worker_takes_whole_files(request):
    """xdist reads the group from the test's id. pytest 9.2 ignores what xdist 3.8 writes there: each
    fixture of a file would be made, and each of its programs compiled, by every worker."""
    assert request.config.option.loadgroup is False or "@" in request.node.nodeid
