"""MLflow: one run for the session and a nested run per test, logged to the tracking server that MLflow is set to.

``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` say where; what is returned is a JSON list of the runs made.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pytest_slmperf.errors import InvalidInput, SlmperfError
from pytest_slmperf.model.result import Result, Results

_PARAM_LENGTH = 500
_DEFAULT_EXPERIMENT = "pytest-slmperf"


class MlflowExporter:
    name = "mlflow"
    suffix = ".json"

    def export(self, results: Results) -> bytes:
        """Log to the tracking server. InvalidInput without MLflow, SlmperfError when the server refuses."""
        try:
            import mlflow
        except ImportError as error:
            raise InvalidInput(f"mlflow export needs MLflow: pip install 'pytest-slmperf[mlflow]' ({error})") from error
        try:
            return self._log(mlflow, results)
        except mlflow.exceptions.MlflowException as error:
            first = str(error).splitlines()[0]
            raise SlmperfError(f"mlflow export: the tracking server says: {first}") from error

    def _log(self, mlflow: Any, results: Results) -> bytes:
        import os

        session = results.session
        if "MLFLOW_EXPERIMENT_NAME" not in os.environ and "MLFLOW_EXPERIMENT_ID" not in os.environ:
            mlflow.set_experiment(_DEFAULT_EXPERIMENT)
        made = []
        with mlflow.start_run(run_name=session.id) as parent:
            mlflow.set_tags(
                {
                    "slmperf.session": session.id,
                    "slmperf.machine": results.machine.fingerprint,
                    "slmperf.plugin_version": session.plugin_version,
                    "mlflow.source.git.commit": session.commit.id or "",
                }
            )
            for result in results.results:
                with mlflow.start_run(run_name=result.id[:250], nested=True) as run:
                    _log_result(mlflow, result)
                made.append({"test": result.id, "run_id": run.info.run_id})
        document = {"tracking_uri": mlflow.get_tracking_uri(), "run_id": parent.info.run_id, "runs": made}
        return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _log_result(mlflow: Any, result: Result) -> None:
    engine = result.engine
    params = {f"scenario.{key}": value for key, value in result.scenario.items()}
    params |= {
        f"engine.{key}": getattr(engine, key) for key in ("name", "version", "model", "weights", "device", "dtype")
    }
    mlflow.log_params({_key(key): str(value)[:_PARAM_LENGTH] for key, value in params.items()})
    mlflow.log_metrics({_key(name): value.value for name, value in result.metrics.items() if value.value is not None})
    mlflow.log_metrics(
        {_key(f"change.{verdict.metric}"): verdict.change for verdict in result.verdicts if verdict.change is not None}
    )
    tags = {"slmperf.test": result.id}
    tags |= {f"slmperf.verdict.{verdict.metric}": verdict.verdict for verdict in result.verdicts}
    mlflow.set_tags(tags)


def _key(text: str) -> str:
    """A name that MLflow takes: letters, digits, '_', '-', '.', ' ' and '/'."""
    return re.sub(r"[^\w\-. /]", "_", text)[:250]
