"""Keep results in MLflow: runs, registered versions, model cards, yardsticks and scores."""

import os

# Set before any module here imports mlflow. "true", because mlflow ignores DO_NOT_TRACK=1.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Files go through the server: it would redirect us to its address of the S3 store, which may be known to containers
# only.
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
