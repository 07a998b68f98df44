"""The active profile belongs to a session, and ends with it."""

from pytest_slmperf.measuring.context import Active, activate, active_profile, pick


def test_what_is_not_given_falls_back():
    end = activate("full", gpu=True)
    try:
        assert pick(1, full=2, gpu=3, gpu_full=4) == 4
        assert pick(1, full=2, gpu=3) == 3
        assert pick(1, full=2) == 2
        assert pick(1) == 1
    finally:
        end()


def test_sessions_of_one_process_nest_and_leave_nothing():
    before = active_profile()
    end_outer = activate("full", gpu=False)
    end_inner = activate("quick", gpu=True)
    assert active_profile() == Active("quick", True)
    end_inner()
    assert active_profile() == Active("full", False)
    end_outer()
    end_outer()
    assert active_profile() == before


def test_an_outer_session_may_end_first():
    before = active_profile()
    end_outer, end_inner = activate("full", gpu=False), activate("full", gpu=False)
    end_outer()
    assert active_profile() == Active("full", False)
    end_inner()
    assert active_profile() == before


def test_a_pytest_run_leaves_no_profile_behind(pytester):
    before = active_profile()
    pytester.makepyfile(
        "from pytest_slmperf import pick\n\ndef test_it(slmperf):\n    pass\n\n"
        "assert pick(quick='quick', full='full') == 'full'\n"
    )
    run = pytester.inline_run("--slmperf", "--slmperf-profile=full", "--slmperf-engine=simulated", "--collect-only")
    assert run.ret == 0
    assert active_profile() == before
