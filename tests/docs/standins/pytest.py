"""pytest itself, with the simulated engine in place of whichever the page names."""

import os
import sys

given = sys.argv[1:]
left_out = {"--slmperf-engine"}
if "openai" in given:
    # a server that the page supposes to be up, and the model's name there
    if "--slmperf-endpoint" not in given:
        sys.exit("pytest: the page measures an endpoint and does not say which")
    left_out |= {"--slmperf-endpoint", "--slmperf-model"}
arguments = []
words = iter(given)
for word in words:
    if word in left_out:
        next(words)
        continue
    arguments.append(word)
if "--slmperf" in arguments:
    arguments.append("--slmperf-engine=simulated")
# an engine in another virtual environment: the stand-in for python made that one without any
if any(word.startswith("python=") for word in arguments):
    if not os.access(next(word for word in arguments if word.startswith("python=")).removeprefix("python="), os.X_OK):
        sys.exit("pytest: the page compares with an interpreter that it did not make")
    arguments = ["engine.step_ms=2.0" if word.startswith("python=") else word for word in arguments]
python = os.environ["SLMPERF_DOCS_PYTHON"]
# what a reader who installed the package has, and none of the plugins that this project's own tests use
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
own = ["-p", "slmperf", "-p", "benchmark", "-p", "no:cacheprovider"]
os.execv(python, [python, "-m", "pytest", *own, *arguments])
