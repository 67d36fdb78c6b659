# One image for every process; the command says which one (ops/processes.py lists them).
# The Python and the Debian are those that the tests run on.
FROM python:3.11.15-slim-bookworm

# One stage: every locked package has a wheel for x86-64 and for ARM, so there is no compiler to leave behind.
WORKDIR /app
COPY requirements.lock .
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --only-binary=:all: --require-hashes -r requirements.lock

# /run/bellhop is all that a process may write to: metrics of worker children, and beat's schedule.
RUN groupadd --gid 10001 bellhop \
    && useradd --uid 10001 --gid bellhop --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin bellhop \
    && install --directory --owner=bellhop --group=bellhop --mode=0700 /run/bellhop

COPY . .
RUN python -m compileall -q .

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BELLHOP_ENV=production \
    BELLHOP_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000 8001
CMD ["python", "-m", "api"]
