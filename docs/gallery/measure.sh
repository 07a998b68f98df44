#!/usr/bin/env bash
# Measure the gallery's reports anew, on the real engine: bash docs/gallery/measure.sh [PYTHON]
#
# Needs an environment with vLLM, a quiet machine and a clean checkout; works on a copy of its own, so that nothing here changes but
# docs/gallery/data.  Two sessions make each baseline; then every step of the engine is made 30 % longer by tests/support/slow_engine.py,
# under the engine's own name and settings, which is what an unlucky upgrade looks like from outside.
# Afterwards: python docs/pictures/make.py
set -euo pipefail
python=${1:-python}
root=$(cd "$(dirname "$0")/../.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git clone -q "$root" "$copy/repository"
cd "$copy/repository"
git config user.name docs && git config user.email docs@example.org
git rm -rq --ignore-unmatch baselines && git commit -qm "Begin without baselines" --allow-empty

measure() { # options of pytest; exit 1, a regression, is what some of these runs are for
    PYTHONPATH=tests/support SLOW_ENGINE_FRACTION=0.3 "$python" -m pytest --slmperf "$@" || [ $? -eq 1 ]
}
keep() { "$python" "$root/docs/gallery/take.py" "$1" .slmperf/results.json; }

slowed=(perf_tests/test_offline.py perf_tests/test_pareto.py::test_frontier)
for session in 1 2; do
    measure perf_tests/ --slmperf-approve
done
git add baselines && git commit -qm "Approve the baselines"
measure perf_tests/
keep suite
measure "${slowed[@]}" -p slow_engine
keep slowed
