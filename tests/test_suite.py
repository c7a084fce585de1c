"""The suite itself: fixtures that take long are made once."""


def test_the_tests_of_a_file_run_in_one_process(request, worker_id):
    """Without its group (pytest-xdist and pytest must fit together) every worker makes the fixtures again."""
    grouped = worker_id != "master" and request.config.option.loadgroup
    assert not grouped or request.node.nodeid.endswith("@test_suite.py")
