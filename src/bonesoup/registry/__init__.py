"""MLflow as a mirror of the files the stages wrote: runs, registered models, model cards."""

import os

# Before any module here imports mlflow. "true", because mlflow does not count DO_NOT_TRACK=1.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Files go through the server. Else it sends us to the address at which it reaches the S3 store, which may be one that
# only containers know.
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
