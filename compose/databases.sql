-- Run once by the PostgreSQL image, on an empty volume.
CREATE DATABASE mlflow;
CREATE DATABASE prefect;
