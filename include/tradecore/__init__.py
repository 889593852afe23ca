"""A trading day as one function and one Airflow run. Start reading at pipeline.py."""
