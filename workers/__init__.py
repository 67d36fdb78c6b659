"""Work: dispatch, push and recovery, run by Celery. Outside this package only `workers.celery_app` is imported."""
