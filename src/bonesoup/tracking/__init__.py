"""MLflow as a mirror of the files the stages wrote: runs, registered models, model cards."""

import os

# Before any module here imports mlflow. "true", because mlflow does not count DO_NOT_TRACK=1.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
