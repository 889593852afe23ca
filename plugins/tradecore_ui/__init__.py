"""What Airflow loads beside the DAGs: the session timetable, the tasks' environment, the callbacks."""
