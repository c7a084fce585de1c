"""Make the buckets named on the command line, where the S3 store does not have them yet.

Address and keys come from the environment, as boto3 reads them: AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, ...
"""

import sys

import boto3

s3 = boto3.client("s3")
found = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
for name in sys.argv[1:]:
    if name not in found:
        s3.create_bucket(Bucket=name)
        print(f"made the bucket {name}")
